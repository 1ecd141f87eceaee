"""How many rows a second the decoder gets through, beside the two Python decoders.

Everything is made here: a 7-column table with the 2 stamp columns, rows in events
of about 8 KiB as MySQL writes them, with checksums.  No server is needed.

    python bench/bench_decode.py [--rows N] [--venv DIR]

prints one JSON object.  ``mysql-replication`` is measured if it can be installed
into a virtual environment: a temporary one, or DIR, which is kept.  Figures are rows
a second on one core, best of three runs, checksum and event head included:

* ``scan_insert``, ``scan_update``: boundaries, key and stamp of each image (an update
  counts as one row);
* ``full_decode``: every value, as conflict records have it;
* ``asyncmy``, ``mysql_replication``: their rows, of the same insert events.
"""

import argparse
import asyncio
import json
import platform
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.mysql.bodies import parse_rows
from meshnode.mysql.builders import build_event, build_rows, build_table_map
from meshnode.mysql.events import HEADER_SIZE, EventType, take_event
from meshnode.mysql.rowimage import make_scanner
from meshnode.mysql.rowvalues import row_values
from meshnode.mysql.tablemap import parse_table_map

COLUMNS = (
    Column("id", FieldType.LONGLONG, nullable=False),
    Column("amount", FieldType.LONG),
    Column("name", FieldType.VARCHAR, 200, collation=255),
    Column("price", FieldType.NEWDECIMAL, 12 << 8 | 2),
    Column("at", FieldType.DATETIME2, 6),
    Column("doc", FieldType.JSON, 4),
    Column("note", FieldType.VARCHAR, 800, collation=255),
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
)
TYPES = ("bigint", "int", "varchar(200)", "decimal(12,2)", "datetime(6)", "json", "varchar(200)")
TYPES += ("bigint unsigned", "tinyint unsigned")
CHARSETS = {255: "utf8mb4"}
EVERY = b"\xff\x01"
EVENT_BYTES = 8192
TABLE_ID = 42
RUNS = 3


def image(number: int) -> bytes:
    """One row without NULLs, about 110 bytes."""
    document = bytes.fromhex("0001000c000b000100050100") + b"a"
    name, note = b"customer %d" % number, b"a note of ordinary length for row %d" % number
    return b"".join(
        (
            b"\0\0",
            struct.pack("<qi", number, number % 1000),
            bytes((len(name),)) + name,
            bytes.fromhex("80000004d232"),
            bytes.fromhex("99b2e31083") + (number % 1_000_000).to_bytes(3, "big"),
            len(document).to_bytes(4, "little") + document,
            len(note).to_bytes(2, "little") + note,
            struct.pack("<QB", 1_795_271_123_403_368 + number, 3),
        )
    )


def packets(rows: int, type_: int) -> list[bytes]:
    """Events with checksums; an update has each image twice."""
    copies = 2 if type_ == EventType.UPDATE_ROWS else 1
    events, pending, size = [], [], 0
    for number in range(rows):
        pending.append(image(number) * copies)
        size += len(pending[-1])
        if size >= EVENT_BYTES or number == rows - 1:
            before = EVERY if copies == 2 else None
            body = build_rows(type_, TABLE_ID, 1, len(COLUMNS), before, EVERY, pending)
            events.append(build_event(type_, 1, body, checksum=True))
            pending, size = [], 0
    return events


def table_map_packet() -> bytes:
    body = build_table_map(TABLE_ID, "bench", "t", COLUMNS, (0,))
    return build_event(EventType.TABLE_MAP, 1, body, checksum=True)


def best(rows: int, work: Callable[[], int]) -> int:
    """Rows a second of the fastest run; ``work`` returns how many rows it saw."""
    fastest = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        seen = work()
        fastest = min(fastest, time.perf_counter() - start)
        if seen != rows:
            raise SystemExit(f"{work.__name__} saw {seen} of {rows} rows")
    return round(rows / fastest)


def own(rows: int) -> dict[str, int]:
    """The scanner and the full decode."""
    inserts = packets(rows, EventType.WRITE_ROWS)
    updates = packets(rows, EventType.UPDATE_ROWS)
    table_map = parse_table_map(take_event(table_map_packet(), 0, True)[1], HEADER_SIZE)

    def scan(events: list[bytes], attribute: str) -> int:
        seen = 0
        for packet in events:
            header, event = take_event(packet, 0, True)
            found = parse_rows(header.type, event, HEADER_SIZE)
            scanner = make_scanner(table_map)
            seen += len(getattr(scanner, attribute)(event, found.start, found.stop))
        return seen

    def decode() -> int:
        seen = 0
        for packet in inserts:
            header, event = take_event(packet, 0, True)
            found = parse_rows(header.type, event, HEADER_SIZE)
            scanner = make_scanner(table_map)
            for start, stop, *_ in scanner.scan_write(event, found.start, found.stop):
                row_values(table_map.shape, event[start:stop], CHARSETS)
                seen += 1
        return seen

    return {
        "scan_insert": best(rows, lambda: scan(inserts, "scan_write")),
        "scan_update": best(rows, lambda: scan(updates, "scan_update")),
        "full_decode": best(rows, decode),
    }


