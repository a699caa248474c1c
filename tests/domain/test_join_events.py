"""What becomes of events: H = 100, D = 20, S = 5, R = 50, so K = 175."""

from __future__ import annotations

import numpy as np
import pytest
from tests.builders import make_join_spec, make_label, make_limits, make_scored_block

from tailrace.domain.blocks import XColumns
from tailrace.domain.join import LabelJoin
from tailrace.domain.positions import position_of


def test_an_event_waits_for_its_label() -> None:
    join = LabelJoin(make_join_spec())

    rows_read = join.on_scored(0, make_scored_block(("a", 1_000)))

    assert rows_read == 1
    assert (join.waiting, join.remembered, join.early) == (1, 1, 0)
    assert join.take().vector.counts == {}


@pytest.mark.parametrize(("time_ms", "stale"), [(980, 0), (979, 1)])
def test_an_event_more_than_the_disorder_behind_the_watermark_is_stale(time_ms: int, stale: int) -> None:
    join = LabelJoin(make_join_spec())

    join.on_scored(0, make_scored_block(("first", 1_000), ("a", time_ms)))

    assert join.take().vector.counts.get("stale", 0) == stale
    assert join.waiting == 2 - stale


def test_a_stale_event_leaves_no_trace_so_its_label_is_orphaned() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("first", 1_000), ("a", 900)))

    join.on_label(make_label("a", time_ms=910), home=0)

    assert join.take().vector.counts == {"orphaned": 1, "stale": 1}


def test_staleness_is_asked_before_repetition() -> None:
    join = LabelJoin(make_join_spec())

    join.on_scored(0, make_scored_block(("a", 900), ("first", 1_000), ("a", 900)))

    assert join.take().vector.counts == {"stale": 1}


def test_the_same_event_twice_is_repeated() -> None:
    join = LabelJoin(make_join_spec())

    join.on_scored(0, make_scored_block(("a", 1_000), ("a", 1_000)))

    assert join.take().vector.counts == {"repeated": 1}
    assert join.waiting == 1


@pytest.mark.parametrize(("watermark_ms", "repeated"), [(1_175, 1), (1_176, 0)])
def test_an_id_can_be_used_again_once_the_watermark_is_past_the_reuse_span(watermark_ms: int, repeated: int) -> None:
    join = LabelJoin(make_join_spec())

    join.on_scored(0, make_scored_block(("a", 1_000), ("other", watermark_ms), ("a", 1_300)))

    assert join.take().vector.counts.get("repeated", 0) == repeated
    assert join.waiting == 3 - repeated


def test_each_of_two_events_with_one_id_gets_its_own_label() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), ("other", 1_176), ("a", 1_300)))

    join.on_label(make_label("a", time_ms=1_050, y=1.0, offset=0), home=0)
    join.on_label(make_label("a", time_ms=1_310, y=0.0, offset=1), home=0)

    examples = join.take().examples
    assert examples.times_ms.tolist() == [1_000, 1_300]
    assert examples.y.tolist() == [1.0, 0.0]


def test_a_row_carries_what_was_served_and_where_everything_came_from() -> None:
    join = LabelJoin(make_join_spec())
    block = make_scored_block(
        ("a", 1_000), ("b", 1_010), source_offsets=[40, 41], source_partition=3, state_position=77
    )
    join.on_scored(0, block)

    join.on_label(make_label("b", time_ms=1_020, y=1.0, offset=9, partition=0, broker_ms=5_000), home=0)

    examples = join.take().examples
    assert examples.ids == ["b"]
    assert examples.kinds.tolist() == [0]
    assert examples.source_partitions.tolist() == [3]
    assert examples.source_offsets.tolist() == [41]
    assert examples.label_partitions.tolist() == [0]
    assert examples.label_offsets.tolist() == [9]
    assert examples.label_broker_ms.tolist() == [5_000]
    assert examples.state_positions.tolist() == [77]
    assert examples.served.proba.tolist() == [[0.1]]
    assert examples.x.numbers.tolist() == [[10.0]]


