"""The mender's session: the store port over the statements of :mod:`meshnode.mysql.mending`.

The transactions that make the stream true are there.  Here is what a mender has to know before it
can judge: what waits in ``meshnode.mend`` from former runs, which table a digest stands
for now, and under which form character keys are equal, which only the server can say.
The origin and the resolver each have such a session, and share what was restamped: a row that one
of them has lifted must not be taken for a client's write by the other.
"""

from collections.abc import Iterable

from meshnode.core.change import Marker, Mended, Table
from meshnode.core.mend import Restamped
from meshnode.core.stamp import Stamp
from meshnode.mysql import mend_rows
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.mending import MendingStatements
from meshnode.mysql.session import Session
from meshnode.mysql.store_session import StoreSession


class MenderSession(MendingStatements, StoreSession):
    """What the mender of region ``own`` says to its server."""

    def __init__(self, session: Session, own: int, lookups: Lookups, restamped: Restamped) -> None:
        MendingStatements.__init__(self, session, own, lookups, lookups.charsets, restamped)
        self.lookups = lookups

    async def held(self) -> dict[Marker, Mended]:
        """What the lifts in ``meshnode.mend`` had replaced; for those whose version was seen."""
        return await mend_rows.all_lifts(self.session)

    async def late(self) -> dict[Marker, Stamp]:
        """The late tombstones in ``meshnode.mend``."""
        return await mend_rows.all_late(self.session)

    async def table(self, digest: str) -> Table | None:
        """The replicated table with this digest, or ``None``."""
        return await self.tables.replicated(digest)

    async def learn(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Ask for the weights of keys that are not known yet."""
        await self.lookups.fold(self.session, keys)
