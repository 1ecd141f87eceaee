"""The topology file: what is read, what is refused with which words, and what never leaks."""

import re
from pathlib import Path

import msgspec
import pytest

from meshnode import limits, topology
from meshnode.errors import Refused
from meshnode.topology import Topology, TopologyError, load, render

SHIPPED = Path(__file__).parents[2] / "topology"

TWO = """
mesh = "two"
[replicate]
tables = ["shop.*"]
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
mysql = { host = "127.0.0.1", port = 3312 }
"""


def read(folder: Path, text: str) -> Topology:
    file = folder / "mesh.toml"
    file.write_text(text, encoding="utf-8")
    return load(file)


def refused(folder: Path, text: str) -> dict[str, str]:
    """Load ``text``, which must fail; return {key: problem text}."""
    with pytest.raises(TopologyError) as caught:
        read(folder, text)
    problems = caught.value.problems
    assert caught.value.file == str(folder / "mesh.toml")
    for problem in problems:
        assert problem.remedy
        assert str(problem) in str(caught.value)
        assert "\n" not in str(problem)
    assert str(folder / "mesh.toml") in str(caught.value)
    assert len({problem.key + problem.what for problem in problems}) == len(problems)
    return {problem.key: str(problem) for problem in problems}


def test_a_small_file_gets_all_defaults(tmp_path: Path) -> None:
    two = read(tmp_path, TWO)
    assert two.limits.batch_rows == limits.BATCH_ROWS
    assert two.limits.heartbeat_seconds == limits.HEARTBEAT_SECONDS
    assert two.bus.dir == str(tmp_path / "bus")
    assert two.bus_dir("east") == tmp_path / "bus"
    assert two.accounts.admin is not None
    assert two.accounts.admin.password_file == str(tmp_path / "d.secret")
    assert two.region("west").id == 2
    assert [peer.name for peer in two.peers("west")] == ["east"]
    assert two.policy("shop", "orders") == "lww"


def test_every_limit_is_the_default_of_limits() -> None:
    names = {field.name: field.default for field in msgspec.structs.fields(topology.Limits)}
    assert {name: getattr(limits, name.upper()) for name in names} == names


def test_an_unknown_region_is_refused_with_those_there_are(tmp_path: Path) -> None:
    two = read(tmp_path, TWO)
    with pytest.raises(Refused, match=r"no region 'north'.*east, west"):
        two.region("north")
    with pytest.raises(Refused):
        two.peers("north")


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.glob("*.toml")))
def test_shipped_files_load_and_render(name: str, tmp_path: Path) -> None:
    shipped = load(SHIPPED / name)
    assert read(tmp_path, render(shipped)) == shipped


def test_the_lab_has_eight_regions() -> None:
    lab = load(SHIPPED / "lab-8.toml")
    assert [region.id for region in lab.regions] == list(range(1, 9))
    assert lab.matches("lab", "orders")
    assert not lab.matches("shop", "orders")


POLICY = '[[policy]]\ntables = ["a.b"]\n%s\n[[region]]\nid = 1'

