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

from collections.abc import Callable, Iterable, Iterator
from zlib import crc32

from meshnode.core.change import Mended, Transaction
from meshnode.core.ledger import Published
from meshnode.core.stamp import Stamp
from meshnode.core.wire import Beat
from meshnode.errors import Halt, LostCommits, Stopped
from meshnode.mysql.bodies import (
    DELETES,
    Rows,
    parse_commit_us,
    parse_format_description,
    parse_gtid_name,
    parse_query,
    parse_rows,
)
from meshnode.mysql.builders import fde_without_checksum
from meshnode.mysql.collect import KINDS, Collector
from meshnode.mysql.events import (
    BEFORE_STATUS,
    CHECKSUM_SIZE,
    HEADER_SIZE,
    INTACT,
    EventClass,
    EventType,
    classify,
    event_name,
    parse_payload,
    take_event,
)
from meshnode.mysql.maps import Mapped, Role, TableMaps
from meshnode.mysql.notices import Notices
from meshnode.mysql.schema import MESH_SCHEMA
from meshnode.mysql.statements import Statement, StatementClass, classify_query

_ENDS = frozenset({EventType.XID, EventType.GTID, EventType.GTID_TAGGED, EventType.ROTATE})
"""What must be looked at while the rest of an apply transaction is passed over."""

_UNMARKED = frozenset({EventType.HEARTBEAT, EventType.HEARTBEAT_V2})
"""Events that the server makes up for the connection, without a checksum."""


