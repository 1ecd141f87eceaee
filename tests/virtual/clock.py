"""The clocks that the node's modules read, while a virtual loop runs."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

from .loop import VirtualLoop

EPOCH_US = 1_700_000_000_000_000
"""Microseconds since 1970 when the clock of a loop would show 0."""


def wall_us(loop: VirtualLoop) -> int:
    """The true time, in microseconds since 1970."""
    return EPOCH_US + round(loop.time() * 1e6)


@contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """Whatever module of the node reads a clock reads that of ``loop``."""
    clock = SimpleNamespace(
        time=lambda: wall_us(loop) / 1e6,
        time_ns=lambda: wall_us(loop) * 1000,
        monotonic=loop.time,
        monotonic_ns=lambda: round(loop.time() * 1e9),
    )
    readers: list[ModuleType] = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith("meshnode.") and getattr(module, "time", None) is time
    ]
    for module in readers:
        vars(module)["time"] = clock
    try:
        yield
    finally:
        for module in readers:
            vars(module)["time"] = time
