"""When a wait ends, quiet inputs, and the bounds of memory: H = 100, D = 20, S = 5, R = 50, so K = 175."""

from __future__ import annotations

import pytest
from tests.builders import make_join_spec, make_label, make_limits, make_mark, make_scored_block

from tailrace.domain.join import LabelJoin, PausedInputs
from tailrace.domain.positions import position_of
from tailrace.domain.times import NEVER


@pytest.mark.parametrize(("passed_ms", "dropped"), [(1_100, []), (1_101, ["a"])])
def test_a_wait_ends_when_both_watermarks_are_past_the_horizon(passed_ms: int, dropped: list[str]) -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("other", passed_ms)))
    join.on_label(make_label("other", time_ms=passed_ms), home=0)

    more = join.expire()

    assert not more
    assert join.take().dropped.ids == dropped


def test_a_wait_goes_on_while_the_labels_lag() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("other", 9_000)))

    join.expire()

    assert len(join.take().dropped) == 0


def test_a_wait_goes_on_while_the_events_lag() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.on_label(make_label("other", time_ms=9_000), home=0)

    join.expire()

    assert len(join.take().dropped) == 0


def test_a_wait_goes_on_until_the_marks_of_all_other_partitions_are_past_the_horizon() -> None:
    join = LabelJoin(make_join_spec(partitions=3))
    join.on_scored(0, make_scored_block(("a", 1_000), ("other", 1_101)))
    join.on_label(make_label("other", time_ms=1_101), home=0)
    join.on_relabelled(0, make_mark(partition=1, watermark_ms=1_101))

    join.expire()
    before = join.take().dropped.ids
    join.on_relabelled(1, make_mark(partition=2, watermark_ms=1_101))
    join.expire()

    assert before == []
    assert join.take().dropped.ids == ["a"]


def test_without_a_label_an_event_is_dropped_and_leaves_a_row() -> None:
    join = _with_passed_events(("a", 1_000))

    join.expire()

    batch = join.take()
    assert batch.dropped.ids == ["a"]
    assert batch.dropped.times_ms.tolist() == [1_000]
    assert batch.dropped.source_offsets.tolist() == [0]
    assert batch.vector.counts == {"dropped": 1}


def test_without_a_label_an_event_takes_the_implicit_one() -> None:
    join = _with_passed_events(("a", 1_000), implicit=0.0)

    join.expire()

    batch = join.take()
    assert batch.examples.ids == ["a"]
    assert batch.examples.kinds.tolist() == [1]
    assert batch.examples.y.tolist() == [0.0]
    assert batch.examples.label_offsets.tolist() == [-1]
    assert batch.vector.counts == {"implicit": 1}


def test_expired_events_come_by_time_and_id() -> None:
    join = _with_passed_events(("b", 1_010), ("c", 1_000), ("a", 1_010))

    join.expire()

    assert join.take().dropped.ids == ["c", "a", "b"]


def test_what_has_no_room_in_the_block_still_waits() -> None:
    join = _with_passed_events(("a", 1_000), ("b", 1_001), ("c", 1_002), max_rows=2)

    more = join.expire()
    first = join.take()
    rest = join.expire()
    second = join.take()

    assert (more, rest) == (True, False)
    assert first.dropped.ids == ["a", "b"]
    assert first.vector.scored_low.position == position_of(0, 2)
    assert second.dropped.ids == ["c"]


def test_the_lowest_position_comes_with_the_watermark_just_before_it() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("b", 990), ("c", 1_050)))

    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)
    waiting = join.take().vector
    join.on_label(make_label("b", time_ms=1_010, offset=1), home=0)
    join.on_label(make_label("c", time_ms=1_050, offset=2), home=0)
    nothing_waits = join.take().vector

    assert (waiting.scored_low.position, waiting.scored_low.watermark_ms) == (position_of(0, 1), 1_000)
    assert nothing_waits.scored_low.position == nothing_waits.scored_next == position_of(1)
    assert nothing_waits.scored_low.watermark_ms == nothing_waits.scored_watermark_ms == 1_050


def test_an_early_label_holds_its_position_with_the_watermark_just_before_it() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("b", 1_000)))
    join.on_label(make_label("b", time_ms=1_010, offset=0), home=0)
    join.on_label(make_label("a", time_ms=1_040, offset=1), home=0)
    join.on_label(make_label("b", time_ms=1_060, offset=2), home=0)

    early = join.take().vector
    join.on_scored(1, make_scored_block(("a", 1_030)))
    judged = join.take().vector

    assert (early.labels_low.position, early.labels_low.watermark_ms) == (1, 1_010)
    assert (judged.labels_low.position, judged.labels_low.watermark_ms) == (3, 1_060)


