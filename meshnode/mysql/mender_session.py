"""The mender's session: the store port over the statements of :mod:`meshnode.mysql.mending`."""

from collections.abc import Iterable

from meshnode.core.change import Marker, Mended, Table
from meshnode.core.mend import Restamped
from meshnode.core.stamp import Stamp
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.mending import LATE, Mending
from meshnode.mysql.session import Session
from meshnode.mysql.store_session import StoreSession


class MenderSession(Mending, StoreSession):
    """What the mender of region ``own`` says to its server."""

    def __init__(
        self, session: Session, own: int, lookups: Lookups, max_packet: int, restamped: Restamped
    ) -> None:
        Mending.__init__(self, session, own, lookups, lookups.charsets, max_packet, restamped)
        self.lookups = lookups

    async def held(self) -> dict[Marker, Mended]:
        """The lifts in ``meshnode.mend``; late tombstones wait there, too, for the resolver."""
        rows = await self.session.query(
            "SELECT digest, HEX(row_key), seen_ts, seen_origin, base_ts, base_origin, base_row"
            f" FROM meshnode.mend WHERE base_row <> {LATE}"
        )
        return {
            (str(digest), bytes.fromhex(str(key))): Mended(
                Stamp(seen_ts, seen_origin), Stamp(base_ts, base_origin), bool(base_row)
            )
            for digest, key, seen_ts, seen_origin, base_ts, base_origin, base_row in rows
        }

    async def table(self, digest: str) -> Table | None:
        """The replicated table with this digest, or ``None``."""
        return await self.tables.replicated(digest)

    async def learn(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Ask for the weights of keys that are not known yet."""
        await self.lookups.fold(self.session, keys)
