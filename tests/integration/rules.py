"""Rules of the mesh, switched off on real servers.

Where a rule lives in ``meshnode.core`` its mutant is that of the simulation, the very same patch:
what the schedules of a model show, one script on real servers shows too.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from tests.sim import gate
from tests.sim.mutants import MUTANTS

assert gate.RULES, "its modules fill the registry"

both = pytest.mark.parametrize("rule", ["on", "off"])
"""A test runs with its rule as it is, and must end well; and with it off, and must end wrong."""


@contextmanager
def switched(rule: str, mutant: str) -> Iterator[None]:
    """The rule of ``mutant`` switched ``"off"``, or left as it is."""
    with MUTANTS[mutant].off() if rule == "off" else nullcontext():
        yield


async def values(mesh, key: int = 1) -> list[str | None]:
    """What each region has in column ``v`` of a row of ``app.t``; ``None`` where it has no row."""
    return [await sql.value("SELECT v FROM app.t WHERE id = %s", (key,)) for sql in mesh.sql]
