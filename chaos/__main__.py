"""``python -m chaos``: list the catalogue, run a scenario, or all of them in sequence."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from chaos import long, races, report
from chaos.faults import KINDS
from chaos.mutants import MUTANTS
from chaos.plan import Plan, read_plan
from chaos.runner import Result, run
from chaos.scenarios import SCENARIOS, Scenario
from chaos.stress import stress
from chaos.workloads import WORKLOADS
from meshnode.errors import MeshError, Refused


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="scenarios, workloads and kinds of faults")
    one = commands.add_parser("run", help="one scenario")
    one.add_argument("scenario", metavar="C3")
    one.add_argument("--plan", type=Path, help="perform this plan.json as it is")
    every = commands.add_parser("all", help="C1 to C12 in sequence, with one report")
    for command in (one, every):
        command.add_argument("--short", action="store_true", help="the length of every change")
    hours = commands.add_parser(
        "long", help="L1, everything at once at eight regions, then L2 to L9"
    )
    hours.add_argument("--hours", type=float, default=1.0)
    hot = commands.add_parser("stress", help="a few hot keys, two appliers, no pause")
    hot.add_argument("--seconds", type=float, default=60.0)
    hot.add_argument("--mutant", choices=list(MUTANTS), default="", help="with a rule off")
    for command in (one, every, hours, hot):
        command.add_argument("--seed", type=int, help="decides the plan (default: a new one)")
        command.add_argument("--report", type=Path, help="a new folder for the report")
    return parser


def main() -> int:
    """Run the command line; 0: nothing was found wrong."""
    args = _parser().parse_args()
    try:
        if args.command == "list":
            return _list()
        seed = random.randrange(1 << 30) if args.seed is None else args.seed
        folder = args.report or _folder()
        if args.command == "run":
            return _run(args, seed, folder)
        if args.command == "stress":
            return _stress(args, seed, folder)
        if args.command == "long":
            return _long(seed, args.hours, folder)
        return _all(seed, not args.short, folder)
    except MeshError as error:
        print(f"python -m chaos: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _list() -> int:
    print(f"C1   {races.ABOUT}")
    for each in (*SCENARIOS.values(), *long.LONG.values()):
        short, full = each.seconds
        print(f"{each.name:4} {each.about}\n     {each.checks}; load {', '.join(each.workloads)};"
              f" {short:g} s or {full:g} s")  # fmt: skip
    for name, why in long.MISSING.items():
        print(f"{name:4} not run here: {why}")
    for title, entries in (
        ("workloads", [(kind.name, kind.about) for kind in WORKLOADS.values()]),
        ("kinds of faults", [(kind.name, kind.about) for kind in KINDS.values()]),
    ):
        print(f"\n{title}:")
        for name, about in entries:
            print(f"  {name:16} {about}")
    return 0


def _folder() -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path(tempfile.mkdtemp(prefix=f"meshnode-chaos-{stamp}-")).absolute()


def _run(args: argparse.Namespace, seed: int, folder: Path) -> int:
    if args.scenario.upper() == "C1":
        outcome = races.run(folder)
        print(outcome)
        return 0 if outcome.good else 1
    given = read_plan(args.plan) if args.plan else None
    plan = given or _scenario(args.scenario).plan(seed, not args.short)
    result = _perform(plan, folder)
    return _finish([result], None, folder)


def _scenario(name: str) -> Scenario:
    known = SCENARIOS | long.LONG
    if name.upper() not in known:
        raise Refused(f"there is no scenario {name!r}", f"name one of: C1, {', '.join(known)}")
    return known[name.upper()]


def _perform(plan: Plan, folder: Path) -> Result:
    allowed = _scenario(plan.scenario).allowed
    return asyncio.run(run(plan, folder / f"{plan.scenario}-{plan.seed}", allowed, _say))


def _stress(args: argparse.Namespace, seed: int, folder: Path) -> int:
    result = asyncio.run(stress(seed, args.seconds, folder / "stress", args.mutant, _say))
    print(result)
    if args.mutant:
        print("the mutant was caught" if result.findings else "THE MUTANT SURVIVED")
    return 0 if result.good != bool(args.mutant) else 1


def _long(seed: int, hours: float, folder: Path) -> int:
    _say(f"seed {seed}; report in {folder}")
    results = []
    for plan in long.legs(seed, hours):
        results.append(_perform(plan, folder))
        _say(report.line(results[-1]))
        report.write(results, None, folder)
    return _finish(results, None, folder)


def _all(seed: int, full: bool, folder: Path) -> int:
    _say(f"seed {seed}; report in {folder}")
    raced = races.run(folder)
    _say(str(raced))
    results = []
    for each in SCENARIOS.values():
        results.append(_perform(each.plan(seed, full), folder))
        _say(report.line(results[-1]))
        report.write(results, raced, folder)
    return _finish(results, raced, folder)


def _finish(results: list[Result], raced: "races.Outcome | None", folder: Path) -> int:
    report.write(results, raced, folder)
    for result in results:
        print(report.text(result))
    good = all(result.good for result in results) and (raced is None or raced.good)
    total = sum(result.fault_count for result in results)
    print(f"{total} faults; {'nothing wrong' if good else 'SOMETHING IS WRONG'}")
    print(f"report: {folder}/report.html, {folder}/report.json")
    return 0 if good else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