def asyncmy_rate(rows: int) -> int:
    """asyncmy's decoder, driven without its connection."""
    from asyncmy.protocol import MysqlPacket
    from asyncmy.replication.packets import BinLogPacket
    from asyncmy.replication.row_events import TableMapEvent, WriteRowsEvent

    schemas = [
        {
            "COLUMN_NAME": column.name,
            "COLLATION_NAME": "utf8mb4_0900_ai_ci" if column.collation else None,
            "CHARACTER_SET_NAME": "utf8mb4" if column.collation else None,
            "COLUMN_COMMENT": "",
            "COLUMN_TYPE": TYPES[index],
            "COLUMN_KEY": "PRI" if index == 0 else "",
            "ORDINAL_POSITION": index + 1,
        }
        for index, column in enumerate(COLUMNS)
    ]

    class Connection:
        charset = "utf8mb4"

        async def _get_table_information(self, _schema: str, _table: str):
            async def answer() -> list[dict]:
                return schemas

            return answer()

    events = packets(rows, EventType.WRITE_ROWS)

    async def read(packet: bytes, tables: dict):
        parsed = BinLogPacket(
            MysqlPacket(b"\0" + packet, "utf8mb4"),
            tables,
            Connection(),
            True,
            {TableMapEvent, WriteRowsEvent},
            *(None,) * 4,
            False,
        )
        await parsed.init()
        return parsed.event

    async def run() -> int:
        tables: dict = {}
        mapped = await read(table_map_packet(), tables)
        tables[mapped.table_id] = mapped.table
        seen = 0
        for packet in events:
            event = await read(packet, tables)
            seen += len(event.rows)
        return seen

    return best(rows, lambda: asyncio.run(run()))


PEER = """
import json, sys, time
from pymysql.protocol import MysqlPacket
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import TableMapEvent, WriteRowsEvent

class Connection:
    charset = "utf8mb4"
    def _get_dbms(self): return "mysql"

def read(packet, tables):
    return BinLogPacketWrapper(
        MysqlPacket(b"\\0" + packet, "utf8mb4"), tables, Connection(), (9, 7, 0), True,
        {TableMapEvent, WriteRowsEvent}, None, None, None, None, False, False, True, True, False,
    ).event

table_map, *events = [bytes.fromhex(line) for line in open(sys.argv[1])]
best, seen = 1e9, 0
for _ in range(int(sys.argv[2])):
    start, seen, tables = time.perf_counter(), 0, {}
    read(table_map, tables)
    for packet in events:
        seen += len(read(packet, tables).rows)
    best = min(best, time.perf_counter() - start)
print(json.dumps({"rows": seen, "seconds": best}))
"""


def mysql_replication_rate(rows: int, venv: Path) -> int | str:
    """mysql-replication's decoder in an environment of its own; why not, if it fails."""
    python = venv / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True)
            install = [python, "-m", "pip", "install", "-q", "mysql-replication", "cryptography"]
            subprocess.run(install, check=True, capture_output=True)
        with tempfile.TemporaryDirectory() as folder:
            file, script = Path(folder, "packets"), Path(folder, "peer.py")
            events = [table_map_packet(), *packets(rows, EventType.WRITE_ROWS)]
            file.write_text("\n".join(packet.hex() for packet in events))
            script.write_text(PEER)
            done = subprocess.run(
                [python, script, file, str(RUNS)], check=True, capture_output=True, text=True
            )
    except (subprocess.CalledProcessError, OSError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        text = reason.decode() if isinstance(reason, bytes) else reason
        return f"not measured: {text.strip().splitlines()[-1] if text.strip() else error}"
    answer = json.loads(done.stdout)
    if answer["rows"] != rows:
        raise SystemExit(f"mysql-replication saw {answer['rows']} of {rows} rows")
    return round(rows / answer["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="rows for the own decoder")
    parser.add_argument("--peer-rows", type=int, default=20_000, help="rows for the others")
    parser.add_argument("--venv", type=Path, help="environment with mysql-replication, kept")
    options = parser.parse_args()
    result: dict[str, object] = {
        "rows_per_second": own(options.rows) | {"asyncmy": asyncmy_rate(options.peer_rows)},
        "row_bytes": len(image(1)),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    with tempfile.TemporaryDirectory() as folder:
        rate = mysql_replication_rate(options.peer_rows, options.venv or Path(folder, "venv"))
    result["rows_per_second"]["mysql_replication"] = rate
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
