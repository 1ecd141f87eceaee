"""Properties of topologies: exact round trip, a stable digest, globs by their definition."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from meshnode import limits, table_patterns
from meshnode.topology import (
    Accounts,
    AccountSource,
    Bus,
    BusAddress,
    Kafka,
    Limits,
    MysqlAddress,
    OpsAddress,
    Policy,
    Region,
    Replicate,
    Tls,
    Topology,
    Tracing,
    Wan,
    load,
    render,
)

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
lines = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="".join(map(chr, range(32)))),
    min_size=1,
).filter(lambda text: "\x7f" not in text)
paths = lines.map(lambda text: str(Path("/") / text.replace("/", "_").strip(".") / "x"))
patterns = st.from_regex(
    r"[a-z_*?]{1,8}\.(`[^`\x00]{1,9}`|[^`.\s\x00]{1,9})", fullmatch=True
).filter(lambda text: not table_patterns.names_only_unreplicated(text))
tables = st.lists(patterns, min_size=1, max_size=4, unique=True).map(tuple)
seconds = st.floats(0.1, 60, allow_nan=False)


@st.composite
def accounts(draw: st.DrawFn, role_needed: bool) -> Accounts:
    def source(role: str) -> AccountSource:
        # The role keeps the users of one region apart.
        user = role + draw(lines)[:20]
        if draw(st.booleans()):
            return AccountSource(user, password_file=draw(paths))
        return AccountSource(
            user, password_env=draw(st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True))
        )

    roles = ("tail", "apply", "admin")
    return Accounts(*(source(r) if role_needed or draw(st.booleans()) else None for r in roles))


brokers = st.lists(
    st.sampled_from(["k:9092", "kafka-1.example.net:65535", "[fe80::1]:1"]), min_size=1, max_size=3
).map(tuple)


@st.composite
def file_buses(draw: st.DrawFn) -> Bus:
    segment = draw(st.integers(64 * limits.KIB, 4096 * limits.MIB))
    return Bus(
        "file",
        draw(paths),
        segment_bytes=segment,
        min_age_seconds=draw(st.floats(0, 31_536_000)),
        max_bytes=draw(st.integers(2 * segment, 2**50)),
        wan=draw(st.none() | st.builds(Wan, paths)),
    )


@st.composite
def kafka_buses(draw: st.DrawFn) -> Bus:
    replicas = draw(st.integers(1, 100))
    kafka = Kafka(
        draw(brokers),
        draw(st.none() | st.builds(Tls, paths, st.just("ca"))),
        draw(st.none() | st.builds(AccountSource, lines.map(lambda text: text[:20]), st.just("P"))),
        replicas,
        draw(st.integers(1, replicas)),
        draw(st.floats(0.01, 87_600)),
        draw(st.integers(-1, 2**60)),
        draw(st.integers(64 * limits.KIB, 256 * limits.MIB)),
        draw(st.sampled_from(["zstd", "lz4", "none"])),
    )
    return Bus("kafka", kafka=kafka, wan=draw(st.none() | st.builds(Wan, paths)))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    ids = draw(st.lists(st.integers(1, 255), min_size=2, max_size=5, unique=True))
    called = draw(st.lists(names, min_size=len(ids), max_size=len(ids), unique=True))
    bus = draw(file_buses() | kafka_buses())
    own_bus = (
        st.builds(BusAddress, paths)
        if bus.kind == "file"
        else st.builds(BusAddress, bootstrap=brokers)
    )
    regions = []
    for id_, name in zip(ids, called, strict=True):
        tls = Tls(draw(st.none() | paths), draw(st.sampled_from(["ca", "identity"])))
        mysql = draw(
            st.sampled_from(
                [
                    MysqlAddress(host=f"db{id_}"),
                    MysqlAddress(host=f"fe80::{id_:x}", port=1, tls=tls),
                    MysqlAddress(socket=f"/run/{id_}"),
                ]
            )
        )
        regions.append(
            Region(
                id_,
                name,
                mysql,
                draw(st.none() | st.just(OpsAddress(1000 + id_, f"h{id_}"))),
                draw(st.none() | own_bus),
                draw(accounts(role_needed=False)),
            )
        )
    part = draw(st.integers(64 * limits.KIB, 64 * limits.MIB))
    return Topology(
        draw(names),
        Replicate(draw(tables), draw(st.just(()) | tables)),
        bus,
        tuple(regions),
        draw(accounts(role_needed=True)),
        Limits(
            draw(st.integers(1, 100_000)),
            draw(st.integers(part, 256 * limits.MIB)),
            part,
            draw(st.integers(4 * limits.KIB, min(part, 16 * limits.MIB))),
            draw(seconds),
            draw(st.integers(1, 3650)),
        ),
        draw(st.none() | st.builds(Tracing, st.just("http://j:4318"), st.floats(0, 1))),
        tuple(draw(st.lists(st.builds(Policy, tables, st.just("lww")), max_size=2))),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(topologies())
def test_loading_what_was_rendered_gives_the_same(tmp_path: Path, mesh: Topology) -> None:
    file = tmp_path / "mesh.toml"
    file.write_text(render(mesh), encoding="utf-8")
    again = load(file)
    assert again == mesh
    assert again.digest == mesh.digest
    assert render(again) == render(mesh)


TEXT = """
mesh = "two"
[replicate]
tables = ["shop.*", "a.b"]
exclude = ["shop.x", "shop.a"]
[bus]
kind = "file"
dir = "bus"
[accounts]
tail = { user = "t", password_env = "T" }
apply = { user = "a", password_env = "A" }
admin = { user = "d", password_file = "d.secret" }
[limits]
batch_rows = 4000
[[region]]
id = 1
name = "east"
mysql = { host = "127.0.0.1", port = 3311, tls = { ca = "ca.pem" } }
[[region]]
id = 2
name = "west"
mysql = { host = "127.0.0.1", port = 3306 }
"""


def digest(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "mesh.toml").write_text(text)
    return load(folder / "mesh.toml").digest


def test_the_digest_does_not_change_with_a_release(tmp_path: Path) -> None:
    assert digest(tmp_path, TEXT) == "9723229e7799d81b85e5dfc054ca8dd6"


@pytest.mark.parametrize(
    "old,new",
    [
        ("[limits]\nbatch_rows = 4000\n", ""),
        (", port = 3306", ""),
        ('"shop.*", "a.b"', '"a.b", "shop.*"'),
        ('"shop.x", "shop.a"', '"shop.a", "shop.x"'),
        ('password_env = "T"', 'password_file = "/etc/t"'),
        ('dir = "bus"', 'dir = "/srv/bus"\nwan = { control = "w" }'),
        ('ca = "ca.pem"', 'ca = "/etc/ca.pem"'),
        ("mesh =", "# a comment\nmesh   ="),
        (TEXT[TEXT.index("[[region]]\nid = 1") : TEXT.index("[[region]]\nid = 2")], ""),
    ],
)
def test_the_digest_is_deaf_to_secrets_places_order_and_spelling(
    old: str, new: str, tmp_path: Path
) -> None:
    changed = TEXT.replace(old, new) if new or "region" not in old else TEXT.replace(old, "") + old
    assert changed != TEXT
    assert digest(tmp_path / "elsewhere", changed) == digest(tmp_path, TEXT)


@pytest.mark.parametrize(
    "old,new",
    [
        ('"two"', '"too"'),
        ('"a.b"', '"a.c"'),
        ('"shop.x", ', ""),
        ("4000", "4001"),
        ("id = 2", "id = 3"),
        ('"west"', '"north"'),
        ("3306", "3307"),
        ('user = "t"', 'user = "u"'),
        ("port = 3306 }", 'socket = "/s" }'),
        ('dir = "bus"', 'dir = "bus"\nmin_age_seconds = 1'),
        ('{ ca = "ca.pem" }', '{ ca = "ca.pem", verify = "ca" }'),
    ],
)
def test_the_digest_hears_everything_else(old: str, new: str, tmp_path: Path) -> None:
    changed = TEXT.replace(old, new)
    if "socket" in new:
        changed = changed.replace('{ host = "127.0.0.1", socket', "{ socket")
    assert changed != TEXT
    assert digest(tmp_path, changed) != digest(tmp_path, TEXT)


def glob(pattern: str, name: str) -> bool:
    """Match by the definition: ``*`` takes nothing, or one character and stays."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return glob(pattern[1:], name) or (bool(name) and glob(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and glob(pattern[1:], name[1:])


