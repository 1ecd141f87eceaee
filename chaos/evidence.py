"""What a region holds when something was found wrong: tables and bookkeeping, as JSON lines.

Servers are gone when a run has ended, so whoever looks for the reason needs their rows.
"""

from pathlib import Path

import orjson

from chaos.mesh import SCHEMA, Mesh
from meshnode.errors import MeshError
from meshnode.mysql.control import Control
from meshnode.mysql.schema import tombstone_table

MOST_ROWS = 20_000
BOOKKEEPING = (
    "applied", "conflict_log", "dead_letter", "heartbeat", "member", "mend", "paused",
)  # fmt: skip


async def keep(mesh: Mesh, folder: Path, tables: list[str]) -> None:
    """Write a file for each region: one line a row, with its table."""
    for region in mesh.names:
        with (folder / f"{region}.rows.jsonl").open("wb") as file:
            try:
                async with await mesh.sql(region) as control:
                    names = [f"meshnode.{name}" for name in BOOKKEEPING]
                    for table in tables:
                        names += [f"{SCHEMA}.{table}", tombstone_table(SCHEMA, table)]
                    for name in names:
                        for row in await _rows(control, name):
                            line = {"table": name, **row}
                            file.write(orjson.dumps(line, default=_text) + b"\n")
            except (MeshError, OSError, TimeoutError) as error:
                file.write(orjson.dumps({"error": str(error)}) + b"\n")


async def _rows(control: Control, name: str) -> list[dict]:
    schema, table = name.replace("`", "").split(".", 1)
    columns = [
        column
        for (column,) in await control.rows(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
            (schema, table),
        )
    ]
    listed = ", ".join(f"`{column}`" for column in columns)
    rows = await control.rows(f"SELECT {listed} FROM {name} LIMIT {MOST_ROWS}")
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
