"""Dead letters, worked off: those that wait for it are replayed, overtaken ones are closed.

A replay is an apply transaction made from what letters kept: the ordinary decision on the rows as
they stand now.  What cannot be replayed is left to an operator with a note; what meets a lock or a
surprise waits for the next round.

Letters of one item go in together where they can, because rows of one transaction may need each
other's unique values; and with those that were only locked go the rows that were parked because
of theirs.  Otherwise each goes by itself.

A row that was only locked is nobody's affair but the mesh's: its letter waits, with a note,
for whatever else is in its way as well, a table that may not be written here for one.  Only the
row itself, where it cannot stand, makes it an operator's.

Some locks show only in that they are waited for (`meshnode.actors.avoided`), with the row of
``applied`` in hand, for which the applier waits then.  So a round ends with the first such wait,
and the following rounds pass over what would meet the same lock, for a while.  Then another
letter is the one that finds out.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from meshnode.actors.avoided import Avoided, NotTried
from meshnode.actors.board import Board
from meshnode.actors.fitting import Fitting
from meshnode.actors.watcher import View
from meshnode.actors.writing import carry_out
from meshnode.core.change import NetKey, Table
from meshnode.core.check import Image, Incoming
from meshnode.core.plan import Plan, Work, make_plan
from meshnode.core.resolve import Local
from meshnode.core.shape import same_keys
from meshnode.core.wire import TRANSACTION, Item
from meshnode.errors import Busy, Halt, MeshError, Replan, RowError
from meshnode.store.port import Resolving
from meshnode.store.values import Letter

LETTERS_A_ROUND = 500


class Away(Exception):
    """No letter of this origin can be replayed in this round."""


class Waited(Exception):
    """This round has waited for a lock in vain."""


class Replay:
    """Works off the letters of one region over ``session``."""

    def __init__(self, session: Resolving, board: Board, view: View) -> None:
        self.session = session
        self.board = board
        self.view = view
        self.avoided = Avoided()
        self._replayed_to = self._looked_to = self._waited_at = 0

    async def replay(self) -> int:
        """Put letters that wait for it through the ordinary decision; how many closed."""
        session = self.session
        letters = await session.to_replay(LETTERS_A_ROUND, self._replayed_to)
        self._replayed_to = _goes_on_after(letters)
        items = await self._by_item(letters)
        items.sort(key=lambda item: item[1][0].number <= self._waited_at)
        return await self._round(items, quiet=False)

    async def again(self, letters: Sequence[Letter]) -> int:
        """Try ``letters`` that are left to an operator; how many closed.

        What does not go in stays as it is, without a note; so does what is overtaken.
        """
        items = _items(each for each in letters if not each.flaw)
        return await self._round([(every, every) for every in items.values()], quiet=True)

    async def _round(
        self, items: Iterable[tuple[Sequence[Letter], Sequence[Letter]]], quiet: bool
    ) -> int:
        """Replay the letters of ``items``, those to try together and those to try alone."""
        fitting = Fitting(self.session, self.view, self.board)
        closed = 0
        away: set[int] = set()
        for together, alone in items:
            origin = alone[0].origin
            if origin in away:
                continue
            try:
                async for count in self._closing(together, alone, fitting, quiet):
                    closed += count
            except Away:
                await self.session.rollback()
                away.add(origin)
            except Waited:
                self._waited_at = alone[0].number
                break
        return closed

    async def _closing(
        self, together: Sequence[Letter], alone: Sequence[Letter], fitting: Fitting, quiet: bool
    ) -> AsyncIterator[int]:
        """Replay letters of one item; how many closed, each time that some do.

        All ``together`` if they go in, else those ``alone`` that do, each by itself.
        """
        wrong = await self._try(together, fitting, quiet)
        if wrong is None:
            yield len(together)
        elif len(together) == 1:
            if not quiet:
                await self._left(together[0], wrong, waits=False)
        else:
            waits = isinstance(wrong, Busy | Replan)
            passed = wrong.keys if isinstance(wrong, NotTried) else ()
            for letter in alone:
                if passed and _at(letter) in passed:
                    continue
                wrong = await self._try([letter], fitting, quiet)
                if wrong is None:
                    yield 1
                elif not quiet:
                    await self._left(letter, wrong, waits)

    async def _by_item(
        self, letters: Sequence[Letter]
    ) -> list[tuple[Sequence[Letter], Sequence[Letter]]]:
        """For each item the letters to try together, and those to try by themselves."""
        for letter in letters:
            if letter.flaw:
                await self.session.refused(letter, letter.flaw)
        items = _items(each for each in letters if not each.flaw)
        locked = {at[:2] for at, every in items.items() if any(not each.code for each in every)}
        found = await self.session.beside(locked, LETTERS_A_ROUND) if locked else []
        beside = _items(each for each in found if not each.flaw)
        return [(every + beside.get(at, []), every) for at, every in items.items()]

    async def _try(
        self, letters: Sequence[Letter], fitting: Fitting, quiet: bool
    ) -> MeshError | None:
        """Apply letters of one item in one transaction; what was in the way, None if nothing.

        Raises `Away`, and `Waited` once a lock was waited for.
        """
        try:
            await self._replay(letters, fitting, quiet)
        except (Busy, Replan, RowError, Halt) as error:
            await self.session.rollback()
            if isinstance(error, Busy) and error.waited:
                self.avoided.waited(letter.table for letter in letters if letter.table is not None)
                raise Waited from error
            return error
        return None

    async def _left(self, letter: Letter, wrong: MeshError, waits: bool) -> None:
        """Note what is in the way of ``letter``, and leave it to an operator if that will stay.

        ``waits``: the rest of its item could not be had just now, which may be all that it needs.
        """
        if isinstance(wrong, Busy | Replan):
            return
        passes = wrong.duplicate and waits if isinstance(wrong, RowError) else not letter.code
        if passes:
            await self.session.postponed(letter, str(wrong))
        else:
            await self.session.refused(letter, str(wrong))

    async def _begin(self, letter: Letter) -> None:
        """Open the transaction; `Away` where no letter of its origin can be replayed now.

        The applier may be in the middle of a long transaction, for which each of them would wait
        in vain; or another process has taken the region over.
        """
        try:
            if await self.session.begin_replay(letter, self.board.apply_epoch):
                return
        except Busy:
            pass
        raise Away

    async def _replay(self, letters: Sequence[Letter], fitting: Fitting, quiet: bool) -> None:
        """Apply letters of one item, and commit."""
        session, ancestry = self.session, self.board.ancestry
        incomings: list[Incoming] = []
        for letter in letters:
            table, entry = letter.table, letter.entry
            assert table is not None and entry is not None
            await fitting.require([table])
            if table.folds is not None:
                await session.learn([(table, entry.key)])
            image = Image(letter.image, 0, len(letter.image)) if letter.image is not None else None
            incomings.append(Incoming(_at(letter), entry, image))
        self.avoided.rows(incomings)
        first = letters[0]
        work = Work(Item(first.seq, TRANSACTION, first.tx_id, 0, exact=False), [], incomings)
        await self._begin(first)

        def decide(state: Mapping[NetKey, Local]) -> Plan:
            plan = make_plan([work], state, ancestry, split=True)
            self.avoided.plan(plan)
            if quiet and not plan.steps:
                raise Replan("overtaken, and closed as such")
            return plan

        plan = await carry_out(session, [work], first.origin, decide, deep=True, wait=False)
        for letter in letters:
            await session.replayed(letter)
        for at, stamp, base in plan.written:
            ancestry.note(at, stamp, base)
        await session.commit()
        self.avoided.done(plan)

    async def close_overtaken(self) -> int:
        """Close letters whose key has reached a version at or above the parked one."""
        session = self.session
        letters = await session.parked(LETTERS_A_ROUND, self._looked_to)
        self._looked_to = _goes_on_after(letters)
        closed = 0
        for letter in letters:
            table, entry = letter.table, letter.entry
            if table is None or entry is None:
                continue
            shape = await session.shape(table)
            if shape is None:
                continue
            if not same_keys(table.shape, shape):
                # What stands under these bytes now may be another row.  A letter that waits to
                # be replayed has its note from there.
                if letter.code:
                    await session.postponed(letter, _other_key(table))
                continue
            if table.folds is not None:
                await session.learn([(table, entry.key)])
            try:
                version = await session.version(table, entry.key)
            except Busy:
                # The whole table is locked.  The next look begins behind this letter.
                self._looked_to = letter.number
                break
            if version is None or version < entry.stamp:
                continue
            # The table may have been altered between: then it was another row's version.
            shape = await session.shape(table)
            if shape is not None and same_keys(table.shape, shape):
                await session.overtaken(letter)
                closed += 1
        return closed


def _items(letters: Iterable[Letter]) -> dict[tuple[int, int, str], list[Letter]]:
    items: dict[tuple[int, int, str], list[Letter]] = {}
    for letter in letters:
        items.setdefault(_item(letter), []).append(letter)
    return items


def _item(letter: Letter) -> tuple[int, int, str]:
    """Whose letter it is.  With its GTID: a region that was seeded again counts from 1 again."""
    return letter.origin, letter.seq, letter.tx_id


def _at(letter: Letter) -> NetKey:
    """Whose key has been learnt."""
    assert letter.table is not None and letter.entry is not None
    return letter.table, letter.table.fold(letter.entry.key)


def _other_key(table: Table) -> str:
    return f"does not close by itself while the key of {table.title} is another than it was"


def _goes_on_after(letters: Sequence[Letter]) -> int:
    """Where the next round begins: it goes through all letters, as the oldest may stay for long."""
    return letters[-1].number if len(letters) == LETTERS_A_ROUND else 0
