"""Keys of one table, from row images and from rows, in a form that can be compared.

The canonical form of a key is its columns as text in column order: numbers as decimal
digits, strings as the hexadecimal ``WEIGHT_STRING`` that the server gives under
the column's collation.  Only whole numbers and character strings are
understood, which is what the lab's and sysbench's tables have as keys.
"""

from collections.abc import Iterable
from typing import Any

from meshnode.errors import Refused

TableName = tuple[str, str]

_WIDTHS = {"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8}
_STRINGS = frozenset({"char", "varchar"})
ASKED_AT_ONCE = 500


def identifier(name: str) -> str:
    """A name as SQL takes it."""
    return "`" + name.replace("`", "``") + "`"


def _path(name: str) -> str:
    """The path of a column in a JSON object, as a literal."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return "'" + f'$."{quoted}"'.replace("\\", "\\\\").replace("'", "''") + "'"


class KeyReader:
    """Reads keys of ``table`` as ``connection`` (pymysql) describes it.

    ``columns`` are the key's quoted names in the order of the table; ``selected`` what to
    select so that ``of_row`` understands a row, ``recorded`` the same of a record, whose column
    ``row_key`` has the key as JSON.
    """

    def __init__(self, connection: Any, table: TableName) -> None:
        self._connection = connection
        self._table = ".".join(table)
        self._columns = self._read(table)
        self.columns = [identifier(name) for name, *_ in self._columns]
        self.selected = ", ".join(
            f"HEX(WEIGHT_STRING({identifier(name)}))"
            if kind in _STRINGS
            else f"CAST({identifier(name)} AS CHAR)"
            for name, kind, *_ in self._columns
        )
        self.recorded = ", ".join(
            f"HEX(WEIGHT_STRING(CONVERT(row_key ->> {_path(name)} USING {charset})"
            f" COLLATE {collation}))"
            if kind in _STRINGS
            else f"row_key ->> {_path(name)}"
            for name, kind, *_, charset, collation in self._columns
        )
        self._shown: dict[bytes, str] = {}

    def of_row(self, values: Iterable[str]) -> bytes:
        """The canonical key of a row as ``selected`` gives it."""
        return "/".join(values).encode()

    def shown(self, key: bytes) -> str:
        """The key for people: its values where they were seen in a topic."""
        return self._shown.get(key, key.decode())

    def canonical(self, keys: set[bytes]) -> dict[bytes, bytes]:
        """The canonical form of each key as it stands in a row image."""
        split = {key: self._split(key) for key in keys}
        weights = {
            index: self._weights(index, {values[index] for values in split.values()})
            for index, column in enumerate(self._columns)
            if column[1] in _STRINGS
        }
        found = {}
        for key, values in split.items():
            texts = [
                weights[index][value] if index in weights else str(value)
                for index, value in enumerate(values)
            ]
            found[key] = "/".join(texts).encode()
            shown = [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values]
            self._shown[found[key]] = f"({', '.join(shown)})"
        return found

    def _read(self, table: TableName) -> list[tuple[str, str, bool, int, str, str]]:
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE LIKE '%%unsigned%%',"
                " COALESCE(c.CHARACTER_OCTET_LENGTH, 0), c.CHARACTER_SET_NAME, c.COLLATION_NAME"
                " FROM information_schema.COLUMNS c JOIN information_schema.STATISTICS s"
                " USING (TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME)"
                " WHERE s.INDEX_NAME = 'PRIMARY' AND TABLE_SCHEMA = %s AND TABLE_NAME = %s"
                " ORDER BY c.ORDINAL_POSITION",
                table,
            )
            columns = [
                (name, kind.lower(), bool(unsigned), int(octets), charset, collation)
                for name, kind, unsigned, octets, charset, collation in cursor.fetchall()
            ]
        strange = [c for c in columns if c[1] not in _WIDTHS and c[1] not in _STRINGS]
        if strange or not columns:
            what = f"key column {strange[0][0]} of type {strange[0][1]}" if strange else "no key"
            raise Refused(
                f"the checker cannot read the keys of {self._table}: {what}",
                "it knows whole numbers and character strings",
            )
        return columns

    def _split(self, key: bytes) -> tuple[int | bytes, ...]:
        values: list[int | bytes] = []
        at = 0
        for _, kind, unsigned, octets, *_ in self._columns:
            if kind in _STRINGS:
                prefix = 1 if octets < 256 else 2
                length = int.from_bytes(key[at : at + prefix], "little")
                at += prefix
                values.append(key[at : at + length])
                at += length
            else:
                width = _WIDTHS[kind]
                piece = key[at : at + width]
                values.append(int.from_bytes(piece, "little", signed=not unsigned))
                at += width
        if at != len(key):
            raise Refused(f"a published key of {self._table} has not the key's form: {key.hex()}")
        return tuple(values)

    def _weights(self, index: int, values: set[Any]) -> dict[bytes, str]:
        """What the server's collation makes of each value."""
        *_, charset, collation = self._columns[index]
        wanted = sorted(values)
        found: dict[bytes, str] = {}
        for start in range(0, len(wanted), ASKED_AT_ONCE):
            part = wanted[start : start + ASKED_AT_ONCE]
            query = " UNION ALL ".join(
                f"SELECT {number}, HEX(WEIGHT_STRING(_{charset} x'{value.hex()}'"
                f" COLLATE {collation}))"
                for number, value in enumerate(part)
            )
            with self._connection.cursor() as cursor:
                cursor.execute(query)
                found.update((part[number], weight) for number, weight in cursor.fetchall())
        return found
