"""Dead letters, worked off: those that wait for it are replayed, overtaken ones are closed.

A replay is an apply transaction of one row, made from what the letter kept: the ordinary
decision on the row as it stands now.  What cannot be replayed is left to an operator with a
note; what meets a lock or a surprise waits for the next round.

A row that was only locked is nobody's affair but the mesh's: its letter waits, with a note,
for whatever else is in its way as well, a table that may not be written here for one.  Only the
row itself, where it cannot stand, makes it an operator's.
"""

from collections.abc import Mapping, Sequence

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
from meshnode.errors import Busy, Halt, Replan, RowError
from meshnode.store.port import Resolving
from meshnode.store.values import Letter

LETTERS_A_ROUND = 500


class Replay:
    """Works off the letters of one region over ``session``."""

    def __init__(self, session: Resolving, board: Board, view: View) -> None:
        self.session = session
        self.board = board
        self.view = view
        self._replayed_to = self._looked_to = 0

    async def replay(self) -> int:
        """Put letters that wait for it through the ordinary decision; how many closed."""
        session = self.session
        letters = await session.to_replay(LETTERS_A_ROUND, self._replayed_to)
        self._replayed_to = _goes_on_after(letters)
        fitting = Fitting(session, self.view, self.board)
        closed = 0
        away: set[int] = set()
        for letter in letters:
            if letter.flaw:
                await session.refused(letter, letter.flaw)
            if letter.flaw or letter.origin in away:
                continue
            try:
                if await self._replay(letter, fitting):
                    closed += 1
                else:
                    await session.rollback()
                    away.add(letter.origin)
            except (Busy, Replan):
                await session.rollback()
            except (RowError, Halt) as error:
                await session.rollback()
                if isinstance(error, Halt) and not letter.code:
                    await session.postponed(letter, str(error))
                else:
                    await session.refused(letter, str(error))
        return closed

    async def _begin(self, letter: Letter) -> bool:
        """Open the transaction; False where no letter of its origin can be replayed now.

        The applier may be in the middle of a long transaction, for which each of them would wait
        in vain; or another process has taken the region over.
        """
        try:
            return await self.session.begin_replay(letter, self.board.apply_epoch)
        except Busy:
            return False

    async def _replay(self, letter: Letter, fitting: Fitting) -> bool:
        """Apply one letter; False if its transaction could not begin."""
        session, ancestry = self.session, self.board.ancestry
        table, entry = letter.table, letter.entry
        assert table is not None and entry is not None
        await fitting.require([table])
        if table.folds is not None:
            await session.learn([(table, entry.key)])
        image = Image(letter.image, 0, len(letter.image)) if letter.image is not None else None
        incoming = Incoming((table, table.fold(entry.key)), entry, image)
        item = Item(letter.seq, TRANSACTION, letter.tx_id, 0, exact=False)
        work = Work(item, [], [incoming])
        if not await self._begin(letter):
            return False

        def decide(state: Mapping[NetKey, Local]) -> Plan:
            return make_plan([work], state, ancestry, split=True)

        plan = await carry_out(session, [work], letter.origin, decide, deep=True, wait=False)
        await session.replayed(letter)
        for at, stamp, base in plan.written:
            ancestry.note(at, stamp, base)
        await session.commit()
        return True

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
            version = await session.version(table, entry.key)
            if version is not None and version >= entry.stamp:
                await session.overtaken(letter)
                closed += 1
        return closed


def _other_key(table: Table) -> str:
    return f"does not close by itself while the key of {table.title} is another than it was"


def _goes_on_after(letters: Sequence[Letter]) -> int:
    """Where the next round begins: it goes through all letters, as the oldest may stay for long."""
    return letters[-1].number if len(letters) == LETTERS_A_ROUND else 0
