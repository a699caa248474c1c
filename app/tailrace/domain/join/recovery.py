"""How a partition's join is made again from what was written before a claim; nothing is emitted.

The last accepted vector says where to read from. Rows of the log give every settled identity that is still
remembered; then events and labels are read again from the lowest positions that waited, each judged by the
watermark that stood just before it the first time. Where a waiting room was kept as of an older vector, only what
came since is read: `starts` says from where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tailrace.domain import blocks
from tailrace.domain.blocks import Corrections, Lowest, ScoredBlock, TrainingBlock, Vector
from tailrace.domain.join.batch import JoinSpec
from tailrace.domain.join.machine import LabelJoin
from tailrace.domain.join.memory import DROPPED, IMPLICIT, JOINED, EarlyLabel, Forwards, Identity, OpenForward
from tailrace.domain.join.state import JoinState
from tailrace.domain.positions import Position, position_of
from tailrace.domain.records import Forward, Label, Mark
from tailrace.domain.times import EventTimeMs


def recover(
    spec: JoinSpec,
    vector: Vector,
    *,
    rows: Iterable[tuple[int, TrainingBlock]],
    scored: Iterable[tuple[int, ScoredBlock]],
    labels: Iterable[tuple[Label, int]],
    relabelled: Iterable[tuple[int, Forward | Mark]],
    kept: Kept | None = None,
) -> LabelJoin:
    """Return the join as it stood at a vector. The iterables are read once, in the order of the arguments.

    Args:
        spec: Of the partition.
        vector: Of the last accepted block of the partition; `Vector()` where there is none.
        rows: (log offset, block): the partition's accepted blocks from `vector.oldest_row` to the vector's own; with
            `kept`, those after the block of its vector.
        scored: (offset, block) from the block that holds `starts(…).scored.position` to `vector.scored_next`;
            rows outside of the two positions are passed over.
        labels: (label, home partition of its id) with offsets from `starts(…).labels.position` to
            `vector.labels_next`, without those that decoding rejects.
        relabelled: (offset, record) from `vector.relabelled_low` to `vector.relabelled_next`, likewise.
        kept: What a waiting room still holds. It is changed in place.
    """
    state = kept.state if kept else JoinState.empty(spec)
    start = starts(vector, kept.vector if kept else None)
    _read_rows(state, rows)
    _read_scored(state, start.scored, vector.scored_next, scored)
    _take_positions(state, vector)
    _judge_kept(state, vector.labels_low.position)
    _read_labels(state, spec.partition, start.labels, vector, labels)
    _read_relabelled(state, vector, relabelled)
    state.forget()
    return LabelJoin(spec, state)


@dataclass(frozen=True, slots=True)
class Kept:
    """A waiting room of its own, and what it holds.

    Attributes:
        state: Its identities and own early labels; of its positions, `acknowledged` alone.
        vector: Of the accepted block as of which the room stands; None: it is empty, and everything is read again.
    """

    state: JoinState
    vector: Vector | None


class Starts(NamedTuple):
    """Where `scored` and `labels` must be read again from, with the watermarks just before."""

    scored: Lowest
    labels: Lowest


def starts(vector: Vector, kept: Vector | None) -> Starts:
    """Return where to read from for a vector, when a waiting room was kept as of an older one; None: there is none."""
    if kept is None:
        return Starts(vector.scored_low, vector.labels_low)
    labels = vector.labels_low
    if labels.position < kept.labels_next:
        labels = Lowest(kept.labels_next, kept.labels_watermark_ms)
    return Starts(Lowest(kept.scored_next, kept.scored_watermark_ms), labels)


def _read_rows(state: JoinState, rows: Iterable[tuple[int, TrainingBlock]]) -> None:
    for offset, block in rows:
        examples, dropped = block.examples, block.dropped
        times_ms, kinds = examples.times_ms.tolist(), examples.kinds.tolist()
        said = examples.y.tolist(), examples.revisions.tolist()
        for event_id, time_ms, kind, y, revision in zip(examples.ids, times_ms, kinds, *said, strict=True):
            if kind == blocks.ERASED:
                continue  # nothing that is read again is of it: see `erasure`
            settled = JOINED if kind == blocks.JOINED else IMPLICIT
            state.identities.add_settled(event_id, time_ms, offset, settled, y, revision)
        for event_id, time_ms in zip(dropped.ids, dropped.times_ms.tolist(), strict=True):
            if event_id:  # an erased row has none
                state.identities.add_settled(event_id, time_ms, offset, DROPPED)
        _read_corrections(state, block.corrections)
        state.acknowledged = offset


def _read_corrections(state: JoinState, corrections: Corrections) -> None:
    times_ms, kinds = corrections.times_ms.tolist(), corrections.kinds.tolist()
    said = corrections.y.tolist(), corrections.revisions.tolist()
    for event_id, time_ms, kind, y, revision in zip(corrections.ids, times_ms, kinds, *said, strict=True):
        # One whose example lies before the oldest row is of an identity that was forgotten.
        if (identity := state.identities.find(event_id, time_ms)) is not None:
            state.identities.correct(identity, None if kind == blocks.WITHDRAWN else y, revision)


def _read_scored(state: JoinState, low: Lowest, end: Position, scored: Iterable[tuple[int, ScoredBlock]]) -> None:
    state.scored_watermark = low.watermark_ms
    for offset, block in scored:
        first = position_of(offset)
        times_ms = block.times_ms.tolist()
        for row in range(max(0, low.position - first), min(len(times_ms), end - first)):
            _read_event(state, block, row, times_ms[row], first + row)


def _read_event(state: JoinState, block: ScoredBlock, row: int, time_ms: EventTimeMs, position: int) -> None:
    identities, before, event_id = state.identities, state.scored_watermark, block.ids[row]
    state.scored_watermark = max(before, time_ms)
    known = identities.newest(event_id)
    if before > time_ms + state.times.disorder_ms or state.is_repeated(known, time_ms, before):
        return
    identities.add(Identity(event_id, time_ms, position, before, known, block, row))


def _take_positions(state: JoinState, vector: Vector) -> None:
    state.scored_next, state.scored_watermark = vector.scored_next, vector.scored_watermark_ms
    state.labels_next, state.labels_watermark = vector.labels_next, vector.labels_watermark_ms
    state.relabelled_next = vector.relabelled_next
    state.marks.update(vector.marks_ms)
    state.idle_moves = deque(vector.idle_moves)


def _judge_kept(state: JoinState, lowest: int) -> None:
    """Take out the early labels that were kept and have been judged since."""
    for early in state.early.all():
        waits = early.label.offset >= lowest and not state.is_orphan(early.label)
        if not waits or state.find(early.label, early.watermark_ms) is not None:
            state.early.remove(early)


def _read_labels(
    state: JoinState, partition: int, start: Lowest, vector: Vector, labels: Iterable[tuple[Label, int]]
) -> None:
    watermark = start.watermark_ms
    # Of the moves some before labels that were judged are not kept: see `EarlyLabels.moves_needed`.
    moves = deque(move for move in vector.idle_moves if move[0] >= start.position)
    for label, home in labels:
        while moves and moves[0][0] <= label.offset:
            watermark = max(watermark, moves.popleft()[1])
        if home == partition:
            _keep_early(state, label, watermark, None)
        watermark = max(watermark, label.time_ms)


def _read_relabelled(state: JoinState, vector: Vector, relabelled: Iterable[tuple[int, Forward | Mark]]) -> None:
    state.forwards = Forwards({**state.forwards.covered, **vector.relabelled_covered})
    for offset, record in relabelled:
        if isinstance(record, Mark):
            if record.partition in state.marks:
                state.forwards.cover(record.partition, record.next_offset)
            continue
        opened = state.forwards.take(offset, record.label)
        if opened is not None:
            _keep_early(state, record.label, record.watermark_ms, opened)


def _keep_early(state: JoinState, label: Label, watermark_ms: EventTimeMs, opened: OpenForward | None) -> None:
    if state.find(label, watermark_ms) is None and not state.is_orphan(label):
        state.early.add(EarlyLabel(label, watermark_ms), opened)
