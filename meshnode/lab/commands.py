"""``meshnode lab``: the command line of the lab.

Each subcommand is a function of the parsed arguments that returns the exit
code.  What a program reads goes to stdout, progress to stderr.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from meshnode import table_patterns
from meshnode.errors import Refused
from meshnode.lab import cluster, faults, layout, rounds
from meshnode.lab.brokers import BUS_KINDS
from meshnode.lab.cluster import Cluster, to_stderr
from meshnode.lab.faults import lab_of

DEFAULT_REGIONS = 8
WAIT_SECONDS = 120.0

Command = Callable[[argparse.Namespace], Awaitable[int]]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``lab`` and its subcommands."""
    lab = subparsers.add_parser(
        "lab", help="a whole mesh on this machine, with its own MySQL servers"
    )
    commands = lab.add_subparsers(dest="lab_command", required=True, metavar="COMMAND")

    def add(name: str, function: Command, help: str, directory: bool = True):
        parser = commands.add_parser(name, help=help, description=help)
        parser.set_defaults(lab_function=function)
        if directory:
            parser.add_argument(
                "--dir", type=Path, metavar="DIR", help="folder of the lab (default: the last one)"
            )
        return parser

    up = add("up", _up, "start servers and nodes, and show them until Ctrl-C", directory=False)
    _size(up)
    up.add_argument(
        "--dir", type=Path, metavar="DIR", help="folder for the lab (default: a new temporary one)"
    )
    up.add_argument(
        "--replicate", nargs="+", action="extend", default=[], metavar="GLOB",
        type=_pattern, help="more tables to replicate than lab.* and sbtest.*, such as 'shop.*'",
    )  # fmt: skip
    up.add_argument("--detach", action="store_true", help="leave the lab running and return")
    up.add_argument("--json", action="store_true", help="print what runs where as one JSON object")
    status = add("status", _status, "lag, state and counters of all regions")
    status.add_argument("--json", action="store_true")
    load = add("load", _load, "write in all regions at once, with conflicts")
    load.add_argument("--seconds", type=_amount, default=10.0, metavar="S")
    load.add_argument(
        "--rate", type=_amount, default=10.0, metavar="N",
        help="transactions a second in each region; 0 is as many as it takes (default: 10)",
    )  # fmt: skip
    load.add_argument("--threads", type=_positive, default=2, metavar="K", help="in each region")
    load.add_argument("--seed", type=int, default=1, metavar="X")
    load.add_argument("--json", action="store_true", help="print the counts as one JSON object")
    load.add_argument(
        "--sysbench", action="store_true", help="run sysbench oltp_read_write instead"
    )
    load.add_argument("--tables", type=_positive, default=4, help="for sysbench (default: 4)")
    load.add_argument(
        "--rows", type=_positive, default=10_000, help="for sysbench (default: 10000)"
    )
    wait = add("wait", _wait, "wait until every region has applied what any had committed")
    wait.add_argument("--timeout", type=_amount, default=WAIT_SECONDS, metavar="S")
    check = add("check", _check, "read the topics and compare every winner with every region")
    check.add_argument("--json", action="store_true")
    faults.add_parsers(add)
    down = add("down", _down, "end all processes of the lab and delete its files")
    down.add_argument("--keep", action="store_true", help="leave the files, for another `lab up`")
    demo = add("demo", _demo, "load, cut, heal, wait, verify: the whole story", directory=False)
    _size(demo)
    demo.add_argument(
        "--dir", type=Path, metavar="DIR", help="folder for the lab (default: a new temporary one)"
    )
    demo.add_argument("--seconds", type=_amount, default=10.0, metavar="S", help="of load")
    demo.add_argument("--seed", type=int, default=1, metavar="X")
    demo.add_argument("--json", action="store_true", help="print the summary as one JSON object")


async def run(args: argparse.Namespace) -> int:
    """Run the subcommand that was parsed; its exit code."""
    return await args.lab_function(args)


def _size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--regions", type=_regions, metavar="N",
        help=f"{layout.FEWEST_REGIONS} to {layout.MOST_REGIONS} (default: {DEFAULT_REGIONS})",
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