def test_a_quiet_labels_partition_is_moved_up_to_the_scored_watermark() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.on_rejected_label(6)

    moved = join.idle(labels_end_reached=True)
    again = join.idle(labels_end_reached=True)

    vector = join.take().vector
    assert (moved, again) == (True, False)
    assert vector.labels_watermark_ms == 1_000
    assert vector.idle_moves == ((7, 1_000),)


def test_labels_that_can_still_be_read_are_not_moved() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))

    assert not join.idle(labels_end_reached=False)


def test_an_idle_move_stands_in_the_next_vector_even_when_labels_were_read_on() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.idle(labels_end_reached=True)
    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)

    first = join.take().vector
    join.on_rejected_label(1)
    second = join.take().vector

    assert first.idle_moves == ((0, 1_000),)
    assert second.idle_moves == ()


def test_moves_at_one_position_are_all_kept_until_it_is_passed() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.idle(labels_end_reached=True)
    join.take()
    join.on_scored(1, make_scored_block(("b", 1_010)))

    join.idle(labels_end_reached=True)

    assert join.take().vector.idle_moves[-1] == (0, 1_010)


def test_an_identity_is_forgotten_when_nothing_can_ask_for_it_any_more() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("b", 1_175)))
    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)
    join.on_label(make_label("b", time_ms=1_176, offset=1), home=0)

    join.take()
    before = join.remembered
    join.on_scored(1, make_scored_block(("c", 1_176)))
    join.on_label(make_label("c", time_ms=1_176, offset=2), home=0)
    join.take()

    assert before == 2
    assert join.remembered == 2


def test_an_identity_is_remembered_while_an_older_event_waits() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_scored(0, make_scored_block(("waits", 990), ("a", 1_000), ("b", 9_000)))
    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)
    join.on_label(make_label("b", time_ms=9_000, offset=1), home=0)

    join.take()

    assert join.remembered == 3


def test_the_oldest_row_is_that_of_the_oldest_identity_still_remembered() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.acknowledged(40)
    join.on_label(make_label("a", time_ms=1_010, offset=0), home=0)
    first = join.take().vector.oldest_row
    join.acknowledged(50)
    join.on_scored(1, make_scored_block(("b", 2_000)))
    join.on_label(make_label("b", time_ms=2_000, offset=1), home=0)

    second = join.take().vector.oldest_row

    assert (first, second) == (40, 50)


def test_the_newer_of_two_events_with_one_id_survives_the_older_one() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("other", 1_176), ("a", 1_300)))
    join.on_label(make_label("a", time_ms=1_010, y=1.0, offset=0), home=0)
    join.on_label(make_label("other", time_ms=1_200, offset=1), home=0)
    join.on_label(make_label("a", time_ms=1_310, y=0.0, offset=2), home=0)
    join.take()

    join.on_label(make_label("a", time_ms=1_320, y=0.0, offset=3), home=0)

    assert join.take().vector.counts == {"duplicate": 1}
    assert join.remembered == 2


def test_the_middle_of_three_events_with_one_id_is_forgotten_alone() -> None:
    join = LabelJoin(make_join_spec())
    rows = [("x", 1_000), ("b", 1_176), ("x", 1_300), ("c", 1_476), ("x", 1_600)]
    join.on_scored(0, make_scored_block(*rows))
    join.on_label(make_label("x", time_ms=1_010, offset=0), home=0)
    join.on_label(make_label("b", time_ms=1_180, offset=1), home=0)
    join.on_label(make_label("x", time_ms=1_310, offset=2), home=0)
    join.on_label(make_label("c", time_ms=1_480, offset=3), home=0)
    join.on_label(make_label("x", time_ms=1_610, y=1.0, offset=4), home=0)
    join.take()

    join.on_label(make_label("x", time_ms=1_620, y=1.0, offset=5), home=0)

    assert join.take().vector.counts == {"duplicate": 1}
    assert join.remembered == 2


def test_positions_to_read_next_are_told() -> None:
    join = LabelJoin(make_join_spec())

    join.on_scored(3, make_scored_block(("a", 1_000)))
    join.on_rejected_label(8)

    assert (join.scored_next, join.labels_next) == (position_of(4), 9)


def test_positions_alone_are_nothing_that_others_wait_for() -> None:
    join = LabelJoin(make_join_spec())

    join.on_scored(0, make_scored_block(("a", 1_000)))
    waiting = join.has_output
    join.on_label(make_label("a", time_ms=1_010), home=0)

    assert (waiting, join.has_output) == (False, True)


