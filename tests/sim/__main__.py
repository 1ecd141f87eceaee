"""``python -m tests.sim --seeds 20000``: run schedules; show and shrink the first that fails.

``--seed N`` shows one schedule.  ``--aim NAME`` narrows the draw.  Exit status 1 when one
failed.
"""

import argparse
import ast
import json
import sys
import time
from pathlib import Path
from typing import Any

from .aims import AIMS
from .run import aimed, report, run_many
from .shrink import Case, failure, shrink, timeline, whole
from .weather import frozen


def main() -> int:
    options = _options()
    aim: dict[str, Any] | None = aimed(options.aim)
    if options.set:
        pairs = (each.split("=", 1) for each in options.set)
        aim = {**(aim or {}), **{name: ast.literal_eval(value) for name, value in pairs}}
    if options.seed is not None:
        return _show(options, aim)
    seeds = range(options.first, options.first + options.seeds)
    began = time.monotonic()
    total, failures = run_many(seeds, aim, options.workers, progress=not options.json)
    found = report(seeds, total, failures, time.monotonic() - began, options.aim)
    if options.report:
        Path(options.report).write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        counts = ", ".join(f"{name}: {count}" for name, count in found["happened"].items())
        print(f"{len(seeds)} schedules, {len(failures)} failed, {found['seconds']} s; {counts}")
    if failures:
        seed = min(failures)
        print(f"seed {seed}: {failures[seed]}; shrinking", file=sys.stderr)
        print(timeline(shrink(whole(seed, aim))), file=sys.stderr)
    return 1 if failures else 0


def _show(options: argparse.Namespace, aim: dict[str, Any] | None) -> int:
    case = whole(options.seed, aim)
    case = Case(
        case.seed, case.aim, _chosen(options.orders, case.orders),
        _chosen(options.faults, case.faults),
    )  # fmt: skip
    wrong = failure(case)
    if wrong is not None and options.shrink:
        case = shrink(case)
    print(timeline(case))
    if options.freeze:
        print(json.dumps({"seed": case.seed, **frozen(case.plan())}))
    return 1 if wrong else 0


def _chosen(text: str | None, every: tuple[int, ...]) -> tuple[int, ...]:
    if text is None:
        return every
    return () if text == "none" else tuple(map(int, text.split(",")))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="number of schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--aim", choices=sorted(AIMS), help="narrow the draw")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="fix one option")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--report", metavar="FILE", help="write the report there")
    parser.add_argument("--seed", type=int, help="show this schedule")
    parser.add_argument("--orders", help="with --seed: only these clients (numbers, or none)")
    parser.add_argument("--faults", help="with --seed: only these faults (numbers, or none)")
    parser.add_argument("--shrink", action="store_true", help="with --seed: shrink it first")
    parser.add_argument("--freeze", action="store_true", help="print it for regressions.json, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
