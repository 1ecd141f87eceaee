"""Finding the rows of one item that can never apply here, and parking them.

The item's outcomes are tried in halves under savepoints; what fails alone goes
to ``meshnode.dead_letter`` with its image, the cause and what a replay needs, in
the transaction that moves the position.  The rest of the item applies; which rows that
are where several want each other's values is found by trying parts (`meshnode.core.apart`).

Rows that a client holds locked for long are set aside in the same way, so that an
idle client stops no stream; the resolver applies their letters by itself when the
lock is gone.

A part of a huge transaction is an item like any other here.  Nothing of the
parts before it is undone: their rows went in, in the order of the source.
"""

from collections.abc import Iterable, Sequence

from meshnode.actors.effort import Effort
from meshnode.actors.tally import Tally
from meshnode.actors.writing import PeerWriter
from meshnode.core.apart import Apart
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
    held: what met a duplicate is tried again, together, as long as that helps, and
    then in parts, of which one may be without the row that is in the way of all.
    """
    parked: list[Unable] = []
    apart = Apart()
    await _attempt(writer, work, work.incoming, parked, tally, aside)
    while True:
        again = [incoming for incoming, error in parked if _duplicate(error)]
        left = [each for each in parked if not _duplicate(each[1])]
        await _attempt(writer, work, again, left, tally, aside)
        if len(left) == len(parked):
            settled = await _part(writer, work, apart.parts(again), tally, aside)
            if not settled:
                return parked
            left = [each for each in parked if all(each[0] is not one for one in settled)]
        parked = left


async def _part(
    writer: PeerWriter,
    work: Work,
    parts: Iterable[Sequence[Incoming]],
    tally: Tally,
    aside: bool,
) -> Sequence[Incoming]:
    """Apply the first of ``parts`` that goes in as a whole; nothing where none does."""
    for part in parts:
        if await _whole(writer, work, part, tally, aside) is None:
            return part
    return ()


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
    error = await _whole(writer, work, incoming, tally, aside)
    if error is None:
        return
    if len(incoming) == 1:
        parked.append(Unable(incoming[0], error))
        return
    middle = len(incoming) // 2
    await _attempt(writer, work, incoming[:middle], parked, tally, aside)
    await _attempt(writer, work, incoming[middle:], parked, tally, aside)


async def _whole(
    writer: PeerWriter, work: Work, incoming: Sequence[Incoming], tally: Tally, aside: bool
) -> RowError | Busy | None:
    """Apply the outcomes ``incoming``, all or none; why not."""
    name = f"p{len(incoming)}"
    await writer.session.save(name)
    try:
        plan = await _outcomes(writer, work, incoming, wait=not aside)
    except (RowError, Busy) as error:
        if isinstance(error, Busy) and not aside:
            raise
        await writer.session.back_to(name)
        return error
    tally.add(plan)
    return None


async def _outcomes(
    writer: PeerWriter, work: Work, incoming: Sequence[Incoming], wait: bool
) -> Plan:
    part = Work(work.item, work.scanned, list(incoming))
    return await writer.write([part], deep=True, wait=wait, split=True)
