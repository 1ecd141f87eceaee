"""A plan as MySQL's own row applier wants it: events in ``BINLOG`` statements.

The images are passed on untouched; what is built here is the frame around
them: a table map (the origin's), one rows event for each step with as many
images as may go together, the flag that ends the statement group, and the flag
that leaves foreign keys alone (cascades are in the stream already).  Events
carry no checksum, and the format description sent before them says so.

Facts about ``BINLOG``, measured on 9.7: the format description goes alone and
outside a transaction, and ``gtid_next`` must be put back after it; rows are
found by primary key, so a before image of the key is enough; an error leaves
the groups before it standing, so the caller always rolls back.
"""

from collections.abc import Iterable, Iterator

from meshnode.core.change import Table
from meshnode.core.plan import Form, Step
from meshnode.core.shape import Column, FieldType, Shape
from meshnode.core.stamp import Stamp
from meshnode.mysql.bodies import RowsFlag
from meshnode.mysql.builders import (
    binlog_statement,
    build_event,
    build_rows,
    build_table_map,
)
from meshnode.mysql.events import EventType
from meshnode.mysql.keys import key_bitmap, key_image, stamp_bitmap, stamp_image
from meshnode.mysql.schema import MESH_SCHEMA, tombstone_name
from meshnode.mysql.session import RowError, Session

STATEMENT_BYTES = 8 * 1024 * 1024
"""Events in one BINLOG statement, unless a single image is larger."""

EVENT_BYTES = 1024 * 1024
"""Row images in one rows event, likewise."""

SERVER_ID = 0
"""Server id in the events' headers: that of no server, so none takes them for its own."""

_FLAGS = RowsFlag.STATEMENT_END | RowsFlag.NO_FOREIGN_KEY_CHECKS
_TYPES = {
    Form.WRITE: EventType.WRITE_ROWS,
    Form.UPDATE: EventType.UPDATE_ROWS,
    Form.UPDATE_BY_KEY: EventType.UPDATE_ROWS,
    Form.DELETE: EventType.DELETE_ROWS,
    Form.DELETE_BY_KEY: EventType.DELETE_ROWS,
}


