"""``conflicts``, ``dead-letters`` and ``skip``: what was lost, parked or passed over."""

import argparse
from collections.abc import Mapping
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from meshnode.commands.arguments import (
    add_command,
    add_json,
    amount,
    away_json,
    console,
    load,
    print_json,
    tell_away,
    whole,
)
from meshnode.commands.values import cell, window, windows
from meshnode.core.stamp import Stamp
from meshnode.errors import Refused
from meshnode.mysql.schema import STAMP_COLUMNS
from meshnode.ops import conflicts, letters
from meshnode.ops.conflicts import Conflict
from meshnode.ops.letters import Letter
from meshnode.ops.verdict import moment
from meshnode.topology import Topology


def add_parsers(commands: Any) -> None:
    _add_conflicts(commands)
    _add_letters(commands)
    parser = add_command(
        commands,
        "skip",
        skip,
        "let a halted tailer pass a transaction that cannot be published",
        """
Some statements cannot be streamed: TRUNCATE, DROP or RENAME of a replicated table, statements
logged as text, XA. The region's tailer halts there and names the transaction. After this
command it goes on, and nothing of that transaction reaches the other regions:

  1. meshnode skip --region tokyo --tx 3e11fa47-71ca-11e1-9e33-c80aa9429562:23
  2. make the regions alike by hand (for a TRUNCATE: delete the rows in the other regions)
  3. meshnode verify      which closes the skipped transaction when all regions are identical

Until then status says "not converged".

exit codes: 0 noted (or it was already), 1 refused""",
    )
    parser.add_argument("--region", metavar="R", required=True, help="the region that halted")
    parser.add_argument("--tx", metavar="GTID", required=True, help="the transaction to pass over")
    parser.add_argument(
        "--force", action="store_true", help="even if the tailer is not halted at it"
    )
    add_json(parser)


def _add_conflicts(commands: Any) -> None:
    group = commands.add_parser(
        "conflicts",
        help="list and show writes that lost against others",
        description="Each region logs the writes that it saw losing, with both images.",
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "list",
        list_conflicts,
        "list the newest conflicts",
        """
  meshnode conflicts list
  meshnode conflicts list --region tokyo --table shop.orders --limit 100

With --json: {"conflicts": [...], "away": {region: {"error": ..., "remedy": ...}}}

exit codes: 0 (none is no error), 1 a region cannot be asked (the others are shown)""",
    )
    parser.add_argument("--region", metavar="R", help="only this region's log")
    parser.add_argument("--table", metavar="T", help="only this table (schema.table, or table)")
    parser.add_argument(
        "--limit", metavar="N", type=whole(1), default=20, help="default %(default)d"
    )
    add_json(parser)
    parser = add_command(
        actions,
        "show",
        show_conflict,
        "show one conflict: both rows side by side",
        """
  meshnode conflicts show 17 --region tokyo

Columns that differ are marked with *. Stamps are shown as time and region.

exit codes: 0 shown, 1 there is no such conflict""",
    )
    parser.add_argument("id", metavar="ID", type=whole(1), help="as `conflicts list` shows it")
    parser.add_argument("--region", metavar="R", required=True, help="whose log")
    add_json(parser)


