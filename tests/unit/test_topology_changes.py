"""What a running node may take over from a changed file, and a topology told in words."""

import re
from pathlib import Path

import pytest

from meshnode.topology import Topology, load
from meshnode.topology_changes import Changes, changes, describe, kafka_moved, rebuilt

TEXT = """
mesh = "two"
[replicate]
tables = ["shop.*", "a.b"]
[bus]
kind = "file"
dir = "bus"
[accounts]
tail = { user = "t", password_env = "T" }
apply = { user = "a", password_env = "A" }
admin = { user = "d", password_file = "d.secret" }
[[region]]
id = 1
name = "east"
mysql = { host = "127.0.0.1", port = 3311 }
[[region]]
id = 2
name = "west"
mysql = { host = "127.0.0.1", port = 3306 }
ops = { port = 8312 }
"""


FIRST = "[[region]]\nid = 1"


def read(folder: Path, text: str = TEXT) -> Topology:
    (folder / "mesh.toml").write_text(text)
    return load(folder / "mesh.toml")


def change(folder: Path, old: str, new: str) -> Changes:
    assert TEXT.count(old) == 1
    return changes(read(folder), read(folder, TEXT.replace(old, new)))


@pytest.mark.parametrize(
    "old,new,told",
    [
        ('"a.b"', '"a.c"', "replicate.tables: ['a.b', 'shop.*'] -> ['a.c', 'shop.*']"),
        ('"a.b"]', '"a.b"]\nexclude = ["shop.x"]', "replicate.exclude: [] -> ['shop.x']"),
        (FIRST, f"[limits]\nbatch_rows = 7\n{FIRST}", "limits.batch_rows: (default) -> 7"),
        (
            "[[region]]\nid = 1",
            "[[policy]]\ntables=['a.b']\nkind='lww'\n[[region]]\nid = 1",
            "policy",
        ),
        ("3311", "3312", "region.east.mysql.port: 3311 -> 3312"),
        ("3306", "3307", "region.west.mysql.port: (default) -> 3307"),
        ("ops = { port = 8312 }\n", "", "region.west.ops.port: 8312 -> (default)"),
        (
            'dir = "bus"',
            'dir = "bus"\nmin_age_seconds = 1',
            "bus.min_age_seconds: (default) -> 1.0",
        ),
        ('user = "t"', 'user = "u"', "accounts.tail.user: t -> u"),
    ],
)
def test_what_changes_live(old: str, new: str, told: str, tmp_path: Path) -> None:
    found = change(tmp_path, old, new)
    assert found.refused == []
    assert len(found.live) == 1
    assert found.live[0].startswith(told)


@pytest.mark.parametrize(
    "old,new,told",
    [
        ('mesh = "two"', 'mesh = "too"', ["mesh: two -> too: .*topic"]),
        ("id = 2", "id = 3", ["region.west: id 2 -> id 3: .*put the old value back"]),
        (
            'name = "west"',
            'name = "north"',
            ["region.north: absent -> id 2", "region.west: id 2 -> absent"],
        ),
        (
            FIRST,
            f'[[region]]\nid = 9\nname = "new"\nmysql = {{ host = "n" }}\n{FIRST}',
            ["region.new: absent -> id 9"],
        ),
        ('dir = "bus"', 'dir = "other"', ["bus.dir: .*bus -> .*other: .*stop all nodes"]),
        (
            "ops = { port = 8312 }",
            'ops = { port = 8312 }\nbus = { dir = "own" }',
            [r"region.west.bus.dir: \(default\) -> .*own: refused"],
        ),
    ],
)
def test_what_is_refused_live(old: str, new: str, told: list[str], tmp_path: Path) -> None:
    found = change(tmp_path, old, new)
    assert found.live == []
    assert len(found.refused) == len(told)
    for text, words in zip(found.refused, told, strict=True):
        assert re.match(words, text), text
        assert "remedy" in text


OWN = "accounts = { tail = { user = 'own', password_env = 'OWN' } }"