def test_reading_stops_when_the_block_is_full_and_goes_on_from_that_row() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_rows=1)))
    block = make_scored_block(("a", 1_000), ("b", 1_000), ("c", 1_000))
    join.on_label(make_label("a", time_ms=1_000, offset=0), home=0)
    join.on_label(make_label("b", time_ms=1_000, offset=1), home=0)

    first = join.on_scored(0, block)
    while_full = join.on_scored(0, block, first)
    first_batch = join.take()
    second = join.on_scored(0, block, first)
    second_batch = join.take()
    third = join.on_scored(0, block, second)

    assert (first, while_full, second, third) == (1, 1, 2, 3)
    assert first_batch.examples.ids == ["a"]
    assert first_batch.vector.scored_next == position_of(0, 1)
    assert second_batch.examples.ids == ["b"]
    assert join.take().vector.scored_next == position_of(1)


def test_a_block_is_full_by_its_bytes_too() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_bytes=300)))
    join.on_scored(0, make_scored_block(("a", 1_000), ("b" * 100, 1_000)))

    join.on_label(make_label("a", time_ms=1_000, offset=0), home=0)
    after_a_short_id = join.is_full
    join.on_label(make_label("b" * 100, time_ms=1_000, offset=1), home=0)

    assert not after_a_short_id
    assert join.is_full


def test_text_features_count_by_their_length() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_bytes=300)))
    x = XColumns(np.empty((2, 0)), np.empty((2, 0), dtype=np.int64), [("short",), ("x" * 100,)])
    join.on_scored(0, make_scored_block(("a", 1_000), ("b", 1_000), x=x))

    join.on_label(make_label("a", time_ms=1_000, offset=0), home=0)
    after_a_short_text = join.is_full
    join.on_label(make_label("b", time_ms=1_000, offset=1), home=0)

    assert not after_a_short_text
    assert join.is_full


def test_rows_of_two_contracts_go_into_two_blocks() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), contract_id="old"))
    join.on_scored(1, make_scored_block(("b", 1_000), contract_id="new"))

    join.on_label(make_label("a", time_ms=1_000, offset=0), home=0)
    full_before = join.is_full
    join.on_label(make_label("b", time_ms=1_000, offset=1), home=0)
    full_after = join.is_full
    old, new = join.take(), join.take()

    assert (full_before, full_after) == (False, True)
    assert (old.contract_id, old.examples.ids, old.vector.labels_next) == ("old", ["a"], 1)
    assert (new.contract_id, new.examples.ids, new.vector.labels_next) == ("new", ["b"], 2)
    assert not join.is_full
    assert not join.is_dirty


def test_a_block_of_another_contract_is_read_after_the_batch_was_taken() -> None:
    join = LabelJoin(make_join_spec())
    join.on_scored(0, make_scored_block(("a", 1_000), contract_id="old"))
    join.on_label(make_label("a", time_ms=1_000, offset=0), home=0)
    new = make_scored_block(("b", 1_000), contract_id="new")

    before = join.on_scored(1, new)
    join.take()
    after = join.on_scored(1, new)

    assert (before, after) == (0, 1)


def test_implicit_rows_of_another_contract_wait_for_the_next_block() -> None:
    join = LabelJoin(make_join_spec(implicit=0.0))
    join.on_scored(0, make_scored_block(("a", 1_000), contract_id="old"))
    join.on_scored(1, make_scored_block(("b", 1_001), ("end", 2_000), contract_id="new"))
    join.on_label(make_label("end", time_ms=2_000, y=1.0, offset=0), home=0)

    join.take()
    more = join.expire()
    old = join.take()
    rest = join.expire()
    new = join.take()

    assert (more, rest) == (True, False)
    assert (old.contract_id, old.examples.ids) == ("old", ["a"])
    assert (new.contract_id, new.examples.ids) == ("new", ["b"])


def test_a_batch_is_sent_as_the_block_of_its_owner() -> None:
    join = LabelJoin(make_join_spec(partition=1, partitions=2))

    block = join.take().block("contract", "log", "owner", 7)

    assert (block.contract_id, block.log_id, block.partition) == ("contract", "log", 1)
    assert (block.owner, block.number) == ("owner", 7)
    assert (len(block.examples), len(block.dropped)) == (0, 0)