def _add_letters(commands: Any) -> None:
    group = commands.add_parser(
        "dead-letters",
        help="list, show and replay rows that could not be applied",
        description="A row that can never be applied as things stand is parked as a dead letter.",
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    parser = add_command(
        actions,
        "list",
        list_letters,
        "list dead letters",
        """
  meshnode dead-letters list
  meshnode dead-letters list --region tokyo --state all

With --json: {"letters": [...], "away": {region: {"error": ..., "remedy": ...}}}

exit codes: 0 (none is no error), 1 a region cannot be asked (the others are shown)""",
    )
    parser.add_argument("--region", metavar="R", help="only this region's letters")
    parser.add_argument(
        "--state",
        choices=("waiting", "open", "replay", "skipped", "closed", "all"),
        default="waiting",
        help="default: all that are not closed",
    )
    parser.add_argument(
        "--limit", metavar="N", type=whole(1), default=100, help="default %(default)d"
    )
    add_json(parser)
    parser = add_command(
        actions,
        "show",
        show_letter,
        "show one dead letter: row, cause, and where it came from",
        """
  meshnode dead-letters show 3 --region tokyo

exit codes: 0 shown, 1 there is no such letter""",
    )
    parser.add_argument("id", metavar="ID", type=whole(1), help="as `dead-letters list` shows it")
    parser.add_argument("--region", metavar="R", required=True, help="whose letter")
    add_json(parser)
    parser = add_command(
        actions,
        "replay",
        replay_letters,
        "ask the running node to apply parked rows again",
        """
Remove the cause first (it is in `dead-letters show`); then:

  meshnode dead-letters replay 3 --region tokyo
  meshnode dead-letters replay --all --region tokyo

The row goes through the ordinary decision: if a later version is there, it loses and the
letter is closed. The command waits a few seconds and says what became of it.

exit codes: 0 all are closed, 1 some are not""",
    )
    parser.add_argument("id", metavar="ID", type=whole(1), nargs="?", help="one letter")
    parser.add_argument("--all", action="store_true", help="all open letters of the region")
    parser.add_argument("--region", metavar="R", required=True, help="whose letters")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=amount,
        default=letters.REPLAY_SECONDS,
        help="how long to wait for the node (default %(default)g)",
    )
    add_json(parser)


async def list_conflicts(args: argparse.Namespace) -> int:
    topology = load(args)
    answers = await conflicts.newest(
        topology, regions=_regions(topology, args), table=args.table, limit=args.limit
    )
    found = answers.found
    if args.json:
        print_json({"conflicts": _plain(found), "away": away_json(answers.away)})
        return tell_away(answers.away)
    table = _table("region", "id", "at (UTC)", "table", "key", "kind", "winner", "loser", "")
    for each in found:
        possible = "" if each.certainty == "certain" else each.certainty
        table.add_row(
            *_escaped(each.region, each.id, each.at, each.table, _row(each.key), each.kind),
            *_escaped(_origin(topology, each.winner.origin), _origin(topology, each.loser.origin)),
            possible,
        )
    console().print(table if found else "no conflicts")
    return tell_away(answers.away)


async def show_conflict(args: argparse.Namespace) -> int:
    topology = load(args)
    found = await conflicts.one(topology, topology.region(args.region).name, args.id)
    if args.json:
        print_json(_plain(found))
    else:
        console().print(conflict_view(topology, found))
    return 0


def conflict_view(topology: Topology, conflict: Conflict) -> RenderableType:
    """Facts, then both images column by column; ``*`` marks what differs."""
    facts = {
        "conflict": f"{conflict.id} in {conflict.region}, {conflict.at}Z",
        "row": f"{conflict.table} {_row(conflict.key)}",
        "kind": f"{conflict.kind} ({conflict.certainty}), policy {conflict.policy}",
        "reason": conflict.reason,
        "came with": f"{conflict.tx_id}, item {conflict.seq} of"
        f" {_origin(topology, conflict.origin)}",
    }
    table = _table("", "column", "winner", "loser")
    table.add_row("", "(stamp)", *(_stamp(topology, s) for s in (conflict.winner, conflict.loser)))
    winner, loser = conflict.winner_image, conflict.loser_image
    for name in {**(winner or {}), **(loser or {})}:
        if name in STAMP_COLUMNS:
            continue  # shown above, as time and region
        ours, theirs = cell(winner, name), cell(loser, name)
        mark = "*" if ours != theirs else ""
        table.add_row(mark, *_escaped(name, *windows(ours, theirs)))
    return Group(_facts(facts), table)


