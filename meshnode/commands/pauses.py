"""``pause`` and ``resume``: hold the stream of one peer in one region."""

import argparse
from typing import Any

from meshnode import accounts
from meshnode.commands.arguments import add_command, add_json, load, print_json
from meshnode.mysql.control import connect
from meshnode.ops import pauses
from meshnode.ops.verdict import moment
from meshnode.store.values import Pause


def add_parsers(commands: Any) -> None:
    parser = add_command(
        commands,
        "pause",
        pause,
        "hold the stream of one peer in one region",
        """
What PEER publishes is no longer applied in REGION until `meshnode resume`; everything else goes
on, and nothing is lost: the stream waits on the bus, as long as the bus keeps it. The pause is
kept in the region's MySQL and outlives its node. A running node takes it up within a second,
between two transactions.

  meshnode pause tokyo --region oregon --reason 'a bad batch job there, ticket 4711'

While it lasts the mesh is not converged, and tombstones are not collected.

exit codes: 0 paused, 1 the region's MySQL cannot be asked""",
    )
    _common(parser)
    parser.add_argument("--reason", metavar="TEXT", default="", help="shown by `meshnode status`")
    parser = add_command(
        commands,
        "resume",
        resume,
        "let a paused peer go on",
        """
Ends `meshnode pause`: the node goes on where it stopped and catches up.

  meshnode resume tokyo --region oregon

exit codes: 0 not paused (any more), 1 the region's MySQL cannot be asked""",
    )
    _common(parser)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the region whose stream is meant")
    parser.add_argument(
        "--region", metavar="NAME", required=True, help="the region in which it is applied"
    )
    add_json(parser)


async def pause(args: argparse.Namespace) -> int:
    return await _write(args, args.reason)


async def resume(args: argparse.Namespace) -> int:
    return await _write(args, None)


async def _write(args: argparse.Namespace, reason: str | None) -> int:
    """Pause for ``reason``, or resume where it is None."""
    topology = load(args)
    region = topology.region(args.region)
    peer = pauses.peer_of(topology, region.name, args.peer)
    login = accounts.secrets(topology, region.name, "admin")
    async with await connect(region, login) as control:
        if reason is None:
            found = await pauses.resume(control, peer)
        else:
            found = await pauses.pause(control, peer, reason)
    _show(args, found.get(peer.id))
    return 0


def _show(args: argparse.Namespace, pause: Pause | None) -> None:
    if args.json:
        paused = pause and {"since": pause.since, "reason": pause.reason}
        print_json({"peer": args.peer, "region": args.region, "paused": paused})
    elif pause is None:
        print(f"{args.peer} is applied in {args.region}; `meshnode status` shows its lag")
    else:
        since = moment(int(pause.since * 1e6))
        print(
            f"{args.peer} is held in {args.region} since {since};"
            f" it goes on with: meshnode resume {args.peer} --region {args.region}"
        )
