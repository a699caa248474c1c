"""Digests at agreed positions: which positions, how often, and what a comparison tells."""

from __future__ import annotations

import pytest

from tailrace.domain.positions import position_of
from tailrace.domain.proof import (
    EVERY_EXAMPLES,
    KEPT,
    Comparison,
    Digests,
    Divergence,
    Pace,
    ProofStatus,
    differing,
    level_of,
)


def digests(offset: int, lineage: str = "L", **parts: str) -> Digests:
    return Digests(lineage, "log", position_of(offset), parts or {"loop": "a"})


@pytest.mark.parametrize(
    ("before", "after", "level"),
    [
        (0, EVERY_EXAMPLES - 1, -1),
        (EVERY_EXAMPLES - 1, EVERY_EXAMPLES, 0),
        (EVERY_EXAMPLES, EVERY_EXAMPLES, -1),
        (EVERY_EXAMPLES, 2 * EVERY_EXAMPLES, 1),
        (3 * EVERY_EXAMPLES - 1, 3 * EVERY_EXAMPLES + 1, 0),
        (8 * EVERY_EXAMPLES - 1, 8 * EVERY_EXAMPLES, 3),
        (0, 1 << 60, 40),
    ],
)
def test_a_position_is_agreed_where_the_count_passes_a_multiple(before: int, after: int, level: int):
    assert level == level_of(before, after)


def test_whoever_is_slow_has_every_position_of_its_own_in_common_with_whoever_is_quick():
    levels = [level_of(count, count + 5) for count in range(0, 5_000, 5)]

    quick, slow = ({place for place, level in enumerate(levels) if level >= least} for least in (1, 4))

    assert slow
    assert slow < quick


def test_digests_that_come_too_often_for_what_they_cost_become_rarer_and_then_more_frequent_again():
    """One percent of the time, and one a second at most."""
    pace = Pace()
    for second in range(4):
        pace.took(cost_s=0.05, now_s=float(second))
    costly = pace.level
    for hour in range(1, 10):
        pace.took(cost_s=0.05, now_s=3_600.0 * hour)

    assert (3, 0) == (costly, pace.level)


def test_digests_that_come_about_as_often_as_they_may_stay_as_they_are():
    pace = Pace(level=2)
    for number in range(5):
        pace.took(cost_s=0.001, now_s=2.0 * number)

    assert 2 == pace.level


def test_parts_that_only_one_side_holds_are_not_compared_nor_is_the_directory_of_branches_then():
    mine = {"loop": "a", "branches": "b", "branch.1": "c"}

    assert ("branch.1", "branches") == differing(mine, {"loop": "a", "branches": "x", "branch.1": "y"})
    assert () == differing(mine, {"loop": "a", "branches": "x"})


@pytest.mark.parametrize("mine_first", [True, False])
def test_the_first_position_that_differs_is_told_whoever_comes_first(mine_first: bool):
    comparison = Comparison()
    mine = [digests(1), digests(2, loop="b"), digests(3, loop="c")]
    theirs = [digests(1), digests(2, loop="x"), digests(3, loop="y")]
    found: list[Divergence | None] = []
    if mine_first:
        found += [comparison.mine(each) for each in mine]
        found.append(comparison.theirs("other", reversed(theirs)))
    else:
        found.append(comparison.theirs("other", theirs))
        found += [comparison.mine(each) for each in mine]

    first = next(each for each in found if each is not None)
    assert Divergence(position_of(2), position_of(1), "other", ("loop",)) == first
    assert (1, position_of(1)) == (comparison.equal, comparison.equal_at)


def test_what_was_told_before_is_not_counted_again():
    comparison = Comparison()
    comparison.mine(digests(1))

    for _ in range(3):
        assert comparison.theirs("other", [digests(1)]) is None

    assert 1 == comparison.equal


def test_digests_of_another_lineage_are_not_compared():
    comparison = Comparison()
    comparison.mine(digests(1))

    assert comparison.theirs("other", [digests(1, lineage="M", loop="x")]) is None
    assert 0 == comparison.equal


def test_no_more_digests_are_remembered_than_the_bound():
    comparison = Comparison()
    for offset in range(KEPT + 10):
        comparison.mine(digests(offset))

    comparison.theirs("other", [digests(0, loop="x"), digests(KEPT + 9)])

    assert 1 == comparison.equal


def test_the_share_of_snapshots_proven_is_not_known_without_any():
    assert 0.25 == ProofStatus(0, 0, 4, 16).share
    assert ProofStatus(0, 0, 0, 0).share is None
