"""Regions that have to be filled from another one while the others work on.

What is done then is docs/OPERATING.md, 'A region that must be re-seeded'.  Its clients are
elsewhere and what it has answered has arrived before the fault: only that may be lost.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.faults.links import both, cut
from chaos.mesh import SCHEMA, Mesh
from chaos.plan import Fault
from chaos.streams import Rules, read_stream
from meshnode.buses import bare_bus
from meshnode.errors import MeshError
from meshnode.lab import blueprint, rounds
from meshnode.lab.applied_audit import audit, chained
from meshnode.lab.servers import Server
from meshnode.ops import install

SEEDING = "seeding"
"""One region at a time is filled anew."""

LONGEST_SECONDS = 450.0
PAUSE_SECONDS = 0.5
HALTED = "no longer kept"
GONE = 3
"""Times that the topic must begin later, until its reader cannot have read on."""

ROWS = 20
_BULK = (
    "INSERT INTO lab.customers (id, name, profile)"
    f" WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
    " SELECT 9000000 + i, 'bulk', JSON_QUOTE(REPEAT('x', 50000)) FROM n"
    " ON DUPLICATE KEY UPDATE balance = balance + 1, profile = VALUES(profile)"
)


@kind("region.lost")
async def lost(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A region is lost with its data directory; an empty server in its place is filled from
    another region while the others work on."""
    (region,) = fault.target
    async with mesh.holding(SEEDING, f"node:{region}", f"server:{region}"):
        await _left(mesh, region)
        gone = mesh.servers[region]
        await asyncio.gather(mesh.kill_node(region), gone.kill_async())
        await asyncio.to_thread(shutil.rmtree, gone.data)
        yield
        server = mesh.servers[region] = Server(
            gone.mysqld, gone.directory, gone.server_id, gone.port, gone.options,
            gone.auto_increment, gone.password, die_with_parent=True,
        )  # fmt: skip
        await server.start_async()
        await blueprint.prepare(mesh.topology, region, server)
        async with await mesh.sql(region) as control:
            for statement in (f"CREATE DATABASE {SCHEMA}", *mesh.tables):
                await control.execute(statement)
        await _filled(mesh, region)


@kind("region.outlived")
async def outlived(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A region is cut off until the bus has forgotten what it has not read: its stream must halt
    and say so; then it is emptied and filled again.  Needs a bus that keeps little."""
    (region,) = fault.target
    writer, *others = mesh.others(region)
    async with mesh.holding(SEEDING, f"node:{region}"):
        await _left(mesh, region)
        async with cut(mesh, both((region, other) for other in mesh.others(region))):
            await _forgotten(mesh, region, writer, others)
            yield
        if not await _halted(mesh, region):
            mesh.journal.find("I12", f"{region} reads past what retention has taken")
        await mesh.kill_node(region)
        async with await mesh.sql(region) as control:
            await control.execute("SET SESSION foreign_key_checks = 0")
            for schema, table in await control.rows(
                "SELECT schema_name, table_name FROM meshnode.tables"
            ):
                await control.execute(f"TRUNCATE `{schema}`.`{table}`")
            await control.execute("DROP DATABASE audit")
            await control.execute("DROP DATABASE meshnode")
        await _filled(mesh, region)


async def _left(mesh: Mesh, region: str) -> None:
    """All clients of ``region`` are elsewhere, and the others have what it has answered."""
    await mesh.send_away(region)
    await mesh.heard(region, *mesh.others(region))
    mesh.unseen.add(region)


async def _filled(mesh: Mesh, region: str) -> None:
    """Fill an emptied region, start its node, and wait until it is level."""
    full, others = mesh.others(region)[0], mesh.others(region)
    topology = mesh.topology
    for name in others:
        async with await mesh.sql(name) as control:
            try:
                await chained(control, name)
            except AssertionError as error:
                mesh.journal.find("I4", f"before {region} is filled: {error}")
    await asyncio.to_thread(shutil.rmtree, topology.bus_dir(region) / region)
    end = time.monotonic() + LONGEST_SECONDS
    # What clients hold locked is lifted by the next run.
    while not (await install.init(topology, seed_from=full)).complete:
        if time.monotonic() > end:
            mesh.journal.find("I14", f"init of {region} leaves something to do again and again")
            break
    for name in others:
        await _chain_begins(mesh, name, region)
    async with await mesh.sql(region) as control:
        await audit(control)
    mesh.start_node(region)
    await mesh.heard(region, *others)
    for name in others:
        await mesh.heard(name, region)
    mesh.unseen.discard(region)
    mesh.closed.discard(region)


async def _chain_begins(mesh: Mesh, reader: str, origin: str) -> None:
    """The stream of ``origin`` is a new one: the audit of ``reader`` begins anew with it."""
    async with await mesh.sql(reader) as control:
        await control.execute("SET SESSION sql_log_bin = 0")
        where = f"origin = {mesh.id(origin)}"
        await control.execute(f"DELETE FROM audit.moves WHERE {where}")
        await control.execute(
            "INSERT INTO audit.moves (origin, old_seq, new_seq, epoch)"
            f" SELECT origin, 0, seq, epoch FROM meshnode.applied WHERE seq > 0 AND {where}"
        )


async def _forgotten(mesh: Mesh, region: str, writer: str, others: list[str]) -> None:
    """Write until the topic of ``writer`` begins behind what ``region`` has read.

    Its node may have read more than it has applied, and holds a segment open that is deleted
    already: so until more has gone `GONE` times while it applied nothing.  Never so much at once
    that ``others``, however slow, could lose it, too.
    """
    query = f"SELECT seq FROM meshnode.applied WHERE origin = {mesh.id(writer)}"
    bus = bare_bus(mesh.topology)
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            gone: set[int] = set()
            former = -1
            while True:
                rules = Rules(writer, mesh.journal, repeats=True)
                first = (await read_stream(bus, writer, rules)).first_seq
                applied = int(await mesh.value(region, query))
                if applied != former:
                    gone.clear()
                    former = applied
                elif first > applied + 1:
                    gone.add(first)
                if len(gone) == GONE:
                    return
                async with await mesh.sql(writer) as control:
                    await control.execute(_BULK)
                await mesh.heard(writer, *others)
    finally:
        await bus.close()


async def _halted(mesh: Mesh, region: str) -> bool:
    """Whether the region says that it has lost a part of a stream."""
    end = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < end:
        try:
            async with await mesh.sql(region) as control:
                troubles = (await rounds.read_pulse(control)).troubles()
            if any(HALTED in trouble for trouble in troubles):
                mesh.journal.note("halted", region=region, troubles=troubles)
                return True
        except MeshError:
            pass
        await asyncio.sleep(PAUSE_SECONDS)
    return False
