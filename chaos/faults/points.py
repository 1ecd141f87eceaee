"""A node dies at one named place of its own code, not somewhere by chance."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.errors import MeshError

LONGEST_SECONDS = 60.0
"""So long a point is waited for that nobody passes; the report counts no death there then."""

LOOK_SECONDS = 0.05
LOOKS = 40
"""So many looks lie between two attempts to lead a node to the point."""

_BULK = (
    "INSERT INTO lab.customers (name, balance)"
    " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)"
    " SELECT 'point', i FROM n",
)
# Beyond the ``part_bytes`` of the storm's setting.
_HUGE = (
    "SET SESSION cte_max_recursion_depth = 5000",
    "INSERT INTO lab.customers (name, balance)"
    " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
    " SELECT REPEAT('x', 70), i FROM n",
)
# A row image that is not whole makes the node lift the row.
_PARTIAL = (
    "SET SESSION binlog_row_image = 'MINIMAL'",
    "INSERT INTO lab.customers (name) VALUES ('point')",
)
_COME_AND_GO = (
    "REPLACE INTO lab.stock (warehouse, sku) VALUES (9, 'gone')",
    "DELETE FROM lab.stock WHERE warehouse = 9 AND sku = 'gone'",
)

WAYS: dict[str, tuple[str, ...]] = {
    "straight.written": _BULK, "straight.commit.sent": _BULK, "straight.committed": _BULK,
    "straight.part": _HUGE, "mending.lift": _PARTIAL, "mending.lifted": _PARTIAL,
    "gardener.drop": _COME_AND_GO,
}  # fmt: skip
"""What a client writes so that a node comes to the point; the load leads to the others."""

STARTS = ("takeover.", "gardener.")
"""Points that a node passes when it starts."""


@kind("node.point")
async def die_at(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Nodes die at the fault ``point`` of their own code: whichever pass it, until one has."""
    (region,) = fault.target
    point = str(fault.options["point"])
    # One after the other: a node that is to die at its start comes to no other point.
    async with mesh.holding("points"):
        before = mesh.points.deaths()[point]
        with mesh.points.sure(point), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_SECONDS):
                if point.startswith(STARTS):
                    async with mesh.holding(f"node:{region}"):
                        await mesh.kill_node(region)
                look = 0
                # Of other processes nobody tells anything.
                while mesh.points.deaths()[point] == before:
                    if look % LOOKS == 0:
                        await _lead(mesh, region, point)
                    look += 1
                    await asyncio.sleep(LOOK_SECONDS)
    mesh.journal.note("point", point=point, deaths=mesh.points.deaths()[point] - before)
    yield


async def _lead(mesh: Mesh, region: str, point: str) -> None:
    """Write what makes a node come to ``point``."""
    with contextlib.suppress(MeshError, OSError):
        async with await mesh.sql(region) as control:
            for statement in WAYS.get(point, ()):
                await control.execute(statement)
