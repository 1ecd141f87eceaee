"""Wrong values, options that exclude each other, and what the help promises."""

import json
from pathlib import Path

import pytest

from meshnode import cli
from meshnode.lab import command_line

TOPOLOGY = str(Path(__file__).parents[2] / "topology" / "two-regions.toml")

LAB = [
    "up", "status", "load", "wait", "check", "cut", "heal", "stop-node", "start-node", "kill-node",
    "kill-mysql", "start-mysql", "kill-broker", "start-broker", "pause-broker", "resume-broker",
    "down", "demo",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_default_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHNODE_TOPOLOGY", raising=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "--settle", "abc"], "argument --settle: 'abc' is not a number from 0 on"),
        (["verify", "--settle", "nan"], "argument --settle: 'nan' is not a number from 0 on"),
        (["verify", "--limit", "-1"], "argument --limit: '-1' is not a whole number from 0 on"),
        (["conflicts", "list", "--limit", "-1"], "'-1' is not a whole number from 1 on"),
        (["conflicts", "list", "--limit", "0"], "'0' is not a whole number from 1 on"),
        (["dead-letters", "list", "--limit", "-5"], "'-5' is not a whole number from 1 on"),
        (["dead-letters", "replay", "x"], "argument ID: 'x' is not a whole number from 1 on"),
        (["dead-letters", "replay", "--wait", "inf"], "'inf' is not a number from 0 on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_value_is_named_with_what_it_should_be(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--topology", TOPOLOGY])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [["--json"], ["--uninstall"], ["--dry-run"], ["--seed-from", "east"], ["--retire"]],
    ids=" ".join,
)
def test_print_grants_goes_with_nothing_that_it_would_ignore(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", "--all", "--print-grants", *option, "--topology", TOPOLOGY]) == 1
    shown = capsys.readouterr()
    assert option[0] in shown.err and not shown.out


def test_the_checks_are_listed_without_a_topology(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--list"]) == 0
    assert "binlog-format" in capsys.readouterr().out
    assert cli.main(["doctor", "--json", "--list"]) == 0
    assert "binlog-format" in json.loads(capsys.readouterr().out)
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor"])
    assert ended.value.code == 2
    assert "--topology" in capsys.readouterr().err


@pytest.mark.parametrize("name", LAB)
def test_every_command_of_the_lab_teaches(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["lab", name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"\n  meshnode lab {name}" in shown, "an example"
    assert "exit codes:" in shown


def test_every_command_of_the_lab_is_known_here() -> None:
    parser = cli.build_parser()
    (commands,) = (each for each in parser._actions if each.dest == "command")
    lab = commands.choices["lab"]
    assert lab.description == command_line._DESCRIPTION
    (actions,) = (each for each in lab._actions if each.dest == "lab_command")
    assert set(actions.choices) == set(LAB)
    for name, one in actions.choices.items():
        for action in one._actions:
            assert action.help, f"{name} {action.dest} has no word of help"
