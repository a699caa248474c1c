"""A failing seed becomes a small world that still fails, and one line runs it again."""

from __future__ import annotations

from tests.simulation.faults import Trim
from tests.simulation.run import run
from tests.simulation.shrink import shrink

PLANT = "lost_correction"


def test_a_seed_that_does_not_fail_is_not_made_smaller() -> None:
    assert shrink(0) is None


def test_what_is_left_of_a_failing_seed_is_small_and_still_fails() -> None:
    seed = next(seed for seed in range(50) if run(seed, PLANT).problems)
    whole = run(seed, PLANT)

    smallest = shrink(seed, PLANT)

    assert smallest is not None
    assert smallest.result.problems.keys() <= whole.problems.keys()
    assert len(smallest.result.ids) <= 2
    assert len(smallest.result.faults) <= 2
    assert smallest.result.steps < whole.steps
    assert run(seed, PLANT, smallest.trim) == smallest.result


def test_the_smallest_world_is_told_in_words_with_the_line_that_reruns_it() -> None:
    seed = next(seed for seed in range(50) if run(seed, PLANT).problems)

    smallest = shrink(seed, PLANT)

    assert smallest is not None
    (event_id, *_) = sorted(smallest.result.ids)
    assert f"label of {event_id} at " in smallest.in_words()
    assert smallest.command.startswith(f"python -m tests.simulation --seed {seed} --plant {PLANT} --ids {event_id}")
    again = run(seed, PLANT, Trim(smallest.result.ids, frozenset(smallest.result.faults)))
    assert again.problems == smallest.result.problems
