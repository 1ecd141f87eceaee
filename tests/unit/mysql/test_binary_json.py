"""Binary JSON by offsets: built here from the format's description."""

import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.mysql.json import json_text
from meshnode.mysql.wire import MalformedEvent


def variable(size: int) -> bytes:
    raw = b""
    while size >= 0x80:
        raw += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return raw + bytes((size,))


def value(document: object, large: bool, hole: bytes) -> tuple[int, bytes]:
    """(type, bytes) of a Python value; ``hole`` is garbage put before each value."""
    if document is None or isinstance(document, bool):
        return 4, bytes(({None: 0, True: 1, False: 2}[document],))
    if isinstance(document, int):
        for type_, code, low, high in (
            (5, "<h", -(2**15), 2**15),
            (7, "<i", -(2**31), 2**31),
            (9, "<q", -(2**63), 2**63),
            (10, "<Q", 0, 2**64),
        ):
            if low <= document < high:
                return type_, struct.pack(code, document)
    if isinstance(document, float):
        return 0xB, struct.pack("<d", document)
    if isinstance(document, str):
        raw = document.encode()
        return 0xC, variable(len(raw)) + raw
    return container(document, large, hole)


def container(document: dict | list, large: bool, hole: bytes) -> tuple[int, bytes]:
    code, width = ("<I", 4) if large else ("<H", 2)
    is_object = isinstance(document, dict)
    keys = [key.encode() for key in document] if is_object else []
    items = list(document.values()) if is_object else list(document)
    at = 2 * width + len(keys) * (width + 2) + len(items) * (width + 1)
    key_entries = entries = data = b""
    for key in keys:
        data += hole
        key_entries += struct.pack(code, at + len(data)) + struct.pack("<H", len(key))
        data += key
    for item in items:
        type_, raw = value(item, large, hole)
        if type_ in (4, 5, 6) or (large and type_ in (7, 8)):
            entries += bytes((type_,)) + raw.ljust(width, b"\0")
            continue
        data += hole
        entries += bytes((type_,)) + struct.pack(code, at + len(data))
        data += raw
    head = struct.pack(code, len(items)) + struct.pack(code, at + len(data))
    return large + (0 if is_object else 2), head + key_entries + entries + data


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=200),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(DOCUMENTS, st.booleans(), st.binary(max_size=3))
def test_any_document_in_both_sizes_with_holes(document, large, hole):
    type_, raw = value(document, large, hole)
    text = json_text(bytes((type_,)) + raw + hole)
    assert json.loads(text) == document
    assert not isinstance(document, float) or repr(json.loads(text)) == repr(document)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("", "null"),
        ("0400", "null"),
        ("06ffff", "65535"),
        ("08ffffffff", "4294967295"),
        ("0bf168e388b5f8e43e", "1e-05"),
    ],
)
def test_scalars(raw, text):
    assert json_text(bytes.fromhex(raw)) == text


def test_opaque_values():
    def opaque(kind: int, raw: bytes) -> str:
        return json_text(b"\x0f" + bytes((kind,)) + variable(len(raw)) + raw)

    assert opaque(246, b"\x04\x02" + b"\x81\x32") == "1.50"
    assert opaque(15, b"\0\xff") == '"base64:type15:AP8="'
    noon = (12 << 12) << 24
    assert opaque(11, struct.pack("<q", noon)) == '"12:00:00.000000"'
    assert opaque(11, struct.pack("<q", -(noon | 5))) == '"-12:00:00.000005"'
    day = ((2024 * 13 + 2) << 5 | 30) << 17 << 24
    assert opaque(10, struct.pack("<q", day)) == '"2024-02-30"'
    assert opaque(12, struct.pack("<q", day | 7)) == '"2024-02-30 00:00:00.000007"'
    with pytest.raises(MalformedEvent, match="DECIMAL"):
        opaque(246, b"\x0a\x02" + b"\x80\x00\x01")
    assert opaque(7, struct.pack("<q", 0)) == '"0000-00-00 00:00:00.000000"'


@settings(deadline=None)
@given(DOCUMENTS, st.data())
def test_damage_never_escapes(document, data):
    type_, raw = value(document, False, b"")
    damaged = bytearray(bytes((type_,)) + raw)
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with suppress(MalformedEvent):
        json_text(bytes(damaged[:cut]))


def test_a_container_that_holds_itself_ends():
    loop = struct.pack("<HH", 1, 7) + b"\x02" + struct.pack("<H", 0)
    with pytest.raises(MalformedEvent, match="deep"):
        json_text(b"\x02" + loop)
