"""Every kind of fault, by name.

A kind is a context manager: entering it begins the fault, leaving it ends it.
"""

from chaos.faults import (
    clocks,
    commits,
    definitions,
    fencing,
    links,
    points,
    processes,
    regions,
    sources,
    streams,
)
from chaos.faults.kinds import KINDS

__all__ = [
    "KINDS", "clocks", "commits", "definitions", "fencing", "links", "points", "processes",
    "regions", "sources", "streams",
]  # fmt: skip
