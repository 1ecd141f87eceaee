"""The lookups of one node: one for each table, made when it is first needed."""

from collections.abc import Iterable, Mapping

from meshnode.core.change import Table
from meshnode.mysql.lookup import Collation, Lookup, fold_keys
from meshnode.mysql.session import Session

FOLDS_KEPT = 100_000
"""Canonical keys remembered for one table before they are dropped and learnt again."""


class Lookups:
    """Finds the :class:`Lookup` of a table and keeps its canonical keys known."""

    def __init__(self, collations: Mapping[int, Collation]) -> None:
        self.collations = collations
        self.charsets = {number: entry.charset for number, entry in collations.items()}
        self._lookups: dict[Table, Lookup] = {}

    def __call__(self, table: Table) -> Lookup:
        lookup = self._lookups.get(table)
        if lookup is None:
            lookup = self._lookups[table] = Lookup(table.shape, self.collations)
        return lookup

    async def fold(self, session: Session, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Learn the canonical forms of character keys; to be called between batches."""
        groups: dict[Table, set[bytes]] = {}
        for table, key in keys:
            groups.setdefault(table, set()).add(key)
        for table, wanted in groups.items():
            lookup = self(table)
            if table.folds is not None and len(table.folds) > FOLDS_KEPT:
                lookup.forget(table)
            await fold_keys(session, lookup, table, wanted)
