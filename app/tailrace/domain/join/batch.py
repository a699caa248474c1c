"""What the join hands to its caller: bounds, paused inputs, and the contents of one training block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from tailrace.domain.blocks import (
    CORRECTED,
    WITHDRAWN,
    Corrections,
    Dropped,
    Examples,
    Rows,
    ScoredBlock,
    TrainingBlock,
    Vector,
    row_bytes,
    text_bytes,
)
from tailrace.domain.records import DeadLabel, Forward, Label, Mark, Owner
from tailrace.domain.times import EventTimeMs, JoinTimes

Settled: TypeAlias = tuple[ScoredBlock, int, int, float, Label | None]
"""A row that is not yet written: where its event is, its kind, its target, its label (None: implicit)."""


_CORRECTION_BYTES = 64  # seven columns of 8, and the separators of two texts


@dataclass(frozen=True, slots=True)
class JoinLimits:
    """Bounds of one partition's join.

    Attributes:
        max_rows: Rows of one training block.
        max_bytes: Of the rows of one training block, estimated from above; its last row may pass it.
        max_waiting: Waiting events, early labels and remembered identities together; then inputs pause.
        max_early: Early labels, which are in memory wherever the others are; then inputs pause.
    """

    max_rows: int = 1_000
    max_bytes: int = 400_000
    max_waiting: int = 1_000_000
    max_early: int = 1_000_000


@dataclass(frozen=True, slots=True)
class JoinSpec:
    """Everything that one partition's join is told.

    Attributes:
        partitions: How many partitions `scored`, `labels` and `relabelled` have.
        implicit: The target of an event whose horizon passes without a label; None: it is dropped.
    """

    partition: int
    partitions: int
    times: JoinTimes
    implicit: float | None = None
    limits: JoinLimits = field(default_factory=JoinLimits)


class PausedInputs(NamedTuple):
    """Which inputs must not be read on. `relabelled` never pauses: it carries the marks that free memory."""

    scored: bool = False
    labels: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """The contents of one training block, and what must be acknowledged before it is sent.

    Attributes:
        contract_id: Of the examples; None when there are none.
        dead: Labels for the dead-letter topic; each record names this block.
        forwards: (home partition, label) for `relabelled`.
        mark: For each other partition of `relabelled`, after the block is acknowledged and the positions of its
            vector are committed.
    """

    contract_id: str | None
    examples: Examples
    dropped: Dropped
    corrections: Corrections
    dead: Sequence[DeadLabel]
    forwards: Sequence[tuple[int, Forward]]
    vector: Vector
    mark: Mark

    def block(self, contract_id: str, log_id: str, owner: Owner, number: int) -> TrainingBlock:
        """Return the block to send; `contract_id` is its contract when it has no examples."""
        return TrainingBlock(
            self.contract_id or contract_id,
            log_id,
            self.mark.partition,
            owner,
            number,
            self.examples,
            self.dropped,
            self.vector,
            self.corrections,
        )


@dataclass(slots=True)
class Unwritten:
    """What happened since the last block; its examples are of one contract.

    Attributes:
        contract_id: Of the examples; None while there are none.
        row_bytes: Of one example, without its text.
        is_full: Whether the block must be taken before anything more is read.
    """

    limits: JoinLimits
    settled: list[Settled] = field(default_factory=list)
    dropped: list[tuple[ScoredBlock, int]] = field(default_factory=list)
    corrections: list[tuple[EventTimeMs, Label]] = field(default_factory=list)
    dead: list[DeadLabel] = field(default_factory=list)
    forwards: list[tuple[int, Forward]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    contract_id: str | None = None
    row_bytes: int = 0
    bytes_estimate: int = 0
    is_full: bool = False

    def add_example(self, row: Settled) -> None:
        """Put in line a joined or implicit row."""
        block = row[0]
        if self.contract_id is None:
            self.contract_id, self.row_bytes = block.contract_id, row_bytes(block)
        self.settled.append(row)
        self.bytes_estimate += self.row_bytes + 4 * len(block.ids[row[1]])
        if texts := block.x.strings[row[1]]:
            self.bytes_estimate += text_bytes(texts)
        if (label := row[4]) is not None:
            self.bytes_estimate += 4 * len(label.source)
        self._measure()

    def add_dropped(self, block: ScoredBlock, row: int) -> None:
        """Put in line a dropped row."""
        self.dropped.append((block, row))
        self.bytes_estimate += 32 + 4 * len(block.ids[row])
        self._measure()

    def add_correction(self, time_ms: EventTimeMs, label: Label) -> None:
        """Put in line what a label says anew of the event of its id at this time."""
        self.corrections.append((time_ms, label))
        self.bytes_estimate += _CORRECTION_BYTES + 4 * (len(label.id) + len(label.source))
        self._measure()

    @property
    def has_rows(self) -> bool:
        """Whether any row waits to be written."""
        return bool(self.settled or self.dropped or self.corrections)

    def batch(self, vector: Vector, mark: Mark) -> Batch:
        """Build the columns."""
        rows = _examples(self.settled), _dropped(self.dropped), _corrections(self.corrections)
        return Batch(self.contract_id, *rows, self.dead, self.forwards, vector, mark)

    def _measure(self) -> None:
        rows = len(self.settled) + len(self.dropped) + len(self.corrections)
        self.is_full = rows >= self.limits.max_rows or self.bytes_estimate >= self.limits.max_bytes

    def counted(self) -> Mapping[str, int]:
        """Return the outcomes that happened, by name in order."""
        return dict(sorted(self.counts.items()))


def _examples(settled: Sequence[Settled]) -> Examples:
    blocks, places, kinds, ys, labels = zip(*settled, strict=True) if settled else ((),) * 5
    rows = Rows(blocks, places)
    _, _, _, partitions, offsets, broker_ms, revisions, sources = _label_columns(labels)
    return Examples(
        kinds=np.array(kinds, dtype=np.int64),
        ids=rows.ids(),
        times_ms=rows.times_ms(),
        y=np.array(ys, dtype=np.float64),
        source_partitions=rows.source_partitions(),
        source_offsets=rows.source_offsets(),
        label_partitions=np.array(partitions, dtype=np.int64),
        label_offsets=np.array(offsets, dtype=np.int64),
        label_broker_ms=np.array(broker_ms, dtype=np.int64),
        state_positions=rows.state_positions(),
        revisions=np.array(revisions, dtype=np.int64),
        sources=list(sources),
        served=rows.served(),
        x=rows.x(),
    )


def _label_columns(labels: Sequence[Label | None]) -> Sequence[Sequence[Any]]:
    """Return the fields of labels, one sequence for each; an implicit row has no label, and says so in each."""
    if not labels:
        return ((),) * len(Label._fields)
    return tuple(zip(*(_NO_LABEL if label is None else label for label in labels), strict=True))


_NO_LABEL: Final = Label("", 0, None, partition=-1, offset=-1, broker_ms=-1)


def _corrections(pairs: Sequence[tuple[EventTimeMs, Label]]) -> Corrections:
    if not pairs:
        return Corrections.none()
    labels = [label for _, label in pairs]
    ys = [label.y for label in labels]
    return Corrections(
        kinds=np.array([WITHDRAWN if y is None else CORRECTED for y in ys], dtype=np.int64),
        ids=[label.id for label in labels],
        times_ms=np.array([time_ms for time_ms, _ in pairs], dtype=np.int64),
        y=np.array([math.nan if y is None else y for y in ys], dtype=np.float64),
        revisions=np.array([label.revision for label in labels], dtype=np.int64),
        sources=[label.source for label in labels],
        label_partitions=np.array([label.partition for label in labels], dtype=np.int64),
        label_offsets=np.array([label.offset for label in labels], dtype=np.int64),
        label_broker_ms=np.array([label.broker_ms for label in labels], dtype=np.int64),
    )


def _dropped(pairs: Sequence[tuple[ScoredBlock, int]]) -> Dropped:
    rows = Rows([block for block, _ in pairs], [row for _, row in pairs])
    return Dropped(rows.ids(), rows.times_ms(), rows.source_partitions(), rows.source_offsets())
