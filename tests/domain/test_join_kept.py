"""A join goes on from a waiting room that stood as of an older block: H = 100, D = 20, S = 5, R = 50."""

from __future__ import annotations

from collections.abc import Sequence

from tests.builders import make_join_spec, make_label, make_limits, make_scored_block

from tailrace.domain.blocks import Lowest, ScoredBlock, Vector
from tailrace.domain.join import Batch, JoinSpec, Kept, LabelJoin, PausedInputs, recover, starts
from tailrace.domain.join.state import JoinState
from tailrace.domain.records import Label


def go_on(
    spec: JoinSpec,
    kept: Kept,
    later: Sequence[Batch],
    *,
    scored: Sequence[ScoredBlock] = (),
    labels: Sequence[Label] = (),
) -> LabelJoin:
    """Bring what was kept forward over batches written at log offsets 20, 30, …"""
    log = [(10 * n, batch.block("contract", "log", "owner", n)) for n, batch in enumerate(later, start=2)]
    vector = later[-1].vector
    start = starts(vector, kept.vector)
    return recover(
        spec,
        vector,
        rows=log,
        scored=[(offset, block) for offset, block in enumerate(scored) if offset >= start.scored.position >> 20],
        labels=[(label, 0) for label in labels if start.labels.position <= label.offset < vector.labels_next],
        relabelled=(),
        kept=kept,
    )


def kept_after(spec: JoinSpec, scored: Sequence[ScoredBlock], labels: Sequence[Label]) -> Kept:
    """Return what a room holds after these inputs and the block that followed, at log offset 10."""
    state = JoinState.empty(spec)
    join = LabelJoin(spec, state)
    for offset, block in enumerate(scored):
        join.on_scored(offset, block)
    for label in labels:
        join.on_label(label, home=0)
    vector = join.take().vector
    state.acknowledged = 10
    return Kept(state, vector)


def test_without_a_room_all_is_read_from_the_lowest_that_waits() -> None:
    vector = Vector(scored_low=Lowest(7, 1), labels_low=Lowest(3, 2), scored_next=9, labels_next=5)

    assert (Lowest(7, 1), Lowest(3, 2)) == starts(vector, None)


def test_with_a_room_only_what_came_since_is_read() -> None:
    kept = Vector(scored_next=8, scored_watermark_ms=4, labels_next=4, labels_watermark_ms=5)
    vector = Vector(scored_low=Lowest(7, 1), labels_low=Lowest(3, 2), scored_next=9, labels_next=5)

    assert (Lowest(8, 4), Lowest(4, 5)) == starts(vector, kept)


def test_labels_that_no_longer_wait_are_not_read() -> None:
    kept = Vector(scored_next=8, scored_watermark_ms=4, labels_next=4, labels_watermark_ms=5)
    vector = Vector(labels_low=Lowest(5, 6), labels_next=5)

    assert Lowest(5, 6) == starts(vector, kept).labels


def test_a_room_is_brought_forward_by_rows_events_and_labels() -> None:
    spec = make_join_spec()
    scored = [make_scored_block(("a", 1_000), ("b", 1_001)), make_scored_block(("c", 1_002), ("d", 1_003))]
    labels = [
        make_label("a", time_ms=1_010, y=0.0, offset=0),
        make_label("c", time_ms=1_010, y=1.0, offset=1),
        make_label("early", time_ms=1_012, offset=2),
    ]
    join = LabelJoin(spec)
    join.on_scored(0, scored[0])
    join.take()
    join.acknowledged(10)
    join.on_scored(1, scored[1])
    for label in labels:
        join.on_label(label, home=0)
    later = join.take()

    again = go_on(spec, kept_after(spec, scored[:1], ()), [later], scored=scored, labels=labels)

    assert (2, 4, 1) == (again.waiting, again.remembered, again.early)
    again.on_label(make_label("a", time_ms=1_020, y=0.0, offset=3), home=0)
    again.on_label(make_label("b", time_ms=1_020, y=1.0, offset=4), home=0)
    batch = again.take()
    assert ["b"] == batch.examples.ids
    assert {"duplicate": 1, "joined": 1} == batch.vector.counts


def test_early_labels_that_were_judged_since_are_taken_out() -> None:
    spec = make_join_spec()
    early = [
        make_label("orphan", time_ms=1_000, offset=0),
        make_label("waits", time_ms=1_100, offset=1),
        make_label("a", time_ms=1_110, offset=2),
    ]
    scored = [make_scored_block(("other", 1_090), ("a", 1_100))]
    kept = kept_after(spec, (), early)
    join = LabelJoin(spec)
    for label in early:
        join.on_label(label, home=0)
    join.take()
    join.acknowledged(10)
    join.on_scored(0, scored[0])
    later = join.take()

    again = go_on(spec, kept, [later], scored=scored)

    assert {"orphaned": 1, "joined": 1} == later.vector.counts
    assert 1 == again.early == join.early
    assert Lowest(1, 1_000) == again.take().vector.labels_low


def test_early_labels_have_a_bound_of_their_own() -> None:
    """They are in memory wherever the others are kept."""
    join = LabelJoin(make_join_spec(limits=make_limits(max_early=1)))
    join.on_scored(0, make_scored_block(("a", 1_000), ("b", 1_000)))
    before = join.paused_inputs()

    join.on_label(make_label("early", time_ms=1_010), home=0)

    assert PausedInputs() == before
    assert PausedInputs(scored=False, labels=True) == join.paused_inputs()


def test_the_next_positions_are_told() -> None:
    join = LabelJoin(make_join_spec())

    join.on_rejected_relabelled(6)

    assert (0, 0, 7) == (join.scored_next, join.labels_next, join.relabelled_next)
