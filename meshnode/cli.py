"""The command line: ``meshnode COMMAND``.

Each group of commands is a module of :mod:`meshnode.commands` that adds its parsers
and handlers; this one puts them together, runs the handler on an event loop
(the only place that picks uvloop) and turns errors into exit codes:

    0    done, and the answer is good
    1    refused or failed, or the answer is bad (not converged, differences, findings)
    2    the command line itself is wrong
    130  interrupted with Ctrl-C

Every error of the mesh reads ``meshnode: what`` and, on the next line, its remedy.
"""

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Sequence

import uvloop

from meshnode import __version__
from meshnode.commands import install, letters, node, observe, pauses
from meshnode.errors import MeshError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_DESCRIPTION = """
meshnode makes many writable MySQL regions one data set: one process per region
publishes what its MySQL commits and applies what the other regions publish.

A first mesh, after its topology file is written:

  meshnode topology check mesh.toml      is the file right?
  meshnode init --all --print-grants     the accounts that each MySQL needs
  meshnode init --all                    prepare the tables in all regions
  meshnode doctor                        is every server fit?
  meshnode run --region NAME             one of these per region, for ever
  meshnode status                        lag, conflicts, what stands still and why
  meshnode verify                        are all regions identical, row by row?

Or without any of that, a mesh on this machine: meshnode lab demo
"""

_EPILOG = """
exit codes: 0 good, 1 refused, failed or not converged, 2 wrong usage, 130 Ctrl-C
"""

_LAB = "meshnode.lab.command_line"


def build_parser(*, lab: bool = True) -> argparse.ArgumentParser:
    """The whole command line; without ``lab`` its group is named but its options are not read."""
    parser = argparse.ArgumentParser(
        prog="meshnode",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"meshnode {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in (node, install, observe, letters, pauses):
        group.add_parsers(commands)
    if lab:
        importlib.import_module(_LAB).add_parser(commands)
    else:
        commands.add_parser("lab", help="a whole mesh on this machine: servers, nodes, load")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (wrong usage and --help raise SystemExit)."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # The lab brings a whole MySQL installation along: only who asks for it waits for that.
    args = build_parser(lab="lab" in given[:1]).parse_args(given)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(args.handler(args))
        sys.stdout.flush()
        return code
    except MeshError as error:
        print(f"meshnode: {error.what}", file=sys.stderr)
        if error.remedy:
            print(f"  remedy: {error.remedy}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone; the interpreter must not meet it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
