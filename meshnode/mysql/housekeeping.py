"""The sessions of the gardener and of the census: small statements over the bookkeeping."""

from collections.abc import Sequence

from meshnode.mysql.bookkeeping import ACTIVE_SINCE
from meshnode.mysql.records import text
from meshnode.mysql.schema import tombstones_of
from meshnode.mysql.store_session import StoreSession
from meshnode.store.values import Letters

_LETTERS = (
    "SELECT state, schema_name, table_name, COUNT(*), MIN(ts) FROM meshnode.dead_letter"
    " WHERE state IN ('open', 'replay', 'skipped') GROUP BY state, schema_name, table_name"
)
_TOMBSTONES = (
    "SELECT t.schema_name, t.table_name, i.TABLE_ROWS FROM meshnode.tables t"
    " JOIN information_schema.TABLES i"
    " ON i.TABLE_SCHEMA = 'meshnode' AND i.TABLE_NAME = CONCAT('t_', t.digest)"
)

_TRUSTED_NOW = (
    "LEAST(UTC_TIMESTAMP(), (SELECT TIMESTAMP('1970-01-01')"
    " + INTERVAL COALESCE(MAX(heard_us), 0) MICROSECOND FROM meshnode.applied))"
)


class GardeningSession(StoreSession):
    """What the gardener says; every statement commits by itself."""

    async def frontiers(self) -> dict[int, int]:
        """The frontier applied from each peer, by region id."""
        return dict(await self.session.query("SELECT origin, frontier FROM meshnode.applied"))

    async def incarnations(self) -> dict[int, int]:
        """The incarnation of each peer's stream, by region id; 0 where nothing of it is applied."""
        return dict(await self.session.query("SELECT origin, incarnation FROM meshnode.applied"))

    async def parked(self) -> list[int]:
        """The times of all rows that wait in ``meshnode.dead_letter``."""
        rows = await self.session.query(
            "SELECT ts FROM meshnode.dead_letter WHERE state IN ('open', 'replay')"
        )
        return [ts for (ts,) in rows]

    async def activations(self) -> dict[str, int]:
        """Since when each replicated table is active, in microseconds, by digest."""
        rows = await self.session.query(f"SELECT digest, {ACTIVE_SINCE} FROM meshnode.tables")
        return {str(digest): int(str(since)) for digest, since in rows}

    async def any_stable(self, digest: str, since: int, limit: int) -> bool:
        """Whether the table has a tombstone with a time above ``since``, up to ``limit``."""
        return bool(
            await self.session.query(
                f"SELECT 1 FROM {tombstones_of(digest)}"
                f" WHERE _mesh_ts > {since} AND _mesh_ts <= {limit} LIMIT 1"
            )
        )

    async def note_limit(self, limit: int) -> None:
        """Raise the limit in ``meshnode.member``; it never falls."""
        await self.session.query(
            f"UPDATE meshnode.member SET gc_limit = GREATEST(gc_limit, {limit})"
        )

    async def drop_stable(self, digest: str, since: int, limit: int, rows: int) -> int:
        """Drop at most ``rows`` of these tombstones; how many went."""
        await self.session.query(
            f"DELETE FROM {tombstones_of(digest)}"
            f" WHERE _mesh_ts > {since} AND _mesh_ts <= {limit} LIMIT {rows}"
        )
        return self.session.found

    async def forget(self, days: int, rows: int) -> None:
        """Delete closed letters and conflict records beyond their time.

        By the own clock or by the newest that was heard of a peer, whichever is older: a clock
        that steps ahead must not make records old.
        """
        for statement in (
            "DELETE FROM meshnode.conflict_log"
            f" WHERE at < {_TRUSTED_NOW} - INTERVAL {days} DAY LIMIT {rows}",
            "DELETE FROM meshnode.dead_letter WHERE state = 'closed'"
            f" AND closed_at < {_TRUSTED_NOW} - INTERVAL {days} DAY LIMIT {rows}",
        ):
            await self.session.query(statement)


class CountingSession(StoreSession):
    """What the census asks."""

    async def letters(self) -> list[Letters]:
        """The letters that are not closed, by state and table."""
        return [
            Letters(str(state), None if table is None else f"{schema}.{table}", count, least)
            for state, schema, table, count, least in await self.session.query(_LETTERS)
        ]

    async def waiting(self) -> int:
        """How many keys wait to be mended."""
        return int(str(await self.session.value("SELECT COUNT(*) FROM meshnode.mend")))

    async def tombstones(self) -> dict[str, int]:
        """About how many tombstones there are, as InnoDB estimates it."""
        rows = await self.session.query(_TOMBSTONES)
        return {f"{schema}.{table}": int(count or 0) for schema, table, count in rows}

    async def settings(self, names: Sequence[str]) -> dict[str, str]:
        """The global variables ``names`` as the server shows them."""
        wanted = ", ".join(map(text, names))
        rows = await self.session.query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})")
        return {str(name): str(value) for name, value in rows}
