"""The join of one partition, for as long as this member has it: claim, recover, read, hand over what is to be written.

The decisions are `domain.join`'s, the order of what is written `join_writer`'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from mode import Service

from tailrace.domain.blocks import Lowest, ScoredBlock, Vector
from tailrace.domain.errors import CodecError, ForeignLogError, OwnershipLost
from tailrace.domain.join import LabelJoin, recover
from tailrace.domain.positions import offset_of, position_of, row_of
from tailrace.domain.records import Forward, Label, Mark, Rejection
from tailrace.domain.status import Role, RoleState
from tailrace.domain.times import NEVER
from tailrace.streams.join_writer import JoinParts, JoinWriter
from tailrace.streams.log import Commit, Record, RecordBatch, Source, TopicPartition
from tailrace.streams.training_log import Hint
from tailrace.wire.avro_codec import decode_relabelled, decode_scored
from tailrace.wire.partitioner import partitions_of

log = structlog.get_logger(__name__)

_REST_S = 4.0  # a stop waits so long for the round to end: less than a revocation may take
_IDLE_EVERY_MS = 1_000  # a quiet labels partition follows the scored watermark at most this often
_TICK_S = 0.1  # how often a quiet partition looks at what only time brings: idleness, commits, blocks without rows


class PartitionJoin(Service):
    """The join of one partition, for as long as this member has it."""

    def __init__(
        self,
        parts: JoinParts,
        source: Source,
        generation: int,
        partition: int,
        partitions: int,
        tell: Callable[[], None],
    ) -> None:
        super().__init__()
        self.partition = partition
        self.is_ready = False
        self.stands, self.why = RoleState.RESTORING, f"partition {partition} is being claimed and recovered"
        self._tell = tell
        self._parts = parts
        self._source = source
        self._generation = generation
        self._spec = parts.spec(partition, partitions)
        self._scored, self._labels, self._relabelled = parts.topics.of(partition)
        self._inbox: deque[RecordBatch] = deque()
        self._arrived = asyncio.Event()
        self._writer: JoinWriter | None = None
        self._join: LabelJoin | None = None
        self._quiet_since_ms = 0
        self._idle_from_ms = 0
        self._rested = asyncio.Event()

    @property
    def label(self) -> str:
        """For logs."""
        return f"join of {self._scored.topic}/{self.partition}"

    @property
    def join(self) -> LabelJoin | None:
        """The state machine; None until it has recovered."""
        return self._join

    def give(self, batch: RecordBatch) -> None:
        """Take a batch; the source bounds how many."""
        self._inbox.append(batch)
        self._arrived.set()

    @Service.task
    async def _live(self) -> None:
        self._tell()
        try:
            await self._recover()
            self.is_ready = True
            self._now(RoleState.RUNNING)
            while not self.should_stop:
                await self._round()
            await self._finish()
        except OwnershipLost as lost:
            log.info("partition given up", topic=self._scored.topic, partition=self.partition, why=str(lost))
        except (ForeignLogError, CodecError) as problem:
            log.error("partition stays down, scoring goes on", partition=self.partition, why=str(problem))
            inputs = (self._scored, self._labels, self._relabelled)
            self._source.pause(inputs)
            for partition in inputs:  # what was read of it is not in flight any more, so that a release need not wait
                self._source.seek(partition, 0)
            self._now(RoleState.FAILED, f"partition {self.partition}: {problem}")
        finally:
            self._rested.set()

    def _now(self, state: RoleState, reason: str = "") -> None:
        self.stands, self.why = state, reason
        self._tell()

    async def on_stop(self) -> None:
        """Let what was read be written and committed; of every other batch, say that nothing is in flight for it."""
        self._arrived.set()
        if self.is_ready:
            with suppress(TimeoutError):
                async with asyncio.timeout(_REST_S):
                    await self._rested.wait()
        while self._inbox:
            self._source.complete(self._inbox.popleft())

    # ── recovery ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _recover(self) -> None:
        parts, partition = self._parts, self.partition
        committed = await self._source.committed(self._scored)
        hint = Hint.load(committed.metadata) if committed is not None else None
        owner = parts.new_owner()
        view = await parts.training.view_from(partition, hint)
        claimed = await parts.training.claim(partition, owner, self._confirm, view)
        blocks = claimed.view.blocks
        vector = blocks[-1][1].vector if blocks else await self._beginning()
        self._join = await asyncio.to_thread(  # a million rows take seconds
            recover,
            self._spec,
            vector,
            rows=blocks,
            scored=await self._scored_again(vector),
            labels=await self._labels_again(vector),
            relabelled=await self._relabelled_again(vector),
        )
        firsts = deque(Hint(offset, block.owner, block.number) for offset, block in blocks)
        self._writer = JoinWriter(
            parts, self._source, self._generation, self._spec, self._join, owner, claimed.log_id, firsts, vector
        )
        self._source.seek(self._scored, offset_of(vector.scored_next))
        self._source.seek(self._labels, vector.labels_next)
        self._source.seek(self._relabelled, vector.relabelled_next)
        self._quiet_since_ms = parts.now_ms()
        self._source.resume((self._scored, self._labels, self._relabelled))

    async def _confirm(self) -> bool:
        commits = {}
        for partition in (self._scored, self._labels, self._relabelled):
            known = await self._source.committed(partition)
            commits[partition] = known or Commit((await self._parts.reader.range_of(partition)).start)
        return self._source.generation == self._generation and await self._source.commit(commits)

    async def _beginning(self) -> Vector:
        """Where the first joiner of a partition begins: at what the topics still hold."""
        starts = [
            (await self._parts.reader.range_of(partition)).start
            for partition in (self._scored, self._labels, self._relabelled)
        ]
        return first_vector(*starts)

    async def _scored_again(self, vector: Vector) -> list[tuple[int, ScoredBlock]]:
        start, last = offset_of(vector.scored_low.position), vector.scored_next
        end = offset_of(last) + (1 if row_of(last) else 0)
        return [
            (record.offset, decode_scored(_value(record))) for record in await self._again(self._scored, start, end)
        ]

    async def _labels_again(self, vector: Vector) -> list[tuple[Label, int]]:
        records = await self._again(self._labels, vector.labels_low.position, vector.labels_next)
        found = [(record, self._parts.labels.decode(record)) for record in records]
        labels = [label for _, label in found if isinstance(label, Label)]
        return list(zip(labels, self._homes(labels), strict=True))

    async def _relabelled_again(self, vector: Vector) -> list[tuple[int, Forward | Mark]]:
        records = await self._again(self._relabelled, vector.relabelled_low, vector.relabelled_next)
        found = [(record.offset, _relabelled(record)) for record in records]
        return [(offset, record) for offset, record in found if record is not None]

    async def _again(self, partition: TopicPartition, start: int, end: int) -> list[Record]:
        records: list[Record] = []
        if start < end:
            async for batch in self._parts.reader.read(partition, start, end):
                records += batch
        return records

    def _homes(self, labels: Sequence[Label]) -> list[int]:
        return partitions_of([label.id.encode() for label in labels], self._spec.partitions)

    # ── the loop ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _made(self) -> tuple[LabelJoin, JoinWriter]:
        assert self._join is not None
        assert self._writer is not None
        return self._join, self._writer

    async def _round(self) -> None:
        join, writer = self._made
        if not self._inbox:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), _TICK_S)
        read: list[RecordBatch] = []
        while self._inbox and not self.should_stop:
            batch = self._inbox.popleft()
            await self._read(batch)
            read.append(batch)
            if batch.partition == self._labels:
                self._quiet_since_ms = self._parts.now_ms()
        moved = self._move_idle()
        await self._expire()
        if moved or (join.is_dirty and writer.positions_due):
            await writer.write()
        while writer.has_rows:
            await writer.write()
        for batch in read:
            self._source.complete(batch)
        await writer.commit_if_due(at_once=moved)
        self._bound_memory()
        self._record()

    async def _read(self, batch: RecordBatch) -> None:
        with self._parts.recorder.timed("join"):
            self._parts.recorder.consumed(Role.JOIN, batch.partition.topic, self.partition, len(batch.records))
        if batch.partition == self._scored:
            await self._read_scored(batch.records)
        elif batch.partition == self._labels:
            await self._read_labels(batch.records)
        else:
            await self._read_relabelled(batch.records)

    async def _read_scored(self, records: Sequence[Record]) -> None:
        join, _ = self._made
        for record in records:
            with self._parts.recorder.timed("decode"):
                block = decode_scored(_value(record))
            rows = len(block.ids)
            row = self._first_row(record.offset)
            while True:
                with self._parts.recorder.timed("join"):
                    row = join.on_scored(record.offset, block, row)
                await self._make_room()
                if row >= rows:
                    break

    def _first_row(self, offset: int) -> int:
        """Skip rows of the first message that the vector has already passed."""
        join, _ = self._made
        reached = join.scored_next
        return row_of(reached) if offset_of(reached) == offset else 0

    async def _read_labels(self, records: Sequence[Record]) -> None:
        join, writer = self._made
        with self._parts.recorder.timed("decode"):
            decoded = self._parts.labels.decode_batch(records)
            homes = iter(self._homes([label for label in decoded if isinstance(label, Label)]))
        writer.remember(records)
        read = 0
        while read < len(records):
            with self._parts.recorder.timed("join"):
                for record, label in zip(records[read:], decoded[read:], strict=True):
                    read += 1
                    if isinstance(label, Rejection):
                        writer.reject(record, label)
                        join.on_rejected_label(record.offset)
                    else:
                        join.on_label(label, next(homes))
                    if join.is_full:
                        break
            await self._make_room()

    async def _read_relabelled(self, records: Sequence[Record]) -> None:
        join, _ = self._made
        for record in records:
            content = _relabelled(record)
            if content is None:
                join.on_rejected_relabelled(record.offset)
            else:
                join.on_relabelled(record.offset, content)
            if join.is_full:
                await self._make_room()

    async def _make_room(self) -> None:
        join, writer = self._made
        while join.is_full:
            await writer.write()

    async def _expire(self) -> None:
        join, writer = self._made
        while join.expire():
            await writer.write()

    def _move_idle(self) -> bool:
        """Move a labels partition that has been quiet at its end for long enough."""
        join, _ = self._made
        now_ms = self._parts.now_ms()
        if now_ms < max(self._quiet_since_ms + self._parts.idle_after_ms, self._idle_from_ms):
            return False
        moved = join.idle(self._source.end_offset(self._labels) == join.labels_next)
        if moved:
            self._idle_from_ms = now_ms + _IDLE_EVERY_MS
        return moved

    async def _finish(self) -> None:
        """Write and commit what was read, so that the next joiner begins there."""
        join, writer = self._made
        while writer.has_rows or join.is_dirty:
            await writer.write()
        await writer.commit_if_due(at_once=True)

    def _bound_memory(self) -> None:
        join, _ = self._made
        paused = join.paused_inputs()
        for partition, is_paused in ((self._scored, paused.scored), (self._labels, paused.labels)):
            if is_paused:
                self._source.pause((partition,))
            else:
                self._source.resume((partition,))

    def _record(self) -> None:
        join, _ = self._made
        self._parts.recorder.join_holds(
            self.partition, waiting=join.waiting, early=join.early, remembered=join.remembered
        )


def first_vector(scored: int, labels: int, relabelled: int) -> Vector:
    """Return the vector of a partition of which nothing was read: the first offsets still there."""
    return Vector(
        scored_next=position_of(scored),
        labels_next=labels,
        relabelled_next=relabelled,
        scored_low=Lowest(position_of(scored), NEVER),
        labels_low=Lowest(labels, NEVER),
        relabelled_low=relabelled,
    )


def _value(record: Record) -> bytes:
    if record.value is None:
        raise CodecError(
            f"offset {record.offset} of {record.topic}/{record.partition} has no value; only Tailrace may write "
            "this topic. Find out who wrote it."
        )
    return record.value


def _relabelled(record: Record) -> Forward | Mark | None:
    try:
        return decode_relabelled(_value(record))
    except CodecError as problem:
        log.warning("relabelled record passed over", offset=record.offset, partition=record.partition, why=str(problem))
        return None
