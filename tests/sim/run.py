"""``python -m tests.sim.run --seeds N``: run schedules, print the seeds that fail.

Exit status 1 when one failed.  ``--seed S`` runs a single schedule, for a look.
"""

import argparse
import sys
import traceback
from collections import Counter

from .world import World


def run(
    seeds: range, show: bool = True, first_only: bool = False
) -> tuple[Counter[str], dict[int, str]]:
    """What happened over all ``seeds`` (or up to the first that fails), and what went wrong."""
    total: Counter[str] = Counter()
    failures: dict[int, str] = {}
    for seed in seeds:
        try:
            total += World(seed).run()
        except Exception as error:
            failures[seed] = f"{type(error).__name__}: {error}"
            if show:
                place = traceback.extract_tb(error.__traceback__)[-1]
                print(
                    f"seed {seed}: {failures[seed]} ({place.name}, line {place.lineno})", flush=True
                )
            if first_only:
                break
    return total, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, help="number of schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    total, failures = run(seeds)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(total.items()))
    print(f"{len(seeds)} schedules, {len(failures)} failed; {counts}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
