"""Records of the rows that ``init --seed-from`` overrules, written before they lose.

A seed's row is lifted over the version that all regions share, ``(0,0)``, so the appliers take
the rows that it replaces for its ancestors and record nothing.  Only init knows that they
differ.  It writes the record where the loser stands, into that region's
``conflict_log``, and commits it before the lift commits: after it, a crash between the
two would lose the row without a trace.  The other way round the record may stand twice, when
init is run again, or beside a row that a client has changed since; that harms nobody.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from meshnode.core.resolve import CERTAIN
from meshnode.core.shape import FieldType, Shape
from meshnode.core.stamp import Stamp
from meshnode.mysql.catalog import Table
from meshnode.mysql.control import Control
from meshnode.mysql.images import image_document
from meshnode.mysql.keyvalues import KeyReader, Values
from meshnode.mysql.records import ConflictRow, conflict_statements, key_json, text
from meshnode.mysql.schema import ORIGIN_COLUMN, TS_COLUMN, quoted_table

KIND = "seed"
"""Kind of these conflicts, beside those of :class:`meshnode.core.resolve.Kind`."""

POLICY = "seed-from"

ROWS = 500
"""Rows whose images are held at a time."""

LONG_ROWS = 4
"""The same for tables with columns that may hold many megabytes."""

_LONG = frozenset({FieldType.BLOB, FieldType.JSON, FieldType.GEOMETRY, FieldType.VECTOR})


class Seat(NamedTuple):
    """A table in one region: its name, id, session, and definition there."""

    name: str
    region: int
    connection: Control
    table: Table


class Loss(NamedTuple):
    """A key whose row of the seed gets the stamp ``winner``.

    ``losers`` are the regions where it differs, with the key as it is spelled there.
    """

    values: Values
    seen: Stamp
    winner: Stamp
    losers: Sequence[tuple[int, Values]]


class SeedRecords:
    """Records what one table loses; ``overruled`` counts the rows by the name of their region."""

    def __init__(
        self, seats: Mapping[int, Seat], reader: KeyReader, charsets: Mapping[int, str]
    ) -> None:
        self._seats = seats
        self._reader = reader
        self._charsets = charsets
        self.overruled: Counter[str] = Counter()

    async def write(self, seed: int, losses: Sequence[Loss]) -> None:
        """Write and commit the records for lifts in region ``seed`` that are about to commit."""
        seat = self._seats[seed]
        step = LONG_ROWS if _has_long_columns(seat.table.shape) else ROWS
        losing = [loss for loss in losses if loss.losers]
        for start in range(0, len(losing), step):
            part = losing[start : start + step]
            winners = await self._images(seat, [loss.values for loss in part], None)
            places: dict[int, list[tuple[Loss, Values]]] = {}
            for loss in part:
                for region, spelled in loss.losers:
                    places.setdefault(region, []).append((loss, spelled))
            for region, lost in places.items():
                await self._record(self._seats[region], seat, lost, winners)

    async def _record(
        self,
        here: Seat,
        seed: Seat,
        lost: Sequence[tuple[Loss, Values]],
        winners: Mapping[Values, str],
    ) -> None:
        # A row that a client has changed since has a version, and its own conflict.
        images = await self._images(here, [spelled for _, spelled in lost], lost[0][0].seen)
        shape = here.table.shape
        rows = [
            ConflictRow(
                shape, key_json(shape, self._reader.wire_key(spelled), self._charsets), KIND,
                CERTAIN, f"init --seed-from {seed.name}", loss.winner, loss.seen,
                text(winners.get(loss.values)), text(images[spelled]), seed.region, 0, "",
            )
            for loss, spelled in lost
            if spelled in images
        ]  # fmt: skip
        async with here.connection.transaction():
            for statement in conflict_statements(rows, POLICY):
                await here.connection.execute(statement)
        self.overruled[here.name] += len(rows)

    async def _images(
        self, seat: Seat, keys: Sequence[Values], version: Stamp | None
    ) -> dict[Values, str]:
        shape = seat.table.shape
        unchanged = (
            f" AND {TS_COLUMN} = {version.ts} AND {ORIGIN_COLUMN} = {version.origin}"
            if version is not None
            else ""
        )
        rows = await seat.connection.rows(
            f"SELECT {self._reader.select}, {image_document(shape)}"
            f" FROM {quoted_table(shape.schema, shape.table)}"
            f" WHERE ({self._reader.among(keys)}){unchanged}"
        )
        return {tuple(row[:-1]): row[-1] for row in rows}


async def read_charsets(connection: Control) -> dict[int, str]:
    """The names of the character sets by the ids of their collations."""
    rows = await connection.rows("SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS")
    return {int(number): name for number, name in rows}


def overruled_lines(table: str, counts: Mapping[str, int]) -> list[str]:
    """What to tell an operator of one table, a line for each region."""
    return [
        f"{table}: {count} rows of {region} will be overwritten by the seed's;"
        f" each is in `meshnode conflicts list --region {region}`"
        for region, count in counts.items()
        if count
    ]


def _has_long_columns(shape: Shape) -> bool:
    return any(column.type in _LONG for column in shape.columns)
