"""``python -m tests.sim.gate``: every mutant must die, and the mesh without one must live.

Each mutant runs schedules, its aims in turn, until the oracle has rejected as many
as were asked for (``--kills``), or its budget is spent.  Then all schedules that
were needed run once more with every rule on, and must pass: a schedule that
rejects the mesh as it is has shown nothing about a mutant.

``--only NAME`` (any part of the name), ``--budget N``, ``--json``, ``--report FILE``.
Exit status 1 when a mutant survives that ``SURVIVORS`` does not name, when one
dies that it names, or when a schedule fails with all rules on.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from meshnode.errors import MeshError

from . import (
    mutants_applier,
    mutants_apply,
    mutants_held,
    mutants_stamps,
    mutants_stream,
    mutants_tables,
    mutants_tailer,
    mutants_takeover,
)
from .journal import Wrong
from .mutants import MUTANTS, Mutant
from .mutants_aims import run_one
from .mutants_survivors import SURVIVORS
from .run import begin_worker

PROCESSES = 2
SURVIVOR_BUDGET = 2_000
"""Schedules of a known survivor."""

CLEAN_CHUNK = 100
"""Schedules with all rules on that one task runs."""

RULES = (
    mutants_stamps, mutants_tailer, mutants_held, mutants_takeover, mutants_stream,
    mutants_apply, mutants_applier, mutants_tables,
)  # fmt: skip
"""The modules that fill ``MUTANTS``."""

BROKEN = (TypeError, AttributeError, NameError, ImportError)
"""What a mutant raises that is itself broken: that is no fault of the mesh, and no kill."""

FAULTS = (Wrong, MeshError)
"""What counts as a kill: the oracle's word, or a stream that stops with its reason."""

Seed = tuple[str, int]
"""Aim and number of a schedule."""


@dataclass
class Verdict:
    """What became of a mutant: ``kills`` of ``schedules`` showed it.

    ``killer`` is the first of them, ``said`` what the oracle said of it, ``checks`` how
    often which check of it spoke; ``used`` the schedules of each aim that were run; ``seconds``
    the processor time.
    """

    name: str
    rule: str
    schedules: int = 0
    kills: int = 0
    killer: Seed | None = None
    said: str = ""
    checks: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def expected(self) -> bool:
        """Whether it died, or is known to survive and did."""
        return (self.name in SURVIVORS) != bool(self.kills)


def schedules(mutant: Mutant, budget: int) -> Iterator[Seed]:
    """The schedules of ``mutant``, its aims in turn."""
    for number in range(budget):
        turn, place = divmod(number, len(mutant.aims))
        yield mutant.aims[place], turn


def check_of(error: Exception) -> str:
    """Which check of the oracle rejected a schedule; another error stopped a stream."""
    return str(getattr(error, "check", "") or type(error).__name__)


def judge(name: str, kills: int = 1, budget: int = 0) -> Verdict:
    """Run a mutant until ``kills`` schedules have shown it, or its budget (0: its own) is spent."""
    mutant = MUTANTS[name]
    verdict = Verdict(name, mutant.rule)
    started = time.process_time()
    if not budget:
        budget = min(mutant.budget, SURVIVOR_BUDGET) if name in SURVIVORS else mutant.budget
    for aim, seed in schedules(mutant, budget):
        verdict.schedules += 1
        verdict.used[aim] = seed + 1
        with mutant.off():
            error = run_one(seed, aim)
        if error is None or run_one(seed, aim) is not None:
            # A schedule that fails with all rules on as well shows nothing: see `clean`.
            continue
        if isinstance(error, BROKEN):
            raise error
        if not isinstance(error, FAULTS):
            continue
        verdict.kills += 1
        verdict.checks[check_of(error)] += 1
        verdict.killer = verdict.killer or (aim, seed)
        verdict.said = verdict.said or str(error)
        if verdict.kills == kills:
            break
    verdict.seconds = time.process_time() - started
    return verdict


def failures(aim: str, seeds: range) -> list[str]:
    """The schedules that fail with all rules on."""
    found = ((seed, run_one(seed, aim)) for seed in seeds)
    return [f"{aim or 'any'} {seed}: {error}" for seed, error in found if error is not None]


