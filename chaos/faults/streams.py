"""Records that are read or written twice."""

from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.bus.port import ORIGIN, Bus, Record
from meshnode.buses import bare_bus

READ_BYTES = 4 * 2**20
OPEN_SECONDS = 120.0
MOST_RECORDS = 100_000


async def _records(bus: Bus, region: str, most: int) -> list[Record]:
    """The newest records of a topic."""
    reader = bus.reader(region)
    found: list[Record] = []
    try:
        position, end = await reader.begin(), await reader.end()
        while position != end:
            for record in await reader.read(position, READ_BYTES):
                found.append(record)
                position = record.after
                if position == end:
                    break
            found = found[-most:]
    finally:
        await reader.close()
    return found


@kind("stream.rewind")
async def rewind(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A region reads ``back`` records of another one again: its stored position is set back, its
    count is not."""
    region, origin = fault.target
    back = int(fault.number("back", 20))
    async with mesh.holding(f"node:{region}", f"server:{region}"):
        await mesh.kill_node(region)
        bus = bare_bus(mesh.topology)
        try:
            async with await mesh.sql(region) as control:
                where = f"WHERE origin = {mesh.id(origin)}"
                stands = await control.value(f"SELECT HEX(position) FROM meshnode.applied {where}")
                records = await _records(bus, origin, MOST_RECORDS)
                ends = [record.after.hex().upper() for record in records]
                # Never forward: a place that is not found, as that before the first record, is
                # set back to the very beginning.
                place = ends.index(stands) + 1 - back if stands in ends else 0
                start = records[place].start if place > 0 else ORIGIN
                mesh.journal.note("rewind", stands=stands, known=stands in ends, to=place)
                await control.execute("SET SESSION sql_log_bin = 0")
                await control.execute(
                    f"UPDATE meshnode.applied SET position = X'{start.hex()}' {where}"
                )
        finally:
            await bus.close()
        yield
        mesh.start_node(region)


@kind("stream.repeat")
async def repeat(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """The newest ``count`` records of a region's topic are appended once more, byte for byte."""
    (region,) = fault.target
    async with mesh.holding(f"node:{region}"):
        await mesh.kill_node(region)
        bus = bare_bus(mesh.topology)
        try:
            records = await _records(bus, region, int(fault.number("count", 20)))
            writer = bus.writer(region)
            await writer.open(OPEN_SECONDS)
            for record in records:
                await writer.append(record.payload)
            await writer.close()
        finally:
            await bus.close()
        yield
        mesh.start_node(region)
