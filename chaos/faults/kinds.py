"""The register of kinds of faults, and how one is added."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from chaos.mesh import Mesh
from chaos.plan import Fault

Perform = Callable[[Mesh, Fault], contextlib.AbstractAsyncContextManager[None]]


class Kind(NamedTuple):
    """``perform(mesh, fault)`` begins the fault when entered and ends it when left."""

    name: str
    about: str
    perform: Perform


KINDS: dict[str, Kind] = {}


def kind(name: str) -> Callable[[Callable[[Mesh, Fault], AsyncIterator[None]]], Perform]:
    """Make the generator function below the kind ``name``; its docstring says what it is."""

    def add(function: Callable[[Mesh, Fault], AsyncIterator[None]]) -> Perform:
        perform = contextlib.asynccontextmanager(function)
        about = (function.__doc__ or "").split("\n\n")[0].strip()
        KINDS[name] = Kind(name, " ".join(about.split()), perform)
        return perform

    return add