@contextmanager
def workers(processes: int = PROCESSES) -> Iterator[Executor]:
    """Processes that run schedules; what nobody has begun is dropped at the end."""
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), begin_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def verdicts(
    pool: Executor, names: Iterable[str], kills: int = 1, budget: Callable[[str], int] = lambda _: 0
) -> Iterator[Verdict]:
    """The verdicts on ``names``, as they come; those known to survive begin last."""
    order = sorted(names, key=lambda name: name in SURVIVORS)
    waiting = [pool.submit(judge, name, kills, budget(name)) for name in order]
    for done in as_completed(waiting):
        yield done.result()


def clean(pool: Executor, found: Iterable[Verdict]) -> list[str]:
    """What fails with all rules on, of the schedules that the verdicts rest on."""
    longest: Counter[str] = Counter()
    for verdict in found:
        if verdict.kills:
            longest |= verdict.used
    waiting: list[Future[list[str]]] = [
        pool.submit(failures, aim, range(first, min(first + CLEAN_CHUNK, longest[aim])))
        for aim in sorted(longest)
        for first in range(0, longest[aim], CLEAN_CHUNK)
    ]
    return [line for each in waiting for line in each.result()]


def line(verdict: Verdict) -> str:
    """A row of the table."""
    if not verdict.kills:
        fate = "survives, as known" if verdict.expected else "SURVIVES"
        return f"{verdict.name:58} {fate}: {verdict.schedules} schedules"
    share = 100 * verdict.kills / verdict.schedules
    checks = ", ".join(f"{check} {count}" for check, count in verdict.checks.most_common())
    aim, seed = verdict.killer or ("", 0)
    known = "" if verdict.expected else " (IS NAMED A SURVIVOR)"
    return (
        f"{verdict.name:58} {share:7.2f} %  first {aim or 'any'} {seed}, "
        f"{verdict.seconds:.1f} s; {checks}{known}"
    )


def as_data(verdict: Verdict) -> dict:
    """A verdict as plain data."""
    data = {each.name: getattr(verdict, each.name) for each in fields(verdict)}
    return data | {
        "checks": dict(verdict.checks), "used": dict(verdict.used), "expected": verdict.expected,
        "seconds": round(verdict.seconds, 1),
    }  # fmt: skip


def report(found: list[Verdict], unsound: list[str], seconds: float) -> dict:
    """The outcome as plain data."""
    return {
        "mutants": [as_data(verdict) for verdict in found],
        "killed": sum(bool(verdict.kills) for verdict in found),
        "survivors": {
            verdict.name: SURVIVORS.get(verdict.name, "") for verdict in found if not verdict.kills
        },
        "schedules": sum(verdict.schedules for verdict in found),
        "fail_with_all_rules_on": unsound,
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutants with this in their name")
    parser.add_argument("--kills", type=int, default=1, help="schedules that must show each")
    parser.add_argument("--budget", type=int, default=0, help="schedules of each at most")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--json", action="store_true", help="print the report as JSON at the end")
    parser.add_argument("--report", help="write the report as JSON into this file")
    options = parser.parse_args()
    names = [name for name in MUTANTS if options.only in name]
    if not names:
        parser.error(f"no mutant has {options.only!r} in its name: {', '.join(MUTANTS)}")
    started = time.perf_counter()
    found: list[Verdict] = []
    with workers(options.processes) as pool:
        for verdict in verdicts(pool, names, options.kills, lambda _: options.budget):
            found.append(verdict)
            print(f"[{len(found)}/{len(names)}] {line(verdict)}", file=sys.stderr, flush=True)
        unsound = clean(pool, found)
    found.sort(key=lambda verdict: names.index(verdict.name))
    outcome = report(found, unsound, time.perf_counter() - started)
    if options.report:
        with open(options.report, "w", encoding="utf-8") as file:
            json.dump(outcome, file, indent=1)
    if options.json:
        print(json.dumps(outcome, indent=1))
    else:
        for verdict in found:
            print(line(verdict))
        for failure in unsound:
            print(f"fails with all rules on: {failure}")
        print(f"{outcome['killed']} of {len(found)} killed, {outcome['seconds']} s")
    return 0 if not unsound and all(verdict.expected for verdict in found) else 1


if __name__ == "__main__":
    sys.exit(main())
