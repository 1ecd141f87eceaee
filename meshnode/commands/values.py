"""Values of rows as a terminal shows them: quoted, and cut to a window where they are long."""

from collections.abc import Mapping
from typing import Any

SHOWN_CHARACTERS = 1000
"""Of one value; a column may hold a gigabyte, and all of it is there with ``--json``."""

BEFORE_DIFFERENCE = 100
"""Characters shown before the first difference of two long values."""


def cell(image: Mapping[str, Any] | None, name: str) -> str:
    """The value of column ``name``, whole."""
    if image is None:
        return "(deleted)"
    if name not in image:
        return "(no such column)"
    value = image[name]
    return "NULL" if value is None else repr(value) if isinstance(value, str) else str(value)


def window(text: str, start: int = 0) -> str:
    """``text`` from ``start`` on, as far as it is shown; says what is left out."""
    if not start and len(text) <= SHOWN_CHARACTERS:
        return text
    part = text[start : start + SHOWN_CHARACTERS]
    stop = start + len(part)
    return f"{'... ' if start else ''}{part} ... ({start + 1}-{stop} of {len(text)} characters)"


def _first_difference(one: str, other: str) -> int:
    """Characters that two different texts have in common at their start."""
    at, step = 0, 1 << 20
    while step:
        # The slices of equal blocks are compared in C; a loop over a gigabyte would take minutes.
        while at < len(one) and one[at : at + step] == other[at : at + step]:
            at += step
        step >>= 1
    return min(at, len(one), len(other))


def windows(one: str, other: str) -> tuple[str, str]:
    """Both texts through the same window, which holds their first difference."""
    start = 0
    if one != other and max(len(one), len(other)) > SHOWN_CHARACTERS:
        start = max(0, _first_difference(one, other) - BEFORE_DIFFERENCE)
    return window(one, start), window(other, start)
