"""The command line of the lab."""

import argparse
from pathlib import Path

import pytest

from meshnode.lab import command_line


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser()
    command_line.add_parser(parser.add_subparsers(required=True))
    return lambda *arguments: parser.parse_args(["lab", *arguments])


def test_up_has_its_defaults(parse):
    args = parse("up")
    # None: as many as a lab that is there has, else eight.
    assert (args.regions, args.dir, args.replicate, args.bus) == (None, None, [], None)
    assert not (args.detach or args.json or args.wan)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("up", "--regions", "12"), "a lab has 2 to 9 regions"),
        (("up", "--regions", "nine"), "a lab has 2 to 9 regions"),
        (("up", "--replicate", "shop"), "not of the form schema.table"),
        (("load", "--rate", "-3"), "not a number from 0 on"),
        (("wait", "--timeout", "nan"), "not a number from 0 on"),
        (("load", "--seconds", "abc"), "'abc' is not a number from 0 on"),
        (("load", "--threads", "two"), "'two' is not a whole number from 1 on"),
        (("load", "--sec", "3"), "unrecognized arguments: --sec"),
        (("up", "--bus", "nats"), "invalid choice"),
    ],
)
def test_wrong_values_are_named(parse, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_replicate_takes_several_and_may_be_repeated(parse):
    args = parse("up", "--replicate", "a.*", "b.*", "--replicate", "c.t", "--detach")
    assert args.replicate == ["a.*", "b.*", "c.t"]


@pytest.mark.parametrize(
    "name", ["status", "load", "wait", "check", "heal", "stop-node", "kill-mysql", "down"]
)
def test_every_command_takes_the_folder(parse, name: str):
    more = ["tokyo"] if name in ("stop-node", "kill-mysql") else []
    assert parse(name, *more, "--dir", "x").dir == Path("x")


@pytest.mark.parametrize("arguments", [["load", "--threads", "0"], ["cut", "a"], [], ["nothing"]])
def test_wrong_usage_ends_with_2(parse, arguments: list[str]):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    assert ended.value.code == 2
