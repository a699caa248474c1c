"""The large matrix: `python -m tests.determinism [--events N] [--setup]`, which is `make determinism`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from tests.contracts.model_zoo import CONFIGURATIONS
from tests.determinism.matrix import cells, differences, run
from tests.determinism.pythons import PLACES, REPOSITORY, bare, found


def set_up() -> None:
    """Give every Python without the libraries an environment of its own."""
    for python in found():
        place = PLACES / f"3.{python.minor}"
        plain = bare(python.minor)
        if not python.why_not or plain is None:
            continue
        print(f"3.{python.minor}: setting up {place.relative_to(REPOSITORY)} …", flush=True)
        subprocess.run([plain, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        constraints = str(REPOSITORY / "constraints.txt")
        subprocess.run([*pip, "--constraint", constraints, "--editable", str(REPOSITORY)], check=True)


def main() -> int:
    """Run everything that this machine can run; return 1 when cells differ."""
    parser = argparse.ArgumentParser(prog=Path(__file__).parent.name)
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--orders", type=int, default=3, help="of the keys, for every hash seed and format")
    parser.add_argument("--cuts", type=int, default=1, help="sets of 20 restores, for each order")
    parser.add_argument("--setup", action="store_true", help="make environments for Pythons that lack the libraries")
    chosen = parser.parse_args()
    if chosen.setup:
        set_up()
    is_equal = True
    for python in found():
        if python.why_not:
            print(f"3.{python.minor}: SKIPPED, {python.why_not}", flush=True)
            continue
        begun = perf_counter()
        every = cells(list(CONFIGURATIONS), chosen.events, orders=chosen.orders, cuts=chosen.cuts)
        differing = differences(run(python.path, seed, cell) for seed, cell in every)
        for model, by_digest in differing.items():
            for digest, all_ran in by_digest.items():
                named = ", ".join(f"seed {ran.hash_seed} {ran.cell.format} order {ran.cell.shuffle}" for ran in all_ran)
                print(f"3.{python.minor}: {model}: {digest[:12]} in {named}", flush=True)
        is_equal &= not differing
        verdict = f"{len(differing)} models DIFFER" if differing else "all equal"
        counts = f"{len(every)} cells of {len(CONFIGURATIONS)} models"
        print(f"3.{python.minor}: {counts}, {verdict}, {perf_counter() - begun:.0f} s", flush=True)
    return 0 if is_equal else 1


if __name__ == "__main__":
    sys.exit(main())
