"""Tables as they are defined here now, for keys whose rows have not passed in the binlog yet."""

from meshnode.core.change import Table
from meshnode.mysql import catalog
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table
from meshnode.mysql.queries import CatalogRows
from meshnode.mysql.session import Session


class LocalTables:
    """Makes a :class:`Table` of a table's definition; equal definitions are one table."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._tables: dict[bytes, Table] = {}

    async def named(self, schema: str, name: str) -> Table | None:
        """The table, or ``None`` where it does not exist."""
        shape = await catalog.shape(CatalogRows(self.session), schema, name)
        if shape is None:
            return None
        return self.mapped(build_table_map(1, schema, name, shape.columns, shape.key))

    async def replicated(self, digest: str) -> Table | None:
        """The replicated table with this digest, or ``None``."""
        rows = await self.session.query(
            f"SELECT schema_name, table_name FROM meshnode.tables WHERE digest = '{digest}'"
        )
        return await self.named(str(rows[0][0]), str(rows[0][1])) if rows else None

    def mapped(self, body: bytes) -> Table:
        """The table that a TABLE_MAP body describes."""
        table = self._tables.get(body)
        if table is None:
            table = self._tables[body] = make_table(body)
        return table
