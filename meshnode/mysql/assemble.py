"""From the raw binlog to local transactions.

The assembler is a fold over packets: bytes in, transactions out, no I/O.  It
drops what the mesh itself applied (such a transaction begins with the row of
``meshnode.applied``, so that is known at its first row and the rest is not even
looked at), collects the rows of replicated tables and what the triggers and the
mender wrote beside them, and cuts a huge transaction into parts.

What cannot be streamed stops it: data definition that changes rows without
logging them, statements logged as text, distributed transactions, incidents and
events nobody knows.  It then raises :class:`~meshnode.errors.Halt` naming the
transaction, and stays before it.
"""

import struct
from collections.abc import Iterable
from zlib import crc32

from meshnode.core.change import Mended, RowOp, Table, Transaction
from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE, Beat
from meshnode.errors import Halt
from meshnode.mysql.bodies import (
    DELETES,
    UPDATES,
    WRITES,
    Rows,
    parse_format_description,
    parse_gtid,
    parse_query,
    parse_rows,
)
from meshnode.mysql.builders import fde_without_checksum
from meshnode.mysql.events import (
    CHECKSUM_SIZE,
    HEADER_SIZE,
    EventClass,
    EventType,
    classify,
    event_name,
    parse_payload,
    take_event,
)
from meshnode.mysql.maps import Mapped, Role, TableMaps
from meshnode.mysql.notices import Notices
from meshnode.mysql.partialimage import scan_partial
from meshnode.mysql.statements import StatementClass, classify_query

_BODY = 19
_KINDS = {
    **dict.fromkeys(WRITES, WRITE),
    **dict.fromkeys(UPDATES, UPDATE),
    **dict.fromkeys(DELETES, DELETE),
}


_ENDS = frozenset({EventType.XID, EventType.GTID, EventType.GTID_TAGGED, EventType.ROTATE})
"""What must be looked at while the rest of an apply transaction is passed over."""

# Five events make a transaction of one row: they are plain numbers, and have a shorter way.
_TABLE_MAP, _XID, _QUERY = int(EventType.TABLE_MAP), int(EventType.XID), int(EventType.QUERY)
_GTIDS = frozenset({int(EventType.GTID), int(EventType.GTID_TAGGED)})
_USUAL = frozenset({_TABLE_MAP, _XID, _QUERY, *_GTIDS, *map(int, _KINDS)})
_size_at = struct.Struct("<I").unpack_from


