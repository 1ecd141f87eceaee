"""What all commands share: options and their values, help that keeps its lines, JSON on stdout."""

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from rich.console import Console

from meshnode import topology
from meshnode.errors import MeshError
from meshnode.topology import Topology

TOPOLOGY_VARIABLE = "MESHNODE_TOPOLOGY"

PLAIN_WIDTH = 160
"""Columns of a table that does not go to a terminal."""

Handler = Callable[[argparse.Namespace], Awaitable[int]]
"""Runs a command and returns its exit code."""


def add_command(
    subparsers: Any,
    name: str,
    handler: Handler | None,
    summary: str,
    description: str,
    *,
    topology_option: bool = True,
) -> argparse.ArgumentParser:
    """Add a command; ``description`` is shown as it is, below the one line of ``summary``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n" + description.strip("\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if handler is not None:
        parser.set_defaults(handler=handler)
    if topology_option:
        add_topology(parser)
    return parser


def add_topology(parser: argparse.ArgumentParser) -> argparse.Action:
    """``--topology FILE``, by default from the environment."""
    default = os.environ.get(TOPOLOGY_VARIABLE)
    return parser.add_argument(
        "--topology",
        metavar="FILE",
        default=default,
        required=not default,
        help=f"the topology file of the mesh (default: environment variable {TOPOLOGY_VARIABLE})",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def amount(text: str) -> float:
    """A number from 0 on: the ``type`` of an option."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return number


def whole(least: int) -> Callable[[str], int]:
    """Whole numbers from ``least`` on: the ``type`` of an option."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return number


def load(args: argparse.Namespace) -> Topology:
    """The topology that the command was given; TopologyError where it is wrong."""
    return topology.load(args.topology)


def print_json(value: object) -> None:
    """One JSON document and a newline on stdout."""
    text = orjson.dumps(
        value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    ).decode()
    print(text, flush=True)


def say(text: str) -> None:
    """A line for people on stderr, so that stdout stays clean for what was asked for."""
    print(text, file=sys.stderr, flush=True)


def away_json(away: Mapping[str, MeshError]) -> dict[str, dict[str, str]]:
    """The regions that could not be asked, with error and remedy."""
    return {name: {"error": each.what, "remedy": each.remedy} for name, each in away.items()}


def tell_away(away: Mapping[str, MeshError]) -> int:
    """Name the regions that could not be asked, on stderr; the exit code: 1 if there are any."""
    for region, error in away.items():
        say(f"meshnode: {region} cannot be asked: {error.what}")
        if error.remedy:
            say(f"  remedy: {error.remedy}")
    return 1 if away else 0


def console() -> Console:
    """Where tables go: as wide as the terminal, or wide enough for a file."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
