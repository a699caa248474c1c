"""Labels that are read many at a time come to the same as one by one."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import make_join_spec, make_label, make_limits, make_scored_block, make_times

from tailrace.domain.blocks import ScoredBlock
from tailrace.domain.join import Batch, LabelJoin
from tailrace.domain.records import Label

IDS = "abcd"


@st.composite
def scored_blocks(draw: st.DrawFn) -> ScoredBlock:
    rows = draw(st.lists(st.tuples(st.sampled_from(IDS), st.integers(0, 60)), min_size=1, max_size=4))
    return make_scored_block(*rows, contract_id=draw(st.sampled_from(["old", "new"])))


labels = st.builds(
    make_label,
    event_id=st.sampled_from(IDS),
    time_ms=st.integers(0, 200),
    y=st.sampled_from([0.0, 1.0, 1.0, None]),
    revision=st.integers(0, 2),
)
label_batches = st.lists(st.tuples(labels, st.sampled_from([0, 0, 1])), min_size=1, max_size=12)


@settings(max_examples=400)
@given(
    inputs=st.lists(st.one_of(scored_blocks(), label_batches), max_size=8),
    max_rows=st.sampled_from([2, 3, 500]),
    implicit=st.sampled_from([None, 0.0]),
    corrections_ms=st.sampled_from([0, 100]),
)
def test_many_labels_come_to_the_same_as_one_by_one(
    inputs: list[ScoredBlock | list[tuple[Label, int]]], max_rows: int, implicit: float | None, corrections_ms: int
) -> None:
    spec = make_join_spec(
        partitions=2,
        times=make_times(corrections_ms=corrections_ms),
        implicit=implicit,
        limits=make_limits(max_rows=max_rows),
    )

    assert _shown(spec, inputs, at_once=True) == _shown(spec, inputs, at_once=False)


def test_a_full_block_ends_the_reading_of_a_batch_of_labels_and_the_next_call_goes_on() -> None:
    join = LabelJoin(make_join_spec(limits=make_limits(max_rows=2)))
    join.on_scored(0, make_scored_block(("a", 1), ("b", 2), ("c", 3)), 0)
    read = [make_label(name, time_ms=5)._replace(offset=offset) for offset, name in enumerate("abc")]

    assert 2 == join.on_labels(read, [0, 0, 0], 0, 3)
    assert ["a", "b"] == join.take().block("contract", "log", "owner", 1).examples.ids
    assert 3 == join.on_labels(read, [0, 0, 0], 2, 3)


def _shown(spec, inputs, *, at_once: bool) -> list[str]:
    join, batches = LabelJoin(spec), []
    offset = scored = 0
    for each in inputs:
        if isinstance(each, ScoredBlock):
            row = 0
            while row < len(each.ids):
                row = join.on_scored(scored, each, row)
                _make_room(join, batches)
            scored += 1
        else:
            read = [label._replace(offset=offset + at) for at, (label, _) in enumerate(each)]
            _read(join, read, [home for _, home in each], batches, at_once=at_once)
            offset += len(each)
        while join.expire():
            _make_room(join, batches)
    batches.append(join.take())
    return list(map(_plain, batches))


def _read(join: LabelJoin, read: Sequence[Label], homes: Sequence[int], batches: list[Batch], *, at_once: bool) -> None:
    at = 0
    while at < len(read):
        if at_once:
            at = join.on_labels(read, homes, at, len(read))
        else:
            join.on_label(read[at], homes[at])
            at += 1
        _make_room(join, batches)


def _make_room(join: LabelJoin, batches: list[Batch]) -> None:
    while join.is_full:
        batches.append(join.take())
        join.acknowledged(len(batches))


def _plain(batch: Batch) -> str:
    return repr(batch)