def full_bitmap(columns: int) -> bytes:
    """The bitmap of an image with every column; bits beyond the last are 0."""
    return ((1 << columns) - 1).to_bytes((columns + 7) // 8, "little")


def map_event(map_body: bytes, table_id: int) -> bytes:
    """The TABLE_MAP event of ``map_body`` under another table id."""
    return build_event(
        EventType.TABLE_MAP, SERVER_ID, table_id.to_bytes(6, "little") + map_body[6:]
    )


def rows_event(shape: Shape, table_id: int, form: Form, images: bytes) -> bytes:
    """One rows event, a whole statement group together with its table map."""
    count = len(shape.columns)
    full = full_bitmap(count)
    before: bytes | None = full
    after: bytes | None = full
    if form is Form.WRITE:
        before = None
    elif form is Form.DELETE:
        after = None
    elif form is Form.DELETE_BY_KEY:
        before, after = key_bitmap(shape), None
    elif form is Form.UPDATE_BY_KEY:
        before = key_bitmap(shape)
    body = build_rows(_TYPES[form], table_id, _FLAGS, count, before, after, images)
    return build_event(_TYPES[form], SERVER_ID, body)


def images_of(shape: Shape, step: Step) -> Iterator[bytes]:
    """The images of each chunk as the form wants them."""
    if step.form in (Form.UPDATE_BY_KEY, Form.DELETE_BY_KEY):
        for key, after in step.chunks:
            yield key_image(shape, key) + after
    else:
        yield from step.chunks


def groups(steps: Iterable[Step]) -> Iterator[tuple[bytes, int]]:
    """Statement groups (table map and rows event) and the bytes of images in each.

    The table map may be much the larger part: it carries the names of all columns.
    """
    for number, step in enumerate(steps, 1):
        shape = step.table.shape
        table_map = map_event(step.table.map_body, number)
        held: list[bytes] = []
        size = 0
        for images in images_of(shape, step):
            if held and size + len(images) > EVENT_BYTES:
                yield table_map + rows_event(shape, number, step.form, b"".join(held)), size
                held, size = [], 0
            held.append(images)
            size += len(images)
        if held:
            yield table_map + rows_event(shape, number, step.form, b"".join(held)), size


def statements(steps: Iterable[Step], max_packet: int) -> Iterator[bytes]:
    """``BINLOG`` statements for ``steps``, in order.

    Raises :class:`RowError` for a group that would not pass ``max_packet``
    bytes: one row of it is larger than the server takes.
    """
    held: list[bytes] = []
    size = 0
    for group, bytes_of_images in groups(steps):
        if len(group) * 4 // 3 + 64 > max_packet:
            raise RowError(
                f"a row image of {bytes_of_images} bytes does not fit max_allowed_packet "
                f"({max_packet} bytes) as a BINLOG statement",
                1153,
            )
        whole = size + len(group)
        if held and (whole > STATEMENT_BYTES or whole * 4 // 3 + 64 > max_packet):
            yield binlog_statement(held)
            held, size = [], 0
        held.append(group)
        size += len(group)
    if held:
        yield binlog_statement(held)


async def set_format(session: Session, fde: bytes) -> None:
    """Tell the session which format description the events follow; outside a transaction."""
    if session.format == fde:
        return
    session.format = None
    await session.query(binlog_statement([fde]))
    await session.query(b"SET gtid_next = 'AUTOMATIC'")
    session.format = fde


async def run(session: Session, steps: Iterable[Step]) -> None:
    """Write ``steps``; errors as :meth:`Session.query` raises them."""
    for statement in statements(steps, session.max_packet):
        await session.query(statement)


class TombstoneMap:
    """The tombstone table of a replicated table as a table map: key columns and the stamp."""

    def __init__(self, shape: Shape) -> None:
        stamps = (
            Column("_mesh_ts", FieldType.LONGLONG, unsigned=True, nullable=False),
            Column("_mesh_origin", FieldType.TINY, unsigned=True, nullable=False),
        )
        columns = (*shape.key_columns, *stamps)
        name = tombstone_name(shape.schema, shape.table)
        key = tuple(range(len(shape.key)))
        self.shape = Shape(MESH_SCHEMA, name, columns, key)
        self.body = build_table_map(1, MESH_SCHEMA, name, columns, key)

    def image(self, key: bytes, stamp: Stamp) -> bytes:
        """The whole row."""
        nulls = bytes((len(self.shape.columns) + 7) // 8)
        return nulls + key + stamp.ts.to_bytes(8, "little") + bytes((stamp.origin,))

    def raise_events(self, rows: Iterable[tuple[bytes, Stamp, bool]], table_id: int) -> list[bytes]:
        """Groups that raise the tombstones of ``(wire key, stamp, whether it exists)``."""
        fresh: list[bytes] = []
        known: list[bytes] = []
        for key, stamp, exists in rows:
            if exists:
                known.append(key_image(self.shape, key) + self.image(key, stamp))
            else:
                fresh.append(self.image(key, stamp))
        events = []
        for form, images in ((Form.WRITE, fresh), (Form.UPDATE_BY_KEY, known)):
            if images:
                events.append(map_event(self.body, table_id))
                events.append(rows_event(self.shape, table_id, form, b"".join(images)))
        return events


def stamp_event(table: Table, rows: Iterable[tuple[bytes, int, int]]) -> bytes:
    """The group that gives rows ``(wire key, ts, origin)`` a new stamp and changes nothing else."""
    shape = table.shape
    count = len(shape.columns)
    images = b"".join(key_image(shape, key) + stamp_image(ts, origin) for key, ts, origin in rows)
    body = build_rows(
        EventType.UPDATE_ROWS, 1, _FLAGS, count, key_bitmap(shape), stamp_bitmap(shape), images
    )
    return map_event(table.map_body, 1) + build_event(EventType.UPDATE_ROWS, SERVER_ID, body)
