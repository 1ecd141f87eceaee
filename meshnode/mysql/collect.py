"""The rows of one local transaction, collected as the binlog shows them, and cut into parts.

Images stay bytes; only boundaries, keys and stamps are read.  A huge transaction
is published in parts.  A trigger writes a delete's tombstone right behind it,
so a part does not end between the two; but a delete that no trigger saw (a
cascade) has none, so after so many bytes it waits no longer.  Parted all the same,
both halves are still true, at the price of a late tombstone
(:mod:`meshnode.core.change`).

A trigger stays with its table when that is renamed, and goes on to write tombstones of the name
that it was made for.  Those are left out: no row of that name is gone.

A before image says nothing that a peer needs but its key and its stamp.  Large ones
are cut to that here, so that a row of 40 MiB does not travel twice.
"""

from collections.abc import Callable

from meshnode import limits
from meshnode.core.change import Partial, RowOp, Table, Transaction
from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE
from meshnode.errors import Halt
from meshnode.mysql.bodies import DELETES, UPDATES, WRITES, Rows
from meshnode.mysql.maps import Mapped
from meshnode.mysql.partialimage import scan_partial
from meshnode.mysql.rowimage import cut_before_images

KINDS = {
    **dict.fromkeys(WRITES, WRITE),
    **dict.fromkeys(UPDATES, UPDATE),
    **dict.fromkeys(DELETES, DELETE),
}
"""The kind of row operation of each rows event."""

PATIENCE = 2
"""A part with a delete that may still get its tombstone grows to so many times its size."""


class Collector:
    """Collects into ``tx``, the open part of the present transaction, if there is one.

    ``own`` is this region's id, ``part_bytes`` says how large a part may be (bytes).  ``begin``
    makes the part with a number, ``end`` takes one that is full, ``stop`` makes the error
    that names the transaction.
    """

    def __init__(
        self,
        part_bytes: Callable[[], int],
        own: int,
        begin: Callable[[int], Transaction],
        end: Callable[[Transaction], None],
        stop: Callable[[str], Halt],
    ) -> None:
        self.tx: Transaction | None = None
        self._part_bytes = part_bytes
        self._own = own
        self._begin = begin
        self._end = end
        self._stop = stop
        self._waits = False
        self._touched: set[str] = set()

    def open(self) -> Transaction:
        """The open part; begins the first one where there is none."""
        if self.tx is None:
            self.tx = self._begin(0)
            self._waits = False
            self._touched.clear()
        return self.tx

    def images(self, table: Table, event_type: int, event: bytes, start: int, end: int) -> None:
        """Rows with full images: ``event[start:end]``."""
        kind, size = KINDS[event_type], end - start
        images = event[start:end]
        found = (table.scan_pairs if kind == UPDATE else table.scan_rows)(images, 0, size)
        cut = False
        if size > limits.BEFORE_IMAGE_BYTES and kind != WRITE:
            images, found, cut = _without_large_before_images(table, kind, images, found)
            size = len(images)
        tx = self.tx
        if tx is None:
            tx = self.open()
        elif tx.size + size > self._part_bytes():
            tx = self._room(tx, size)
        tx.size += size
        tx.rows += len(found)
        tx.ops.append(RowOp(table, kind, images, found))
        self._touched.add(table.digest)
        tx.shortened |= cut
        self._waits = kind == DELETE or (kind == UPDATE and _moved(found))

    def _room(self, tx: Transaction, size: int) -> Transaction:
        """The part that takes ``size`` more bytes: ``tx`` itself, or a new one behind it."""
        allowed = self._part_bytes() * (PATIENCE if self._waits else 1)
        if not tx.size or tx.size + size <= allowed:
            return tx
        self._end(tx)
        self.tx = self._begin(tx.part + 1)
        # Written before the rows and deleted behind them, in the binlog as in the table.
        self.tx.mended = tx.mended
        return self.tx

    def partial(self, table: Table, rows: Rows, event: bytes) -> None:
        """Rows whose images lack columns: such rows are lifted, so only the key counts."""
        size = rows.stop - rows.start
        tx = self._room(self.open(), size)
        tx.size += size
        self._waits = rows.after is None
        self._touched.add(table.digest)
        for before, after in scan_partial(table.shape, rows, event):
            tx.rows += 1
            moved = before is not None and (after is None or before.key != after.key)
            for image, alive in ((before if moved else None, False), (after, True)):
                if image is None:
                    continue
                if image.key is None:
                    raise self._stop(f"has an image of {table.title} without its key")
                stamp = None if image.ts is None else Stamp(image.ts, image.origin or 0)
                tx.partial.append(Partial(table, image.key, alive, stamp, len(tx.ops)))

    def is_stray(self, digest: str, beside: bool) -> bool:
        """Whether a tombstone of this table, here, is another table's: its trigger stands there.

        A trigger writes behind the row that fires it, and the mesh itself before all rows.
        ``beside``: the transaction has rows of tables that are not replicated.
        """
        touched = self._touched if self.tx is not None else ()
        return digest not in touched and (beside or bool(touched))

    def tombstones(self, mapped: Mapped, rows: Rows, event: bytes) -> None:
        """Tombstones that triggers wrote or raised."""
        tx = self.open()
        self._waits = False
        pairs = rows.type in UPDATES
        if not rows.full:
            # A column that did not change is not in a partial image: the origin was ours.
            for _, after in scan_partial(mapped.shape, rows, event):
                if after is None or after.key is None or after.ts is None:
                    raise self._stop("has a tombstone whose image lacks key or time")
                origin = self._own if after.origin is None else after.origin
                tx.tombstones.append((mapped.digest, after.key, Stamp(after.ts, origin)))
            return
        for row in mapped.scan(event, rows.start, rows.stop, pairs):
            key, ts, origin = row[6:9] if pairs else row[2:5]
            tx.tombstones.append((mapped.digest, key, Stamp(ts, origin)))


def _moved(found: list) -> bool:
    """Whether the last update changed the key, which leaves a tombstone of the old one."""
    return bool(found) and found[-1][2] != found[-1][6]


def _without_large_before_images(
    table: Table, kind: int, images: bytes, found: list
) -> tuple[bytes, list, bool]:
    """Images, what the scanner finds in them, and whether any was cut."""
    longest = limits.BEFORE_IMAGE_BYTES
    if all(row[1] - row[0] <= longest for row in found):
        return images, found, False
    pairs = kind == UPDATE
    images = cut_before_images(table.shape, images, found, pairs, longest)
    scan = table.scan_pairs if pairs else table.scan_rows
    return images, scan(images, 0, len(images)), True