def test_a_batch_is_due_when_positions_moved() -> None:
    join = LabelJoin(make_join_spec())
    fresh = join.is_dirty
    join.on_rejected_label(0)

    moved = join.is_dirty
    join.take()

    assert (fresh, moved, join.is_dirty) == (False, True, False)


def test_a_batch_is_due_when_waits_have_ended() -> None:
    join = _with_passed_events(("a", 1_000))
    join.take()

    join.expire()

    assert join.is_dirty


def test_nothing_is_paused_below_the_bound() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_waiting=2)))

    join.on_scored(0, make_scored_block(("a", 1_000)))

    assert join.paused_inputs() == PausedInputs(scored=False, labels=False)


def test_at_the_bound_nothing_pauses_where_times_are_equal_and_it_is_told_that_it_is_reached() -> None:
    """Whoever reads decides what then: the input with the least watermark must read on, and each is that here."""
    join = LabelJoin(make_join_spec(limits=make_limits(max_waiting=2)))
    join.on_scored(0, make_scored_block(("a", 1_000)))
    before = join.holds_most

    join.on_label(make_label("b", time_ms=1_000), home=0)

    assert (before, join.holds_most) == (False, True)
    assert join.paused_inputs() == PausedInputs(scored=False, labels=False)


def test_at_the_bound_events_that_are_ahead_of_the_labels_pause() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_waiting=1)))

    join.on_scored(0, make_scored_block(("a", 1_000)))

    assert join.paused_inputs() == PausedInputs(scored=True, labels=False)


def test_at_the_bound_labels_that_are_ahead_of_the_events_pause() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_waiting=1)))

    join.on_label(make_label("a", time_ms=1_000), home=0)

    assert join.paused_inputs() == PausedInputs(scored=False, labels=True)


def test_at_the_bound_events_wait_for_the_marks_of_other_partitions() -> None:
    join = LabelJoin(make_join_spec(partitions=2, limits=make_limits(max_waiting=1)))
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.on_label(make_label("b", time_ms=1_000), home=0)

    join.on_relabelled(0, make_mark(partition=1, watermark_ms=900))

    assert join.paused_inputs() == PausedInputs(scored=True, labels=False)


def test_the_partition_that_all_waits_depend_on_is_the_one_that_has_told_of_the_least_time() -> None:
    join = LabelJoin(make_join_spec(partitions=3))
    never = join.least_heard
    join.on_label(make_label("b", time_ms=1_000), home=0)
    join.on_relabelled(0, make_mark(partition=1, watermark_ms=900))
    silent = join.least_heard
    join.on_relabelled(1, make_mark(partition=2, watermark_ms=2_000))

    assert (NEVER, (2, NEVER), (1, 900)) == (never[1], silent, join.least_heard)


def test_events_that_fill_half_of_what_may_wait_are_ahead_when_they_are_so_by_more_than_the_horizon() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_waiting=2)))
    horizon_ms = join.spec.times.horizon_ms
    join.on_label(make_label("a", time_ms=1_000), home=0)

    join.on_scored(0, make_scored_block(("b", 1_001 + horizon_ms)))
    assert join.inputs_ahead() == PausedInputs(scored=True, labels=False)
    join.on_label(make_label("c", time_ms=1_001, offset=1), home=0)
    assert join.inputs_ahead() == PausedInputs(scored=False, labels=False)


def test_events_that_are_far_ahead_are_read_on_while_few_wait() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_waiting=6)))
    join.on_label(make_label("a", time_ms=1_000), home=0)

    join.on_scored(0, make_scored_block(("b", 1_001 + join.spec.times.horizon_ms)))

    assert join.inputs_ahead() == PausedInputs(scored=False, labels=False)


def test_early_labels_that_fill_half_of_what_may_are_ahead_when_they_are_so_by_more_than_the_horizon() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_early=2)))
    join.on_scored(0, make_scored_block(("a", 1_000)))

    join.on_label(make_label("b", time_ms=1_001 + join.spec.times.horizon_ms), home=0)

    assert join.inputs_ahead() == PausedInputs(scored=False, labels=True)


def _with_passed_events(*rows: tuple[str, int], implicit: float | None = None, max_rows: int = 500) -> LabelJoin:
    """Return a join that both watermarks have taken past the horizon of all these events."""
    join = LabelJoin(make_join_spec(implicit=implicit, limits=make_limits(max_rows=max_rows)))
    join.on_scored(0, make_scored_block(*rows, ("end", 9_000)))
    join.on_rejected_label(0)
    join.idle(labels_end_reached=True)
    return join
