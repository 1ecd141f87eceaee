"""Which of a stream's tables may be written here, and how.

Theory of operation.  Images are written as the origin logged them, column by column, so a table
must be the same in both regions, or have more columns here, behind the origin's last one
and with literal defaults (it is ``wide`` then: what is written to it is filled up).  The
comparison (`meshnode.core.shape`) is made once for each form of a table and again
when the tailer has seen a statement that may have changed a definition here, or the topology
has changed, which may exclude the table since.  What does not fit
halts the stream, which goes on by itself when the definitions have been brought together.
"""

from collections.abc import Iterable

from meshnode.actors.board import Board
from meshnode.actors.watcher import View
from meshnode.core.change import Table
from meshnode.core.shape import Unfit, Wider, fits
from meshnode.errors import Halt, OtherKey
from meshnode.store.port import Writing
from meshnode.topology import Topology


class Fitting:
    """Compares tables with the local ones once, and again when definitions change.

    ``wide`` holds the tables that have more columns here than at the origin.
    """

    def __init__(self, session: Writing, view: View, board: Board) -> None:
        self.session = session
        self.view = view
        self.board = board
        self.wide: set[Table] = set()
        self._fits: set[Table] = set()
        self._definitions = board.definitions
        self._topology: Topology | None = None

    async def require(self, tables: Iterable[Table]) -> None:
        """Halt unless every table may be written here; to be called outside a transaction."""
        changed = self._definitions != self.board.definitions
        if changed or self._topology is not self.view.now:
            self._definitions, self._topology = self.board.definitions, self.view.now
            self._fits.clear()
            self.wide.clear()
        for table in tables:
            if table not in self._fits:
                await self._examine(table)
                self._fits.add(table)

    async def _examine(self, table: Table) -> None:
        if not self.view.now.matches(table.schema, table.name):
            raise Halt(
                f"the stream writes table {table.title}, which the topology does not replicate",
                "compare the topology files of the regions (`meshnode status` shows digests); a "
                "table that was excluded while it was written must be named again until this is "
                "applied (docs/OPERATING.md, 'Taking a table out')",
            )
        local = await self.session.definition(table)
        if not local.replicated:
            raise Halt(
                f"table {table.title} is not replicated here yet",
                "run `meshnode init` for this region; the stream then goes on by itself",
            )
        if local.shape is None:
            raise Halt(
                f"table {table.title} does not exist here",
                "create it as it is in the other regions, then run `meshnode init`",
            )
        if not local.buried:
            raise OtherKey(table.title)
        fit = fits(table.shape, local.shape, local.literal)
        if isinstance(fit, Unfit):
            raise Halt(
                f"the definitions differ: {fit.reason}",
                "give the table here the definition that these rows were written with, or add in "
                "the other regions the columns that it has more; the stream then goes on by itself "
                "(docs/OPERATING.md, 'Changing a table')",
            )
        if isinstance(fit, Wider):
            self.wide.add(table)
