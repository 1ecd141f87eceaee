"""Pause and resume: the stream of one peer, held in one region until an operator lets it go.

The row in ``meshnode.paused`` is the pause; the running node takes it up within a second
(:mod:`meshnode.actors.pauses`).  Both may be asked for again: a pause that is there keeps its
time, and nothing is resumed twice.
"""

from meshnode.errors import Refused
from meshnode.mysql import bookkeeping
from meshnode.mysql.control import Control, code_of
from meshnode.store.values import Pause
from meshnode.topology import Region, Topology

REASON_CHARACTERS = 255

_NO_SUCH_TABLE = 1146


def peer_of(topology: Topology, region: str, peer: str) -> Region:
    """The peer of that name; Refused names those there are."""
    peers = topology.peers(region)
    for each in peers:
        if each.name == peer:
            return each
    names = ", ".join(each.name for each in peers)
    raise Refused(f"region {region} has no peer {peer!r}", f"name one of: {names}")


async def pause(connection: Control, peer: Region, reason: str = "") -> dict[int, Pause]:
    """Hold ``peer`` in the region of ``connection``; all pauses there afterwards, by region id."""
    if len(reason) > REASON_CHARACTERS:
        raise Refused(f"the reason has {len(reason)} characters", f"say it in {REASON_CHARACTERS}")
    return await _write(connection, bookkeeping.PAUSE, (peer.id, reason))


async def resume(connection: Control, peer: Region) -> dict[int, Pause]:
    """Let ``peer`` go on; all pauses there afterwards."""
    return await _write(connection, bookkeeping.RESUME, (peer.id,))


async def _write(
    connection: Control, statement: str, parameters: tuple[object, ...]
) -> dict[int, Pause]:
    try:
        await connection.execute(statement, parameters)
        rows = await connection.rows(bookkeeping.PAUSED)
    except Refused as error:
        if code_of(error) != _NO_SUCH_TABLE:
            raise
        raise Refused(
            f"{connection.server} has no table meshnode.paused",
            "run `meshnode init` for this region: it adds what is missing, also under load",
        ) from error
    return {int(origin): Pause(int(since) / 1e6, str(reason)) for origin, since, reason in rows}