def _amount(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return number


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


class Ending:
    """Lets SIGTERM and SIGHUP end the block as Ctrl-C does, so that it cleans up.

    ``code`` is the exit code that the signal asks for, 0 while none came.
    """

    def __init__(self) -> None:
        self.code = 0

    def __enter__(self) -> "Ending":
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        for number in _ENDING:
            self._loop.add_signal_handler(number, self._end, number)
        return self

    def _end(self, number: signal.Signals) -> None:
        assert self._task is not None
        self.code = 128 + number
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        for number in _ENDING:
            self._loop.remove_signal_handler(number)
        if kind is not asyncio.CancelledError or not self.code:
            return False
        assert self._task is not None
        self._task.uncancel()
        return True


_ENDING = (signal.SIGTERM, signal.SIGHUP)


async def _up(args: argparse.Namespace) -> int:
    with Ending() as ending:
        await _stay_up(args)
    return ending.code


async def _stay_up(args: argparse.Namespace) -> None:
    directory = args.dir or layout.fresh_directory()
    # What is shown until Ctrl-C must not outlive its window, however that ends.
    bound = not args.detach
    if args.dir and layout.Layout.at(args.dir).description.exists():
        lab = Cluster(args.dir)
        _refuse_another_shape(lab, args)
        await cluster.resume(lab, die_with_parent=bound)
    else:
        lab = await cluster.up(
            directory,
            args.regions or DEFAULT_REGIONS,
            replicate=tuple(args.replicate),
            mysqld=args.mysqld,
            wan=args.wan,
            bus=args.bus or "file",
            die_with_parent=bound,
        )
    layout.remember(lab.directory)
    try:
        if args.json:
            _print_json(lab.describe())
        if args.detach:
            to_stderr(f"the lab is up; `meshnode lab down --dir {lab.directory}` ends it")
        else:
            await _show(lab)
    finally:
        if not args.detach:
            to_stderr("taking the lab down")
            await lab.down()


def _refuse_another_shape(lab: Cluster, args: argparse.Namespace) -> None:
    """A lab that is there goes on as it is: options that say something else are a mistake."""
    said = {
        f"--regions {args.regions}": args.regions not in (None, len(lab.names)),
        "--replicate": bool(args.replicate),
        "--wan": args.wan,
        f"--bus {args.bus}": args.bus not in (None, lab.brokers.kind),
    }
    wrong = [option for option, differs in said.items() if differs]
    if wrong:
        raise Refused(
            f"{lab.directory} holds a lab already, which {', '.join(wrong)} cannot change",
            "leave the options out to go on with it, or name another folder with --dir",
        )


async def _show(lab: Cluster) -> None:
    """Show the live table until cancelled; without a terminal just stay."""
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        await asyncio.Event().wait()
    from meshnode.lab import view

    await view.watch(lab)


async def _status(args: argparse.Namespace) -> int:
    from meshnode.lab import view

    return await view.status(lab_of(args), args.json)


async def _load(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    if args.sysbench:
        from meshnode.lab import sysbench

        result = await sysbench.run(
            lab, tables=args.tables, rows=args.rows, threads=args.threads, seconds=args.seconds
        )
        if args.json:
            _print_json(result)
        return 0
    from meshnode.lab import workload

    counts = await workload.run(
        lab, seconds=args.seconds, rate=args.rate, threads=args.threads, seed=args.seed
    )
    if args.json:
        _print_json(counts.as_dict())
    else:
        print(counts)
    return 0


async def _wait(args: argparse.Namespace) -> int:
    verdict = await rounds.wait(lab_of(args).topology, args.timeout)
    if verdict.complete:
        print(f"everything is applied everywhere ({verdict.seconds:.1f} s)")
        return 0
    print(f"not everything is applied after {verdict.seconds:.1f} s:")
    for reason in verdict.reasons:
        print(f"  {reason}")
    return 1


async def _check(args: argparse.Namespace) -> int:
    from meshnode.lab import checker

    report = await checker.check(lab_of(args))
    if args.json:
        _print_json(report.as_dict())
    else:
        print(report)
    return 0 if report.good else 1


async def _down(args: argparse.Namespace) -> int:
    await lab_of(args).down(keep=args.keep)
    return 0


async def _demo(args: argparse.Namespace) -> int:
    from meshnode.lab import demo

    with Ending() as ending:
        summary = await demo.run(
            args.dir or layout.fresh_directory(),
            regions=args.regions or DEFAULT_REGIONS,
            seconds=args.seconds,
            seed=args.seed,
            mysqld=args.mysqld,
            wan=args.wan,
            bus=args.bus or "file",
        )
        if args.json:
            _print_json(summary.as_dict())
        else:
            print(summary)
        return 0 if summary.converged else 1
    return ending.code
