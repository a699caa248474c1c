"""What becomes of labels: H = 100, D = 20, S = 5, R = 50."""

from __future__ import annotations

import pytest
from tests.builders import make_join_spec, make_label, make_scored_block

from tailrace.domain.join import LabelJoin
from tailrace.domain.records import Code, DeadLabel


def test_a_label_in_time_is_joined_at_once() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))

    join.on_label(make_label("a", time_ms=1_010, y=1.0), home=0)

    batch = join.take()
    assert batch.examples.ids == ["a"]
    assert batch.vector.counts == {"joined": 1}
    assert join.waiting == 0


@pytest.mark.parametrize(("time_ms", "outcome"), [(1_100, "joined"), (1_101, "late")])
def test_a_label_is_in_time_up_to_the_horizon_inclusive(time_ms: int, outcome: str) -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))

    join.on_label(make_label("a", time_ms=time_ms), home=0)

    assert join.take().vector.counts == {outcome: 1}


@pytest.mark.parametrize(("watermark_ms", "outcome"), [(1_100, "joined"), (1_101, "late")])
def test_a_label_is_judged_by_the_watermark_just_before_it(watermark_ms: int, outcome: str) -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("other", 1_000)))
    join.on_label(make_label("other", time_ms=watermark_ms, offset=0), home=0)
    join.take()

    join.on_label(make_label("a", time_ms=1_010, offset=1), home=0)

    assert join.take().vector.counts == {outcome: 1}


def test_a_late_label_goes_to_the_dead_letters_and_its_event_still_waits() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))
    label = make_label("a", time_ms=1_101)

    join.on_label(label, home=0)

    assert join.take().dead == [DeadLabel(label, Code.LATE)]
    assert join.waiting == 1


def test_a_late_label_of_an_event_that_takes_an_implicit_label_is_late_too() -> None:
    join = LabelJoin(make_join_spec(implicit=0.0))
    join.on_scored(0, make_scored_block(("a", 1_000)))

    join.on_label(make_label("a", time_ms=1_101), home=0)

    assert join.take().vector.counts == {"late": 1}
    assert join.waiting == 1


@pytest.mark.parametrize("implicit", [None, 0.0])
def test_a_label_after_the_wait_has_ended_is_late(implicit: float | None) -> None:
    join = LabelJoin(make_join_spec(implicit=implicit))
    join.on_scored(0, make_scored_block(("a", 1_000), ("other", 1_120)))
    join.on_label(make_label("other", time_ms=1_120, offset=0), home=0)
    join.expire()
    join.take()

    join.on_label(make_label("a", time_ms=1_050, offset=1), home=0)

    assert join.take().vector.counts == {"late": 1}


def test_the_same_label_twice_is_a_duplicate() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))

    join.on_label(make_label("a", time_ms=1_010, y=1.0, offset=0), home=0)
    join.on_label(make_label("a", time_ms=1_020, y=1.0, offset=1), home=0)

    batch = join.take()
    assert batch.vector.counts == {"duplicate": 1, "joined": 1}
    assert batch.dead == []


def test_another_target_is_conflicting_and_the_first_wins() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))
    second = make_label("a", time_ms=1_020, y=0.0, offset=1)

    join.on_label(make_label("a", time_ms=1_010, y=1.0, offset=0), home=0)
    join.on_label(second, home=0)

    batch = join.take()
    assert batch.examples.y.tolist() == [1.0]
    assert batch.dead == [DeadLabel(second, Code.CONFLICTING)]


@pytest.mark.parametrize(("time_ms", "outcomes"), [(1_150, {"duplicate": 1}), (1_151, {"orphaned": 1})])
def test_an_identity_is_recognised_for_a_while_after_its_horizon(time_ms: int, outcomes: dict[str, int]) -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("end", 2_000)))
    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)
    join.take()

    join.on_label(make_label("a", time_ms=time_ms, offset=1), home=0)

    assert join.take().vector.counts == outcomes