@pytest.mark.parametrize(
    "old,new,parts",
    [
        # What is read where it is used.
        ('"a.b"', '"a.c"', []),
        (FIRST, f"[limits]\nheartbeat_seconds = 3\nbatch_rows = 7\n{FIRST}", []),
        (FIRST, f"[[policy]]\ntables=['a.b']\nkind='lww'\n{FIRST}", []),
        # What other nodes use.
        ("3306", "3307", []),
        ("{ port = 8312 }", "{ port = 8313 }", []),
        ("port = 3306 }", f"port = 3306 }}\n{OWN}", []),
        ('user = "d"', 'user = "e"', []),
        # What the node of east is built of.
        ("3311", "3312", ["region.east.mysql"]),
        ("port = 3311 }", "port = 3311, tls = {} }", ["region.east.mysql"]),
        ("port = 3311 }", "port = 3311 }\nops = { port = 1 }", ["region.east.ops"]),
        ('user = "t"', 'user = "u"', ["accounts.tail"]),
        ("3311 }", f"3311 }}\n{OWN}", ["accounts.tail"]),
        ('password_env = "A"', 'password_env = "B"', ["accounts.apply"]),
        ('dir = "bus"', 'dir = "bus"\nmin_age_seconds = 1', ["bus"]),
        (FIRST, f'[tracing]\nendpoint = "http://t:4318"\n{FIRST}', ["tracing"]),
    ],
)
def test_what_a_node_is_built_anew_for(
    old: str, new: str, parts: list[str], tmp_path: Path
) -> None:
    assert TEXT.count(old) == 1
    before = read(tmp_path)
    after = read(tmp_path, TEXT.replace(old, new))
    assert rebuilt(before, after, "east") == parts
    assert changes(before, after).refused == []
    assert rebuilt(before, before, "east") == []


def test_other_brokers_are_followed_and_named(tmp_path: Path) -> None:
    """They may be other doors to the same Kafka; whether they are is seen there, not here."""
    kafka = TEXT.replace('kind = "file"\ndir = "bus"', 'kind = "kafka"\n[bus.kafka]\n{}')
    one = read(tmp_path, kafka.replace("{}", 'bootstrap = ["a:1"]', 1))
    two = read(tmp_path, kafka.replace("{}", 'bootstrap = ["b:1"]', 1))
    own = kafka.replace("{}", 'bootstrap = ["a:1"]', 1)
    own = read(tmp_path, own.replace("{ port = 8312 }", "{ port = 8312 }\nbus.bootstrap = ['c:1']"))
    found = changes(one, two)
    assert (found.live, found.refused) == (["bus.kafka.bootstrap: ['a:1'] -> ['b:1']"], [])
    assert kafka_moved(one, two) == ["east", "west"]
    assert kafka_moved(one, own) == ["west"]
    assert kafka_moved(one, one) == []
    assert rebuilt(one, two, "east") == ["bus"]
    # The node of east reads what west publishes.
    assert rebuilt(one, own, "east") == ["region.west.bus"]


def test_both_lists_are_filled(tmp_path: Path) -> None:
    text = TEXT.replace("3311", "3312").replace('"two"', '"too"')
    found = changes(read(tmp_path), read(tmp_path, text))
    assert (len(found.live), len(found.refused)) == (1, 1)


def test_order_and_spelling_are_no_change(tmp_path: Path) -> None:
    regions = TEXT.index("[[region]]")
    second = TEXT.rindex("[[region]]")
    text = TEXT[:regions] + TEXT[second:] + TEXT[regions:second] + "# the end\n"
    text = text.replace('"shop.*", "a.b"', '"a.b", "shop.*"').replace(", port = 3306", "")
    assert changes(read(tmp_path), read(tmp_path, text)) == Changes([], [])


def test_a_topology_in_words(tmp_path: Path) -> None:
    text = TEXT.replace('host = "127.0.0.1", port = 3311', 'host = "db.east"')
    text = text.replace("ops = { port = 8312 }", 'ops = { port = 8312, host = "0.0.0.0" }')
    text = text.replace('"a.b"]', '"a.b"]\nexclude = ["shop.tmp*"]')
    mesh = read(tmp_path, text)
    told = describe(mesh)
    for words in (
        f"mesh two: 2 regions, digest {mesh.digest}",
        "shop.*, a.b",
        "excluded    shop.tmp*",
        "lww",
        str(tmp_path / "bus"),
        "batch 4000 rows",
        "east  mysql db.east:3306  ops none",
        "note: rows travel to db.east:3306 without TLS",
        "note: the ops port 0.0.0.0:8312 can be reached from other machines",
        "apply a, password from environment variable A",
        f"admin d, password from file {tmp_path / 'd.secret'}",
    ):
        assert words in told
    assert describe(read(tmp_path)).count("note:") == 0
