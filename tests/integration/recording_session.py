"""A session that records what it did and applies events built from what was recorded."""

from recording import RowsEvent, executed, format_description, record, rows_events

from meshnode.lab.servers import Server
from meshnode.mysql.builders import (
    binlog_statement,
    build_event,
    build_rows,
    build_table_map,
    fde_without_checksum,
)
from meshnode.mysql.events import EventType
from meshnode.mysql.rowimage import make_scanner
from meshnode.mysql.wire import pack_first_low

SQL_MODE = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES"
"""Not strict, so that an ENUM can take its error value."""

STAMPS = (
    "_mesh_ts BIGINT UNSIGNED NOT NULL DEFAULT 0 INVISIBLE, "
    "_mesh_origin TINYINT UNSIGNED NOT NULL DEFAULT 0 INVISIBLE"
)
END_WITHOUT_FOREIGN_KEYS = 3
FOREIGN_SERVER_ID = 77


class Session:
    """A connection that executes, and applies events with ``BINLOG``."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection = server.connect()
        self.run("DROP DATABASE IF EXISTS types")
        self.run("CREATE DATABASE types CHARACTER SET utf8mb4")
        self.run("USE types")
        self.run(f"SET NAMES utf8mb4, SESSION sql_mode='{SQL_MODE}', time_zone='+00:00'")
        self.charsets = {
            int(number): name
            for number, name in self.run(
                "SELECT id, character_set_name FROM information_schema.collations"
            )
        }

    def run(self, sql: str | bytes) -> tuple:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def recorded(self, *statements: str, table: str = "") -> list[RowsEvent]:
        before = executed(self.connection)
        for statement in statements:
            self.run(statement)
        return rows_events(record(self.server, before), table)

    def prepare_to_apply(self) -> None:
        events = record(self.server, executed(self.connection))
        description = fde_without_checksum(format_description(events))
        self.run(binlog_statement([description]))
        self.run("SET gtid_next='AUTOMATIC'")

    def apply(self, *events: bytes) -> None:
        self.run("BEGIN")
        self.run(binlog_statement(events))
        self.run("COMMIT")


def rebuilt_map(event: RowsEvent, table_id: int) -> bytes:
    shape = event.table_map.shape
    body = build_table_map(table_id, shape.schema, shape.table, shape.columns, shape.key)
    return build_event(EventType.TABLE_MAP, FOREIGN_SERVER_ID, body)


def rebuilt_rows(
    event: RowsEvent,
    type_: int,
    table_id: int,
    before: bytes | None,
    after: bytes | None,
    rows,
    flags: int = END_WITHOUT_FOREIGN_KEYS,
) -> bytes:
    count = len(event.table_map.shape.columns)
    body = build_rows(type_, table_id, flags, count, before, after, rows)
    return build_event(type_, FOREIGN_SERVER_ID, body)


def every_column(event: RowsEvent) -> bytes:
    return pack_first_low([True] * len(event.table_map.shape.columns))


def scanned(event: RowsEvent) -> list:
    """The rows of an insert or delete."""
    scanner = make_scanner(event.table_map)
    return scanner.scan_write(event.event, event.rows.start, event.rows.stop)


def create(session: Session, table: str, columns: str, rest: str = "") -> None:
    """Creates a table with stamp columns behind ``columns``."""
    session.run(f"CREATE TABLE {table} ({columns}, {STAMPS}{rest})")
