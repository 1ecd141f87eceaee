"""Late tombstones of several tables in one transaction, as the tailer will see it.

A tombstone behind rows of another table alone is taken for that of a trigger that stands on the
wrong table (``test_stray_tombstones.py``), and is not published.
"""

from core_values import number_table, wire_key

from meshnode.core.mend import LateTombstone, Restamped
from meshnode.core.stamp import Stamp
from meshnode.mysql import catalog, mending
from meshnode.mysql.mending import MendingStatements


class Session:
    """Notes what is written."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def query(self, statement: object) -> list:
        self.said.append("tombstones")
        return []


async def test_tombstones_stand_before_all_rows(monkeypatch) -> None:
    tables = [number_table("t"), number_table("u")]
    session = Session()
    burying = MendingStatements(session, 1, lambda table: None, {}, Restamped())

    async def stamps(session, lookup, table, keys, lock, tombstones=False) -> dict:
        return {} if tombstones else {(table, key): Stamp(10, 2) for key in keys}

    async def buried(connection, shape) -> bool:
        return True

    async def remove(table, rows) -> None:
        session.said.append("rows")

    monkeypatch.setattr(mending, "read_stamps", stamps)
    monkeypatch.setattr(catalog, "buried", buried)
    monkeypatch.setattr(burying, "_remove", remove)
    await burying._bury([LateTombstone(table, wire_key(1), Stamp(20, 1)) for table in tables])
    assert session.said == ["tombstones", "tombstones", "rows", "rows"]
