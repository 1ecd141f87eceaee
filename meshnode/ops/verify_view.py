"""What verify found, in words and as JSON."""

from typing import Any

from meshnode.core.shape import Column, FieldType
from meshnode.mysql.catalog import Table
from meshnode.ops.verdict import moment
from meshnode.ops.verify import Difference, OrphanRow, TableResult, Verdict
from meshnode.ops.verify_rows import ROW, State
from meshnode.topology import Topology

_CODECS = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "ascii": "ascii",
    "latin1": "cp1252",
    "utf16": "utf-16-be",
    "ucs2": "utf-16-be",
    "utf32": "utf-32-be",
}


class View:
    """Puts a verdict into words; the topology gives the names of the origins."""

    def __init__(self, topology: Topology) -> None:
        self._names = {region.id: region.name for region in topology.regions}

    def lines(self, verdict: Verdict) -> list[str]:
        """Many lines, the last with the verdict."""
        lines = []
        for table in verdict.tables:
            lines += self._table(table)
        rows = sum(table.rows for table in verdict.tables)
        word = "identical" if verdict.identical else "NOT identical"
        if verdict.moving:
            word += f", {verdict.moving} keys still changing"
        lines.append(
            f"{word}: {len(verdict.tables)} tables, {rows} rows in {len(verdict.regions)} regions"
        )
        if verdict.unreplicated:
            lines.append(
                f"not compared, because not replicated yet: {', '.join(verdict.unreplicated)}"
                " (run `meshnode init --all`)"
            )
        if verdict.closed:
            lines.append(f"{verdict.closed} skipped transactions closed: verified")
        return lines

    def json(self, verdict: Verdict) -> dict[str, Any]:
        """The same for machines."""
        return {
            "identical": verdict.identical,
            "settled": verdict.settled,
            "regions": list(verdict.regions),
            "closed_letters": verdict.closed,
            "unreplicated": list(verdict.unreplicated),
            "tables": [
                {
                    "table": table.name,
                    "identical": table.identical,
                    "rows": table.rows,
                    "problem": table.problem,
                    "note": table.note,
                    "differing": table.differing,
                    "moving": table.moving,
                    "unlisted": {"ranges": table.unlisted[0], "rows": table.unlisted[1]},
                    "differences": [
                        {
                            "key": key_text(table.table, each.values),
                            "what": what(each),
                            "regions": {
                                name: [
                                    {
                                        "kind": "row" if entry.kind == ROW else "tombstone",
                                        "ts": entry.ts,
                                        "origin": entry.origin,
                                        "digest": entry.digest,
                                    }
                                    for entry in state
                                ]
                                for name, state in each.states.items()
                            },
                        }
                        for each in table.differences
                    ],
                    "orphan_count": table.orphan_count,
                    "orphans": [
                        {
                            "key": key_text(table.table, each.values),
                            "foreign_key": each.foreign_key,
                            "parent": each.parent,
                            "regions": list(each.regions),
                        }
                        for each in table.orphans
                    ],
                }
                for table in verdict.tables
            ],
        }

    def _table(self, table: TableResult) -> list[str]:
        if table.problem:
            return [f"{table.name}: {table.problem}"]
        lines = []
        if table.note:
            lines.append(f"{table.name}: {table.note}")
        for difference in table.differences:
            lines.append(f"{table.name} {key_text(table.table, difference.values)}:")
            lines[-1] += f" {what(difference)}"
            lines += [f"    {line}" for line in self._sides(difference)]
        if table.differing > len(table.differences):
            lines.append(
                f"{table.name}: {table.differing - len(table.differences)} more rows differ"
            )
        ranges, rows = table.unlisted
        if ranges:
            lines.append(
                f"{table.name}: {ranges} more ranges of keys differ, with up to {rows} rows"
            )
        lines += [self._orphan(table, orphan) for orphan in table.orphans]
        if table.orphan_count > len(table.orphans):
            lines.append(f"{table.name}: {table.orphan_count - len(table.orphans)} more orphans")
        if table.moving:
            lines.append(
                f"{table.name}: {table.moving} keys were still changing and were not judged"
                " (run it again when less is written, or with a longer --settle)"
            )
        return lines

    def _sides(self, difference: Difference) -> list[str]:
        """One line for each distinct state, with the regions that have it."""
        regions: dict[State, list[str]] = {}
        for name, state in difference.states.items():
            regions.setdefault(state, []).append(name)
        return [f"{', '.join(names)}: {self._state(state)}" for state, names in regions.items()]

    def _state(self, state: State) -> str:
        if not state:
            return "missing"
        words = []
        for entry in state:
            stamp = f"{entry.ts}.{entry.origin} ({moment(entry.ts)} {self._origin(entry.origin)})"
            if entry.kind == ROW:
                words.append(f"row {stamp} hash {entry.digest[:12]}")
            else:
                words.append(f"tombstone {stamp}")
        return ", ".join(words)

    def _origin(self, number: int) -> str:
        return self._names.get(number, "unstamped" if number == 0 else f"region {number}")

    def _orphan(self, table: TableResult, orphan: OrphanRow) -> str:
        return (
            f"{table.name} {key_text(table.table, orphan.values)}: orphan, its parent in"
            f" {orphan.parent} ({orphan.foreign_key}) is missing in {', '.join(orphan.regions)}"
        )


def what(difference: Difference) -> str:
    """The kind of a difference in a few words."""
    states = list(difference.states.values())
    beside = [name for name, state in difference.states.items() if len(state) > 1]
    if beside:
        return f"a tombstone newer than its row in {', '.join(beside)}"
    missing = [name for name, state in difference.states.items() if not state]
    if missing:
        return f"missing in {', '.join(missing)}"
    kinds = {tuple(entry.kind for entry in state) for state in states}
    if len(kinds) > 1:
        return "a row in some regions, a tombstone in others"
    stamps = {tuple((entry.ts, entry.origin) for entry in state) for state in states}
    if len(stamps) > 1:
        return "different stamps"
    return "different values under one stamp"


def key_text(table: Table | None, values: tuple) -> str:
    """A key as ``id=7, name='x'``; bytes that are no text as X'00ff'."""
    if table is None:
        return str(values)
    charsets = {key.name: key.charset for key in table.key}
    return ", ".join(
        f"{column.name}={_value(column, charsets.get(column.name), value)}"
        for column, value in zip(table.shape.key_columns, values, strict=True)
    )


_BYTES = frozenset({FieldType.VARCHAR, FieldType.VAR_STRING, FieldType.STRING, FieldType.BLOB})


def _value(column: Column, charset: str | None, value: object) -> str:
    if column.type not in _BYTES:
        return str(value)
    codec = _CODECS.get(charset or "")
    if codec is None:
        return f"X'{value}'"
    try:
        return repr(bytes.fromhex(str(value)).decode(codec))
    except UnicodeDecodeError:
        return f"X'{value}'"
