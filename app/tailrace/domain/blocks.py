"""Blocks: columns of many rows that travel as one message, and the vector that a training block carries.

A block of `scored` is the join's changelog; a block of `training` is a stretch of the log. Columns of one
block have one length; which features stand in which matrix is the contract's business (`layout.Layout`).
Arrays are never written to after a block is built: blocks share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tailrace.domain.errors import ContractError
from tailrace.domain.positions import Position
from tailrace.domain.records import Owner
from tailrace.domain.times import NEVER, EventTimeMs

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

JOINED = 0
IMPLICIT = 1
CORRECTED = 2
WITHDRAWN = 3
ERASED = 4


@dataclass(frozen=True, slots=True)
class XColumns:
    """Features of n rows, in the contract's layout.

    Attributes:
        numbers: n × (features of type number), float64.
        integers: n × (features of type integer or boolean), int64.
        strings: n rows of (features of type category or text).
        absent: n × (all features, sorted by name); True where the row has no such feature. None: none is absent.
            The cell of an absent feature holds 0, 0.0 or "".
    """

    numbers: Floats
    integers: Ints
    strings: list[tuple[str, ...]]
    absent: Bools | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What was served to n rows.

    Attributes:
        y_pred: n. Binary 0 or 1, multiclass the index of the class, regression the number; NaN: abstained.
        proba: n × k. Binary k = 1, the probability of True; multiclass one per class, NaN where the model's answer
            did not name the class; regression k = 0. Rows that abstained hold NaN.
    """

    y_pred: Floats
    proba: Floats


@dataclass(frozen=True, slots=True)
class ScoredBlock:
    """Rows of one events partition that were scored by one state, all of one partition of `scored`.

    Attributes:
        contract_id: Names the feature contract and so the layout of `x`.
        log_id: Of the training log that the serving state was folded from; "" before the first claim was seen.
        model: The name of the model that served, e.g. "champion".
        version: The lineage of its branch.
        state_position: Position of the state that served these rows.
        source_partition: Of the events topic.
        source_offsets: n offsets in that partition, rising.
        times_ms: n event times.
    """

    contract_id: str
    log_id: str
    model: str
    version: str
    state_position: Position
    source_partition: int
    source_offsets: Ints
    ids: list[str]
    times_ms: Ints
    served: Served
    x: XColumns


