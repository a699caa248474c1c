"""Run the simulation: python -m tests.simulation --seeds 1000."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from functools import partial

from tests.simulation.rules import PLANTS
from tests.simulation.run import Result, run


def main() -> int:
    """Run seeds, tell about the bad ones, return the exit code: 1 when a seed failed."""
    asked = _parse()
    seeds = [asked.seed] if asked.seed is not None else range(asked.seeds)
    begun = time.monotonic()
    results: list[Result] = []
    with multiprocessing.get_context("fork").Pool(asked.jobs) as pool:
        for result in pool.imap_unordered(partial(run, plant=asked.plant), seeds, 4):
            results.append(result)
            _tell(result, len(results), len(seeds), asked.plant, time.monotonic() - begun)
    bad = [result for result in results if result.problems]
    seen = Counter(name for result in bad for name in result.problems)
    print(
        f"{len(bad)} of {len(results)} seeds failed; {sum(result.kills for result in results)} kills, "
        f"{sum(result.refused for result in results)} snapshots refused, "
        f"{time.monotonic() - begun:.0f} s"
    )
    for name, times in seen.most_common():
        print(f"  {name}: {times} seeds, first {min(r.seed for r in bad if name in r.problems)}")
    return 1 if bad else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="run seeds 0 to N - 1")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="run with this bug")
    return parser.parse_args()


def _tell(result: Result, done: int, seeds: int, plant: str | None, seconds: float) -> None:
    if result.problems:
        planted = f" --plant {plant}" if plant else ""
        print(f"seed {result.seed}: {result.problems}", file=sys.stderr)
        print(f"  rerun: python -m tests.simulation --seed {result.seed}{planted}", file=sys.stderr)
    if done % 50 == 0 or done == seeds:
        print(f"{done} of {seeds} seeds in {seconds:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
