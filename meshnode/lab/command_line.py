"""The words of ``meshnode lab``: its subcommands, their options, and what they say of themselves.

:mod:`meshnode.lab.commands` and :mod:`meshnode.lab.faults` do the work.
"""

import argparse
from pathlib import Path
from typing import Any

from meshnode import table_patterns
from meshnode.commands.arguments import Handler, add_command, add_json, amount, whole
from meshnode.lab import commands, faults, layout
from meshnode.lab.brokers import BUS_KINDS
from meshnode.lab.faults import DONE

_DESCRIPTION = """
A whole mesh on this machine: a MySQL server and a node for each region, with links that can be
cut. For trying things, demonstrations and tests; its durability is that of one machine.

  meshnode lab up                        start eight regions, show them until Ctrl-C
  meshnode lab load                      from another terminal: write everywhere
  meshnode lab cut tokyo sydney          cut two regions off from each other, and
  meshnode lab heal                      let them meet again
  meshnode lab wait                      until all is applied everywhere
  meshnode lab check                     compare every winner with every region
  meshnode lab down                      end it, delete its files

`meshnode lab demo` does all of it once. Every command but `up` and `demo` works on the lab that
was started last, or on that in --dir.
"""


def add_parser(subparsers: Any) -> None:
    """Add ``lab`` and its subcommands."""
    lab = subparsers.add_parser(
        "lab",
        help="a whole mesh on this machine, with its own MySQL servers",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = lab.add_subparsers(dest="lab_command", required=True, metavar="COMMAND")

    def add(name: str, handler: Handler, summary: str, description: str) -> argparse.ArgumentParser:
        parser = add_command(actions, name, handler, summary, description, topology_option=False)
        parser.add_argument(
            "--dir", type=Path, metavar="DIR", help="folder of the lab (default: the last one)"
        )
        return parser

    _add_up(actions)
    _add_watchers(add)
    _add_load(add)
    faults.add_parsers(add)
    down = add(
        "down",
        commands.down,
        "end all processes of the lab and delete its files",
        f"  meshnode lab down\n  meshnode lab down --keep\n\n{DONE}",
    )
    down.add_argument("--keep", action="store_true", help="leave the files, for another `lab up`")
    _add_demo(actions)


def _add_up(actions: Any) -> None:
    up = add_command(
        actions,
        "up",
        commands.up,
        "start servers and nodes, and show them until Ctrl-C",
        f"""
  meshnode lab up
  meshnode lab up --regions 3 --wan --bus kafka
  meshnode lab up --dir mine --detach --json      and go on with it by `lab up --dir mine`

{DONE}, 130 Ctrl-C, 129 or 143 ended by SIGHUP or SIGTERM""",
        topology_option=False,
    )
    _size(up)
    up.add_argument(
        "--replicate", nargs="+", action="extend", default=[], metavar="GLOB",
        type=_pattern, help="more tables to replicate than lab.* and sbtest.*, such as 'shop.*'",
    )  # fmt: skip
    up.add_argument("--detach", action="store_true", help="leave the lab running and return")
    up.add_argument("--json", action="store_true", help="print what runs where as one JSON object")


def _add_watchers(add: faults.AddCommand) -> None:
    status = add(
        "status",
        commands.status,
        "show lag, state and counters of all regions",
        """
As `meshnode status`, with the processes of the lab and the links that are cut.

  meshnode lab status

exit codes: 0 converged, 1 not converged""",
    )
    add_json(status)
    wait = add(
        "wait",
        commands.wait,
        "wait until every region has applied what any had committed",
        """
  meshnode lab wait --timeout 30

exit codes: 0 all is applied, 1 not all is after the time""",
    )
    wait.add_argument(
        "--timeout", type=amount, default=commands.WAIT_SECONDS, metavar="SECONDS",
        help="how long to wait (default: %(default)g)",
    )  # fmt: skip
    check = add(
        "check",
        commands.check,
        "read the topics and compare every winner with every region",
        """
Works out from the topics alone which version of each key must have won, and looks whether every
region has it, and whether every version that lost is on record. The lab must be at rest.

  meshnode lab check

exit codes: 0 all regions are as they must be, 1 they are not""",
    )
    add_json(check)


def _add_load(add: faults.AddCommand) -> None:
    load = add(
        "load",
        commands.load,
        "write in all regions at once, with conflicts",
        f"""
  meshnode lab load --seconds 60 --rate 0
  meshnode lab load --sysbench --tables 2 --rows 1000

{DONE}""",
    )
    _seconds(load)
    load.add_argument(
        "--rate", type=amount, default=10.0, metavar="N",
        help="transactions a second in each region; 0 is as many as it takes (default: 10)",
    )  # fmt: skip
    load.add_argument(
        "--threads", type=whole(1), default=2, metavar="N",
        help="clients in each region (default: %(default)d)",
    )  # fmt: skip
    _seed(load)
    load.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    load.add_argument(
        "--sysbench", action="store_true", help="run sysbench oltp_read_write instead"
    )
    load.add_argument(
        "--tables", type=whole(1), default=4, metavar="N", help="for sysbench (default: 4)"
    )
    load.add_argument(
        "--rows", type=whole(1), default=10_000, metavar="N",
        help="of each table, for sysbench (default: 10000)",
    )  # fmt: skip


def _add_demo(actions: Any) -> None:
    demo = add_command(
        actions,
        "demo",
        commands.demo,
        "load, cut, heal, wait, verify: the whole story",
        """
Starts a lab, writes in all regions with conflicts, cuts two of them off, heals the links, waits,
compares all rows, and takes the lab down again.

  meshnode lab demo
  meshnode lab demo --regions 3 --seconds 5 --json

exit codes: 0 converged and identical, 1 it is not, 130 Ctrl-C, 129 or 143 ended by SIGHUP or
SIGTERM""",
        topology_option=False,
    )
    _size(demo)
    _seconds(demo)
    _seed(demo)
    demo.add_argument("--json", action="store_true", help="print the summary as one JSON object")


def _seconds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=amount, default=10.0, metavar="SECONDS",
        help="how long to write (default: %(default)g)",
    )  # fmt: skip


def _seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=whole(0), default=1, metavar="N",
        help="seed of the random choices of all clients (default: %(default)d)",
    )  # fmt: skip


def _size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--regions", type=_regions, metavar="N",
        help=f"{layout.FEWEST_REGIONS} to {layout.MOST_REGIONS}"
        f" (default: {commands.DEFAULT_REGIONS})",
    )  # fmt: skip
    parser.add_argument(
        "--wan", action="store_true", help="give the links latencies as between eight cities"
    )
    parser.add_argument(
        "--mysqld", metavar="PATH", help="the MySQL server program (default: found or fetched)"
    )
    parser.add_argument(
        "--bus", choices=BUS_KINDS,
        help="what carries the streams: a folder, one Kafka for all regions, or one in each"
        " (default: file)",
    )  # fmt: skip
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="folder for the lab (default: a new temporary one)"
    )


def _regions(text: str) -> int:
    few, most = layout.FEWEST_REGIONS, layout.MOST_REGIONS
    if not text.isdecimal() or not few <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r}: a lab has {few} to {most} regions")
    return int(text)


def _pattern(text: str) -> str:
    try:
        table_patterns.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form schema.table, such as 'shop.*'"
        ) from None
    return text
