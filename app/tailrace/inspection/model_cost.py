"""What the model of a loop costs here: one answer to a batch, and one encoding of its state."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

from tailrace.domain.branches import Branch, BranchState
from tailrace.domain.contract import TargetContract
from tailrace.domain.errors import CodecError, LogError, SnapshotRefused, is_stop
from tailrace.domain.learning import Fold
from tailrace.domain.models.teaching import teacher_of
from tailrace.domain.records import Features, Task
from tailrace.domain.scoring import score
from tailrace.domain.snapshots import Manifest
from tailrace.domain.status import Verdict
from tailrace.inspection.doctor import Check
from tailrace.inspection.reading import Reading
from tailrace.opening import event_decoder, open_store, open_trust
from tailrace.settings import LoopSettings
from tailrace.streams.log import Range, Record
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.wire.topics import LoopTopics

BATCH: Final = 500
"""Events of one batch, and of the sample."""

SLOW_S: Final = 0.25
"""Longer than this, answering a batch or encoding the state is felt by whatever runs in the same process."""

_ROLES_APART: Final = "run `tailrace run --role score` apart from `--role join --role learn`, or choose a smaller model"


async def model_check(
    reading: Reading, loop: LoopSettings, topics: LoopTopics, fold: Fold, configured: Branch
) -> Check:
    """Measure the model that serves with the newest snapshot's state and the newest events, as far as there are any."""
    rows = await _sample(reading, loop, topics.events)
    branch, origin = await _branch(reading, topics, fold, configured)
    return await asyncio.to_thread(measured, topics.loop, fold, branch, origin, rows)


def measured(loop: str, fold: Fold, branch: BranchState, origin: str, rows: list[Features]) -> Check:
    """Encode the branch and ask its model about rows; both are timed."""
    error = _learn_if_new(fold.target, branch, rows)
    if error is not None:
        found = f"{origin} raised {type(error).__name__} when it learned one of the last {len(rows)} events"
        return Check("model", Verdict.FAIL, found, "choose a model that learns every value of the features", loop)
    begun = perf_counter()
    try:
        size_bytes = len(fold.body_of(branch))
    except CodecError as problem:
        advice = "use a model whose parts `tailrace check` accepts without `experimental`"
        return Check("model", Verdict.FAIL, f"the state cannot be encoded: {problem}", advice, loop)
    encode_s = perf_counter() - begun
    # What the first answer of a process loads is loaded once, and belongs to no answer.
    score(branch.model, rows[:1], fold.target, branch.categories)
    begun = perf_counter()
    failed = len(score(branch.model, rows, fold.target, branch.categories).failed) if rows else 0
    batch_s = (perf_counter() - begun) / max(1, len(rows)) * BATCH
    found = f"{origin}: {size_bytes:,} bytes, encoded in {encode_s * 1_000:.1f} ms"
    if rows:
        found += f"; {batch_s / BATCH * 1e6:.0f} us an answer, by {len(rows)} event{'' if len(rows) == 1 else 's'}"
    else:
        found += "; no event yet to ask it about"
    if failed:
        advice = "read the dead letters with `tailrace dlq list --code model_failed`, then change model or features"
        return Check("model", Verdict.WARN, f"{found}; it raised at {failed} of them", advice, loop)
    if encode_s > SLOW_S or batch_s > SLOW_S:
        return Check("model", Verdict.WARN, f"{found}; slow enough to hold up a process", _ROLES_APART, loop)
    return Check("model", Verdict.OK, found, loop=loop)


async def _branch(reading: Reading, topics: LoopTopics, fold: Fold, configured: Branch) -> tuple[BranchState, str]:
    index = SnapshotIndex(
        topics.snapshots,
        lineage=fold.lineage,
        versions={},
        store=open_store(reading.settings),
        trusted=open_trust(reading.settings),
    )
    try:
        await index.read(reading.reader)
    except LogError:
        return fold.begin_branch(configured), "a fresh model"
    newest: Manifest
    for newest in index.newest():
        try:
            champion = fold.restore(await index.load(newest)).champion
        except (SnapshotRefused, CodecError):
            continue
        if champion is not None:
            return champion, f"the model of snapshot {newest.number}"
    return fold.begin_branch(configured), "a fresh model"


async def _sample(reading: Reading, loop: LoopSettings, topic: str) -> list[Features]:
    records: list[Record] = []
    try:
        held = await reading.ranges(topic)
    except LogError:
        return []
    share = -(-BATCH // len(held))
    for partition, offsets in held.items():
        newest = Range(max(offsets.start, offsets.end - share), offsets.end)
        records += [record async for record in reading.records(partition, newest)]
    return event_decoder(loop).decode_batch(records).rows if records else []


def _learn_if_new(target: TargetContract, branch: BranchState, rows: list[Features]) -> BaseException | None:
    """Give a model that has learned nothing something to hold; the targets are made up. Return what it raised."""
    if branch.learned:
        return None
    count = 10 if target.task is Task.REGRESSION else max(2, len(target.classes))
    teach = teacher_of(branch.model)
    try:
        for index, x in enumerate(rows):
            teach(branch.categories.learn(x), target.river(float(index % count)))
    except BaseException as error:  # what native code of a model raises is no Exception
        if is_stop(error):
            raise
        return error
    return None
