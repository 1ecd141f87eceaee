"""``status``, ``verify`` and ``doctor``: is the mesh well, are its regions alike, are they fit."""

import argparse
import asyncio
from typing import Any

import msgspec
from rich.live import Live

from meshnode import table_patterns
from meshnode.commands.arguments import (
    add_command,
    add_json,
    add_topology,
    amount,
    console,
    load,
    print_json,
    say,
    whole,
)
from meshnode.errors import Refused
from meshnode.ops import doctor as doctor_checks
from meshnode.ops import status as looking
from meshnode.ops import verify as comparing
from meshnode.ops.status_view import render, show
from meshnode.ops.verify_view import View


def add_parsers(commands: Any) -> None:
    parser = add_command(
        commands,
        "status",
        status,
        "show lag, rates, conflicts, parked rows and every actor that stands still",
        """
Asks each region's MySQL what its node last said. The lag of a pair is the age of the newest
heartbeat of one region that is applied in the other: 0 to 2 s in a healthy mesh. "beat" is
the age of a node's own heartbeat, "out" and "in" are rows published and applied; conflicts and
lifts are counted since the node started.

  meshnode status                 one look (about a second, for the rates)
  meshnode status --watch         redraw every second until Ctrl-C
  meshnode status --json          for machines
  meshnode status --watch --json  the same every second, one JSON object a line

"not converged" means that something will not go away by itself: parked rows, skipped
transactions, halted actors, a silent region or stream, tombstones held back. Each is named
with its remedy.

exit codes: 0 converged, 1 not converged""",
    )
    add_json(parser)
    parser.add_argument("--watch", action="store_true", help="redraw every second until Ctrl-C")
    _add_verify(commands)
    _add_doctor(commands)


def _add_verify(commands: Any) -> None:
    parser = add_command(
        commands,
        "verify",
        verify,
        "compare the replicated tables of all regions, row by row",
        """
Compares every key in every region: the row with its stamp, or, where there is no row, its
tombstone. The servers hash ranges of keys; only ranges that differ are looked into, and again
until they settle, so it may run under traffic: what counts is a difference that stays.
Also finds rows whose parent by foreign key is missing.

  meshnode verify
  meshnode verify --table 'shop.order*'
  meshnode verify --settle 30             give lagging regions more time

Each difference names table, key and what every region has. Keys that change until the end are
counted and not judged: whether they are identical is not known. A verify of all tables that finds
all identical closes the letters of transactions that were skipped before it began.

exit codes: 0 identical, 1 differences or orphans, keys that were still changing, no table is
replicated, or a region cannot be asked""",
    )
    parser.add_argument(
        "--table", metavar="GLOB", help="only tables that match, as 'schema.table' or with * and ?"
    )
    parser.add_argument(
        "--settle",
        metavar="SECONDS",
        type=amount,
        default=comparing.SETTLE_SECONDS,
        help="how long differences may take to go away (default %(default)g)",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=whole(0),
        default=comparing.LISTED,
        help="differences to name for each table (default %(default)d); the rest is counted",
    )
    add_json(parser)


def _add_doctor(commands: Any) -> None:
    parser = add_command(
        commands,
        "doctor",
        doctor,
        "check that servers, accounts and tables are fit for the mesh",
        """
Runs every check on every region and prints what it found, table by table, with the remedy.
`meshnode run` makes the same checks for its region and refuses to start on a refusal.

  meshnode doctor
  meshnode doctor --region tokyo --verbose     one region, and the checks that passed
  meshnode doctor --list                       the names of all checks

exit codes: 0 fit (warnings allowed), 1 something is refused""",
        topology_option=False,
    )
    topology = add_topology(parser)
    parser.add_argument("--region", metavar="NAME", help="one region only")
    parser.add_argument(
        "--lab", action="store_true", help="let pass what a lab may do: servers without durability"
    )
    parser.add_argument(
        "--list", action=_AskNobody, topology=topology, help="name all checks and ask no server"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="also show what is well")
    add_json(parser)


class _AskNobody(argparse.Action):
    """A flag with which the option ``topology`` need not be given."""

    def __init__(self, *args: Any, topology: argparse.Action, **options: Any) -> None:
        super().__init__(*args, nargs=0, default=False, **options)
        self._topology = topology

    def __call__(self, parser: Any, namespace: argparse.Namespace, *_: object) -> None:
        setattr(namespace, self.dest, True)
        self._topology.required = False


async def status(args: argparse.Namespace) -> int:
    topology = load(args)
    if args.watch:
        return await _watch(args)
    found = await looking.look_twice(topology)
    if args.json:
        print_json(looking.as_json(found))
    else:
        show(found, console())
    return 0 if found.converged else 1


async def _watch(args: argparse.Namespace) -> int:
    """Until Ctrl-C; with --json one object a line instead of a screen."""
    topology = load(args)
    async with looking.Lookout(topology) as lookout:
        if args.json:
            while True:
                print(looking.as_line(await lookout.look()), flush=True)
                await asyncio.sleep(1)
        with Live(render(await lookout.look()), console=console(), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(1)
                live.update(render(await lookout.look()), refresh=True)


async def verify(args: argparse.Namespace) -> int:
    topology = load(args)
    verdict = await comparing.verify(
        topology, _selector(args.table), settle=args.settle, listed=args.limit, report=say
    )
    if args.table and not verdict.tables:
        raise Refused(
            f"no replicated table matches {args.table!r}",
            "see `meshnode doctor` for the tables, and quote the pattern for the shell",
        )
    view = View(topology)
    if args.json:
        print_json(view.json(verdict))
    else:
        print("\n".join(view.lines(verdict)))
    return 0 if verdict.settled else 1


def _selector(pattern: str | None) -> table_patterns.Selector | None:
    if pattern is None:
        return None
    try:
        return table_patterns.selector((pattern,), ())
    except ValueError as error:
        raise Refused(
            f"--table {pattern!r} is no table pattern", "write it as 'schema.table' or 'schema.*'"
        ) from error


async def doctor(args: argparse.Namespace) -> int:
    if args.list:
        checks = doctor_checks.list_checks()
        if args.json:
            print_json(checks)
        else:
            width = max(map(len, checks))
            print("\n".join(f"{name:<{width}}  {about}" for name, about in checks.items()))
        return 0
    topology = load(args)
    if args.region is None:
        findings = await doctor_checks.examine_mesh(topology, lab=args.lab)
    else:
        findings = await doctor_checks.examine(topology, args.region, lab=args.lab)
    refused = doctor_checks.refusals(findings)
    if args.json:
        print_json(
            {"fit": not refused, "findings": [msgspec.to_builtins(each) for each in findings]}
        )
        return 1 if refused else 0
    shown = [each for each in findings if args.verbose or each.level != doctor_checks.Level.OK]
    for finding in shown:
        subject = f" {finding.subject}:" if finding.subject else ""
        print(f"{finding.level:<6} {finding.region}: {finding.check}:{subject} {finding.finding}")
        if finding.remedy:
            print(f"       remedy: {finding.remedy}")
    passed = sum(each.level == doctor_checks.Level.OK for each in findings)
    warned = len(findings) - passed - len(refused)
    print(f"{passed} checks passed, {warned} warnings, {len(refused)} refused")
    return 1 if refused else 0