parts = st.text("ab*?[]+", min_size=1, max_size=5)
words = st.text("abA[]+\n", max_size=5)


@given(parts, parts, words, words)
def test_globs_match_by_their_definition(s: str, t: str, schema: str, table: str) -> None:
    expected = glob(s, schema) and glob(t, table)
    select = table_patterns.selector((f"{s}.{t}",), ())
    assert select(schema, table) is expected
    exclude = table_patterns.selector(("*.*",), (f"{s}.{t}",))
    assert exclude(schema, table) is not expected


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
@example("MYSQL", "0")
def test_every_name_can_be_written_in_backticks(schema: str, table: str) -> None:
    def quoted(name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    schema, table = schema.replace("\0", "0"), table.replace("\0", "0")
    pattern = f"{quoted(schema)}.{quoted(table)}"
    # MySQL's own schemas never match, in whatever case.
    assume(not table_patterns.names_only_unreplicated(pattern))
    select = table_patterns.selector((pattern,), ())
    assert select(schema, table)
    assert not select(schema, table + "x")
    assert not select(schema.swapcase() + "x", table)


@pytest.mark.parametrize(
    "pattern", [".", "a", "a.", ".b", "a.b.c", "a b.c", "`a.b", "`a`b`.c", "a..b", "a.b\n"]
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(pattern)):
        table_patterns.parse(pattern)


@pytest.mark.parametrize("schema", ["mysql", "sys", "meshnode", "MESHNODE", "information_schema"])
def test_system_schemas_and_bookkeeping_never_match(schema: str) -> None:
    assert not table_patterns.selector(("*.*", f"{schema}.*"), ())(schema, "t")


def test_case_counts() -> None:
    select = table_patterns.selector(("Shop.Ord*",), ("Shop.OrdX",))
    assert select("Shop", "Orders")
    assert not select("shop", "Orders")
    assert not select("Shop", "orders")
    assert not select("Shop", "OrdX")
    assert select("Shop", "Ordx")


def test_a_pattern_of_many_stars_fails_fast() -> None:
    select = table_patterns.selector(("s." + "a*" * 30 + "***b",), ())
    assert not select("s", "a" * 64)
    assert select("s", "a" * 63 + "b")
