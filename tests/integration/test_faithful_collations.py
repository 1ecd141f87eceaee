"""Which keys are equal is MySQL's to say: the canonical form must say the same.

For every collation in which a key may be, random texts of characters that
collations treat in odd ways (padding, ignorable characters, contractions,
expansions, marks, kana, control characters below the space) are compared with
each other by the server, and in their canonical forms.
"""

import random

import pytest
from server_pool import PASSWORD

from meshnode.accounts import Account
from meshnode.core.change import Table
from meshnode.core.shape import Column, FieldType, Shape
from meshnode.errors import Halt
from meshnode.mysql.lookup import UNSURE_COLLATIONS, Lookup, fold_keys, read_collations
from meshnode.mysql.session import Session, connect
from meshnode.topology import MysqlAddress, Region

PIECES = [
    *"  aAsScCdzehljlnofiy1~'-",
    *"\t\0\x01\x1f\x7f\xa0\xad",
    *"áäæßçñöøØœÿ½²ıİёеЁﬁʼ",
    *"\u0300\u0301\u0327\u064b\u0e48\u200b\u3099\ufeff\u3000",
    *"ＡはばバハァーかがเกكΩ一乙\U0001f600",
    *("ch", "dz", "dzs", "ccs", "cscs", "ss", "ll", "a\u0301"),
]
ENDS = [" ", "  ", "\0", "\t", "\u200b", "\xad", " \0", "\x01", " \t", "\xa0"]
WIDE = {"ucs2", "utf16", "utf16le", "utf32", "utf8mb3"}
LENGTH = 8
SEED = 20261121
TEXTS = 90


def texts(seed: int) -> list[str]:
    """Short texts, many of them near to another one."""
    choice = random.Random(seed)
    found = [""]
    while len(found) < TEXTS:
        text = "".join(choice.choices(PIECES, k=choice.randint(0, 3)))
        found += [text, choice.choice((text.upper(), text.lower(), text + choice.choice(ENDS)))]
    return list(dict.fromkeys(text[:LENGTH] for text in found))


async def session_of(server) -> Session:
    region = Region(id=1, name="one", mysql=MysqlAddress(server.host, server.port))
    return await connect(region, Account(server.user, PASSWORD), "test")


def keyed(kind: FieldType, collation: int) -> Shape:
    column = Column("k", kind, meta=4 * LENGTH, collation=collation, nullable=False)
    return Shape("app", "t", (column,), (0,))


@pytest.mark.parametrize("kind", [FieldType.VARCHAR, FieldType.STRING])
async def test_canonical_keys_are_equal_exactly_where_the_server_has_them_equal(
    servers, kind
) -> None:
    """Guards the maps of keys: one key taken for two, or two for one, diverges."""
    (server,) = await servers(1)
    session = await session_of(server)
    collations = await read_collations(session)
    chosen = [
        number
        for number, (name, charset, _) in collations.items()
        if charset != "binary"
        and name not in UNSURE_COLLATIONS
        # The tailorings are the same in each encoding of Unicode.
        and (charset not in WIDE or name.endswith(("_bin", "general_ci", "_unicode_ci")))
    ]
    assert len(chosen) > 180
    type_name = "VARCHAR" if kind == FieldType.VARCHAR else "CHAR"
    columns = (f"c{n} {type_name}({LENGTH}) COLLATE {collations[n].name}" for n in chosen)
    await session.query("SET SESSION sql_mode = ''")  # what a charset lacks becomes '?'
    await session.query("CREATE DATABASE app")
    await session.query(f"CREATE TABLE app.t (i INT PRIMARY KEY, {', '.join(columns)})")
    written = texts(SEED + kind)
    rows = ",".join(
        f"({i}{f', CONVERT(0x{text.encode().hex()} USING utf8mb4)' * len(chosen)})"
        if text
        else f"""({i}{", ''" * len(chosen)})"""
        for i, text in enumerate(written)
    )
    await session.query(f"INSERT IGNORE INTO app.t VALUES {rows}")
    wrong = []
    for number in chosen:
        shape = keyed(kind, number)
        lookup = Lookup(shape, collations)
        table = Table("app", "t", "d", shape, b"", None, None, None, {})
        found = await session.query(f"SELECT i, HEX(c{number}) FROM app.t")
        keys = {i: bytes((len(raw) // 2,)) + bytes.fromhex(raw) for i, raw in found}
        await fold_keys(session, lookup, table, keys.values())
        pairs = await session.query(
            f"SELECT /*+ NO_BNL(a, b) */ a.i, b.i FROM app.t a JOIN app.t b"
            f" ON a.c{number} = b.c{number} AND a.i < b.i"
        )
        equal = set(pairs)
        folds = {i: table.folds[key] for i, key in keys.items()}
        same = {(a, b) for a in folds for b in folds if a < b and folds[a] == folds[b]}
        assert equal or collations[number].name == "utf8mb4_0900_bin"
        wrong += [
            (collations[number].name, what, written[a], written[b])
            for what, pairs in (("missed", equal - same), ("false", same - equal))
            for a, b in sorted(pairs)[:3]
        ]
    session.close()
    assert not wrong


async def test_keys_whose_equality_nobody_can_tell_are_refused(servers) -> None:
    """Their index and WEIGHT_STRING disagree (shown here), so the table's stream stops."""
    (server,) = await servers(1)
    session = await session_of(server)
    collations = await read_collations(session)
    ids = {entry.name: number for number, entry in collations.items()}
    proofs = {  # two texts, and whether the server has them equal
        "big5_chinese_ci": ("A440", "A441", 0),
        "euckr_korean_ci": ("8141", "8161", 1),
        "gb18030_chinese_ci": ("49", "81309033", 0),
    }
    for name, (first, second, equal) in proofs.items():
        charset = name.split("_")[0]
        a, b = (f"_{charset} X'{raw}' COLLATE {name}" for raw in (first, second))
        row = await session.query(f"SELECT {a} = {b}, WEIGHT_STRING({a}) = WEIGHT_STRING({b})")
        assert row == ((equal, 1 - equal),), name
    session.close()
    assert proofs.keys() < UNSURE_COLLATIONS.keys()
    for name, instead in UNSURE_COLLATIONS.items():
        with pytest.raises(Halt, match=rf"`k` of table app\.t has the collation {name}") as refused:
            Lookup(keyed(FieldType.VARCHAR, ids[name]), collations)
        assert instead in refused.value.remedy
        Lookup(keyed(FieldType.VARCHAR, ids[instead]), collations)
