"""Which table a row event belongs to, and what that table is to the mesh.

A table map's definition is parsed and its scanner compiled once; the same definition
under another id is the same table.  A table counts as replicated from where its
row in ``meshnode.tables`` stands in the binlog, not from when somebody read the
topology.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from msgspec.structs import replace

from meshnode.core.change import Table, definition_of
from meshnode.core.shape import Shape, buries
from meshnode.errors import Halt
from meshnode.mysql.bodies import Rows
from meshnode.mysql.bookkeeping import column_names
from meshnode.mysql.keys import key_checker, key_is_binary
from meshnode.mysql.rowimage import compile_scanner, make_scanner
from meshnode.mysql.rowvalues import row_values
from meshnode.mysql.schema import MESH_SCHEMA, STAMP_COLUMNS, digest
from meshnode.mysql.tablemap import TableMap, parse_table_map, require_names

_ID = 6
"""Bytes of a table id; as they stand in the event they are the id here."""


class Role(Enum):
    """What a table is to the tailer."""

    REPLICATED = "replicated"
    TOMBSTONES = "tombstones"
    APPLIED = "applied"
    MEMBER = "member"
    HEARTBEAT = "heartbeat"
    TABLES = "tables"
    MEND = "mend"
    IGNORED = "ignored"


_BOOKKEEPING = {
    "applied": Role.APPLIED,
    "member": Role.MEMBER,
    "heartbeat": Role.HEARTBEAT,
    "tables": Role.TABLES,
    "mend": Role.MEND,
}


@dataclass(slots=True, eq=False)
class Mapped:
    """A table map's table; ``digest`` is that of the replicated table it serves.

    ``heads``: by event type, what stood between table id and rows in the last event with
    full images.  Another event that has the same there need not be taken apart.
    """

    role: Role
    schema: str
    name: str
    digest: str = ""
    shape: Shape | None = None
    table: Table | None = None
    scan: Callable | None = None
    charsets: Mapping[int, str] = field(default_factory=dict)
    heads: dict[int, bytes] = field(default_factory=dict)
    _buries: tuple[Table, bool] | None = None

    def buries(self, table: Table) -> bool:
        """Whether tombstones of this map have the keys of ``table`` as it is defined now.

        They do not while a key column was changed and ``init`` has not followed yet.
        """
        if self._buries is None or self._buries[0] is not table:
            assert self.shape is not None
            self._buries = table, buries(self.shape, table.shape)
        return self._buries[1]

    def values(self, rows: Rows, event: bytes) -> tuple[list[dict], list[dict]]:
        """Before and after images of a bookkeeping table's rows, as columns and values.

        Raises Halt on partial images: nobody but the mesh writes these tables.
        """
        assert self.shape is not None and self.scan is not None
        if not rows.full:
            raise Halt(
                f"a change of {self.schema}.{self.name} was logged with a partial image",
                "do not write the tables of schema meshnode with binlog_row_image other than FULL",
            )
        pairs = rows.before is not None and rows.after is not None
        before: list[dict] = []
        after: list[dict] = []
        for row in self.scan(event, rows.start, rows.stop, pairs):
            if pairs:
                before.append(self._decode(event[row[0] : row[1]]))
                after.append(self._decode(event[row[1] : row[5]]))
            else:
                images = after if rows.before is None else before
                images.append(self._decode(event[row[0] : row[1]]))
        return before, after

    def _decode(self, image: bytes) -> dict:
        return row_values(self.shape, image, self.charsets)


def make_table(map_body: bytes) -> Table:
    """The replicated table that a TABLE_MAP body describes; Halt without full metadata."""
    table_map = parse_table_map(map_body)
    shape = require_names(table_map)
    scanner = make_scanner(table_map)
    return Table(
        shape.schema,
        shape.table,
        digest(shape.schema, shape.table),
        shape,
        map_body,
        scanner.scan_write,
        scanner.scan_update,
        key_checker(shape),
        None if key_is_binary(shape) else {},
    )


def own_shape(table_map: TableMap, names: Sequence[str] = ()) -> Shape:
    """The shape of one of the mesh's own tables, whose columns are known without the binlog.

    A server whose ``binlog_row_metadata`` was not FULL for a while has logged heartbeats
    like that, and they must not stop a stream in which no row of a client lacks anything.
    ``names`` are the columns; none are given for a tombstone table: its key, then the stamp.
    """
    shape = table_map.shape
    count = len(shape.columns)
    if table_map.named or (names and len(names) != count):
        return require_names(table_map)
    key = shape.key
    if not names:
        key = tuple(range(count - 2))
        names = (*(column.name for column in shape.columns[:-2]), *STAMP_COLUMNS)
    columns = tuple(
        replace(column, name=name) for column, name in zip(shape.columns, names, strict=True)
    )
    return replace(shape, columns=columns, key=key)


DEFINITIONS_KEPT = 4096
"""From so many definitions on, those of tables that are not replicated are forgotten again."""


class TableMaps:
    """The table maps of one stream, and the tables that are replicated at its present place.

    ``known`` has the newest form of each replicated table seen, by digest.
    ``any_case``: the server takes names in any case (``lower_case_table_names`` is not 0),
    and logs statements as the client wrote them.
    """

    def __init__(
        self,
        active: Iterable[tuple[str, str]],
        charsets: Mapping[int, str],
        any_case: bool = False,
    ) -> None:
        self.charsets = charsets
        self.any_case = any_case
        self.active = {digest(schema, name): (schema, name) for schema, name in active}
        self.known: dict[str, Table] = {}
        self._by_id: dict[bytes, Mapped] = {}
        self._by_definition: dict[bytes, Mapped] = {}

    def define(self, event: bytes, at: int, end: int) -> None:
        """Take a TABLE_MAP event whose body is ``event[at:end]``."""
        number = event[at : at + _ID]
        definition = definition_of(event, at, end)
        mapped = self._by_definition.get(definition)
        if mapped is None:
            mapped = self._make(event[at:end])
            if len(self._by_definition) >= DEFINITIONS_KEPT:
                self._forget_ignored()
            self._by_definition[definition] = mapped
        if self._by_id.get(number) is not mapped:
            self._by_id[number] = mapped
            if mapped.table is not None:
                self.known[mapped.digest] = mapped.table

    def _forget_ignored(self) -> None:
        """Jobs may create, fill and drop tables of new names for ever."""
        self._by_definition = {
            definition: mapped
            for definition, mapped in self._by_definition.items()
            if mapped.role is not Role.IGNORED
        }

    def get(self, number: bytes) -> Mapped | None:
        """The table under this id (6 bytes as in the event), or ``None``."""
        return self._by_id.get(number)

    def clear(self) -> None:
        """A new format description: ids start anew."""
        self._by_id.clear()

    def _make(self, body: bytes) -> Mapped:
        table_map = parse_table_map(body)
        schema, name = table_map.shape.schema, table_map.shape.table
        if schema == MESH_SCHEMA:
            if name.startswith("t_"):
                shape = own_shape(table_map)
                scanner = compile_scanner(shape)
                mapped = Mapped(Role.TOMBSTONES, schema, name, name[2:], shape)
                mapped.scan = _either(scanner.scan_write, scanner.scan_update)
                return mapped
            role = _BOOKKEEPING.get(name, Role.IGNORED)
            if role in (Role.IGNORED, Role.APPLIED):
                return Mapped(role, schema, name)
            shape = own_shape(table_map, column_names(name))
            scanner = compile_scanner(shape)
            scan = _either(scanner.scan_write, scanner.scan_update)
            return Mapped(role, schema, name, "", shape, None, scan, self.charsets)
        ident = digest(schema, name)
        if ident not in self.active:
            return Mapped(Role.IGNORED, schema, name, ident)
        table = make_table(body)
        if table.shape.stamp_indexes is None:
            raise Halt(
                f"table {table.title} had no stamp columns when these rows were written",
                "run `meshnode init`, which compares the table with the other regions, then skip",
            )
        return Mapped(Role.REPLICATED, schema, name, ident, table.shape, table)

    def activate(self, before: list[dict], after: list[dict]) -> None:
        """Rows of ``meshnode.tables`` changed: tables join or leave from here on."""
        for row in before:
            self.active.pop(row["digest"], None)
        for row in after:
            if row["state"] == "active":
                self.active[row["digest"]] = (row["schema_name"], row["table_name"])
        self._by_definition = {
            definition: mapped
            for definition, mapped in self._by_definition.items()
            if mapped.schema == MESH_SCHEMA
        }
        self._by_id = {
            number: mapped for number, mapped in self._by_id.items() if mapped.schema == MESH_SCHEMA
        }

    def replicates(self, names: Iterable[tuple[str, str | None]]) -> str:
        """The first of ``names`` (``None``: a whole schema) that is replicated, or ''."""
        for schema, name in names:
            for active_schema, active_name in self.active.values():
                if self._same(schema, active_schema) and (
                    name is None or self._same(name, active_name)
                ):
                    return f"{active_schema}.{active_name}"
        return ""

    def _same(self, said: str, name: str) -> bool:
        return said == name or (self.any_case and said.casefold() == name.casefold())


def _either(scan_rows: Callable, scan_pairs: Callable) -> Callable:
    """One function for both kinds of event, told apart by what it is asked for."""

    def scan(event: bytes, start: int, stop: int, pairs: bool = False) -> list:
        return (scan_pairs if pairs else scan_rows)(event, start, stop)

    return scan
