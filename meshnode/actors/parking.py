"""Finding the rows of one item that can never apply here, and parking them.

The item's outcomes are tried in halves under savepoints; what fails alone goes
to ``meshnode.dead_letter`` with its image, the cause and what a replay needs, in
the transaction that moves the position.  The rest of the item applies.

Rows that a client holds locked for long are set aside in the same way, so that an
idle client stops no stream; the resolver applies their letters by itself when the
lock is gone.

A part of a huge transaction is an item like any other here.  Nothing of the
parts before it is undone: their rows went in, in the order of the source.
"""

from collections.abc import Sequence

from meshnode.actors.effort import Effort
from meshnode.actors.tally import Tally
from meshnode.actors.writing import PeerWriter
from meshnode.core.check import Incoming
from meshnode.core.plan import Plan, Work
from meshnode.errors import Busy, MeshError, RowError
from meshnode.store.values import Unable


async def apply_part(
    writer: PeerWriter, work: Work, effort: Effort, format_bytes: bytes, tally: Tally
) -> None:
    """Apply one part of a huge transaction in the open transaction; park what cannot.

    Most parts have no such row, so each is first tried as a whole.
    """
    await writer.session.save("part")
    try:
        plan = await writer.write([work], deep=effort.deep, wait=effort.wait, split=effort.split)
    except (RowError, Busy) as error:
        if isinstance(error, Busy) and not effort.aside:
            raise
        await writer.session.back_to("part")
        await apply_parking(writer, work, effort, format_bytes, tally)
    else:
        tally.add(plan)


async def apply_parking(
    writer: PeerWriter, work: Work, effort: Effort, format_bytes: bytes, tally: Tally
) -> None:
    """Apply what can be applied of ``work`` in the open transaction; park the rest.

    ``format_bytes`` is the format description that the images follow.
    """
    parked = await _unable(writer, work, tally, effort.aside)
    for _, error in parked:
        tally.counts["parked" if isinstance(error, RowError) else "set_aside"] += 1
    await writer.session.park(parked, work.item, writer.peer.id, format_bytes)


async def _unable(writer: PeerWriter, work: Work, tally: Tally, aside: bool) -> list[Unable]:
    """Apply what can be applied of ``work``; the outcomes that cannot, each with its error.

    With ``aside`` these include rows that somebody else holds locked, which are not waited for.

    A half may have failed on a unique value that a row of another half still
    held: what met a duplicate is tried again, together, as long as that helps.
    """
    parked: list[Unable] = []
    await _attempt(writer, work, work.incoming, parked, tally, aside)
    while True:
        again = [incoming for incoming, error in parked if _duplicate(error)]
        left = [each for each in parked if not _duplicate(each[1])]
        await _attempt(writer, work, again, left, tally, aside)
        if len(left) == len(parked):
            return parked
        parked = left


def _duplicate(error: MeshError) -> bool:
    return isinstance(error, RowError) and error.duplicate


async def _attempt(
    writer: PeerWriter,
    work: Work,
    incoming: Sequence[Incoming],
    parked: list[Unable],
    tally: Tally,
    aside: bool,
) -> None:
    """Apply the outcomes ``incoming``, halving what fails."""
    if not incoming:
        return
    name = f"p{len(incoming)}"
    await writer.session.save(name)
    try:
        plan = await _outcomes(writer, work, incoming, wait=not aside)
    except (RowError, Busy) as error:
        if isinstance(error, Busy) and not aside:
            raise
        await writer.session.back_to(name)
        if len(incoming) == 1:
            parked.append(Unable(incoming[0], error))
            return
        middle = len(incoming) // 2
        await _attempt(writer, work, incoming[:middle], parked, tally, aside)
        await _attempt(writer, work, incoming[middle:], parked, tally, aside)
    else:
        tally.add(plan)


async def _outcomes(
    writer: PeerWriter, work: Work, incoming: Sequence[Incoming], wait: bool
) -> Plan:
    part = Work(work.item, work.scanned, list(incoming))
    return await writer.write([part], deep=True, wait=wait, split=True)
