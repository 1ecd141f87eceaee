"""The lab as its users have it: the command line, real servers, real nodes."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshnode.lab.cluster import Cluster

MESHNODE = (sys.executable, "-m", "meshnode.cli")

pytestmark = pytest.mark.timeout(600)


class Lab:
    """Runs ``meshnode lab`` with one folder and one cache pointer of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = meshnode("lab", *arguments, "--dir", str(self.directory))
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.directory)

    def pids(self) -> dict[str, int | None]:
        return {
            f"{name} {kind}": process.pid
            for name in self.cluster.names
            for kind, process in (
                ("node", self.cluster.node(name)),
                ("mysql", self.cluster.server(name)),
            )
        }

    def execute(self, region: str, *statements: str) -> list[Any]:
        """Run statements in a region as its administrator; the rows of the last one."""
        connection = self.cluster.server(region).connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()


def meshnode(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MESHNODE, *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, mysqld) -> Iterator[Lab]:
    """Two regions, shared by the tests of this module; each leaves it at rest and whole."""
    lab = Lab(tmp_path_factory.mktemp("lab") / "l")
    described = json.loads(lab("up", "--regions", "2", "--detach", "--json").stdout)
    assert described["dir"] == str(lab.directory)
    lab.described = described
    yield lab
    pids = [pid for pid in lab.pids().values() if pid]
    lab("down")
    assert not lab.directory.exists()
    assert not [pid for pid in pids if alive(pid)]


def test_up_describes_what_runs_where(lab: Lab):
    described = lab.described
    assert [(region["id"], region["name"]) for region in described["regions"]] == [
        (1, "virginia"),
        (2, "oregon"),
    ]
    for region in described["regions"]:
        assert alive(region["node_pid"])
        assert alive(region["mysql_pid"])
        assert Path(region["mysql"]["socket"]).is_socket()
        assert lab.execute(region["name"], "SHOW GRANTS")[0][0].startswith("GRANT SELECT, INSERT")
    checked = meshnode("topology", "check", described["topology"])
    assert checked.returncode == 0, checked.stderr
    for secret in (lab.directory / "secrets").iterdir():
        assert secret.stat().st_mode & 0o777 == 0o600
    for name, ops in described["ops"].items():
        with urllib.request.urlopen(f"{ops['url']}/livez", timeout=20) as answer:
            assert answer.read().decode() == f"meshnode lab-2 {name} lives\n"
        pause = urllib.request.Request(f"{ops['url']}/peers/nobody/pause", method="POST")
        pause.add_header("Authorization", f"Bearer {Path(ops['token_file']).read_text().strip()}")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(pause, timeout=20)


def test_load_converges_and_both_judges_agree(lab: Lab):
    counts = json.loads(lab("load", "--seconds", "4", "--rate", "40", "--json").stdout)
    assert counts["rows"] > 50
    lab("wait", "--timeout", "120")
    checked = json.loads(lab("check", "--json").stdout)
    assert checked["good"]
    assert checked["lost_writes"] > 0
    assert checked["recorded"] == checked["lost_writes"]
    verified = meshnode("verify", "--topology", lab.described["topology"])
    assert verified.returncode == 0, verified.stdout


def test_sysbench_runs_on_the_same_keys_everywhere(lab: Lab):
    told = json.loads(
        lab(
            "load", "--sysbench", "--tables", "2", "--rows", "400", "--seconds", "4", "--json"
        ).stdout
    )
    assert all(region["writes"] > 0 for region in told["regions"].values())
    lab("wait", "--timeout", "120")
    lab("check")
    rows = [
        lab.execute(name, "SELECT COUNT(*) FROM sbtest.sbtest2") for name in ("virginia", "oregon")
    ]
    assert rows[0] == rows[1]


def test_a_cut_shows_who_waits_for_whom_and_heals(lab: Lab):
    lab("cut", "virginia", "2", "--one-way")
    lab.execute("virginia", "REPLACE INTO lab.tags (tag, hits) VALUES ('cut', 1)")
    lab.execute("oregon", "REPLACE INTO lab.tags (tag, hits) VALUES ('other way', 1)")
    waited = lab("wait", "--timeout", "4", code=1)
    assert "oregon waits for virginia's beat" in waited.stdout
    assert "virginia waits for" not in waited.stdout
    assert not lab.execute("oregon", "SELECT hits FROM lab.tags WHERE tag = 'cut'")
    assert lab.execute("virginia", "SELECT hits FROM lab.tags WHERE tag = 'other way'")
    lab("heal", "virginia", "oregon")
    lab("wait", "--timeout", "120")
    assert lab.execute("oregon", "SELECT hits FROM lab.tags WHERE tag = 'cut'") == [(1,)]


def test_a_killed_node_and_a_killed_server_come_back(lab: Lab):
    lab("kill-node", "oregon")
    lab.execute("oregon", "REPLACE INTO lab.tags (tag, hits) VALUES ('node away', 7)")
    waited = lab("wait", "--timeout", "3", code=1)
    assert "oregon has written no heartbeat since the call" in waited.stdout
    lab("start-node", "oregon")
    lab("kill-mysql", "virginia")
    assert lab.pids()["virginia mysql"] is None
    waited = lab("wait", "--timeout", "3", code=1)
    assert "virginia cannot be asked" in waited.stdout
    lab("start-mysql", "virginia")
    lab("wait", "--timeout", "120")
    assert lab.execute("virginia", "SELECT hits FROM lab.tags WHERE tag = 'node away'") == [(7,)]
    assert json.loads(lab("check", "--json").stdout)["good"]


