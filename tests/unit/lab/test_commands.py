"""The command line of the lab."""

import argparse
from pathlib import Path

import pytest

from meshnode.lab import commands


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser()
    commands.add_parser(parser.add_subparsers(required=True))
    return lambda *arguments: parser.parse_args(["lab", *arguments])


def test_up_has_its_defaults(parse):
    args = parse("up")
    assert (args.regions, args.dir, args.replicate) == (8, None, [])
    assert not (args.detach or args.json or args.wan)


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