CASES = {
    "unknown key": ('mesh = "two"', 'mesh = "two"\nmsh = 1', "msh", "did you mean 'mesh'"),
    "unknown deep key": ("port = 3312", "prot = 3312", "region[1].mysql.prot", "mean 'port'"),
    "port": ("port = 3312", "port = 99999", "region[1].mysql.port", "99999.*west.*1 to 65535"),
    "port as text": ("port = 3312", 'port = "3312"', "region[1].mysql.port", '"3312".*1 to 65535'),
    "port as boolean": ("port = 3312", "port = true", "region[1].mysql.port", "true"),
    "id 0": ("id = 2", "id = 0", "region[1].id", "0: .*1 to 255"),
    "id 256": ("id = 2", "id = 256", "region[1].id", "256: .*1 to 255"),
    "huge id": ("id = 2", f"id = {10**70}", "region[1].id", "a huge number"),
    "no id": ("id = 2\n", "", "region[1].id", "is missing.*1 to 255"),
    "same id": ("id = 2", "id = 1", "region[1].id", r"same as region\[0\].id"),
    "same name": ('name = "west"', 'name = "east"', "region[1].name", r"same as region\[0\].name"),
    "name in capitals": ('name = "west"', 'name = "West"', "region[1].name", '"West".*a-z'),
    "name with line end": ('name = "west"', 'name = "west\\n"', "region[1].name", "a-z"),
    "same server": ("port = 3312", "port = 3311", "region[1].mysql", "127.0.0.1:3311.*same as"),
    "same server, other spelling": (
        'host = "127.0.0.1", port = 3312',
        'host = "LocalHost", port = 3311',
        "region[1].mysql",
        "LocalHost:3311.*same as",
    ),
    "port in the host": (
        'host = "127.0.0.1", port = 3312',
        'host = "db:3306"',
        "region[1].mysql.host",
        '"db:3306".*under the key port',
    ),
    "socket and host": (
        "port = 3312",
        'socket = "/run/m.sock"',
        "region[1].mysql",
        "both a host and a socket",
    ),
    "no server": ('host = "127.0.0.1", port = 3312', "", "region[1].mysql", "names no server"),
    "relative socket": (
        'host = "127.0.0.1", port = 3312',
        'socket = "m.sock"',
        "region[1].mysql.socket",
        "absolute",
    ),
    "long socket": (
        'host = "127.0.0.1", port = 3312',
        f'socket = "/{"x" * 107}"',
        "region[1].mysql.socket",
        "107",
    ),
    "tls on a socket": (
        'host = "127.0.0.1", port = 3312',
        'socket = "/m.sock", tls = {}',
        "region[1].mysql.tls",
        "has no TLS",
    ),
    "tls ca unused": (
        "port = 3312",
        'tls = { ca = "x", verify = "none" }',
        "region[1].mysql.tls.ca",
        "not looked at",
    ),
    "tls verify": (
        "port = 3312",
        'tls = { verify = "maybe" }',
        "region[1].mysql.tls.verify",
        '"none" or "ca" or "identity"',
    ),
    "other bus": ('kind = "file"', 'kind = "nats"', "bus.kind", '"nats".*"file" or "kafka"'),
    "no bus folder": ('dir = "bus"', "", "bus.dir", "is missing"),
    "small retention": (
        'dir = "bus"',
        'dir = "bus"\nmax_bytes = 134217727',
        "bus.max_bytes",
        "134217727.*two segments",
    ),
    "tables not an array": ('["shop.*"]', '"shop.*"', "replicate.tables", "an array"),
    "no tables": ('["shop.*"]', "[]", "replicate.tables", "names no table"),
    "no schema": ('["shop.*"]', '["shop"]', "replicate.tables[0]", '"shop".*schema.table'),
    "system schema": ('["shop.*"]', '["mysql.user"]', "replicate.tables[0]", "never replicated"),
    "bookkeeping": ('["shop.*"]', '["MeshNode.*"]', "replicate.tables[0]", "never replicated"),
    "pattern twice": ('["shop.*"]', '["a.b", "a.b"]', "replicate.tables[1]", "same as"),
    "no password source": (', password_env = "T"', "", "accounts.tail", "no source"),
    "two password sources": (
        'password_env = "T"',
        'password_env = "T", password_file = "f"',
        "accounts.tail",
        "two sources",
    ),
    "role missing": (
        'tail = { user = "t", password_env = "T" }',
        "",
        "accounts.tail",
        "missing for east, west",
    ),
    "one user for two roles": ('user = "a"', 'user = "t"', "accounts.apply.user", "user of tail"),
    "region-priority": (
        "[[region]]\nid = 1",
        POLICY % 'kind = "region-priority"\nbias_us = { west = 5 }',
        "policy[0].kind",
        "not implemented in this release.*lww",
    ),
    "bias of no region": (
        "[[region]]\nid = 1",
        POLICY % 'kind = "region-priority"\nbias_us = { "m s" = 5 }',
        'policy[0].bias_us."m s"',
        "is no region.*east, west",
    ),
    "bias with lww": (
        "[[region]]\nid = 1",
        POLICY % 'kind = "lww"\nbias_us = { west = 5 }',
        "policy[0].bias_us",
        "no meaning",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_is_named(case: str, tmp_path: Path) -> None:
    old, new, key, words = CASES[case]
    assert TWO.count(old) == 1
    problems = refused(tmp_path, TWO.replace(old, new))
    assert key in problems
    assert re.search(words, problems[key]), problems[key]


LIMITS = {
    "batch_rows": ("0", "100001", "1.5"),
    "batch_bytes": ("65535", "268435457"),
    "part_bytes": ("65535", "67108865"),
    "frame_target_bytes": ("4095", "16777217"),
    "heartbeat_seconds": ("0.09", "60.1", "nan", "inf", '"1"'),
    "keep_closed_days": ("0", "3651", "1979-05-27"),
}


@pytest.mark.parametrize("name,value", [(name, v) for name in LIMITS for v in LIMITS[name]])
def test_limits_have_ranges(name: str, value: str, tmp_path: Path) -> None:
    problem = refused(tmp_path, f"{TWO}\n[limits]\n{name} = {value}\n")[f"limits.{name}"]
    assert value in problem and " to " in problem


def test_every_limit_has_a_range_test() -> None:
    assert set(LIMITS) == {field.name for field in msgspec.structs.fields(topology.Limits)}


def test_limits_must_fit_into_each_other(tmp_path: Path) -> None:
    text = f"{TWO}\n[limits]\nframe_target_bytes = 2097152\nbatch_bytes = 65536\n"
    problems = refused(tmp_path, text)
    assert "above limits.part_bytes = 1048576" in problems["limits.frame_target_bytes"]
    assert "above limits.batch_bytes = 65536" in problems["limits.part_bytes"]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = TWO.replace("id = 2", "id = 1").replace("port = 3312", "port = 0")
    text = text.replace('"shop.*"', '3, "mysql.*", "a.b", "a.b"').replace('mesh = "two"', "x = 1")
    text += "[limits]\nbatch_rows = 0\n"
    assert set(refused(tmp_path, text)) == {
        "mesh",
        "x",
        "replicate.tables[0]",
        "replicate.tables[1]",
        "replicate.tables[3]",
        "region[1].id",
        "region[1].mysql.port",
        "limits.batch_rows",
    }


def head() -> str:
    return TWO[: TWO.index("[[region]]")]


@pytest.mark.parametrize("count,words", [(0, "no region"), (1, "one region"), (256, "at most 255")])
def test_the_number_of_regions(count: int, words: str, tmp_path: Path) -> None:
    text = head()
    for n in range(count):
        text += f'[[region]]\nid = {n + 1}\nname = "r{n}"\nmysql = {{ host = "h{n}" }}\n'
    assert words in refused(tmp_path, text)["region"]


def test_255_regions_are_a_mesh(tmp_path: Path) -> None:
    text = head()
    for n in range(1, 256):
        text += f'[[region]]\nid = {n}\nname = "r{n}"\nmysql = {{ host = "h{n}" }}\n'
    assert len(read(tmp_path, text).peers("r7")) == 254


def test_two_regions_never_share_a_socket_or_an_ops_address(tmp_path: Path) -> None:
    place = 'host = "127.0.0.1", port = 331%d }'
    text = TWO
    for n in (1, 2):
        own = f'socket = "/s" }}\nops = {{ host = "db{n}", port = 80 }}'
        text = text.replace(place % n, own)
    assert set(refused(tmp_path, text)) == {"region[1].mysql"}
    text = text.replace('"/s"', '"/t"', 1).replace('"db2"', '"DB1."')
    assert "DB1.:80" in refused(tmp_path, text)["region[1].ops"]


def test_an_ipv6_address_is_a_host(tmp_path: Path) -> None:
    two = read(tmp_path, TWO.replace('host = "127.0.0.1", port = 3312', 'host = "fe80::1"'))
    assert str(two.region("west").mysql) == "[fe80::1]:3306"


def test_accounts_of_a_region_replace_those_of_all(tmp_path: Path) -> None:
    own = 'accounts = { apply = { user = "own", password_env = "OWN" } }'
    two = read(tmp_path, f"{TWO}{own}\n")
    assert two.account_source("west", "apply").user == "own"
    assert two.account_source("west", "tail").user == "t"
    assert two.account_source("east", "apply").user == "a"
    clash = refused(tmp_path, f"{TWO}{own.replace('own', 'd')}\n")
    assert "user of apply too" in clash["region[1].accounts.admin.user"]


@pytest.mark.parametrize("key", ["password", "passwd", "secret", "token"])
def test_a_password_in_the_file_is_refused_and_not_shown(key: str, tmp_path: Path) -> None:
    text = TWO.replace('password_env = "T"', f'{key} = "hunter2"')
    problems = refused(tmp_path, text)
    assert set(problems) == {f"accounts.tail.{key}"}
    assert "password_env" in problems[f"accounts.tail.{key}"]
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize("key", ["password_env", "password_file"])
@pytest.mark.parametrize("value", ['"hunter2 %\\u0000"', '["hunter2"]', '{ x = "hunter2" }'])
def test_what_stands_under_a_password_key_is_not_shown(
    key: str, value: str, tmp_path: Path
) -> None:
    problems = refused(tmp_path, TWO.replace('password_env = "T"', f"{key} = {value}"))
    assert f"accounts.tail.{key}" in problems
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize("value", ['"t:hunter2"', '{ user = "t", pin = "hunter2" }'])
def test_a_password_in_an_account_of_another_form_is_not_shown(value: str, tmp_path: Path) -> None:
    problems = refused(tmp_path, TWO.replace('{ user = "t", password_env = "T" }', value))
    assert any(key.startswith("accounts.tail") for key in problems)
    assert "hunter2" not in str(problems)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"nowhere\.toml.*\n.*No such file"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(TopologyError, match="directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content,words",
    [
        (b'mesh = "two\nx = 1\n', "line 1"),
        (b'mesh = "a"\nmesh = "b"\nx = 1\n', "line 2"),
        (b'mesh = "\xff"', "byte 8 is not UTF-8"),
        (b"x = " + b"[" * 5000, "not TOML"),
        (b"x = " + b"9" * 5000, "not TOML"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_place(
    content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / "mesh.toml").write_bytes(content)
    with pytest.raises(TopologyError, match=words):
        load(tmp_path / "mesh.toml")


def test_an_empty_file_names_what_is_needed(tmp_path: Path) -> None:
    assert {"mesh", "replicate", "bus", "region"} <= set(refused(tmp_path, ""))


@pytest.mark.parametrize("key", ["mesh", "replicate", "bus", "region", "accounts", "limits"])
@pytest.mark.parametrize("value", ["3", '"x"', "[1]", "[[1]]", "{}", "[{}]", "1979-05-27"])
def test_any_shape_of_value_is_a_problem_or_read(key: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text(f"{key} = {value}\n")
    with pytest.raises(TopologyError) as caught:
        load(tmp_path / "mesh.toml")
    assert caught.value.problems