@dataclass(frozen=True, slots=True)
class Examples:
    """Joined and implicit rows: what the model learns from.

    Attributes:
        kinds: n of JOINED, IMPLICIT or ERASED. Of an erased row (`erasure`) the positions are left, and nothing else.
        y: n targets, as in `records.Label.y`.
        source_partitions, source_offsets: n positions in the events topic.
        label_partitions, label_offsets: n positions in the labels topic; -1 for implicit rows.
        label_broker_ms: n broker times of the labels; -1 for implicit rows.
        state_positions: n positions of the states that served.
        revisions: n, as in `records.Label.revision`; 0 for implicit rows.
        sources: n, as in `records.Label.source`; "" for implicit rows.
    """

    kinds: Ints
    ids: list[str]
    times_ms: Ints
    y: Floats
    source_partitions: Ints
    source_offsets: Ints
    label_partitions: Ints
    label_offsets: Ints
    label_broker_ms: Ints
    state_positions: Ints
    revisions: Ints
    sources: list[str]
    served: Served
    x: XColumns

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Corrections:
    """What a later label says of an event that has its example already, in this block or an earlier one.

    A row names its event by id and time. Within one block corrections count after the examples, in their order, so
    that a row always finds the example that it is about, and the last row of an event is what counts of it.

    Attributes:
        kinds: n of CORRECTED or WITHDRAWN.
        ids, times_ms: n ids and times of the events.
        y: n targets; NaN where withdrawn.
        revisions, sources: n, as in `records.Label`.
        label_partitions, label_offsets, label_broker_ms: n, of the labels, as in `Examples`.
    """

    kinds: Ints
    ids: list[str]
    times_ms: Ints
    y: Floats
    revisions: Ints
    sources: list[str]
    label_partitions: Ints
    label_offsets: Ints
    label_broker_ms: Ints

    @classmethod
    def none(cls) -> Corrections:
        """Return no rows."""
        return cls(_NO_INTS, [], _NO_INTS, _NO_FLOATS, _NO_INTS, [], _NO_INTS, _NO_INTS, _NO_INTS)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Events whose horizon passed without a label, where `missing = "drop"`."""

    ids: list[str]
    times_ms: Ints
    source_partitions: Ints
    source_offsets: Ints

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Lowest:
    """The lowest position that recovery must read again from, and the watermark just before it."""

    position: int
    watermark_ms: EventTimeMs


@dataclass(frozen=True, slots=True)
class Vector:
    """Where one partition of the join stood after the last row of a block.

    `scored` is counted in positions (offset and row), labels and relabelled in offsets.

    Attributes:
        scored_next, labels_next, relabelled_next: Everything before was read.
        scored_low, labels_low: Lowest still waiting, else the next; with the watermark just before it.
        relabelled_low: Lowest forward that still waits or may still be sent again, else the next.
        relabelled_covered: Per other labels partition, `next_offset` of its last mark before `relabelled_low`.
        scored_watermark_ms, labels_watermark_ms: At the next positions.
        marks_ms: Per other labels partition, the greatest watermark that its marks have told.
        idle_moves: (labels offset, watermark moved to) of the moves since the block before, and of those at or after
            `labels_low` at least the last one before each label that still waits.
        oldest_row: No row of an identity that is still remembered lies before this offset of the training log.
        counts: How often each outcome happened since the block before, of this owner.
    """

    scored_next: Position = 0
    labels_next: int = 0
    relabelled_next: int = 0
    scored_low: Lowest = Lowest(0, NEVER)
    labels_low: Lowest = Lowest(0, NEVER)
    relabelled_low: int = 0
    relabelled_covered: Mapping[int, int] = field(default_factory=dict)
    scored_watermark_ms: EventTimeMs = NEVER
    labels_watermark_ms: EventTimeMs = NEVER
    marks_ms: Mapping[int, EventTimeMs] = field(default_factory=dict)
    idle_moves: Sequence[tuple[int, EventTimeMs]] = ()
    oldest_row: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingBlock:
    """One block of the training log, written by the joiner of one partition.

    Attributes:
        partition: Of `scored` and `labels`.
        owner: Who wrote it; it counts only if that is the owner at its position.
        number: From 1 under each claim, without gaps; a block sent twice is seen by its number.
    """

    contract_id: str
    log_id: str
    partition: int
    owner: Owner
    number: int
    examples: Examples
    dropped: Dropped
    vector: Vector
    corrections: Corrections = field(default_factory=Corrections.none)


def between(examples: Examples, start: int, stop: int) -> Examples:
    """Return the rows start .. stop - 1 of some examples."""
    if start == 0 and stop >= len(examples):
        return examples
    part = slice(start, stop)
    x, served = examples.x, examples.served
    absent = None if x.absent is None else x.absent[part]
    return Examples(
        kinds=examples.kinds[part],
        ids=examples.ids[part],
        times_ms=examples.times_ms[part],
        y=examples.y[part],
        source_partitions=examples.source_partitions[part],
        source_offsets=examples.source_offsets[part],
        label_partitions=examples.label_partitions[part],
        label_offsets=examples.label_offsets[part],
        label_broker_ms=examples.label_broker_ms[part],
        state_positions=examples.state_positions[part],
        revisions=examples.revisions[part],
        sources=examples.sources[part],
        served=Served(served.y_pred[part], served.proba[part]),
        x=XColumns(x.numbers[part], x.integers[part], x.strings[part], absent),
    )


class Rows:
    """Rows of many scored blocks, gathered into columns in the order given.

    Rows of one block are copied together, so that neighbours cost little.

    Args:
        blocks, rows: The block of each row, and its place there.
    """

    def __init__(self, blocks: Sequence[ScoredBlock], rows: Sequence[int]) -> None:
        self._blocks, self._rows = blocks, rows
        self._order: Ints | None = None
        if len(set(map(id, blocks))) < 2:
            self._groups = [(blocks[0], _index(rows))] if blocks else []
            return
        places: dict[int, tuple[ScoredBlock, list[int], list[int]]] = {}
        for place, (block, row) in enumerate(zip(blocks, rows, strict=True)):
            group = places.get(id(block))
            if group is None:
                group = places[id(block)] = (block, [], [])
            group[1].append(row)
            group[2].append(place)
        self._groups = [(block, _index(taken)) for block, taken, _ in places.values()]
        order = np.empty(len(rows), dtype=np.intp)
        order[[place for _, _, group in places.values() for place in group]] = np.arange(len(rows))
        if (np.diff(order) != 1).any():
            self._order = order

    def ids(self) -> list[str]:
        """Return the event ids."""
        return [block.ids[row] for block, row in zip(self._blocks, self._rows, strict=True)]

    def times_ms(self) -> Ints:
        """Return the event times."""
        return self._column(lambda block: block.times_ms, _NO_INTS)

    def source_partitions(self) -> Ints:
        """Return the partitions of the events topic."""
        return np.array([block.source_partition for block in self._blocks], dtype=np.int64)

    def source_offsets(self) -> Ints:
        """Return the offsets in the events topic."""
        return self._column(lambda block: block.source_offsets, _NO_INTS)

    def state_positions(self) -> Ints:
        """Return the positions of the states that served."""
        return np.array([block.state_position for block in self._blocks], dtype=np.int64)

    def served(self) -> Served:
        """Return what was served."""
        return Served(
            self._column(lambda block: block.served.y_pred, _NO_FLOATS),
            self._column(lambda block: block.served.proba, _NO_FLOAT_ROWS),
        )

    def x(self) -> XColumns:
        """Return the features; no rows have matrices of no columns.

        Raises:
            ContractError: The rows are of more than one contract, so they have no common layout.
        """
        _one_contract({block.contract_id for block, _ in self._groups})
        absent = None
        if any(block.x.absent is not None for block, _ in self._groups):
            absent = self._column(_absent, _NO_BOOL_ROWS)
        return XColumns(
            self._column(lambda block: block.x.numbers, _NO_FLOAT_ROWS),
            self._column(lambda block: block.x.integers, _NO_INT_ROWS),
            [block.x.strings[row] for block, row in zip(self._blocks, self._rows, strict=True)],
            absent,
        )

    def _column(self, of: Callable[[ScoredBlock], NDArray[Any]], empty: NDArray[Any]) -> NDArray[Any]:
        pieces = [of(block)[index] for block, index in self._groups]
        if len(pieces) < 2:
            return pieces[0] if pieces else empty
        joined = np.concatenate(pieces)
        return joined if self._order is None else joined[self._order]


def row_bytes(block: ScoredBlock) -> int:
    """Return an estimate, from above, of the bytes of one row in a training block, its text left out."""
    numbers: int = block.x.numbers.shape[1] + block.x.integers.shape[1] + block.served.proba.shape[1]
    return 120 + 9 * numbers


def text_bytes(texts: Sequence[str]) -> int:
    """Return an estimate, from above, of the bytes of texts: 4 a character and 5 for each length."""
    return 5 * len(texts) + 4 * sum(map(len, texts))


def _index(rows: Sequence[int]) -> slice | list[int]:
    # A slice is far cheaper than an index: for one row, the usual case when labels come in any order, and for
    # neighbours, the usual case when they come in the order of their events.
    first, end = rows[0], rows[0] + len(rows)
    return slice(first, end) if rows[-1] == end - 1 and list(rows) == list(range(first, end)) else list(rows)


def _absent(block: ScoredBlock) -> Bools:
    if block.x.absent is not None:
        return block.x.absent
    features = block.x.numbers.shape[1] + block.x.integers.shape[1] + _strings(block.x)
    return np.zeros((len(block.ids), features), dtype=np.bool_)


def _strings(x: XColumns) -> int:
    return len(x.strings[0]) if x.strings else 0


def _one_contract(contract_ids: set[str]) -> None:
    if len(contract_ids) > 1:
        raise ContractError(
            f"rows of the contracts {', '.join(sorted(contract_ids))} cannot stand in one block, which has one layout; "
            "drain the join before the contract changes, or begin a new log"
        )


_NO_INTS: Ints = np.empty(0, dtype=np.int64)
_NO_FLOATS: Floats = np.empty(0, dtype=np.float64)
_NO_FLOAT_ROWS: Floats = np.empty((0, 0), dtype=np.float64)
_NO_INT_ROWS: Ints = np.empty((0, 0), dtype=np.int64)
_NO_BOOL_ROWS: Bools = np.empty((0, 0), dtype=np.bool_)
