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

from meshnode.actors.avoided import Avoided, NotTried
from meshnode.actors.effort import Effort
from meshnode.actors.tally import Tally
from meshnode.actors.writing import PeerWriter
from meshnode.core.apart import Apart
from meshnode.core.check import Incoming
from meshnode.core.plan import Plan, Work
from meshnode.errors import Busy, MeshError, RowError
from meshnode.store.values import Unable

WAITS = 3
"""Times that rows of one item are waited for before others are set aside untried."""


async def apply_part(
    writer: PeerWriter, work: Work, effort: Effort, format_bytes: bytes, tally: Tally
) -> None:
    """Apply one part of a huge transaction in the open transaction; park what cannot.

    Most parts have no such row, so each is first tried as a whole.
    """
    if effort.aside and effort.avoided.suspects(each.at[0] for each in work.incoming):
        await apply_parking(writer, work, effort, format_bytes, tally)
        return
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
    avoided = effort.avoided if effort.aside else None
    parked = await Parking(writer, work, tally, avoided).unable()
    for _, error in parked:
        tally.counts["parked" if isinstance(error, RowError) else "set_aside"] += 1
    await writer.session.park(parked, work.item, writer.peer.id, format_bytes)


class Parking:
    """Applies what can be applied of ``work``.

    With ``avoided`` rows that somebody else holds locked count among those that cannot, and are
    not waited for where that can be helped.
    """

    def __init__(
        self, writer: PeerWriter, work: Work, tally: Tally, avoided: Avoided | None
    ) -> None:
        self.writer = writer
        self.work = work
        self.tally = tally
        self.avoided = avoided
        self.waits = 0

    async def unable(self) -> list[Unable]:
        """Apply what can be applied; the outcomes that cannot, each with its error.

        A half may have failed on a unique value that a row of another half still
        held: what met a duplicate is tried again, together, as long as that helps, and
        then in parts, of which one may be without the row that is in the way of all.
        """
        parked: list[Unable] = []
        apart = Apart()
        await self._attempt(self.work.incoming, parked)
        while True:
            again = [incoming for incoming, error in parked if _duplicate(error)]
            left = [each for each in parked if not _duplicate(each[1])]
            await self._attempt(again, left)
            if len(left) == len(parked):
                settled = await self._part(apart.parts(again))
                if not settled:
                    return parked
                left = [each for each in parked if all(each[0] is not one for one in settled)]
            parked = left

    async def _part(self, parts: Iterable[Sequence[Incoming]]) -> Sequence[Incoming]:
        """Apply the first of ``parts`` that goes in as a whole; nothing where none does."""
        for part in parts:
            if await self._whole(part) is None:
                return part
        return ()

    async def _attempt(self, incoming: Sequence[Incoming], parked: list[Unable]) -> None:
        """Apply the outcomes ``incoming``, halving what fails."""
        if not incoming:
            return
        error = await self._whole(incoming)
        if error is None:
            return
        if isinstance(error, NotTried):
            parked += [Unable(each, error) for each in incoming if each.at in error.keys]
            await self._attempt([each for each in incoming if each.at not in error.keys], parked)
        elif len(incoming) == 1:
            parked.append(Unable(incoming[0], error))
        else:
            middle = len(incoming) // 2
            await self._attempt(incoming[:middle], parked)
            await self._attempt(incoming[middle:], parked)

    async def _whole(self, incoming: Sequence[Incoming]) -> RowError | Busy | None:
        """Apply the outcomes ``incoming``, all or none; why not."""
        session, avoided = self.writer.session, self.avoided
        name = f"p{len(incoming)}"
        await session.save(name)
        try:
            plan = await self._outcomes(incoming)
        except (RowError, Busy) as error:
            if isinstance(error, Busy) and avoided is None:
                raise
            await session.back_to(name)
            if isinstance(error, Busy) and error.waited:
                self._waited(incoming)
            return error
        if avoided is not None:
            avoided.done(plan)
        self.tally.add(plan)
        return None

    async def _outcomes(self, incoming: Sequence[Incoming]) -> Plan:
        avoided = self.avoided
        if avoided is not None:
            avoided.rows(incoming)
        part = Work(self.work.item, self.work.scanned, list(incoming))
        return await self.writer.write(
            [part], deep=True, wait=avoided is None, split=True, avoided=avoided
        )

    def _waited(self, incoming: Sequence[Incoming]) -> None:
        """A row alone has met the lock for certain; one among many is looked for a few times."""
        self.waits += 1
        if self.avoided is not None and (len(incoming) == 1 or self.waits >= WAITS):
            self.avoided.waited(each.at[0] for each in incoming)


def _duplicate(error: MeshError) -> bool:
    return isinstance(error, RowError) and error.duplicate
