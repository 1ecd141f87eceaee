"""``conflicts``, ``dead-letters`` and ``skip``."""

from typing import Any


def add_parsers(commands: Any) -> None:
    pass