class Assembler:
    """Folds packets of one binlog stream into transactions.

    ``notices`` receives what the bookkeeping tables say (heartbeats, epochs,
    tables that join).  ``part_bytes`` says how large a part of a transaction may
    be (bytes; it may change at any time).  ``skipped`` holds transactions that an
    operator has told the node to leave out.  ``newest`` has been published already: it is
    passed over, if it is the same here.
    """

    def __init__(
        self,
        maps: TableMaps,
        notices: Notices,
        part_bytes: Callable[[], int],
        skipped: Iterable[str] = (),
        newest: Published | None = None,
    ) -> None:
        self.maps = maps
        self.notices = notices
        self.skipped = set(skipped)
        self.newest = newest
        self.format: bytes = b""
        self.server = ""
        self._checksum = True
        self._ended: list[Transaction] = []
        self._passed: list[tuple[str, int]] = []
        self._gtid: tuple[str, int] | None = None
        self._commit_us = 0
        self._collector = Collector(
            part_bytes, notices.region_id, self._new, self._emit, self._stop
        )
        self._begun = False
        self._left_out = False
        self._skip = False
        self._first_rows = True
        self._beside = False
        self._noticed = False
        self._inside = False
        self._usual: dict[int, Callable[[int, bytes, int, int], None]] = {
            **dict.fromkeys(KINDS, self._rows),
            EventType.TABLE_MAP: self._define,
            EventType.XID: self._xid,
            EventType.GTID: self._begin,
            EventType.GTID_TAGGED: self._begin,
            EventType.QUERY: self._query,
        }

    def feed(self, packets: Iterable[bytes]) -> Iterator[Transaction]:
        """Take packets of the dump (status byte and event each); what ends in them, as it ends.

        Transactions, and parts of huge ones.  Nothing is read on before one is taken: a
        payload may hold a huge transaction, and only its present part is unpacked.
        """
        ended, usual = self._ended, self._usual
        for packet in packets:
            kind = packet[5]
            if self._skip and kind not in _ENDS:
                continue
            handle = usual.get(kind)
            if handle is not None and self._checksum and crc32(packet, BEFORE_STATUS) == INTACT:
                # An event is its header and its body; the packet has the status byte before.
                handle(kind, packet, HEADER_SIZE + 1, len(packet) - CHECKSUM_SIZE)
            else:
                yield from self._take(packet)
            if ended:
                yield from ended
                ended.clear()

    def _take(self, packet: bytes) -> Iterator[Transaction]:
        """An event that is not usual, or whose checksum is not."""
        header, event = take_event(packet, 1, self._checksum and packet[5] not in _UNMARKED)
        if header.type != EventType.TRANSACTION_PAYLOAD:
            self._event(header.type, header.flags, event)
            return
        for inner in parse_payload(event, HEADER_SIZE):
            kind = inner[4]
            if not self._skip or kind == EventType.XID:
                self._event(kind, 0, inner)
                yield from self._ended
                self._ended.clear()

    def _event(self, kind: int, flags: int, event: bytes) -> None:
        handle = self._usual.get(kind)
        if handle is not None:
            handle(kind, event, HEADER_SIZE, len(event))
        elif kind == EventType.FORMAT_DESCRIPTION:
            described = parse_format_description(event, HEADER_SIZE)
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
            if event[HEADER_SIZE]:
                self._end()
            elif self._collector.tx is not None:
                raise self._stop("is a distributed transaction (XA PREPARE) on a replicated table")
            else:
                self._end()
        elif self._left_out:
            return  # with whatever stopped the stream: an operator has decided about it
        elif group is EventClass.FATAL:
            raise self._stop("is followed by an incident: the binary log is not complete")
        elif group is EventClass.STATEMENT or kind == EventType.ANONYMOUS_GTID:
            raise self._stop(f"holds a {event_name(kind)} event: it was logged as a statement")
        # STREAM and IGNORABLE events say nothing about rows.

    # Transactions

    def _begin(self, kind: int, event: bytes, at: int, end: int) -> None:
        if self._begun:
            self._lost_end()
        self._gtid = parse_gtid_name(kind, event, at, end)
        self._commit_us = parse_commit_us(kind, event, at, end)
        self._begun = self._first_rows = True
        self._skip = self._inside = self._beside = False
        self._left_out = bool(self.skipped) and self._name in self.skipped
        if self.newest is not None and self._name == self.newest.tx_id:
            self._require_same(self.newest)

    def _require_same(self, newest: Published) -> None:
        """What comes first is published: it shows whether this log is the one that was read."""
        if self._commit_us != newest.commit_us:
            region = self.notices.region
            what = f"{newest.tx_id} is another transaction now"
            raise LostCommits(f"MySQL of {region}", region, what)
        self.newest = None
        self._left_out = True

    def _lost_end(self) -> None:
        """Another transaction begins, and nothing has said that this one is over."""
        if self._collector.tx is not None:
            raise self._stop("has no end in the binary log")
        self._end()

    def _xid(self, kind: int, event: bytes, at: int, end: int) -> None:
        self._end()

    def _end(self) -> None:
        """The transaction is complete."""
        if self._gtid is not None:
            self._passed.append(self._gtid)
        tx = self._collector.tx
        if tx is not None:
            self._collector.tx = None
            self._emit(tx, last=True)
        elif len(self._passed) > 1000:
            self._emit(self._new(0), last=True)
        self._begun = self._skip = self._left_out = False
        if self._noticed:
            self._noticed = False
            self.notices.transaction_ended()

    def _emit(self, tx: Transaction, last: bool = False) -> None:
        tx.last = last
        if last:
            tx.passed, self._passed = self._passed, []
        self._ended.append(tx)

    def _new(self, part: int) -> Transaction:
        return Transaction(
            self._name, self._commit_us, part, format=self.format, server=self.server
        )

    @property
    def _name(self) -> str:
        return f"{self._gtid[0]}:{self._gtid[1]}" if self._gtid is not None else ""

    # Rows

    def _define(self, kind: int, event: bytes, at: int, end: int) -> None:
        if self._left_out:
            # A map that cannot be read is a reason to skip a transaction.
            return
        try:
            self.maps.define(event, at, end)
        except Halt as error:
            # Without the transaction's name nobody could skip it.
            raise self._stop(f"cannot be read: {error}") from error

    def _rows(self, kind: int, event: bytes, at: int, end: int) -> None:
        if self._skip or self._left_out:
            return
        mapped = self.maps.get(event[at : at + 6])
        if mapped is None:
            self._unmapped(parse_rows(kind, event, at, end))
            return
        role = mapped.role
        if self._first_rows:
            self._first_rows = False
            if role is Role.APPLIED:
                self._skip = True
                return
        if role is Role.IGNORED or role is Role.APPLIED:
            self._beside = self._beside or mapped.schema != MESH_SCHEMA
            return
        if role is Role.REPLICATED:
            head = mapped.heads.get(kind)
            if head is not None and event.startswith(head, at + 8):
                self._collector.images(mapped.table, kind, event, at + 8 + len(head), end)
                return
            rows = parse_rows(kind, event, at, end)
            if rows.full:
                mapped.heads[kind] = event[at + 8 : rows.start]
                self._collector.images(mapped.table, kind, event, rows.start, end)
            else:
                self._collector.partial(mapped.table, rows, event)
        elif role is Role.TOMBSTONES:
            if kind not in DELETES and self._counts(mapped):
                rows = parse_rows(kind, event, at, end)
                self._collector.tombstones(mapped, rows, event)
        else:
            self._notice(role, mapped, parse_rows(kind, event, at, end), event)

    def _counts(self, mapped: Mapped) -> bool:
        """Whether what was written here is a tombstone of the table that it is named after.

        With other keys it says nothing (the delete counts as one that no trigger saw), and neither
        does that of a trigger on another table.
        """
        table = self.maps.known.get(mapped.digest)
        if table is not None and not mapped.buries(table):
            return False
        return not self._collector.is_stray(mapped.digest, self._beside)

    def _unmapped(self, rows: Rows) -> None:
        if rows.start != rows.stop:
            raise self._stop(f"has rows for the table id {rows.table_id}, which no table map names")

    def _notice(self, role: Role, mapped: Mapped, rows: Rows, event: bytes) -> None:
        self._noticed = True
        before, after = mapped.values(rows, event)
        if role is Role.HEARTBEAT:
            for row in after:
                beat = self.notices.heartbeat(row)
                if beat is not None:
                    self._collector.open().beat = Beat(*beat)
        elif role is Role.MEND:
            # Written before the rows and deleted behind them: a part has only the one or the other.
            for row in after or before:
                key = bytes.fromhex(row["row_key"][2:])
                self._collector.open().mended[(row["digest"], key)] = Mended(
                    Stamp(row["seen_ts"], row["seen_origin"]),
                    Stamp(row["base_ts"], row["base_origin"]),
                    bool(row["base_row"] & 1),
                )
        elif role is Role.TABLES:
            self.maps.activate(before, after)
        elif role is Role.MEMBER:
            for row in after:
                self.notices.member(row)

    # Statements

    def _query(self, kind: int, event: bytes, at: int, end: int) -> None:
        if event.endswith(b"\0BEGIN", at, end):
            self._inside = True
            return
        query = parse_query(event, at, end)
        if query.sql.startswith(b"SAVEPOINT "):
            return  # its name is the client's, in whatever character set
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
        elif kind is StatementClass.ROLLBACK:
            if self._collector.tx is not None:
                raise self._stop("was taken back after its rows were logged (ROLLBACK)")
            self._end()
        elif kind is StatementClass.XA:
            if statement.verb.upper().startswith(("XA COMMIT", "XA ROLLBACK")):
                self._end()
            else:
                self._inside = True
        else:
            self._statement(statement)

    def _statement(self, statement: Statement) -> None:
        kind, skipped = statement.kind, self._left_out
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

    def _stop(self, what: str) -> Stopped:
        return Stopped(self.notices.region, self._name, what)
