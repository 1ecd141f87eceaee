"""The independent oracle: do all regions hold the winner of every key?

Theory of operation.  The topics of all regions together say every version of
every key that was ever published (:mod:`meshnode.lab.topics`).  The winner of a key is the
greatest stamp, and nothing else about how the mesh works matters: in every
region the row must be there with that stamp, or be gone if the winner is a
delete.  No row may stand beside a newer tombstone.  And no write may vanish
without a trace: an upsert that is not among the versions which its key's
winner was written over (:mod:`meshnode.lab.lost`) must be in some region's ``conflict_log``,
or in its ``dead_letter`` if it never stood there, under its own key, or have been replaced by
one that is.

Keys that the collation takes for one are put together by the server's own
``WEIGHT_STRING``.  It shares no code with ``core``; where the two disagree, one is wrong.
The mesh must be at rest: run ``lab wait`` first.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Any

from meshnode.buses import bare_bus
from meshnode.lab.keyreader import KeyReader, TableName, identifier
from meshnode.lab.lost import ZERO, accounted_for, letter_counts, lost_writes
from meshnode.lab.stage import Stage
from meshnode.lab.topics import Published, Stamp, Topic, read_topic

SHOWN = 20
"""Findings that are spelt out; the rest is counted."""


@dataclass
class Report:
    """What was compared, and what is wrong."""

    topics: list[Topic] = field(default_factory=list)
    keys: int = 0
    rows: int = 0
    lost_writes: int = 0
    recorded: int = 0
    unknown_ancestry: int = 0
    findings: list[str] = field(default_factory=list)
    suppressed: int = 0

    @property
    def good(self) -> bool:
        return not self.findings

    def find(self, text: str) -> None:
        """Note a finding."""
        if len(self.findings) < SHOWN:
            self.findings.append(text)
        else:
            self.suppressed += 1

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return {
            "good": self.good,
            "transactions": sum(topic.transactions for topic in self.topics),
            "entries": sum(len(topic.entries) for topic in self.topics),
            "keys": self.keys,
            "rows": self.rows,
            "lost_writes": self.lost_writes,
            "recorded": self.recorded,
            "unknown_ancestry": self.unknown_ancestry,
            "findings": self.findings,
            "more_findings": self.suppressed,
        }

    def __str__(self) -> str:
        numbers = self.as_dict()
        lines = [
            f"{numbers['entries']} published versions of {self.keys} keys in"
            f" {numbers['transactions']} transactions; {self.rows} rows compared",
            f"{self.lost_writes} writes lost a conflict, {self.recorded} of them are recorded",
            "every winner is in place" if self.good else "NOT as it must be:",
            *(f"  {finding}" for finding in self.findings),
        ]
        if self.suppressed:
            lines.append(f"  and {self.suppressed} more")
        return "\n".join(lines)


async def check(lab: Stage) -> Report:
    """Read all topics and compare them with all regions."""
    topology = lab.topology
    report = Report()
    bus = bare_bus(topology)
    try:
        for region in topology.regions:
            report.topics.append(await read_topic(bus, region.name))
    finally:
        await bus.close()
    return await asyncio.to_thread(_compare, lab, report)


def _compare(lab: Stage, report: Report) -> Report:
    connections = {name: lab.server(name).connect() for name in lab.names}
    try:
        _Comparison(connections, report).run()
    finally:
        for connection in connections.values():
            connection.close()
    return report


class _Comparison:
    """One run over all tables; ``connections`` by region, blocking."""

    def __init__(self, connections: dict[str, Any], report: Report) -> None:
        self._connections = connections
        self._report = report
        self._first = next(iter(connections.values()))
        self._gc_limits = {
            region: _rows(connection, "SELECT gc_limit FROM meshnode.member")[0][0]
            for region, connection in connections.items()
        }

    def run(self) -> None:
        by_table: dict[TableName, list[Published]] = {}
        for topic in self._report.topics:
            if topic.first_seq > 1:
                self._report.find(
                    f"the topic of {topic.region} begins at item {topic.first_seq}: retention has "
                    "taken what was before, and nobody can check it"
                )
            for entry in topic.entries:
                by_table.setdefault((entry.schema, entry.table), []).append(entry)
        active = _rows(self._first, "SELECT schema_name, table_name FROM meshnode.tables")
        for table in sorted({*active, *by_table}):
            self._table(table, by_table.get(table, []))

    def _table(self, table: TableName, entries: list[Published]) -> None:
        keys = KeyReader(self._first, table)
        named = keys.canonical({entry.key for entry in entries})
        versions: dict[bytes, list[Published]] = {}
        for entry in entries:
            versions.setdefault(named[entry.key], []).append(entry)
        self._report.keys += len(versions)
        winners = {key: max(each, key=_rank) for key, each in versions.items()}
        for region, connection in self._connections.items():
            self._region(region, connection, table, keys, winners)
        recorded = self._recorded(table, keys)
        for key, each in versions.items():
            title = f"{table[0]}.{table[1]} {keys.shown(key)}"
            self._lost(title, each, winners[key], recorded.get(key, set()))

    def _region(
        self,
        region: str,
        connection: Any,
        table: TableName,
        keys: KeyReader,
        winners: dict[bytes, Published],
    ) -> None:
        report, title = self._report, f"{region}: {table[0]}.{table[1]}"
        name = f"{identifier(table[0])}.{identifier(table[1])}"
        rows = {
            keys.of_row(row[:-2]): Stamp(row[-2], row[-1])
            for row in _rows(
                connection, f"SELECT {keys.selected}, _mesh_ts, _mesh_origin FROM {name}"
            )
        }
        report.rows += len(rows)
        for key, winner in winners.items():
            stands = rows.pop(key, None)
            if winner.removed and stands is not None:
                report.find(
                    f"{title} {keys.shown(key)}: stands with {_text(stands)}, but the winner is "
                    f"the delete {_text(winner.stamp)} of {winner.region}"
                )
            elif not winner.removed and stands != winner.stamp:
                there = "is missing" if stands is None else f"has {_text(stands)}"
                report.find(
                    f"{title} {keys.shown(key)}: {there}, but the winner is "
                    f"{_text(winner.stamp)} of {winner.region}, item {winner.seq}"
                )
        for key, stamp in rows.items():
            # Rows from before the mesh carry no stamp, and are alike everywhere or were lifted.
            if stamp != ZERO:
                report.find(
                    f"{title} {keys.shown(key)}: has {_text(stamp)}, which nobody published"
                )
        tombstones = f"`meshnode`.`t_{_digest(table)}`"
        joined = " AND ".join(f"r.{column} = t.{column}" for column in keys.columns)
        beside = _rows(
            connection,
            f"SELECT COUNT(*) FROM {name} r JOIN {tombstones} t ON {joined}"
            " WHERE (t._mesh_ts, t._mesh_origin) > (r._mesh_ts, r._mesh_origin)",
        )[0][0]
        if beside:
            report.find(f"{title}: {beside} rows stand beside a newer tombstone")

    def _recorded(self, table: TableName, keys: KeyReader) -> dict[bytes, set[Stamp]]:
        """Losers in any region's records, by key."""
        found: dict[bytes, set[Stamp]] = {}
        named = keys.recorded.replace("%", "%%")
        for connection in self._connections.values():
            for *key, ts, origin, state, note in _rows(
                connection,
                f"SELECT {named}, loser_ts, loser_origin, '', ''"
                " FROM meshnode.conflict_log WHERE schema_name = %s AND table_name = %s"
                f" UNION ALL SELECT {named}, ts, stamp_origin, state, note"
                " FROM meshnode.dead_letter WHERE schema_name = %s AND table_name = %s",
                table + table,
            ):
                if letter_counts(state, note):
                    found.setdefault(keys.of_row(key), set()).add(Stamp(ts, origin))
        return found

    def _lost(
        self, title: str, entries: list[Published], winner: Published, recorded: set[Stamp]
    ) -> None:
        """Every upsert that the winner's writers had not seen must be on record.

        Or one that was written over it, in sight of it.
        """
        report = self._report
        lost = lost_writes(entries, winner, self._gc_limits)
        report.unknown_ancestry += lost.cut_short
        accounted = accounted_for(entries, recorded)
        for entry in lost.writes:
            report.lost_writes += 1
            if entry.stamp in accounted:
                report.recorded += 1
            else:
                report.find(
                    f"{title}: {_text(entry.stamp)} of {entry.region} (item {entry.seq}, over "
                    f"{_text(entry.base)}) lost to {_text(winner.stamp)} and is in no conflict_log"
                )


def _rank(entry: Published) -> tuple[Stamp, bool]:
    """Winners last; at a tie the row wins over the tombstone."""
    return entry.stamp, not entry.removed


def _text(stamp: Stamp) -> str:
    return f"{stamp.ts}.{stamp.origin}"


def _digest(table: TableName) -> str:
    return hashlib.sha256("\0".join(table).encode()).hexdigest()[:16]


def _rows(connection: Any, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())
