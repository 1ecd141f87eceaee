"""Catalog questions over a hot session."""

from collections.abc import Sequence

from meshnode.mysql.records import text
from meshnode.mysql.session import Session


class CatalogRows:
    """What :mod:`meshnode.mysql.catalog` asks of a connection, on a :class:`Session`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple]:
        """All rows; ``%s`` stands for each parameter."""
        if parameters:
            sql = sql % tuple(
                text(value) if isinstance(value, str) else str(value) for value in parameters
            )
        return list(await self.session.query(sql))
