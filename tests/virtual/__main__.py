"""``python -m tests.virtual --seeds 1000``: run whole meshes in virtual time; show what fails.

``--seed N`` runs one seed and tells what happened in it.  Exit status 1 when one failed.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from .world import World


def outcome(seed: int) -> tuple[list[str], dict[str, int]]:
    """What is wrong with a seed, and what happened in it."""
    world = World(seed)
    return world.run(), world.counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.virtual", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=10_000, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.seed is not None:
        world = World(options.seed)
        problems = world.run()
        print(world.options, world.counts, *problems, sep="\n")
        return bool(problems)
    began, failed = time.monotonic(), 0
    happened: Counter[str] = Counter()
    seeds = range(options.first, options.first + options.seeds)
    with ProcessPoolExecutor(options.workers) as pool:
        for seed, (problems, counts) in zip(seeds, pool.map(outcome, seeds, chunksize=8)):
            happened.update(counts)
            if problems:
                failed += 1
                print(
                    f"seed {seed} (python -m tests.virtual --seed {seed}):", *problems, sep="\n  "
                )
    counts = ", ".join(f"{name}: {count}" for name, count in sorted(happened.items()))
    print(f"{len(seeds)} meshes, {failed} failed, {time.monotonic() - began:.0f} s; {counts}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