def test_a_stopped_node_drains_and_starts_again(lab: Lab):
    before = lab.pids()["virginia node"]
    lab("stop-node", "1")
    assert before is not None
    assert not alive(before)
    assert "ended" in lab.cluster.node("virginia").log_tail(1)
    lab("start-node", "1")
    lab("wait", "--timeout", "120")
    assert lab.pids()["virginia node"] not in (None, before)


def test_the_checker_finds_a_row_that_is_not_the_winner(lab: Lab):
    lab.execute("virginia", "REPLACE INTO lab.tags (tag, hits) VALUES ('planted', 1)")
    lab("wait", "--timeout", "120")
    stamp = lab.execute("oregon", "SELECT _mesh_ts FROM lab.tags WHERE tag = 'planted'")[0][0]
    lab.execute(
        "oregon", "SET sql_log_bin = 0", "UPDATE lab.tags SET hits = 2 WHERE tag = 'planted'"
    )
    found = json.loads(lab("check", "--json", code=1).stdout)
    assert [text for text in found["findings"] if "oregon: lab.tags (planted): has" in text]
    # An update in virginia writes over both, whatever oregon has.
    lab.execute("virginia", "UPDATE lab.tags SET hits = 3 WHERE tag = 'planted'")
    lab("wait", "--timeout", "120")
    lab("check")
    assert (
        stamp < lab.execute("oregon", "SELECT _mesh_ts FROM lab.tags WHERE tag = 'planted'")[0][0]
    )


def test_the_checker_finds_a_missing_row_and_a_lost_record(lab: Lab):
    lab("cut", "virginia", "oregon")
    lab.execute("virginia", "REPLACE INTO lab.tags (tag, hits) VALUES ('twice', 1)")
    lab.execute("oregon", "REPLACE INTO lab.tags (tag, hits) VALUES ('TWICE', 2)")
    lab("heal")
    lab("wait", "--timeout", "120")
    lab("check")
    loser = "SELECT id FROM meshnode.conflict_log WHERE LOWER(row_key->>'$.tag') = 'twice'"
    kept = {}
    for region in ("virginia", "oregon"):
        kept[region] = [row[0] for row in lab.execute(region, loser)]
        for number in kept[region]:
            lab.execute(region, f"DELETE FROM meshnode.conflict_log WHERE id = {number}")
    assert any(kept.values())
    found = json.loads(lab("check", "--json", code=1).stdout)
    assert [text for text in found["findings"] if "is in no conflict_log" in text]
    lab.execute("oregon", "SET sql_log_bin = 0", "DELETE FROM lab.tags WHERE tag = 'twice'")
    found = json.loads(lab("check", "--json", code=1).stdout)
    assert [text for text in found["findings"] if "oregon" in text and "is missing" in text]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cut", "virginia", "atlantis"), "no region 'atlantis'"),
        (("cut", "virginia", "virginia"), "no link to itself"),
        (("heal", "virginia"), "takes no region or two"),
        (("kill-node", "7"), "no region '7'"),
        (("up", "--regions", "3"), "holds a lab already"),
        (("kill-broker",), "has no Kafka"),
    ],
)
def test_wrong_input_is_named(lab: Lab, arguments: tuple[str, ...], said: str):
    done = meshnode("lab", *arguments, "--dir", str(lab.directory))
    assert done.returncode == 1
    assert said in done.stderr
    assert "remedy:" in done.stderr


def up_until_it_is_ended(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """The process of a ``lab up`` that stays, and those of its nodes and servers."""
    process = subprocess.Popen(
        [*MESHNODE, "lab", "up", "--regions", "2", "--json", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        text += line
    regions = json.loads(text)["regions"]
    return process, [region[kind] for region in regions for kind in ("node_pid", "mysql_pid")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lab_that_is_not_detached_ends_with_its_command(tmp_path: Path, number: signal.Signals):
    process, pids = up_until_it_is_ended(tmp_path / "l")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    assert not [pid for pid in pids if alive(pid)] or number == signal.SIGKILL
    assert (tmp_path / "l").exists() == (number == signal.SIGKILL)
    if number == signal.SIGKILL:
        # The kernel ends them with their parent; the folder is cleared by hand.
        assert meshnode("lab", "down", "--dir", str(tmp_path / "l")).returncode == 0
        assert not [pid for pid in pids if alive(pid)]


def test_a_command_that_shows_a_lab_ends_when_another_takes_it_down(tmp_path: Path):
    process, _ = up_until_it_is_ended(tmp_path / "l")
    assert meshnode("lab", "down", "--dir", str(tmp_path / "l")).returncode == 0
    assert "the lab has been taken down" in process.communicate(timeout=60)[1]
    assert process.returncode == 0


def test_the_demo_converges(tmp_path: Path):
    done = meshnode(
        "lab", "demo", "--regions", "2", "--seconds", "5", "--json", "--dir", str(tmp_path / "l")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["converged"] is True
    assert summary["rows_written"] > 100
    assert summary["conflicts"]["total"] > 0
    assert summary["checker"]["recorded"] == summary["checker"]["lost_writes"] > 0
    assert summary["lag_ms"]["p50"] is not None
    assert not (tmp_path / "l").exists()