@pytest.mark.parametrize(("time_ms", "joined"), [(995, True), (994, False)])
def test_a_label_may_be_dated_before_its_event_by_the_skew(time_ms: int, joined: bool) -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))

    join.on_label(make_label("a", time_ms=time_ms), home=0)

    assert join.take().vector.counts == ({"joined": 1} if joined else {})
    assert join.early == (0 if joined else 1)


def test_a_label_before_its_event_waits_and_is_joined_when_the_event_comes() -> None:
    join = LabelJoin(make_join_spec())

    join.on_label(make_label("a", time_ms=1_010, y=1.0), home=0)
    early = join.early
    join.on_scored(0, make_scored_block(("a", 1_000)))

    assert early == 1
    assert join.early == 0
    assert join.take().vector.counts == {"joined": 1}


def test_early_labels_of_one_id_are_judged_in_reading_order() -> None:
    join = LabelJoin(make_join_spec())
    join.on_label(make_label("a", time_ms=1_030, y=0.0, offset=0), home=0)
    join.on_label(make_label("a", time_ms=1_010, y=1.0, offset=1), home=0)
    join.on_label(make_label("a", time_ms=1_040, y=0.0, offset=2), home=0)

    join.on_scored(0, make_scored_block(("a", 1_000)))

    batch = join.take()
    assert batch.examples.y.tolist() == [0.0]
    assert batch.vector.counts == {"conflicting": 1, "duplicate": 1, "joined": 1}


def test_an_early_label_is_judged_by_the_watermark_at_its_own_place() -> None:
    join = LabelJoin(make_join_spec())
    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)
    join.on_label(make_label("b", time_ms=5_000, offset=1), home=0)

    join.on_scored(0, make_scored_block(("a", 1_000)))

    assert join.take().vector.counts == {"joined": 1}


def test_an_early_label_that_is_not_of_the_event_goes_on_waiting() -> None:
    join = LabelJoin(make_join_spec())
    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)
    join.on_label(make_label("a", time_ms=1_500, offset=1), home=0)

    join.on_scored(0, make_scored_block(("a", 1_000)))

    assert join.early == 1
    assert join.take().vector.counts == {"joined": 1}


@pytest.mark.parametrize(("watermark_ms", "early"), [(1_025, 1), (1_026, 0)])
def test_an_early_label_is_orphaned_when_no_event_can_come_for_it(watermark_ms: int, early: int) -> None:
    join = LabelJoin(make_join_spec())
    label = make_label("a", time_ms=1_000)
    join.on_label(label, home=0)

    join.on_scored(0, make_scored_block(("other", watermark_ms)))

    assert join.early == early
    assert join.take().dead == ([] if early else [DeadLabel(label, Code.ORPHANED)])


@pytest.mark.parametrize(("watermark_ms", "early"), [(1_025, 1), (1_026, 0)])
def test_a_label_that_comes_when_no_event_can_come_is_orphaned_at_once(watermark_ms: int, early: int) -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("other", watermark_ms)))

    join.on_label(make_label("a", time_ms=1_000), home=0)

    assert join.early == early
    assert join.take().vector.counts == ({} if early else {"orphaned": 1})


def test_a_label_that_was_joined_early_is_not_orphaned_later() -> None:
    join = LabelJoin(make_join_spec())
    join.on_label(make_label("a", time_ms=1_010), home=0)
    join.on_scored(0, make_scored_block(("a", 1_000)))

    join.on_scored(1, make_scored_block(("other", 9_000)))

    assert join.take().vector.counts == {"joined": 1}


def test_a_rejected_label_moves_the_position_and_no_watermark() -> None:
    join = LabelJoin(make_join_spec())
    join.on_label(make_label("a", time_ms=1_000, offset=0), home=0)

    join.on_rejected_label(1)

    vector = join.take().vector
    assert vector.labels_next == 2
    assert vector.labels_watermark_ms == 1_000


def test_an_older_label_does_not_move_the_watermark_back() -> None:
    join = LabelJoin(make_join_spec())

    join.on_label(make_label("a", time_ms=1_000, offset=0), home=0)
    join.on_label(make_label("b", time_ms=900, offset=1), home=0)

    assert join.take().vector.labels_watermark_ms == 1_000
