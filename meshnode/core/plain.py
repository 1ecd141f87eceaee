"""The index of an ordinary transaction, made without its net effects.

Nearly all transactions insert and update rows, each once, with stamps of this
region that are above what they replaced and above the promise.  What
:mod:`meshnode.core.change` and :mod:`meshnode.core.mend` would find out about them
can be read off the rows, at a fraction of the cost: every insert replaced
nothing, every update its before image.  Anything else, a tombstone at one of
the keys among it, goes the long way.
"""

from collections.abc import Collection

import msgspec

from meshnode.core.change import NetKey, Table, Transaction
from meshnode.core.wire import PART, TRANSACTION, UPDATE, UPSERT, WRITE, Entry, Item, Op


class Plain(msgspec.Struct, eq=False):
    """An ordinary transaction: its index, its keys by table, and its lowest time."""

    entries: list[Entry]
    keys: dict[Table, list[bytes]]
    lowest: int

    def stands(self, promised: int, found: Collection[NetKey], locked: Collection[NetKey]) -> bool:
        """Whether it may be published as it is.

        ``found`` and ``locked`` have the keys with a tombstone, and with one that
        somebody holds.
        """
        if self.lowest <= promised:
            return False
        if not found and not locked:
            return True
        return not any(
            (at := (table, table.fold(key))) in found or at in locked
            for table, keys in self.keys.items()
            for key in keys
        )


def plain(tx: Transaction, own: int, number: dict[Table, int]) -> Plain | None:
    """The index of ``tx`` if it is an ordinary transaction of the region ``own``.

    ``number`` gives a table's place in the frame.  KeyError when nobody has asked
    MySQL yet for the canonical form of a key.
    """
    if tx.tombstones or tx.partial or tx.mended or tx.beat is not None or not tx.ops:
        return None
    entries: list[Entry] = []
    by_table: dict[Table, list[bytes]] = {}
    for op in tx.ops:
        table, found = op.table, op.found
        place = number[table]
        if op.kind == WRITE:
            for _, _, key, ts, origin in found:
                if origin != own:
                    return None
                entries.append(Entry(place, key, UPSERT, ts, origin, 0, 0, False))
            keys = [row[2] for row in found]
        elif op.kind == UPDATE:
            for _, _, key, old_ts, old_origin, _, new, ts, origin in found:
                if new != key or origin != own or (ts, origin) <= (old_ts, old_origin):
                    return None
                entries.append(Entry(place, key, UPSERT, ts, origin, old_ts, old_origin, True))
            keys = [row[2] for row in found]
        else:
            return None
        if table in by_table:
            by_table[table] += keys
        else:
            by_table[table] = keys
    if len(entries) > 1 and any(_repeated(table, keys) for table, keys in by_table.items()):
        return None
    return Plain(entries, by_table, min(entry.ts for entry in entries)) if entries else None


def _repeated(table: Table, keys: list[bytes]) -> bool:
    """Whether a key is touched twice, as the collation has it."""
    folds = table.folds
    return len(set(keys if folds is None else map(folds.__getitem__, keys))) != len(keys)


def plain_item(tx: Transaction, index: Plain, number: dict[Table, int]) -> Item:
    """The item that publishes all of ``tx``; its ``seq`` is 0."""
    kind = TRANSACTION if tx.last and tx.part == 0 else PART
    ops = [Op(number[op.table], op.kind, op.rows) for op in tx.ops]
    return Item(
        0, kind, tx.tx_id, tx.commit_us, tx.part, tx.last, not tx.shortened, ops, index.entries
    )
