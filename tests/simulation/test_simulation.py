"""A few seeds of the simulation, and each planted bug until it shows; `make simulate` runs a thousand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.simulation.bugs import CLASSICS, PLANTS
from tests.simulation.run import run

from tailrace.stores.waiting_folders import WaitingFolders

SEEDS = 100
MOST_SEEDS = 1_000
RARE = ("claim_without_commit", "labels_after_refused_idle", "retired_for_good")  # each has a test of its own


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_every_invariant_holds_after_kills_zombies_and_damage(first: int) -> None:
    results = [run(seed) for seed in range(first, first + 10)]

    assert [] == [(result.seed, result.problems) for result in results if result.problems]
    assert sum(result.kills for result in results) > 10


@pytest.mark.parametrize("first", range(200, 240, 10))
def test_every_invariant_holds_with_what_waits_on_disk(first: int, tmp_path: Path) -> None:
    """Fails when the disk follows a block before a commit has proved that it counts, or is believed when it is old."""
    results = [run(seed, rooms=WaitingFolders(tmp_path / str(seed))) for seed in range(first, first + 10)]

    assert [] == [(result.seed, result.problems) for result in results if result.problems]
    assert sum(result.rooms_used for result in results) > 10


def test_everything_that_the_simulation_is_about_comes_up_in_a_few_seeds() -> None:
    happened: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for seed in range(SEEDS, SEEDS + 40):
        result = run(seed)
        happened.update(result.happened)
        refused.update(result.refused)
        assert not result.problems

    wanted = {
        "kill",
        "upgrade",
        "clock",
        "act",
        "asked_twice",
        "overtaken",
        "vandal",
        "put_is_lost",
        "get_flips",
        "mark_waits",
    }
    assert set() == (wanted | {"Skip", "Admit", "Command", "Claim"}) - happened.keys()
    assert set() == {"signature", "unknown_key", "revoked_key", "replayed", "missing"} - refused.keys()


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant not in RARE])
def test_a_planted_bug_is_found(plant: str) -> None:
    found = next((seed for seed in range(MOST_SEEDS) if run(seed, plant).problems), None)

    print(f"{plant} shows at seed {found}")
    assert found is not None


def test_the_twelve_classic_bugs_are_among_those_that_are_found() -> None:
    assert 12 == len(set(CLASSICS.values()) - {*RARE})
    assert set(CLASSICS.values()) <= PLANTS.keys()


def test_one_seed_is_one_run() -> None:
    assert run(11) == run(11)
