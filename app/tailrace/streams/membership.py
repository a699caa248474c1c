"""What both forms of the log share of a group member: generation, pauses, completion, orderly release.

The forms add where records come from and where commits go. Invariant: a partition is released only after its
batches in flight are completed and committed, or after the revoke timeout without them (rules 3 to 5 of `log`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter

from mode import Service

from tailrace.streams.abreast import Abreast
from tailrace.streams.completion import Completion
from tailrace.streams.log import Assignment, BatchSink, Commit, RecordBatch, Source, SourceSpec, TopicPartition

log = logging.getLogger(__name__)


class MemberSource(Source):
    """A source that knows what it delivered; the forms of the log derive from it."""

    def __init__(self, spec: SourceSpec, sink: BatchSink, assignment: Assignment | None) -> None:
        super().__init__()
        self.spec = spec
        self._sink = sink
        self._assignment = assignment
        self._generation = -1
        self._completions: dict[TopicPartition, Completion] = {}
        self._paused: set[TopicPartition] = set()
        self._releasing = False
        self._committing: asyncio.Future[None] | None = None  # the regular commit that is on its way
        self._progress = asyncio.Event()
        self._delivered_s: dict[RecordBatch, float] = {}
        self._gave_up_s: float | None = None
        self._abreast = None if spec.abreast_ms is None else Abreast(spec.abreast_ms)

    @property
    def label(self) -> str:
        """The group, for logs and tracebacks."""
        return f"source of {self.spec.group}"

    @property
    def generation(self) -> int:
        """Rises at every assignment and revocation; -1 before the first."""
        return self._generation

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        """The partitions that this member reads now."""
        return frozenset(self._completions)

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The assigned partitions of which nothing is delivered now."""
        return frozenset(self._paused)

    @property
    def in_flight(self) -> Mapping[TopicPartition, int]:
        """Batches that were delivered and are not completed, per assigned partition."""
        return {partition: completion.in_flight for partition, completion in self._completions.items()}

    @property
    def moved_in_s(self) -> float | None:
        """How long ago this member gave up its partitions in the rebalance that is going on; None: it had none."""
        return None if self._gave_up_s is None else perf_counter() - self._gave_up_s

    def complete(self, batch: RecordBatch) -> None:
        """Say that everything produced for this batch is acknowledged (rule 2)."""
        delivered_s = self._delivered_s.pop(batch, None)
        if delivered_s is not None:
            self.on_complete(batch, perf_counter() - delivered_s)
        completion = self._completions.get(batch.partition)
        if completion is None or batch.generation != self._generation:
            return
        had_room = completion.has_room
        if completion.complete(batch) and (self._releasing or not had_room):
            self._progress.set()

    def give_back(self, batch: RecordBatch) -> None:
        """Say that nobody works on a batch, nor on those of its partition behind it: they are delivered again."""
        if self._is_in_flight(batch):
            for each in self._completions[batch.partition].give_back(batch):
                self._delivered_s.pop(each, None)
            self._progress.set()

    def _is_in_flight(self, batch: RecordBatch) -> bool:
        completion = self._completions.get(batch.partition)
        return completion is not None and batch.generation == self._generation and completion.holds(batch)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Deliver from this offset next; batches that were delivered before no longer count."""
        completion = self._completions.get(partition)
        if completion is not None:
            completion.seek(offset)
            self._delivered_s = {batch: at for batch, at in self._delivered_s.items() if batch.partition != partition}
            self._progress.set()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver nothing of these until resumed; membership is kept."""
        self._paused.update(self._completions.keys() & set(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver again."""
        resumed = self._paused.intersection(partitions)
        if resumed:  # asked for often: a poll that waits is not to be disturbed for nothing
            self._paused -= resumed
            self._progress.set()

    def lag(self) -> Mapping[TopicPartition, int]:
        """Records between what was completed and the known end, per assigned partition."""
        ends = {partition: self.end_offset(partition) for partition in self._completions}
        return {
            partition: self._completions[partition].behind(end) for partition, end in ends.items() if end is not None
        }

    def _may_deliver(self, partition: TopicPartition) -> bool:
        completion = self._completions.get(partition)
        return (
            completion is not None
            and completion.has_room
            and partition not in self._paused
            and not self._releasing
            and not self.should_stop
        )

    def _those_abreast(self, ready: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
        """Return those of `ready` that are not ahead in time of any that has more to read."""
        if self._abreast is None:
            return ready
        ends = {partition: self.end_offset(partition) for partition in self._completions}
        behind = [
            at
            for at, end in ends.items()
            if at not in self._paused and (end is None or self._completions[at].position < end)
        ]
        return self._abreast.choose(ready, ends, behind)

    async def _deliver(self, batch: RecordBatch) -> None:
        if self._abreast is not None:
            self._abreast.delivered(batch.partition, batch.records[-1].timestamp)
        self._completions[batch.partition].begin(batch)
        self._delivered_s[batch] = perf_counter()
        await self._sink(batch)

    async def _take(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begin a new generation with these partitions, each to be read from its position."""
        self._generation += 1
        limit = self.spec.max_in_flight
        self._completions = {partition: Completion(at, limit) for partition, at in positions.items()}
        self._paused = set(positions) if self.spec.start_paused else set()
        self._delivered_s.clear()
        log.info(
            "%s reads %s", self.label, ", ".join(f"{p.topic}/{p.partition}" for p in sorted(positions)) or "nothing"
        )
        if self._assignment is not None:
            await self._assignment.on_assigned(self._generation, self.assigned)
        self._gave_up_s = None
        self._progress.set()

    async def _release(self) -> None:
        """Finish or give up what is in flight, commit what is completed, and hold nothing any more."""
        if not self._completions:
            return
        self._releasing, self._gave_up_s = True, perf_counter()
        await self._give_up_regular_commit()
        try:
            async with asyncio.timeout(self.spec.revoke_timeout_s):
                await asyncio.gather(self._told_revoked(), self._drained())
        except TimeoutError:
            log.warning(
                "%s could not finish %d batches within %.1f s; they will be read again",
                self.label,
                sum(completion.in_flight for completion in self._completions.values()),
                self.spec.revoke_timeout_s,
            )
        finally:
            await self._commit_completed()
            self._generation += 1
            self._completions = {}
            self._paused.clear()
            self._releasing = False
            self._progress.set()

    async def _told_revoked(self) -> None:
        if self._assignment is not None:
            await self._assignment.on_revoked(self.assigned)

    async def _drained(self) -> None:
        while any(completion.in_flight for completion in self._completions.values()):
            self._progress.clear()
            await self._progress.wait()

    async def _commit_completed(self) -> None:
        if not self.spec.commit_every_s:
            return
        commits = {
            partition: Commit(offset)
            for partition, completion in self._completions.items()
            if (offset := completion.committable()) is not None
        }
        if not commits:
            return
        done = await self.commit(commits)
        self.on_commit(done)
        if done:
            for partition, commit in commits.items():
                if (completion := self._completions.get(partition)) is not None:
                    completion.commit_done(commit.offset)

    @Service.task
    async def _commit_regularly(self) -> None:
        while self.spec.commit_every_s and not self.should_stop:
            await self.sleep(self.spec.commit_every_s)
            if not self.should_stop and not self._releasing:
                self._committing = asyncio.ensure_future(self._commit_completed())
                try:
                    await asyncio.wait([self._committing])
                finally:
                    self._committing.cancel()
                if not self._committing.cancelled():
                    self._committing.result()

    async def _give_up_regular_commit(self) -> None:
        """Let no commit that is tried again come behind the last one, with older offsets."""
        if self._committing is not None and not self._committing.done():
            self._committing.cancel()
            await asyncio.wait([self._committing])
