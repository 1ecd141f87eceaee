"""Dead letters, worked off: those that wait for it are replayed, overtaken ones are closed.

A replay is an apply transaction of one row, made from what the letter kept: the ordinary
decision on the row as it stands now.  What cannot be replayed is left to an operator with a
note; what meets a lock or a surprise waits for the next round.
"""

from meshnode.actors.board import Board
from meshnode.actors.watcher import View
from meshnode.core.check import Image, Incoming
from meshnode.core.plan import Work, make_plan
from meshnode.core.shape import Equal, compare
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
        self._looked_to = 0

    async def replay(self) -> int:
        """Put every letter that waits for it through the ordinary decision; how many closed."""
        closed = 0
        for letter in await self.session.to_replay(LETTERS_A_ROUND):
            try:
                why = letter.flaw or await self._replay(letter)
            except (RowError, Halt) as error:
                await self.session.rollback()
                why = str(error)
            except (Busy, Replan):
                await self.session.rollback()
                continue
            if why:
                await self.session.refused(letter, why)
            else:
                closed += 1
        return closed

    async def _replay(self, letter: Letter) -> str:
        """Apply one letter; why it could not be, or ''."""
        session, ancestry = self.session, self.board.ancestry
        table, entry = letter.table, letter.entry
        assert table is not None and entry is not None
        local = await session.shape(table)
        if local is None or not self.view.now.matches(table.schema, table.name):
            return f"table {table.title} is not replicated here"
        if not isinstance(compare(table.shape, local), Equal):
            return f"the definition of {table.title} differs from that of the parked row"
        if table.folds is not None:
            await session.learn([(table, entry.key)])
        image = Image(letter.image, 0, len(letter.image)) if letter.image is not None else None
        incoming = Incoming((table, table.fold(entry.key)), entry, image)
        item = Item(letter.seq, TRANSACTION, letter.tx_id, 0, exact=False)
        work = Work(item, [], [incoming])
        if not await session.begin_replay(letter, self.board.epoch):
            await session.rollback()
            return "the node is being replaced: try again"
        state = await session.lock([work], deep=True, wait=False)
        plan = make_plan([work], state, ancestry, split=True)
        images = await session.standing(plan)
        await session.write(plan)
        await session.look(plan)
        await session.record(plan, images, letter.origin)
        await session.replayed(letter)
        await session.commit()
        for at, stamp, base in plan.written:
            ancestry.note(at, stamp, base)
        return ""

    async def close_overtaken(self) -> int:
        """Close letters whose key has reached a version at or above the parked one."""
        session = self.session
        letters = await session.parked(LETTERS_A_ROUND, self._looked_to)
        # Round by round through all of them: the oldest may stay open for long.
        self._looked_to = letters[-1].number if len(letters) == LETTERS_A_ROUND else 0
        closed = 0
        for letter in letters:
            table, entry = letter.table, letter.entry
            if table is None or entry is None or await session.shape(table) is None:
                continue
            if table.folds is not None:
                await session.learn([(table, entry.key)])
            version = await session.version(table, entry.key)
            if version is not None and version >= entry.stamp:
                await session.overtaken(letter)
                closed += 1
        return closed
