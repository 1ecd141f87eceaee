"""Running many schedules, on two processors, and showing one that fails.

``run`` is what tests use; the command is ``python -m tests.sim``.
"""

import gc
import hashlib
import json
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .aims import AIMS
from .world import World

CHUNK = 100
WORKERS = 2

Aim = str | dict[str, Any] | None


def run(
    seeds: Iterable[int], show: bool = True, first_only: bool = False, aim: Aim = None
) -> tuple[Counter[str], dict[int, str]]:
    """What happened over all ``seeds`` (or up to the first that fails), and what went wrong."""
    total: Counter[str] = Counter()
    failures: dict[int, str] = {}
    for seed in seeds:
        try:
            total += World(seed, aimed(aim)).run()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            failures[seed] = f"{type(error).__name__}: {error} ({place.name}, {place.lineno})"
            if show:
                print(f"seed {seed}: {failures[seed]}", flush=True)
            if first_only:
                break
    return total, failures


def begin_worker() -> None:
    """A worker has all that it keeps: only what schedules leave behind need be collected."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def aimed(aim: Aim) -> dict[str, Any] | None:
    """The weather that an aim fixes."""
    return AIMS[aim] if isinstance(aim, str) else aim


def _chunk(task: tuple[list[int], Aim]) -> tuple[int, Counter[str], dict[int, str]]:
    seeds, aim = task
    return len(seeds), *run(seeds, show=False, aim=aim)


def run_many(
    seeds: Sequence[int], aim: Aim = None, workers: int = WORKERS, progress: bool = False
) -> tuple[Counter[str], dict[int, str]]:
    """The same with ``workers`` processes; the order of the seeds does not matter."""
    total: Counter[str] = Counter()
    failures: dict[int, str] = {}
    tasks = [(list(seeds[at : at + CHUNK]), aim) for at in range(0, len(seeds), CHUNK)]
    began, done = time.monotonic(), 0
    processes = min(workers, max(1, len(tasks)))
    with multiprocessing.get_context("fork").Pool(processes, begin_worker) as pool:
        for count, counts, wrong in pool.imap_unordered(_chunk, tasks):
            done += count
            total += counts
            failures.update(wrong)
            if progress:
                spent = time.monotonic() - began
                print(
                    f"\r{done} of {len(seeds)} schedules, {len(failures)} failed, {spent:.0f} s",
                    end="", file=sys.stderr, flush=True,
                )  # fmt: skip
    if progress:
        print(file=sys.stderr)
    return total, failures


def report(
    seeds: Sequence[int], total: Counter[str], failures: dict[int, str], spent: float, aim: Aim
) -> dict[str, Any]:
    """What a run found, as JSON has it."""
    return {
        "schedules": len(seeds),
        "first": seeds[0] if seeds else 0,
        "aim": aim,
        "seconds": round(spent, 1),
        "events": total["events"],
        "transactions": total["transactions"],
        "failed": {str(seed): text for seed, text in sorted(failures.items())},
        "happened": {
            name: count
            for name, count in sorted(total.items())
            if name not in ("events", "transactions")
        },
    }


def fingerprint(seed: int, aim: Aim = None) -> str:
    """A digest of everything a schedule did: equal wherever and whenever it runs."""
    world = World(seed, aimed(aim), lines=True)
    try:
        world.run()
    except AssertionError as error:
        world.journal.tell(0, str(error))
    lines = world.journal.lines
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]
