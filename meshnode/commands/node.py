"""``run`` and ``topology``: the node process, and the file it runs by."""

import argparse
from typing import Any

from meshnode import topology
from meshnode.commands import logs
from meshnode.commands.arguments import add_command, add_json, print_json
from meshnode.topology_changes import describe


def add_parsers(commands: Any) -> None:
    runner = add_command(
        commands,
        "run",
        run,
        "run the node of one region until SIGTERM",
        """
Publishes what the region's MySQL commits and applies what the other regions publish.
It first makes the checks of `meshnode doctor` for its region and does not start where one of
them refuses. Starting a second node for a region takes over from the first.

  meshnode run --region tokyo --topology mesh.toml

The log goes to stderr, one line per record. SIGTERM or Ctrl-C drains and ends it; SIGKILL
at any moment loses and doubles nothing.

exit codes: 0 ended by SIGTERM, 1 refused to start or taken over by another process""",
    )
    runner.add_argument("--region", metavar="NAME", required=True, help="whose node to run")
    runner.add_argument(
        "--log-level", choices=logs.LEVELS, default=None, help="least level to log (default info)"
    )
    runner.add_argument(
        "-v", "--verbose", action="store_true", help="the same as --log-level debug"
    )
    group = commands.add_parser(
        "topology",
        help="check a topology file",
        description="Look at a topology file without touching any server.",
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = add_command(
        actions,
        "check",
        check_topology,
        "check a topology file and say what it describes",
        """
Reads the file as a node would, names everything that is wrong with it (key, value and
remedy), and otherwise prints the mesh it describes. No server is asked, no secret is read.

  meshnode topology check mesh.toml

exit codes: 0 the file is right, 1 it is not""",
        topology_option=False,
    )
    check.add_argument("file", metavar="FILE", help="the topology file")
    add_json(check)


async def run(args: argparse.Namespace) -> int:
    from meshnode.node import run_node  # the drivers and actors: no other command needs them

    logs.start(args.region, args.log_level or ("debug" if args.verbose else "info"))
    return await run_node(args.topology, args.region)


async def check_topology(args: argparse.Namespace) -> int:
    try:
        found = topology.load(args.file)
    except topology.TopologyError as error:
        if not args.json:
            raise
        print_json(
            {
                "file": error.file,
                "ok": False,
                "problems": [
                    {
                        "key": problem.key,
                        "what": problem.what,
                        "remedy": problem.remedy,
                        "value": problem.value,
                    }
                    for problem in error.problems
                ],
            }
        )
        return 1
    if args.json:
        print_json(
            {
                "file": args.file,
                "ok": True,
                "mesh": found.mesh,
                "digest": found.digest,
                "regions": [{"id": region.id, "name": region.name} for region in found.regions],
            }
        )
    else:
        print(describe(found))
    return 0
