"""The matrix: cells that must come to equal digests, and those that did not."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tests.determinism.cell import INPUTS, Cell
from tests.determinism.pythons import REPOSITORY

HASH_SEEDS = (0, 1, 4_294_967_295)
RESTORES = 20
WITHIN_S = 3_600.0


@dataclass(frozen=True)
class Ran:
    """A cell under one hash seed, and the digests that it came to by model."""

    hash_seed: int
    cell: Cell
    digests: dict[str, str]


def cells(models: list[str], events: int, *, orders: int, cuts: int) -> list[tuple[int, Cell]]:
    """Return (hash seed, cell): hash seeds × formats × orders of keys × places of restores, and one plain cell.

    Args:
        orders, cuts: How many of each for every hash seed and format.
    """
    plain = Cell(models, events)
    varied = [
        (seed, replace(plain, format=form, shuffle=order, restores=RESTORES, cuts=100 * seed + 10 * order + cut))
        for seed in HASH_SEEDS
        for form in INPUTS
        for order in range(orders)
        for cut in range(cuts)
    ]
    return [(HASH_SEEDS[0], plain), *varied]


def run(python: str, hash_seed: int, cell: Cell) -> Ran:
    """Run one cell in a process of its own."""
    places = os.pathsep.join((str(REPOSITORY / "app"), str(REPOSITORY)))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": places}
    words = [python, "-W", "error", "-m", "tests.determinism.cell", cell.dump()]
    ran = subprocess.run(
        words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return Ran(hash_seed, cell, json.loads(ran.stdout))


def differences(all_ran: Iterable[Ran]) -> dict[str, dict[str, list[Ran]]]:
    """Return model → digest → the cells that came to it, of the models on which cells do not agree."""
    by_model: dict[str, dict[str, list[Ran]]] = defaultdict(lambda: defaultdict(list))
    for ran in all_ran:
        for model, digest in ran.digests.items():
            by_model[model][digest].append(ran)
    return {model: dict(by_digest) for model, by_digest in by_model.items() if len(by_digest) > 1}
