"""Run the simulation: python -m tests.simulation --seeds 1000.

A failing seed is run again with --seed, and made smaller with --seed N --shrink.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.simulation.bugs import PLANTS
from tests.simulation.faults import Trim
from tests.simulation.run import Result, run
from tests.simulation.shrink import shrink

from tailrace.stores.waiting_folders import WaitingFolders


def main() -> int:
    """Run seeds, tell about the bad ones, return the exit code: 1 when a seed failed."""
    asked = _parse()
    if asked.shrink:
        return _shrink(asked)
    seeds = [asked.seed] if asked.seed is not None else range(asked.seeds)
    trim = Trim(_names(asked.ids), _names(asked.faults))
    begun = time.monotonic()
    results: list[Result] = []
    with multiprocessing.get_context("fork").Pool(asked.jobs) as pool:
        work = partial(_run, plant=asked.plant, trim=trim, on_disk=asked.disk)
        for result in pool.imap_unordered(work, seeds, 4):
            results.append(result)
            _tell(result, len(results), len(seeds), asked, time.monotonic() - begun)
    return _sum_up(results, time.monotonic() - begun)


def _run(seed: int, plant: str | None, trim: Trim, *, on_disk: bool) -> Result:
    if not on_disk:
        return run(seed, plant, trim)
    with tempfile.TemporaryDirectory(prefix="tailrace-simulation-") as folder:
        return run(seed, plant, trim, WaitingFolders(Path(folder)))


def _sum_up(results: list[Result], seconds: float) -> int:
    bad = [result for result in results if result.problems]
    seen = Counter(name for result in bad for name in result.problems)
    happened: Counter[str] = Counter()
    for result in results:
        happened.update(result.happened)
        happened["refused"] += sum(result.refused.values())
    print(f"{len(bad)} of {len(results)} seeds failed, {seconds:.0f} s")
    print("  " + ", ".join(f"{name} {times}" for name, times in sorted(happened.items())))
    for name, times in seen.most_common():
        print(f"  {name}: {times} seeds, first {min(r.seed for r in bad if name in r.problems)}")
    return 1 if bad else 0


def _shrink(asked: argparse.Namespace) -> int:
    if asked.seed is None:
        print("--shrink makes one seed smaller; name it with --seed", file=sys.stderr)
        return 2
    smallest = shrink(asked.seed, asked.plant)
    if smallest is None:
        print(f"seed {asked.seed} does not fail")
        return 0
    print(f"seed {asked.seed}, made smaller in {smallest.runs} runs:")
    print(smallest.in_words())
    print(f"rerun: {smallest.command}")
    return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300, help="run seeds 0 to N - 1")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--shrink", action="store_true", help="make the failing seed smaller")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="run with this bug")
    parser.add_argument("--disk", action="store_true", help="keep what waits on disk")
    parser.add_argument("--ids", help="send only events and labels of these ids; none: nothing")
    parser.add_argument("--faults", help="let only these faults strike; none: nothing")
    return parser.parse_args()


def _names(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    return frozenset() if text == "none" else frozenset(text.split(","))


def _tell(result: Result, done: int, seeds: int, asked: argparse.Namespace, seconds: float) -> None:
    if result.problems:
        planted = (f" --plant {asked.plant}" if asked.plant else "") + (" --disk" if asked.disk else "")
        print(f"seed {result.seed}: {result.problems}", file=sys.stderr)
        print(f"  rerun: python -m tests.simulation --seed {result.seed}{planted}", file=sys.stderr)
    if done % 50 == 0 or done == seeds:
        print(f"{done} of {seeds} seeds in {seconds:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
