"""The command line: usage, exit codes, and errors with their remedies."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode import cli
from meshnode.commands import logs, node
from meshnode.commands.install import fixed_schemas
from meshnode.errors import Halt, Refused

TOPOLOGY = """
mesh = "pair"
[replicate]
tables = ["app.*"]
[bus]
kind = "file"
dir = "bus"
[accounts]
tail = { user = "t", password_env = "CLI_TEST_UNSET" }
apply = { user = "a", password_env = "CLI_TEST_UNSET" }
admin = { user = "x", password_env = "CLI_TEST_UNSET" }
[[region]]
id = 1
name = "east"
mysql = { host = "127.0.0.1", port = 1 }
[[region]]
id = 2
name = "west"
mysql = { host = "127.0.0.1", port = 2 }
"""

WATCH = [sys.executable, "-m", "meshnode.cli", "status", "--watch", "--json", "--topology"]

COMMANDS = [
    ["run"],
    ["topology", "check"],
    ["init"],
    ["doctor"],
    ["status"],
    ["verify"],
    ["conflicts", "list"],
    ["conflicts", "show"],
    ["dead-letters", "list"],
    ["dead-letters", "show"],
    ["dead-letters", "replay"],
    ["skip"],
    ["pause"],
    ["resume"],
    ["lab"],
]


@pytest.fixture(autouse=True)
def no_default_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHNODE_TOPOLOGY", raising=False)


@pytest.fixture
def topology(tmp_path: Path) -> str:
    file = tmp_path / "mesh.toml"
    file.write_text(TOPOLOGY)
    return str(file)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    if command != ["lab"]:
        assert re.search(rf"(?m)^  .*meshnode {' '.join(command)}", shown), "an example"
        assert "exit codes:" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bogus"],
        ["status"],  # no topology
        ["run", "--topology", "x"],  # no region
        ["init", "--topology", "x"],  # neither --region nor --all
        ["init", "--topology", "x", "--all", "--region", "east"],
        ["verify", "--topology", "x", "--settle", "-1"],
        ["verify", "--topology", "x", "--settle", "nan"],
        ["topology"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_topology_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, topology: str
) -> None:
    monkeypatch.setenv("MESHNODE_TOPOLOGY", topology)
    assert cli.build_parser(lab=False).parse_args(["status"]).topology == topology


def test_a_right_topology_is_described(topology: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["topology", "check", topology]) == 0
    assert "mesh pair: 2 regions" in capsys.readouterr().out
    assert cli.main(["topology", "check", "--json", topology]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"]
    assert [region["name"] for region in told["regions"]] == ["east", "west"]


def test_a_wrong_topology_is_1_with_key_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(TOPOLOGY.replace("port = 2", "port = 99999"))
    assert cli.main(["topology", "check", str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"meshnode: topology file {file}: 1 problem")
    assert 'region[1].mysql.port = 99999: (region "west")' in error
    assert "remedy:" in error
    assert cli.main(["topology", "check", "--json", str(file)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert told["problems"][0]["key"] == "region[1].mysql.port"


def test_status_of_unreachable_regions_is_1_and_no_crash(
    topology: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshnode.ops.status.RATE_SECONDS", 0)
    monkeypatch.setenv("CLI_TEST_UNSET", "set")
    assert cli.main(["status", "--json", "--topology", topology]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["converged"]
    assert [problem["region"] for problem in told["problems"]] == ["east", "west"]
    assert cli.main(["status", "--topology", topology]) == 1
    assert "not converged" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["verify"],
        ["conflicts", "list"],
        ["dead-letters", "list"],
        ["dead-letters", "replay", "--all", "--region", "east"],
        ["skip", "--region", "east", "--tx", "3e11fa47-71ca-11e1-9e33-c80aa9429562:23"],
        ["init", "--all"],
    ],
    ids=" ".join,
)
def test_a_missing_secret_is_1_with_its_remedy(
    topology: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--topology", topology]) == 1
    error = capsys.readouterr().err
    assert error.startswith("meshnode: ")
    assert "CLI_TEST_UNSET is not set\n  remedy: export CLI_TEST_UNSET" in error


@pytest.mark.parametrize(
    "command",
    [["dead-letters", "replay"], ["dead-letters", "replay", "3", "--all"]],
    ids=" ".join,
)
def test_replay_wants_one_letter_or_all(
    topology: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--region", "east", "--topology", topology]) == 1
    assert "name one letter, or --all" in capsys.readouterr().err


def test_an_unknown_region_is_named(topology: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["conflicts", "list", "--region", "nowhere", "--topology", topology]) == 1
    error = capsys.readouterr().err
    assert "no region 'nowhere'" in error
    assert "east, west" in error


def test_a_malformed_gtid_is_refused(
    topology: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLI_TEST_UNSET", "set")
    arguments = ["skip", "--region", "east", "--topology", topology, "--tx", "23"]
    assert cli.main(arguments) == 1
    assert "'23' is not the GTID of one transaction" in capsys.readouterr().err


def test_the_accounts_are_printed_without_any_server(
    topology: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", "--all", "--print-grants", "--topology", topology]) == 0
    shown = capsys.readouterr().out
    assert "region east" in shown
    assert "region west" in shown
    assert "GRANT SELECT ON `app`.* TO 't'@'%'" in shown


@pytest.mark.parametrize(
    ("patterns", "schemas"),
    [
        (("b.x", "a.*", "a.y"), ["a", "b"]),
        (("`we``ird.*`.t",), ["we`ird.*"]),
        (("shop?.t",), None),
        (("*.t",), None),
    ],
)
def test_schemas_that_a_pattern_names(patterns: tuple, schemas: list[str] | None) -> None:
    assert fixed_schemas(patterns) == schemas


def test_doctor_lists_its_checks_without_any_server(
    topology: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--list", "--topology", topology]) == 0
    assert "binlog-format" in capsys.readouterr().out


def _run_with(monkeypatch: pytest.MonkeyPatch, outcome: object) -> None:
    async def run_node(path: str, region: str) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        return int(outcome)

    monkeypatch.setattr("meshnode.node.run_node", run_node)
    monkeypatch.setattr(node.logs, "start", lambda region, level: None)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(0, 0), (1, 1), (Refused("no", "yes"), 1), (Halt("gap"), 1), (KeyboardInterrupt(), 130)],
)
def test_run_ends_with_the_code_of_the_node(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    topology: str,
    outcome: object,
    code: int,
) -> None:
    _run_with(monkeypatch, outcome)
    assert cli.main(["run", "--region", "east", "--topology", topology]) == code
    if isinstance(outcome, Refused):
        assert capsys.readouterr().err == "meshnode: no\n  remedy: yes\n"


def test_ctrl_c_is_130_without_a_traceback(topology: str) -> None:
    process = subprocess.Popen(
        [*WATCH, topology],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "CLI_TEST_UNSET": "set"},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert json.loads(first)["converged"] is False
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in error


def test_a_reader_that_goes_away_is_no_crash(topology: str) -> None:
    process = subprocess.Popen(
        [*WATCH, topology],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "CLI_TEST_UNSET": "set"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_log_record_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    formatter = logs.LineFormatter("east")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord(
            "meshnode", logging.ERROR, __file__, 1, 'a "quoted" %s', ("word",), sys.exc_info()
        )
    record.created = 1_800_000_000.25
    line = formatter.format(record)
    assert "\n" not in line
    assert line.startswith(
        "2027-01-15T08:00:00.250000Z level=error region=east logger=meshnode"
        ' message="a \\"quoted\\" word\\nTraceback'
    )
