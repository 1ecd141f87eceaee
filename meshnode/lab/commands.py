"""What the commands of ``meshnode lab`` do; :mod:`meshnode.lab.command_line` has their words.

Each is a function of the parsed arguments that returns the exit
code.  What a program reads goes to stdout, progress to stderr.
"""

import argparse
import asyncio
import signal
import sys

from meshnode.commands.arguments import print_json
from meshnode.errors import Refused
from meshnode.lab import cluster, layout, rounds
from meshnode.lab.cluster import Cluster, to_stderr
from meshnode.lab.faults import lab_of

DEFAULT_REGIONS = 8
WAIT_SECONDS = 120.0
POLL_SECONDS = 0.5


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


async def up(args: argparse.Namespace) -> int:
    """``lab up``."""
    with Ending() as ending:
        await _stay_up(args)
    return ending.code


async def _stay_up(args: argparse.Namespace) -> None:
    directory = args.dir or layout.fresh_directory()
    # What is shown until Ctrl-C must not outlive its window, however that ends.
    bound = not args.detach
    if args.dir and layout.Layout.at(args.dir).is_there:
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
            print_json(lab.describe())
        if args.detach:
            to_stderr(f"the lab is up; `meshnode lab down --dir {lab.directory}` ends it")
        else:
            await _show(lab)
    finally:
        if not args.detach and lab.layout.is_there:
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
    """Show the live table until cancelled or the lab is gone; without a terminal just stay."""
    if sys.stdout.isatty() or sys.stderr.isatty():
        from meshnode.lab import view

        await view.watch(lab)
    while lab.layout.is_there:  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(POLL_SECONDS)
    to_stderr("the lab has been taken down")


async def status(args: argparse.Namespace) -> int:
    """``lab status``."""
    from meshnode.lab import view

    return await view.status(lab_of(args), args.json)


async def load(args: argparse.Namespace) -> int:
    """``lab load``."""
    lab = lab_of(args)
    if args.sysbench:
        from meshnode.lab import sysbench

        result = await sysbench.run(
            lab, tables=args.tables, rows=args.rows, threads=args.threads, seconds=args.seconds
        )
        if args.json:
            print_json(result)
        return 0
    from meshnode.lab import workload

    counts = await workload.run(
        lab, seconds=args.seconds, rate=args.rate, threads=args.threads, seed=args.seed
    )
    if args.json:
        print_json(counts.as_dict())
    else:
        print(counts)
    return 0


async def wait(args: argparse.Namespace) -> int:
    """``lab wait``."""
    verdict = await rounds.wait(lab_of(args).topology, args.timeout)
    if verdict.complete:
        print(f"everything is applied everywhere ({verdict.seconds:.1f} s)")
        return 0
    print(f"not everything is applied after {verdict.seconds:.1f} s:")
    for reason in verdict.reasons:
        print(f"  {reason}")
    return 1


async def check(args: argparse.Namespace) -> int:
    """``lab check``."""
    from meshnode.lab import checker

    report = await checker.check(lab_of(args))
    if args.json:
        print_json(report.as_dict())
    else:
        print(report)
    return 0 if report.good else 1


async def down(args: argparse.Namespace) -> int:
    """``lab down``."""
    await lab_of(args).down(keep=args.keep)
    return 0


async def demo(args: argparse.Namespace) -> int:
    """``lab demo``."""
    from meshnode.lab import demo as story

    with Ending() as ending:
        summary = await story.run(
            args.dir or layout.fresh_directory(),
            regions=args.regions or DEFAULT_REGIONS,
            seconds=args.seconds,
            seed=args.seed,
            mysqld=args.mysqld,
            wan=args.wan,
            bus=args.bus or "file",
        )
        if args.json:
            print_json(summary.as_dict())
        else:
            print(summary)
        return 0 if summary.converged else 1
    return ending.code
