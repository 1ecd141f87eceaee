"""The mender's session: the store port over the statements of :mod:`meshnode.mysql.mending`."""

from collections.abc import Iterable

from meshnode.core.change import Marker, Mended, Table
from meshnode.core.mend import Restamped
from meshnode.core.stamp import Stamp
from meshnode.mysql import mend_rows
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.mending import Mending
from meshnode.mysql.session import Session
from meshnode.mysql.store_session import StoreSession


class MenderSession(Mending, StoreSession):
    """What the mender of region ``own`` says to its server."""

    def __init__(self, session: Session, own: int, lookups: Lookups, restamped: Restamped) -> None:
        Mending.__init__(self, session, own, lookups, lookups.charsets, restamped)
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
