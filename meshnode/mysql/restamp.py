"""Gives rows a new stamp without touching anything else.

An SQL UPDATE would run the triggers, which overwrite the stamp, and the table's ON UPDATE
defaults.  So the stamp is written with a ``BINLOG`` update whose before image
is only the key and whose after image is only the stamp: no trigger fires, every
other column stays, and the server logs it with full images, as a local change.
"""

from collections.abc import Iterable

from meshnode.core.shape import Shape
from meshnode.core.stamp import Stamp
from meshnode.mysql.bodies import RowsFlag
from meshnode.mysql.builders import (
    binlog_statement,
    build_event,
    build_rows,
    build_table_map,
    fde_without_checksum,
)
from meshnode.mysql.events import EventType
from meshnode.mysql.keys import key_bitmap, key_image, stamp_bitmap, stamp_image

SERVER_ID = 0
"""Server id in the events' headers: that of no server, so none takes them for its own."""

_TABLE_ID = 1

_POST_HEADER_SIZES = bytes.fromhex(
    "000d0008000000000400040000006300041a08000000000000020000000a0a0a2a2a001234000a280000"
)
"""Sizes of the fixed parts of events, by their number, as MySQL 8.0 to 9.7 write them."""


def format_description() -> bytes:
    """A ``BINLOG`` statement that must go before, alone and outside a transaction.

    ``SET gtid_next = 'AUTOMATIC'`` must follow it.
    """
    version = b"8.0.30".ljust(50, b"\0")
    body = b"\4\0" + version + bytes(4) + b"\x13" + _POST_HEADER_SIZES + b"\1" + bytes(4)
    event = build_event(EventType.FORMAT_DESCRIPTION, SERVER_ID, body)
    return binlog_statement([fde_without_checksum(event)])


def restamp(shape: Shape, rows: Iterable[tuple[bytes, Stamp]]) -> bytes:
    """A ``BINLOG`` statement that gives each row, named by its wire key, its stamp.

    Error 1032 means that one of the rows is not there.
    """
    table_map = build_table_map(_TABLE_ID, shape.schema, shape.table, shape.columns, shape.key)
    body = build_rows(
        EventType.UPDATE_ROWS,
        _TABLE_ID,
        RowsFlag.STATEMENT_END | RowsFlag.NO_FOREIGN_KEY_CHECKS,
        len(shape.columns),
        key_bitmap(shape),
        stamp_bitmap(shape),
        [key_image(shape, key) + stamp_image(stamp.ts, stamp.origin) for key, stamp in rows],
    )
    return binlog_statement(
        [
            build_event(EventType.TABLE_MAP, SERVER_ID, table_map),
            build_event(EventType.UPDATE_ROWS, SERVER_ID, body),
        ]
    )
