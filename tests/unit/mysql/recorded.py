"""Events recorded from a real server, as packets with checksums."""

import json
from functools import cache
from pathlib import Path

from meshnode.core.shape import Shape
from meshnode.mysql.bodies import Rows, parse_rows
from meshnode.mysql.events import (
    HEADER_SIZE,
    EventClass,
    EventHeader,
    EventType,
    classify,
    parse_payload,
    take_event,
)
from meshnode.mysql.tablemap import TableMap, parse_table_map

FIXTURE = Path(__file__).parent / "fixtures" / "orders.json"

CHARSETS = {255: "utf8mb4", 8: "latin1", 63: "binary"}


@cache
def fixture() -> dict:
    return json.loads(FIXTURE.read_text())


def packets() -> list[bytes]:
    """As the server sent them, headers and checksums included."""
    return [bytes.fromhex(text) for text in fixture()["events"]]


@cache
def events() -> tuple[tuple[EventHeader, bytes], ...]:
    """Without checksums, and with what is inside payloads behind them."""
    found = []
    for packet in packets():
        header, event = take_event(packet, 0, True)
        found.append((header, event))
        if header.type == EventType.TRANSACTION_PAYLOAD:
            for inner in parse_payload(event, HEADER_SIZE):
                found.append((take_event(inner, 0, False)[0], inner))
    return tuple(found)


def of_type(type_: int) -> bytes:
    """The first event of a type."""
    return next(event for header, event in events() if header.type == type_)


@cache
def table_map() -> TableMap:
    return parse_table_map(of_type(EventType.TABLE_MAP), HEADER_SIZE)


def shape() -> Shape:
    return table_map().shape


def rows() -> list[tuple[Rows, bytes]]:
    """All rows events: insert, update, delete, update in part."""
    return [
        (parse_rows(header.type, event, HEADER_SIZE), event)
        for header, event in events()
        if classify(header.type, header.flags) is EventClass.ROWS
    ]
