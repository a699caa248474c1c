"""A join that is made again decides as the one before it would have: H = 100, D = 20, S = 5, R = 50, so K = 175."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from tests.builders import (
    make_forward,
    make_join_spec,
    make_label,
    make_mark,
    make_scored_block,
    make_times,
    restart_join,
)

from tailrace.domain.blocks import ERASED, Dropped
from tailrace.domain.join import LabelJoin
from tailrace.domain.records import Forward, Mark
from tailrace.domain.times import NEVER


def test_without_any_block_a_join_begins_at_the_beginning() -> None:
    join = restart_join(make_join_spec(), [])

    vector = join.take().vector
    assert (vector.scored_next, vector.labels_next, vector.relabelled_next) == (0, 0, 0)


def test_recovery_emits_nothing() -> None:
    spec, block = make_join_spec(), make_scored_block(("a", 1_000), ("b", 1_000))
    label = make_label("a", time_ms=1_010)
    join = LabelJoin(spec)
    join.on_scored(0, block)
    join.on_label(label, home=0)

    again = restart_join(spec, [join.take()], scored=[block], labels=[label])

    assert not again.is_dirty
    batch = again.take()
    assert (len(batch.examples), len(batch.dropped), batch.dead, batch.forwards) == (0, 0, [], [])
    assert batch.vector.counts == {}


def test_the_vector_of_a_recovered_join_is_the_one_it_was_made_from() -> None:
    spec = make_join_spec(partitions=2)
    scored = [make_scored_block(("a", 1_000), ("b", 990)), make_scored_block(("c", 1_030))]
    labels = [make_label("a", time_ms=1_010, offset=0), make_label("early", time_ms=1_020, offset=1)]
    forward = make_forward(make_label("f", time_ms=1_030, offset=3, partition=1), watermark_ms=1_000)
    relabelled: list[Forward | Mark] = [make_mark(partition=1, next_offset=2, watermark_ms=1_000), forward]
    join = LabelJoin(spec)
    for offset, block in enumerate(scored):
        join.on_scored(offset, block)
    for label in labels:
        join.on_label(label, home=0)
    for offset, record in enumerate(relabelled):
        join.on_relabelled(offset, record)
    join.idle(labels_end_reached=True)
    batch = join.take()

    again = restart_join(spec, [batch], scored=scored, labels=labels, relabelled=relabelled)

    recovered = again.take().vector
    assert recovered.oldest_row == 10
    for name in (
        "scored_next", "labels_next", "relabelled_next", "scored_low", "labels_low", "relabelled_low",
        "relabelled_covered", "scored_watermark_ms", "labels_watermark_ms", "marks_ms", "idle_moves",
    ):  # fmt: skip
        assert getattr(recovered, name) == getattr(batch.vector, name), name


def test_an_event_that_waited_is_joined_after_recovery_with_what_was_served() -> None:
    spec, block = make_join_spec(), make_scored_block(("a", 1_000), ("b", 1_000))
    join = LabelJoin(spec)
    join.on_scored(0, block)

    again = restart_join(spec, [join.take()], scored=[block])
    again.on_label(make_label("b", time_ms=1_010), home=0)

    examples = again.take().examples
    assert examples.ids == ["b"]
    assert examples.x.numbers.tolist() == [[10.0]]


@pytest.mark.parametrize(("y", "outcome"), [(1.0, "duplicate"), (0.0, "conflicting")])
def test_a_joined_identity_is_remembered_with_its_target(y: float, outcome: str) -> None:
    spec, block = make_join_spec(), make_scored_block(("a", 1_000))
    label = make_label("a", time_ms=1_010, y=1.0, offset=0)
    join = LabelJoin(spec)
    join.on_scored(0, block)
    join.on_label(label, home=0)

    again = restart_join(spec, [join.take()], scored=[block], labels=[label])
    again.on_label(make_label("a", time_ms=1_020, y=y, offset=1), home=0)

    assert again.take().vector.counts == {outcome: 1}


@pytest.mark.parametrize("implicit", [None, 0.0])
def test_an_event_whose_wait_ended_is_not_waited_for_again(implicit: float | None) -> None:
    spec, block = make_join_spec(implicit=implicit), make_scored_block(("waits", 990), ("a", 1_000), ("end", 1_120))
    labels = [make_label("waits", time_ms=1_000, offset=0), make_label("end", time_ms=1_101, offset=1)]
    join = LabelJoin(spec)
    join.on_scored(0, block)
    for label in labels:
        join.on_label(label, home=0)
    join.expire()

    again = restart_join(spec, [join.take()], scored=[block], labels=labels)
    again.expire()
    again.on_label(make_label("a", time_ms=1_050, offset=2), home=0)

    assert again.waiting == 1
    assert again.take().vector.counts == {"late": 1}


def test_rows_of_several_blocks_are_remembered() -> None:
    spec = make_join_spec()
    scored = [make_scored_block(("a", 1_000)), make_scored_block(("b", 1_010))]
    labels = [make_label("a", time_ms=1_010, offset=0), make_label("b", time_ms=1_010, offset=1)]
    join, batches = LabelJoin(spec), []
    for offset, (block, label) in enumerate(zip(scored, labels, strict=True)):
        join.on_scored(offset, block)
        join.on_label(label, home=0)
        batches.append(join.take())
        join.acknowledged(10 * len(batches))

    again = restart_join(spec, batches, scored=scored, labels=labels)
    again.on_label(make_label("a", time_ms=1_020, offset=2), home=0)
    again.on_label(make_label("b", time_ms=1_020, offset=3), home=0)

    assert again.take().vector.counts == {"duplicate": 2}


def test_reading_goes_on_in_the_middle_of_a_scored_block() -> None:
    spec, block = make_join_spec(), make_scored_block(("a", 1_000), ("b", 1_010), ("c", 1_020))
    join = LabelJoin(spec)
    join.on_label(make_label("b", time_ms=1_010), home=0)
    join.on_scored(0, block)
    batch = join.take()
    vector = batch.vector

    again = restart_join(spec, [batch], scored=[block], labels=[make_label("b", time_ms=1_010)])

    assert vector.scored_low.position == 0
    assert again.waiting == 2


def test_stale_and_repeated_events_are_found_so_again() -> None:
    spec = make_join_spec()
    block = make_scored_block(("a", 1_000), ("b", 1_030), ("stale", 1_000), ("b", 1_030))
    join = LabelJoin(spec)
    join.on_scored(0, block)

    again = restart_join(spec, [join.take()], scored=[block])

    assert again.waiting == 2


def test_an_event_is_not_repeated_by_one_that_came_after_it() -> None:
    spec = make_join_spec(partitions=2)
    first = make_scored_block(("a", 1_000))
    second = make_scored_block(("other", 1_176), ("a", 1_300))
    label = make_label("a", time_ms=1_310, offset=0)
    join = LabelJoin(spec)
    join.on_scored(0, first)
    join.on_scored(1, second)
    join.on_label(label, home=0)

    again = restart_join(spec, [join.take()], scored=[first, second], labels=[label])

    assert again.waiting == 2
    forward = make_forward(make_label("a", time_ms=1_010, partition=1), watermark_ms=900)
    again.on_relabelled(0, forward)
    assert again.take().examples.times_ms.tolist() == [1_000]


def test_an_older_event_is_forgotten_before_a_newer_one_whose_row_came_first() -> None:
    spec = make_join_spec(partitions=2)
    scored = [make_scored_block(("a", 1_000)), make_scored_block(("other", 1_176), ("a", 1_300))]
    label = make_label("a", time_ms=1_310, offset=0)
    join, batches = LabelJoin(spec), []
    for offset, block in enumerate(scored):
        join.on_scored(offset, block)
    join.on_label(label, home=0)
    batches.append(join.take())
    join.on_relabelled(0, make_mark(partition=1, next_offset=0, watermark_ms=1_310))
    join.expire()
    batches.append(join.take())

    again = restart_join(spec, batches, scored=scored, labels=[label], relabelled=[make_mark(1, 0, 1_310)])
    again.on_label(make_label("a", time_ms=1_320, offset=1), home=0)

    assert batches[1].dropped.ids == ["a", "other"]
    assert again.take().vector.counts == {"duplicate": 1}


def test_an_early_label_waits_on_with_the_watermark_just_before_it() -> None:
    spec = make_join_spec()
    labels = [
        make_label("x", time_ms=1_000, offset=0),
        make_label("a", time_ms=1_010, offset=1),
        make_label("y", time_ms=5_000, offset=2),
        make_label("a", time_ms=1_020, offset=3),
    ]
    join = LabelJoin(spec)
    for label in labels:
        join.on_label(label, home=0)

    again = restart_join(spec, [join.take()], labels=labels)
    early = again.early
    again.on_scored(0, make_scored_block(("a", 1_000)))

    assert early == 4
    assert again.take().vector.counts == {"joined": 1}
    assert again.early == 3


@pytest.mark.parametrize(("moved_to_ms", "early"), [(1_150, 1), (1_151, 2)])
def test_a_label_after_an_idle_move_is_judged_by_it_again(moved_to_ms: int, early: int) -> None:
    spec, block = make_join_spec(), make_scored_block(("a", 1_000), ("other", moved_to_ms))
    labels = [make_label("early", time_ms=1_140, offset=0), make_label("a", time_ms=1_130, offset=1)]
    join = LabelJoin(spec)
    join.on_label(labels[0], home=0)
    join.on_scored(0, block)
    join.idle(labels_end_reached=True)
    join.on_label(labels[1], home=0)

    again = restart_join(spec, [join.take()], scored=[block], labels=labels)

    assert join.early == early
    assert again.early == early


def test_a_label_of_another_partition_is_not_forwarded_again_but_moves_the_watermark() -> None:
    spec, block = make_join_spec(partitions=2), make_scored_block(("a", 1_000))
    labels = [
        make_label("early", time_ms=1_100, offset=0),
        make_label("theirs", time_ms=1_101, offset=1),
        make_label("a", time_ms=1_010, offset=2),
    ]
    join = LabelJoin(spec)
    join.on_label(labels[0], home=0)
    join.on_label(labels[1], home=1)
    join.on_label(labels[2], home=0)

    again = restart_join(spec, [join.take()], labels=labels, away={"theirs"})
    again.on_scored(0, block)

    batch = again.take()
    assert batch.forwards == []
    assert batch.vector.counts == {"late": 1}


def test_a_forward_that_came_before_recovery_is_redelivered_after_it() -> None:
    spec, block = make_join_spec(partitions=2), make_scored_block(("a", 1_000))
    forward = make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900)
    join = LabelJoin(spec)
    join.on_scored(0, block)
    join.on_relabelled(0, forward)

    again = restart_join(spec, [join.take()], scored=[block], relabelled=[forward])
    again.on_relabelled(1, forward)

    assert again.take().vector.counts == {"redelivered": 1}


def test_a_forward_that_waited_is_joined_after_recovery() -> None:
    spec = make_join_spec(partitions=2)
    forward = make_forward(make_label("a", time_ms=1_010, offset=7, partition=1), watermark_ms=900)
    relabelled: list[Forward | Mark] = [
        forward,
        forward,
        make_mark(partition=1, next_offset=8, watermark_ms=1_010),
        make_mark(9, 1, 1),
    ]
    join = LabelJoin(spec)
    for offset, record in enumerate(relabelled):
        join.on_relabelled(offset, record)

    again = restart_join(spec, [join.take()], relabelled=relabelled)
    again.on_scored(0, make_scored_block(("a", 1_000)))

    batch = again.take()
    assert batch.vector.counts == {"joined": 1}
    assert batch.vector.relabelled_low == 4


def test_an_orphan_is_not_waited_for_again() -> None:
    spec, block = make_join_spec(), make_scored_block(("other", 1_040))
    labels = [make_label("kept", time_ms=1_030, offset=0), make_label("a", time_ms=1_000, offset=1)]
    join = LabelJoin(spec)
    for label in labels:
        join.on_label(label, home=0)
    join.on_scored(0, block)

    again = restart_join(spec, [join.take()], scored=[block], labels=labels)

    assert again.early == 1


def test_the_same_row_twice_is_remembered_once() -> None:
    spec = make_join_spec()
    scored = [make_scored_block(("a", 1_000), ("other", 1_176), ("a", 1_300))]
    labels = [
        make_label("a", time_ms=1_010, y=1.0, offset=0),
        make_label("a", time_ms=1_310, y=0.0, offset=1),
    ]
    join = LabelJoin(spec)
    join.on_scored(0, scored[0])
    for label in labels:
        join.on_label(label, home=0)
    batch = join.take()

    again = restart_join(spec, [batch, batch], scored=scored, labels=labels)
    again.on_label(make_label("a", time_ms=1_320, y=0.0, offset=2), home=0)

    assert again.remembered == 3
    assert again.take().vector.counts == {"duplicate": 1}


def test_what_nothing_can_ask_for_is_forgotten_in_recovery() -> None:
    spec = make_join_spec()
    scored = [make_scored_block(("a", 1_000), ("b", 9_000))]
    labels = [make_label("a", time_ms=1_010, offset=0), make_label("b", time_ms=9_000, offset=1)]
    join = LabelJoin(spec)
    join.on_scored(0, scored[0])
    for label in labels:
        join.on_label(label, home=0)

    again = restart_join(spec, [join.take()], scored=scored, labels=labels)

    assert again.remembered == 1


def test_erased_rows_are_not_remembered() -> None:
    """
    Of them there is no id left that could come again. Without the check for it each would be an identity of its own
    with an empty id.
    """
    spec, block = make_join_spec(), make_scored_block(("a", 1_000), ("b", 1_000), ("c", 900))
    join = LabelJoin(spec)
    join.on_scored(0, block)
    join.on_label(make_label("a", time_ms=1_010), home=0)
    batch = join.take()
    kinds = batch.examples.kinds.copy()
    kinds[0] = ERASED
    nothing = np.zeros(1, np.int64)
    erased = replace(
        batch, examples=replace(batch.examples, kinds=kinds, ids=[""]), dropped=Dropped([""], nothing, nothing, nothing)
    )

    again = restart_join(spec, [erased])

    assert 0 == again.remembered


def _early(join: LabelJoin) -> list[tuple[int, int]]:
    return sorted((each.label.offset, each.watermark_ms) for each in join._state.early.all())


def test_a_label_that_waits_for_long_does_not_make_vectors_carry_every_idle_move_since() -> None:
    """Each stands in a vector once; then only those are carried that a recovery needs, which is as exact as before."""
    spec = make_join_spec(times=make_times(disorder_ms=1_000_000))
    join, rounds = LabelJoin(spec), 10_000
    join.on_scored(0, first := make_scored_block(("other", 1_000)))
    labels, scored, moves = [make_label("orphan", time_ms=1_000, offset=0)], [first], set()
    join.on_label(labels[0], home=0)
    batches = [join.take()]
    for offset in range(1, rounds + 1):
        scored.append(make_scored_block((f"e{offset}", 1_000 + offset)))
        labels.append(make_label(f"e{offset}", time_ms=998 + offset, offset=offset))
        join.on_scored(offset, scored[-1])
        join.on_label(labels[-1], home=0)
        assert join.idle(labels_end_reached=True)
        batch = join.take()
        assert len(batch.vector.idle_moves) < 20
        moves.update(batch.vector.idle_moves)
        batches.append(batch)

    assert moves == {(offset + 1, 1_000 + offset) for offset in range(1, rounds + 1)}
    again = restart_join(spec, batches, scored=scored, labels=labels)
    assert _early(again) == _early(join) == [(0, NEVER)]
    assert again.mark() == join.mark()
    assert again.remembered == join.remembered


@pytest.mark.parametrize("seed", range(40))
def test_early_labels_are_made_again_with_the_watermarks_that_idle_moves_gave_them(seed: int) -> None:
    """Fails when a move is left out that a label which still waits, or the next one, stands behind."""
    rng, spec = Random(seed), make_join_spec(times=make_times(disorder_ms=400))
    join, now_ms, most = LabelJoin(spec), 1_000, 0
    scored, labels, batches = [make_scored_block(("other", 1_000))], [], []
    join.on_scored(0, scored[0])
    waiting: list[str] = []
    for step in range(150):
        kind = rng.choice(["early", "judged", "orphan", "event", "idle", "idle"])
        now_ms += rng.randrange(1, 8)
        if kind in ("early", "orphan"):
            labels.append(make_label(f"{kind}{step}", time_ms=now_ms - rng.randrange(60), offset=len(labels)))
            waiting += [labels[-1].id] if kind == "early" else []
            join.on_label(labels[-1], home=0)
        elif kind == "judged" and scored[-1].ids[0] != "other":
            labels.append(make_label(scored[-1].ids[0], time_ms=now_ms - 5, offset=len(labels)))
            join.on_label(labels[-1], home=0)
        elif kind == "idle":
            scored.append(make_scored_block((f"moves{step}", now_ms)))
            join.on_scored(len(scored) - 1, scored[-1])
            join.idle(labels_end_reached=True)
        else:
            event = waiting.pop(rng.randrange(len(waiting))) if waiting else f"event{step}"
            scored.append(make_scored_block((event, now_ms)))
            join.on_scored(len(scored) - 1, scored[-1])
        if rng.random() < 0.5:
            batches.append(join.take())
            join.acknowledged(10 * len(batches))
            most = max(most, len(batches[-1].vector.idle_moves))
            again = restart_join(spec, batches, scored=scored, labels=labels)
            assert _early(again) == _early(join)
            assert again.mark() == join.mark()
            join = again if rng.random() < 0.5 else join
    assert most > 4, "some vectors carried so many moves that they were looked through"
