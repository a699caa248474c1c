"""The state of a loop at any position of its training log: the nearest snapshot before it, folded up to there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from tailrace.domain.branches import Branch, BranchState
from tailrace.domain.errors import CodecError, ForeignLogError, LogError, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.notices import Notices
from tailrace.domain.positions import Position, end_of, offset_of, position_of, row_of, show
from tailrace.domain.state import LoopState
from tailrace.domain.times import EventTimeMs, rfc3339_of
from tailrace.inspection.reading import Reading
from tailrace.inspection.refolding import hold_admitted
from tailrace.opening import open_store, open_trust
from tailrace.streams.log import Range, TopicPartition
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.warming import Progress, Warming
from tailrace.wire.topics import LoopTopics

_TURN_S: Final = 0.05  # of folding, then whoever waits for progress is told


@dataclass(frozen=True, slots=True)
class Past:
    """A loop as it was.

    Attributes:
        branch: The one that served then; before the first was admitted, the one that was.
        definition: Of the branch.
        from_snapshot: Number of the snapshot that the fold began with; None: the start of the log.
        records: Folded from there on.
    """

    state: LoopState
    branch: BranchState
    definition: Branch
    from_snapshot: int | None
    records: int


def open_index(reading: Reading, topics: LoopTopics, lineage: str) -> SnapshotIndex:
    """Return the index of a loop's snapshots, to be read; with the store and the trusted keys of the settings."""
    settings = reading.settings
    return SnapshotIndex(
        topics.snapshots, lineage=lineage, versions={}, store=open_store(settings), trusted=open_trust(settings)
    )


class TimeMachine:
    """Goes to positions of one loop's training log; changes nothing.

    Args:
        index: Of the loop, with the keys that are trusted here.
    """

    def __init__(self, reading: Reading, fold: Fold, index: SnapshotIndex, topic: str) -> None:
        self._reading = reading
        self._fold = fold
        self._index = index
        self._training = TrainingLog(reading.reader, None, topic)
        self._partition = TopicPartition(topic, 0)

    async def position_at(self, time_ms: EventTimeMs) -> Position:
        """Return the position behind the last record that the broker had at a time.

        The training topic has the broker's times, which never fall, so that halving finds it.

        Raises:
            LogError: The log began later.
        """
        held = await self._training.range()
        low, high = held.start, held.end
        while low < high:
            middle = (low + high) // 2
            record = await self._reading.first_record(self._partition, Range(middle, held.end))
            if record is not None and record.timestamp <= time_ms:
                low = record.offset + 1
            else:
                high = middle
        if low == held.start:
            raise LogError(
                f"at {rfc3339_of(time_ms)} nothing stood in {self._partition.topic} yet that it still holds; "
                "choose a later time, `tailrace log cat --limit 1` shows the first record"
            )
        return position_of(low)

    async def end(self) -> Position:
        """Return the position behind the last record."""
        return position_of((await self._training.range()).end)

    async def go_to(self, position: Position, progress: Progress) -> Past:
        """Return the loop as it was at a position.

        Raises:
            LogError: The log does not reach to that position, or does not reach back far enough.
            FoldError: A model raises at an example that nobody skipped.
        """
        await self._index.read(self._reading.reader)
        held = await self._training.range()
        if position > position_of(held.end):
            raise LogError(
                f"position {show(position)} is not written yet; the log ends at {show(position_of(held.end))}"
            )
        state, number = await self._before(position, held)
        first = offset_of(state.position)
        notices = await self._training.notices(first, held.end, state.ownership)
        await hold_admitted(self._fold, self._training, state, notices)
        await self._fold_to(state, position, notices, progress)
        lineage = state.pointers.champion or next(iter(notices.admitted), "")
        definition = self._definition(lineage, state, notices)
        if lineage not in state.branches:
            await self._warm(state, definition, position, progress)
        return Past(state, state.branches[lineage], definition, number, offset_of(position) - first)

    def _definition(self, lineage: str, state: LoopState, notices: Notices) -> Branch:
        text = state.pointers.admitted.get(lineage) or notices.admitted.get(lineage)
        if text is None:
            raise LogError("no model was admitted to this log yet; a learner does that when it first starts")
        branch = Branch.read(text)
        if self._fold.kit(branch) is None:
            versions = ", ".join(f"{name} {version}" for name, version in sorted(branch.versions.items()))
            raise LogError(
                f"the branch {lineage[:12]} that served then cannot be folded here; it needs the features of this "
                f"configuration and {versions}"
            )
        return branch

    async def _before(self, position: Position, held: Range) -> tuple[LoopState, int | None]:
        for manifest in self._index.newest():
            if manifest.position <= position and offset_of(manifest.position) >= held.start:
                try:
                    bodies = await self._index.load(manifest)
                    return await asyncio.to_thread(self._fold.restore, bodies), manifest.number
                except (SnapshotRefused, CodecError):
                    continue
        if held.start > 0:
            raise ForeignLogError(
                f"{self._partition.topic} begins at offset {held.start} and no snapshot before {show(position)} can be "
                "used; what lies before cannot be folded again. Keep this topic without limit"
            )
        return self._fold.begin(), None

    async def _fold_to(self, state: LoopState, position: Position, notices: Notices, progress: Progress) -> None:
        first, last = offset_of(state.position), offset_of(position)
        end = end_of(position)
        told_s = perf_counter()
        async for offset, record, digest in self._training.records(first, end):
            block = self._fold.open(state, offset, record, digest)
            if block is not None:
                stop = len(block.examples) if offset < last else min(row_of(position), len(block.examples))
                done = state.position - position_of(offset)
                self._fold.learn(state, block, offset, done, max(done, stop), notices)
                if offset < last:
                    self._fold.close(state, offset)
            if perf_counter() - told_s > _TURN_S:
                told_s = perf_counter()
                progress(offset + 1 - first, end - first)
                await asyncio.sleep(0)

    async def _warm(self, state: LoopState, branch: Branch, position: Position, progress: Progress) -> None:
        """Fold a branch that was admitted behind the snapshot and begins before it, from its start."""
        warming = Warming(self._fold, self._training, self._index)
        warmed = await warming.begin(branch, fresh=True)
        await warming.fold_to(warmed, offset_of(position), progress)
        await self._fold_to(warmed.state, position, warmed.notices, progress)
        self._fold.hold(state, warmed.held)
