"""Labels that come on another partition than their event's, and what partitions tell each other."""

from __future__ import annotations

import pytest
from tests.builders import make_forward, make_join_spec, make_label, make_mark, make_scored_block

from tailrace.domain.join import LabelJoin
from tailrace.domain.records import Forward, Mark


def test_a_label_of_another_partition_is_forwarded_with_the_watermark_just_before_it() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_label(make_label("mine", time_ms=1_000, offset=0), home=0)
    label = make_label("theirs", time_ms=1_200, offset=1)

    join.on_label(label, home=1)

    batch = join.take()
    assert batch.forwards == [(1, Forward(label, 1_000))]
    assert batch.vector.counts == {"forwarded": 1}
    assert batch.vector.labels_watermark_ms == 1_200


def test_a_forward_is_joined_like_a_label() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_scored(0, make_scored_block(("a", 1_000)))
    label = make_label("a", time_ms=1_010, offset=7, partition=1)

    join.on_relabelled(0, make_forward(label, watermark_ms=900))

    batch = join.take()
    assert batch.examples.label_partitions.tolist() == [1]
    assert batch.examples.label_offsets.tolist() == [7]
    assert batch.vector.counts == {"joined": 1, "received": 1}


@pytest.mark.parametrize(("watermark_ms", "outcome"), [(1_100, "joined"), (1_101, "late")])
def test_a_forward_is_judged_by_the_watermark_of_its_own_labels_partition(watermark_ms: int, outcome: str) -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.on_label(make_label("other", time_ms=5_000), home=0)

    join.on_relabelled(0, make_forward(make_label("a", time_ms=1_010, partition=1), watermark_ms))

    assert join.take().vector.counts == {"received": 1, outcome: 1}


def test_a_forward_moves_no_watermark() -> None:
    join = LabelJoin(make_join_spec(partitions=2))

    join.on_relabelled(0, make_forward(make_label("a", time_ms=1_010, partition=1), watermark_ms=1_500))

    vector = join.take().vector
    assert vector.labels_watermark_ms < 0
    assert vector.marks_ms[1] < 0


def test_a_forward_that_comes_twice_is_redelivered() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_scored(0, make_scored_block(("a", 1_000)))
    forward = make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900)

    join.on_relabelled(0, forward)
    join.on_relabelled(1, forward)

    assert join.take().vector.counts == {"joined": 1, "received": 1, "redelivered": 1}


@pytest.mark.parametrize(("next_offset", "outcome"), [(7, "received"), (8, "redelivered")])
def test_a_forward_below_a_mark_of_its_partition_is_redelivered(next_offset: int, outcome: str) -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_relabelled(0, make_mark(partition=1, next_offset=next_offset, watermark_ms=1_000))

    join.on_relabelled(1, make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900))

    assert join.take().vector.counts == {outcome: 1}


def test_a_forward_seen_before_a_mark_is_redelivered_after_it() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    forward = make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900)
    join.on_relabelled(0, forward)
    join.on_relabelled(1, make_mark(partition=1, next_offset=8, watermark_ms=1_010))

    join.on_relabelled(2, forward)

    assert join.take().vector.counts == {"received": 1, "redelivered": 1}


def test_a_mark_covers_only_its_own_partition() -> None:
    join = LabelJoin(make_join_spec(partitions=3))
    join.on_relabelled(0, make_mark(partition=2, next_offset=100, watermark_ms=1_000))

    join.on_relabelled(1, make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900))

    assert join.take().vector.counts == {"received": 1}


def test_an_older_mark_changes_nothing() -> None:
    join = LabelJoin(make_join_spec(partitions=2))

    join.on_relabelled(0, make_mark(partition=1, next_offset=10, watermark_ms=1_000))
    join.on_relabelled(1, make_mark(partition=1, next_offset=5, watermark_ms=800))

    vector = join.take().vector
    assert vector.marks_ms == {1: 1_000}
    assert vector.relabelled_covered == {1: 10}


def test_a_mark_of_a_partition_that_does_not_exist_is_passed_over() -> None:
    join = LabelJoin(make_join_spec(partitions=2))

    join.on_relabelled(0, make_mark(partition=9, next_offset=10, watermark_ms=1_000))

    vector = join.take().vector
    assert list(vector.marks_ms) == [1]
    assert vector.relabelled_next == 1


def test_a_forward_that_waits_holds_its_position_and_what_was_covered_before_it() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_relabelled(0, make_mark(partition=1, next_offset=5, watermark_ms=900))
    join.on_relabelled(1, make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900))

    join.on_relabelled(2, make_mark(partition=1, next_offset=8, watermark_ms=1_010))

    vector = join.take().vector
    assert (vector.relabelled_low, dict(vector.relabelled_covered)) == (1, {1: 5})


def test_a_joined_forward_holds_its_position_until_a_mark_covers_it() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_scored(0, make_scored_block(("a", 1_000)))
    join.on_relabelled(0, make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900))
    before = join.take().vector.relabelled_low

    join.on_relabelled(1, make_mark(partition=1, next_offset=8, watermark_ms=1_010))

    vector = join.take().vector
    assert before == 0
    assert (vector.relabelled_low, dict(vector.relabelled_covered)) == (2, {1: 8})


def test_a_rejected_record_moves_the_position() -> None:
    join = LabelJoin(make_join_spec(partitions=2))

    join.on_rejected_relabelled(4)

    assert join.is_dirty
    assert join.take().vector.relabelled_next == 5


def test_rows_of_a_forward_do_not_share_a_block_with_another_contract() -> None:
    join = LabelJoin(make_join_spec(partitions=2))
    join.on_scored(0, make_scored_block(("a", 1_000), contract_id="old"))
    join.on_scored(1, make_scored_block(("b", 1_000), contract_id="new"))
    join.on_label(make_label("a", time_ms=1_000), home=0)

    join.on_relabelled(0, make_forward(make_label("b", time_ms=1_000, partition=1), watermark_ms=900))

    assert [join.take().contract_id, join.take().contract_id] == ["old", "new"]


def test_the_mark_tells_how_far_the_taken_batch_has_read() -> None:
    join = LabelJoin(make_join_spec(partition=1, partitions=2))
    before = join.mark()
    join.on_label(make_label("a", time_ms=1_000, offset=4, partition=1), home=1)
    batch = join.take()

    join.on_label(make_label("b", time_ms=2_000, offset=5, partition=1), home=1)

    assert before.next_offset == 0
    assert join.mark() == batch.mark == Mark(1, 5, 1_000)
