"""Valid records with plain defaults: override what the test is about."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import numpy as np

from tailrace.domain.blocks import CORRECTED, WITHDRAWN, Corrections, ScoredBlock, Served, Vector, XColumns
from tailrace.domain.join import Batch, JoinLimits, JoinSpec, LabelJoin, recover
from tailrace.domain.positions import offset_of
from tailrace.domain.records import Forward, Label, Mark
from tailrace.domain.snapshots import Manifest
from tailrace.domain.times import JoinTimes


def make_scored_block(
    *rows: tuple[str, int],
    source_offsets: Sequence[int] | None = None,
    source_partition: int = 0,
    state_position: int = 0,
    contract_id: str = "contract",
    x: XColumns | None = None,
    served: Served | None = None,
) -> ScoredBlock:
    """Return scored rows of (event id, event time); by default one number each, its row times ten."""
    count = len(rows)
    return ScoredBlock(
        contract_id=contract_id,
        log_id="log",
        model="champion",
        version="lineage",
        state_position=state_position,
        source_partition=source_partition,
        source_offsets=np.array(range(count) if source_offsets is None else source_offsets, dtype=np.int64),
        ids=[event_id for event_id, _ in rows],
        times_ms=np.array([time_ms for _, time_ms in rows], dtype=np.int64),
        served=served or make_served([row / 10 for row in range(count)]),
        x=x or make_x([[row * 10.0] for row in range(count)]),
    )


def make_served(probabilities: Sequence[float]) -> Served:
    """Return binary predictions."""
    proba = np.array(probabilities, dtype=np.float64).reshape(-1, 1)
    return Served(y_pred=(proba[:, 0] > 0.5).astype(np.float64), proba=proba)


def make_x(numbers: Sequence[Sequence[float]], absent: Sequence[Sequence[bool]] | None = None) -> XColumns:
    """Return features that are all of type number."""
    count = len(numbers)
    return XColumns(
        numbers=np.array(numbers, dtype=np.float64).reshape(count, -1),
        integers=np.empty((count, 0), dtype=np.int64),
        strings=[()] * count,
        absent=None if absent is None else np.array(absent, dtype=np.bool_),
    )


def make_corrections(*rows: tuple[str, int, float | None], revision: int = 1, source: str = "") -> Corrections:
    """Return rows of (event id, event time, target or None where withdrawn), of labels at offsets 0, 1, …"""
    count = len(rows)
    zeros = np.zeros(count, np.int64)
    return Corrections(
        kinds=np.array([WITHDRAWN if y is None else CORRECTED for _, _, y in rows], np.int64),
        ids=[event_id for event_id, _, _ in rows],
        times_ms=np.array([time_ms for _, time_ms, _ in rows], np.int64),
        y=np.array([math.nan if y is None else y for _, _, y in rows], np.float64),
        revisions=zeros + revision,
        sources=[source] * count,
        label_partitions=zeros,
        label_offsets=np.arange(count, dtype=np.int64),
        label_broker_ms=zeros,
    )


def make_label(
    event_id: str = "a",
    time_ms: int = 0,
    y: float | None = 1.0,
    offset: int = 0,
    partition: int = 0,
    *,
    broker_ms: int = 0,
    revision: int = 0,
    source: str = "",
) -> Label:
    """Return a label of its own labels partition."""
    return Label(event_id, time_ms, y, partition, offset, broker_ms, revision, source)


def make_forward(label: Label, watermark_ms: int) -> Forward:
    """Return a label that came on another partition than its id's."""
    return Forward(label, watermark_ms)


def make_mark(partition: int = 1, next_offset: int = 0, watermark_ms: int = 0) -> Mark:
    """Return what another labels partition has passed."""
    return Mark(partition, next_offset, watermark_ms)


def make_times(
    horizon_ms: int = 100, disorder_ms: int = 20, skew_ms: int = 5, recall_ms: int = 50, corrections_ms: int = 0
) -> JoinTimes:
    """Return spans that are easy to add: H = 100, D = 20, S = 5, R = 50, so K = 175; corrections are not taken."""
    return JoinTimes(horizon_ms, disorder_ms, skew_ms, recall_ms, corrections_ms)


def make_limits(
    max_rows: int = 500, max_bytes: int = 400_000, max_waiting: int = 1_000_000, max_early: int = 1_000_000
) -> JoinLimits:
    """Return bounds that no test meets unless it asks for it."""
    return JoinLimits(max_rows, max_bytes, max_waiting, max_early)


def make_join_spec(
    partition: int = 0,
    partitions: int = 1,
    times: JoinTimes | None = None,
    implicit: float | None = None,
    limits: JoinLimits | None = None,
) -> JoinSpec:
    """Return the spec of a loop with one partition."""
    return JoinSpec(partition, partitions, times or make_times(), implicit, limits or make_limits())


def restart_join(
    spec: JoinSpec,
    batches: Sequence[Batch],
    *,
    scored: Sequence[ScoredBlock] = (),
    labels: Sequence[Label] = (),
    relabelled: Sequence[Forward | Mark] = (),
    away: Collection[str] = (),
) -> LabelJoin:
    """Recover a join from batches that were written at log offsets 10, 20, … and its inputs at offsets 0, 1, …

    Only what recovery asks for is given to it. Labels of the ids in `away` are at home on another partition.
    """
    log = [(10 * n, batch.block("contract", "log", "owner", n)) for n, batch in enumerate(batches, start=1)]
    vector = batches[-1].vector if batches else Vector()
    low, end = offset_of(vector.scored_low.position), offset_of(vector.scored_next)
    return recover(
        spec,
        vector,
        rows=[(offset, block) for offset, block in log if offset >= vector.oldest_row],
        scored=[(offset, block) for offset, block in enumerate(scored) if low <= offset <= end],
        labels=[
            (label, spec.partition + (label.id in away))
            for label in labels
            if vector.labels_low.position <= label.offset < vector.labels_next
        ],
        relabelled=[
            (offset, record)
            for offset, record in enumerate(relabelled)
            if vector.relabelled_low <= offset < vector.relabelled_next
        ],
    )


def is_one_chain(manifests: Iterable[Manifest]) -> bool:
    """Say whether each manifest of one lineage and kind names the one before it: nothing is missing, nothing forked."""
    line = sorted(manifests, key=lambda manifest: (manifest.number, manifest.position))
    return all(after.previous_digest == before.digest for before, after in pairwise(line))