async def list_letters(args: argparse.Namespace) -> int:
    topology = load(args)
    states: tuple[str, ...] = (args.state,)
    if args.state == "waiting":
        states = letters.WAITING
    elif args.state == "all":
        states = (*letters.WAITING, "closed")
    answers = await letters.listed(
        topology, regions=_regions(topology, args), states=states, limit=args.limit
    )
    found = answers.found
    if args.json:
        print_json({"letters": _plain(found), "away": away_json(answers.away)})
        return tell_away(answers.away)
    table = _table("region", "id", "at (UTC)", "state", "from", "table", "key", "cause")
    for each in found:
        cause = f"{each.cause} [{each.note}]" if each.note else each.cause
        table.add_row(
            *_escaped(each.region, each.id, each.at, each.state, _origin(topology, each.origin)),
            *_escaped(each.table or each.tx_id, _row(each.key or {}), cause),
        )
    console().print(table if found else "no dead letters")
    return tell_away(answers.away)


async def show_letter(args: argparse.Namespace) -> int:
    topology = load(args)
    found = await letters.one(topology, topology.region(args.region).name, args.id)
    if args.json:
        print_json(_plain(found))
    else:
        console().print(letter_view(topology, found))
    return 0


def letter_view(topology: Topology, letter: Letter) -> RenderableType:
    """Facts, then the row that could not be applied."""
    facts = {
        "dead letter": f"{letter.id} in {letter.region}, {letter.at}Z",
        "state": letter.state + (f" at {letter.closed_at}Z" if letter.closed_at else ""),
        "note": letter.note,
        "cause": f"{letter.code} {letter.cause}" if letter.code else letter.cause,
        "came with": f"{letter.tx_id}, item {letter.seq} of {_origin(topology, letter.origin)}",
    }
    if letter.table is None:
        return _facts(facts)
    facts["row"] = f"{letter.table} {_row(letter.key or {})}"
    facts["stamp"] = _stamp(topology, letter.stamp)
    if letter.image is None:
        return Group(_facts(facts), "a delete: it has no row")
    table = _table("column", "value")
    for name in letter.image:
        table.add_row(*_escaped(name, window(cell(letter.image, name))))
    return Group(_facts(facts), table)


async def replay_letters(args: argparse.Namespace) -> int:
    topology = load(args)
    if (args.id is None) == (not args.all):
        raise Refused("name one letter, or --all", "meshnode dead-letters replay ID --region R")
    region = topology.region(args.region).name
    found = await letters.replay(topology, region, args.id, seconds=args.wait)
    done = not found.reopened and not found.waiting
    if args.json:
        print_json(_plain(found))
        return 0 if done else 1
    for number in found.closed:
        print(f"{region} {number}: closed")
    for number, note in found.reopened.items():
        print(f"{region} {number}: open again: {note}")
    for number, note in found.waiting.items():
        why = note or "the node has not come to it (does it run? see `meshnode status`)"
        print(f"{region} {number}: still waiting: {why}")
    if args.all and done and not found.closed:
        print(f"{region}: no open dead letters")
    return 0 if done else 1


async def skip(args: argparse.Namespace) -> int:
    topology = load(args)
    region = topology.region(args.region).name
    new = await letters.skip(topology, region, args.tx, force=args.force)
    gtid = letters.normalized(args.tx)
    if args.json:
        print_json({"region": region, "tx": gtid, "new": new})
        return 0
    if not new:
        print(f"{region}: {gtid} was skipped already")
        return 0
    others = ", ".join(peer.name for peer in topology.peers(region))
    print(
        f"{region}: nothing of transaction {gtid} will be published; its tailer goes on.\n"
        f"{others} keep their rows as if it had never been. Until all regions are made alike by\n"
        "hand and `meshnode verify` finds them identical, status says: not converged."
    )
    return 0


def _regions(topology: Topology, args: argparse.Namespace) -> list[str] | None:
    return None if args.region is None else [topology.region(args.region).name]


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value, str_keys=True)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        if value:
            table.add_row(*_escaped(name, value))
    return table


def _escaped(*values: object) -> list[str]:
    return [escape(str(value)) for value in values]


def _row(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _stamp(topology: Topology, stamp: Stamp) -> str:
    fraction = f"{stamp.ts % 1_000_000:06d}"
    return f"{moment(stamp.ts)[:-1]}.{fraction}Z {_origin(topology, stamp.origin)}"


def _origin(topology: Topology, number: int) -> str:
    names = {region.id: region.name for region in topology.regions}
    return names.get(number, "unstamped" if number == 0 else f"region {number}")