class Assembler:
    """Folds packets of one binlog stream into transactions.

    ``notices`` receives what the bookkeeping tables say (heartbeats, epochs,
    tables that join).  ``skipped`` holds transactions that an operator has told
    the node to leave out.  Finished transactions and parts collect in ``out``.
    """

    def __init__(
        self, maps: TableMaps, notices: Notices, part_bytes: int, skipped: Iterable[str] = ()
    ) -> None:
        self.maps = maps
        self.notices = notices
        self.part_bytes = part_bytes
        self.skipped = set(skipped)
        self.out: list[Transaction] = []
        self.format: bytes = b""
        self.server = ""
        self._checksum = True
        self._passed: list[str] = []
        self._gtid = ""
        self._commit_us = 0
        self._tx: Transaction | None = None
        self._skip = False
        self._first_rows = True
        self._cut = False
        self._inside = False

    def feed(self, packet: bytes) -> None:
        """Take one packet of the dump (status byte and event)."""
        kind = packet[5]
        if self._skip and kind not in _ENDS:
            return
        if self._checksum and kind in _USUAL:
            # What take_event does, but for the header, which nobody reads of these.
            end = len(packet) - CHECKSUM_SIZE
            event = packet[1:end]
            if (
                end > HEADER_SIZE
                and _size_at(packet, 10)[0] == len(packet) - 1
                and crc32(event) == int.from_bytes(packet[end:], "little")
            ):
                self._event(kind, 0, event)
                return
        header, event = take_event(
            packet, 1, self._checksum and kind not in (EventType.HEARTBEAT, EventType.HEARTBEAT_V2)
        )
        self._event(header.type, header.flags, event)

    def _event(self, kind: int, flags: int, event: bytes) -> None:
        if kind in _KINDS:
            self._rows(kind, event)
        elif kind == _TABLE_MAP:
            # A map that cannot be read is a reason to skip a transaction.
            if self._gtid not in self.skipped:
                self._define(event)
        elif kind == _XID:
            self._end()
        elif kind in _GTIDS:
            self._begin(event)
        elif kind == _QUERY:
            self._query(event)
        elif kind == EventType.TRANSACTION_PAYLOAD:
            for inner in parse_payload(event, _BODY):
                if not self._skip or inner[4] == EventType.XID:
                    self._event(inner[4], 0, inner)
        elif kind == EventType.FORMAT_DESCRIPTION:
            described = parse_format_description(event, _BODY)
            self._checksum = described.checksum == 1
            self.format = fde_without_checksum(event)
            self.server = described.server_version
            self.maps.clear()
        else:
            self._other(kind, flags, event)

    def _other(self, kind: int, flags: int, event: bytes) -> None:
        group = classify(kind, flags)
        if kind == EventType.ROTATE:
            return
        if kind == EventType.XA_PREPARE:
            if event[_BODY]:
                self._end()
            elif self._touched():
                raise self._stop("is a distributed transaction (XA PREPARE) on a replicated table")
            else:
                self._end()
        elif group is EventClass.FATAL:
            raise self._stop("is followed by an incident: the binary log is not complete")
        elif (
            group is EventClass.STATEMENT or kind == EventType.ANONYMOUS_GTID
        ) and self._gtid not in self.skipped:
            raise self._stop(f"holds a {event_name(kind)} event: it was logged as a statement")
        # STREAM and IGNORABLE events say nothing about rows.

    # Transactions

    def _begin(self, event: bytes) -> None:
        gtid = parse_gtid(event, _BODY)
        self._gtid = gtid.text
        self._commit_us = gtid.original_commit_us
        self._skip = False
        self._first_rows = True
        self._cut = self._inside = False
        self._tx = None

    def _end(self) -> None:
        """The transaction is complete."""
        self._passed.append(self._gtid)
        tx = self._tx
        if tx is not None and not self._skip and self._gtid not in self.skipped:
            self._emit(tx, last=True)
        elif not self.out and len(self._passed) > 1000:
            self._emit(Transaction(self._gtid, self._commit_us), last=True)
        self._tx = None
        self._skip = False
        self.notices.transaction_ended()

    def _emit(self, tx: Transaction, last: bool) -> None:
        tx.last = last
        tx.format, tx.server = self.format, self.server
        if last:
            tx.passed, self._passed = self._passed, []
        self.out.append(tx)

    def _open(self) -> Transaction:
        if self._tx is None:
            self._tx = Transaction(self._gtid, self._commit_us)
        return self._tx

    def _touched(self) -> bool:
        return self._tx is not None

    # Rows

    def _define(self, event: bytes) -> None:
        try:
            self.maps.define(event)
        except Halt as error:
            # Without the transaction's name nobody could skip it.
            raise self._stop(f"cannot be read: {error}") from error

    def _rows(self, kind: int, event: bytes) -> None:
        if self._skip or self._gtid in self.skipped:
            return
        rows = parse_rows(kind, event, _BODY)
        mapped = self.maps.get(rows.table_id)
        if mapped is None:
            if rows.start == rows.stop:
                return
            raise self._stop(f"has rows for the table id {rows.table_id}, which no table map names")
        role = mapped.role
        if self._first_rows:
            self._first_rows = False
            if role is Role.APPLIED:
                self._skip = True
                return
        if role is Role.IGNORED or role is Role.APPLIED:
            return
        if role is Role.REPLICATED:
            table = mapped.table
            assert table is not None
            self._replicated(table, _KINDS[kind], rows, event)
        elif role is Role.TOMBSTONES:
            if kind not in DELETES:
                self._tombstones(mapped, rows, event, kind in UPDATES)
        else:
            self._notice(role, mapped, rows, event)

    def _replicated(self, table: Table, kind: int, rows: Rows, event: bytes) -> None:
        size = rows.stop - rows.start
        tx = self._tx
        if tx is None:
            tx = self._open()
        elif self._cut and tx.size + size > self.part_bytes and tx.size:
            tx = self._next_part(tx)
        self._cut = kind == WRITE
        tx.size += size
        if not rows.full:
            self._partial(tx, table, rows, event)
            return
        images = event[rows.start : rows.stop]
        scan = table.scan_pairs if kind == UPDATE else table.scan_rows
        found = scan(images, 0, size)
        tx.rows += len(found)
        tx.ops.append(RowOp(table, kind, images, found))
        if kind == UPDATE:
            self._cut = all(pair[2] == pair[6] for pair in found[-1:])

    def _partial(self, tx: Transaction, table: Table, rows: Rows, event: bytes) -> None:
        for before, after in scan_partial(table.shape, rows, event):
            tx.rows += 1
            moved = before is not None and (after is None or before.key != after.key)
            for image, alive in ((before if moved else None, False), (after, True)):
                if image is None:
                    continue
                if image.key is None:
                    raise self._stop(f"has an image of {table.title} without its key")
                stamp = None if image.ts is None else Stamp(image.ts, image.origin or 0)
                tx.partial.append((table, image.key, alive, stamp))

    def _next_part(self, tx: Transaction) -> Transaction:
        """Close the part; only where no delete waits for the tombstone behind it."""
        self._emit(tx, last=False)
        self._tx = Transaction(self._gtid, self._commit_us, part=tx.part + 1, mended=tx.mended)
        return self._tx

    def _tombstones(self, mapped: Mapped, rows: Rows, event: bytes, pairs: bool) -> None:
        tx = self._open()
        self._cut = True
        if not rows.full:
            # A column that did not change is not in a partial image: the origin was ours.
            for _, after in scan_partial(mapped.shape, rows, event):
                if after is None or after.key is None or after.ts is None:
                    raise self._stop("has a tombstone whose image lacks key or time")
                origin = self.notices.region_id if after.origin is None else after.origin
                tx.tombstones.append((mapped.digest, after.key, Stamp(after.ts, origin)))
            return
        for row in mapped.scan(event, rows.start, rows.stop, pairs):
            key, ts, origin = row[6:9] if pairs else row[2:5]
            tx.tombstones.append((mapped.digest, key, Stamp(ts, origin)))

    def _notice(self, role: Role, mapped: Mapped, rows: Rows, event: bytes) -> None:
        before, after = mapped.values(rows, event)
        if role is Role.HEARTBEAT:
            for row in after:
                beat = self.notices.heartbeat(row)
                if beat is not None:
                    self._open().beat = Beat(*beat)
        elif role is Role.MEND:
            # Written before the rows and deleted behind them: a part has only the one or the other.
            for row in after or before:
                key = bytes.fromhex(row["row_key"][2:])
                self._open().mended[(row["digest"], key)] = Mended(
                    Stamp(row["seen_ts"], row["seen_origin"]),
                    Stamp(row["base_ts"], row["base_origin"]),
                    bool(row["base_row"]),
                )
        elif role is Role.TABLES:
            self.maps.activate(before, after)
        elif role is Role.MEMBER:
            for row in after:
                self.notices.member(row)

    # Statements

    def _query(self, event: bytes) -> None:
        if event.endswith(b"\0BEGIN"):
            self._inside = True
            return
        query = parse_query(event, _BODY)
        statement = classify_query(
            query.sql, query.schema, query.sql_mode or 0, query.client_collation or 255
        )
        kind = statement.kind
        if kind is StatementClass.BEGIN:
            self._inside = True
        elif kind is StatementClass.COMMIT:
            self._end()
        elif kind is StatementClass.SAVEPOINT:
            pass
        elif kind is StatementClass.XA:
            if statement.verb.upper().startswith(("XA COMMIT", "XA ROLLBACK")):
                self._end()
            else:
                self._inside = True
        else:
            self._statement(statement)

    def _statement(self, statement) -> None:
        kind = statement.kind
        skipped = self._gtid in self.skipped
        if kind is StatementClass.DDL and self.maps.replicates(statement.tables):
            self.notices.definitions += 1
        if kind is StatementClass.DDL or kind is StatementClass.HARMLESS:
            hit = statement.stops and self.maps.replicates(statement.tables)
            if hit and not skipped:
                raise self._stop(f"is {statement.verb} of the replicated table {hit}")
        elif kind is StatementClass.DML:
            # Through views, triggers and functions it may change any table.
            if not skipped:
                raise self._stop(f"holds {statement.verb}, logged as a statement, not as rows")
        elif not skipped:
            raise self._stop(f"holds a statement that cannot be judged ({statement.verb})")
        if not self._inside:
            self._end()

    def _stop(self, what: str) -> Halt:
        return Halt(
            f"transaction {self._gtid or 'without GTID'} {what}",
            f"see docs/OPERATING.md, 'What stops a stream'; to leave it out: "
            f"meshnode skip --region {self.notices.region} --tx {self._gtid}",
        )
