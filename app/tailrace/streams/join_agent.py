"""The join agent: scored events and labels in, blocks of the training log out.

One `PartitionJoin` per partition; the decisions are `domain.join`'s. Order of what is written, numbered as the code
repeats it:
    1. Dead letters and forwards are acknowledged.
    2. The block is acknowledged.
    3. The positions of its vector are committed.
    4. The mark is sent to the other partitions.
A block is numbered under a claim; after a crash or a takeover whatever was written without 2 is read and decided again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from mode import Service

from tailrace.domain.blocks import Lowest, ScoredBlock, Vector
from tailrace.domain.errors import CodecError, LogError, OwnershipLost
from tailrace.domain.join import Batch, JoinSpec, LabelJoin, recover
from tailrace.domain.positions import offset_of, position_of, row_of
from tailrace.domain.records import DeadLabel, Forward, Label, Mark, Owner, Rejection, Stage
from tailrace.domain.status import Role, RoleState
from tailrace.domain.times import NEVER
from tailrace.streams import failpoints
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.log import Commit, Outgoing, Reader, Record, RecordBatch, Sink, Source, TopicPartition
from tailrace.streams.role import RoleReport
from tailrace.streams.training_log import Hint, TrainingLog
from tailrace.telemetry.recorder import Recorder
from tailrace.wire.avro_codec import decode_relabelled, decode_scored, encode_relabelled, encode_training
from tailrace.wire.json_codec import LabelDecoder
from tailrace.wire.partitioner import partitions_of

log = structlog.get_logger(__name__)

_TICK_S = 0.1  # how often a quiet partition looks at what only time brings: idleness, commits, blocks without rows
_POSITIONS_EVERY_S = 1.0  # a block without rows follows within a second when only positions moved
_COMMIT_EVERY_S = 0.2
_MARK_EVERY_S = 1.0
_REFUSALS_KEPT = 2  # a second refused commit in a row: the partition has gone to another member


@dataclass(frozen=True, slots=True)
class JoinTopics:
    """The topics of one loop that the join reads and writes."""

    labels: str
    scored: str
    relabelled: str

    def of(self, partition: int) -> tuple[TopicPartition, TopicPartition, TopicPartition]:
        """Return the three inputs of one partition."""
        return tuple(TopicPartition(topic, partition) for topic in (self.scored, self.labels, self.relabelled))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class JoinParts:
    """What every partition's join works with.

    Attributes:
        spec: (partition, partitions) → the join's own settings.
        new_owner: Makes a name that nobody has used.
        now_ms: The broker's clock as well as this host knows it; for idleness only.
    """

    topics: JoinTopics
    spec: Callable[[int, int], JoinSpec]
    contract_id: str
    labels: LabelDecoder
    training: TrainingLog
    sink: Sink
    reader: Reader
    dead_letters: DeadLetters
    recorder: Recorder
    report: RoleReport
    new_owner: Callable[[], Owner]
    now_ms: Callable[[], int]
    idle_after_ms: int


class JoinAgent(Service):
    """Hands the batches of every assigned partition to its join."""

    def __init__(self, parts: JoinParts) -> None:
        super().__init__()
        self._parts = parts
        self._source: Source | None = None
        self._joins: dict[int, PartitionJoin] = {}

    def attach(self, source: Source) -> None:
        """Give the source whose batches come, before it starts."""
        self._source = source

    @property
    def source(self) -> Source:
        """The group member."""
        assert self._source is not None, "attach() comes first"
        return self._source

    async def run(self, batches: AsyncIterable[RecordBatch]) -> None:
        """The Faust agent: give each batch to the join of its partition."""
        async for batch in batches:
            join = self._joins.get(batch.partition.partition)
            if join is None or batch.generation != self.source.generation:
                self.source.complete(batch)  # Read again by whoever has the partition; the vector says from where.
            else:
                join.give(batch)

    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
        """Start the joins of the new partitions; the source has them paused until they have recovered."""
        del generation
        self._parts.recorder.rebalanced(Role.JOIN)
        count = await self._parts.reader.partitions(self._parts.topics.scored)
        for number in sorted({partition.partition for partition in partitions}):
            join = PartitionJoin(self._parts, self.source, number, count)
            self._joins[number] = join
            await self.add_runtime_dependency(join)

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Stop the joins; what they had not written is decided again by their successors."""
        del partitions
        joins, self._joins = self._joins, {}
        for number, join in joins.items():
            await self.remove_dependency(join)
            for topic in self._parts.topics.of(number):
                self._parts.recorder.forget_partition(Role.JOIN, topic.topic, number)
        self._parts.report.set(RoleState.WAITING, "no partition is assigned")

    @property
    def joins(self) -> Sequence[PartitionJoin]:
        """The partitions that are joined here now."""
        return list(self._joins.values())


class PartitionJoin(Service):
    """The join of one partition, for as long as this member has it."""

    def __init__(self, parts: JoinParts, source: Source, partition: int, partitions: int) -> None:
        super().__init__()
        self.partition = partition
        self.is_ready = False
        self._parts = parts
        self._source = source
        self._spec = parts.spec(partition, partitions)
        self._scored, self._labels, self._relabelled = parts.topics.of(partition)
        self._inbox: deque[RecordBatch] = deque()
        self._arrived = asyncio.Event()
        self._writer: _Writer | None = None
        self._join: LabelJoin | None = None
        self._quiet_since_ms = 0

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
        report = self._parts.report
        report.set(RoleState.RESTORING, f"partition {self.partition} is being claimed and recovered")
        try:
            await self._recover()
            self.is_ready = True
            report.set(RoleState.RUNNING)
            while not self.should_stop:
                await self._round()
        except OwnershipLost as lost:
            log.info("partition given up", topic=self._scored.topic, partition=self.partition, why=str(lost))

    async def on_stop(self) -> None:
        """Say of every batch that was not read that nothing is in flight for it."""
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
        self._join = recover(
            self._spec,
            vector,
            rows=blocks,
            scored=await self._scored_again(vector),
            labels=await self._labels_again(vector),
            relabelled=await self._relabelled_again(vector),
        )
        firsts = deque(Hint(offset, block.owner, block.number) for offset, block in blocks)
        self._writer = _Writer(parts, self._source, self._spec, self._join, owner, claimed.log_id, firsts, vector)
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
        return await self._source.commit(commits)

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
        return [(record.offset, decode_scored(_value(record))) for record in await self._again(self._scored, start, end)]

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
    def _made(self) -> tuple[LabelJoin, _Writer]:
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
            self._quiet_since_ms = self._parts.now_ms()
        moved = False if read else self._move_idle()
        await self._expire()
        if writer.has_rows or moved or (join.is_dirty and writer.positions_due):
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
        for record, label in zip(records, decoded, strict=True):
            if isinstance(label, Rejection):
                writer.reject(record, label)
                join.on_rejected_label(record.offset)
            else:
                join.on_label(label, next(homes))
            if join.is_full:
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
        quiet_ms = self._parts.now_ms() - self._quiet_since_ms
        at_end = self._source.end_offset(self._labels) == join.labels_next
        return quiet_ms >= self._parts.idle_after_ms and join.idle(at_end)

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


@dataclass(slots=True)
class _Writer:
    """Writes what one join took, in the order that the module states."""

    parts: JoinParts
    source: Source
    spec: JoinSpec
    join: LabelJoin
    owner: Owner
    log_id: str
    hints: deque[Hint]
    vector: Vector
    number: int = 0
    rejected: list[tuple[Record, Rejection]] = field(default_factory=list)
    records: dict[int, Record] = field(default_factory=dict)
    refused: int = 0
    written_s: float = 0.0
    committed_s: float = 0.0
    marked_s: float = 0.0
    is_committed: bool = True
    mark: Mark | None = None
    told: Mark | None = None

    @property
    def has_rows(self) -> bool:
        """Whether anything waits that others wait for."""
        return self.join.has_output or bool(self.rejected)

    @property
    def positions_due(self) -> bool:
        """Whether a block without rows may be written again."""
        return self._now_s() - self.written_s >= _POSITIONS_EVERY_S

    def remember(self, records: Sequence[Record]) -> None:
        """Keep the bytes of the labels that are being read, should one become a dead letter."""
        self.records = {record.offset: record for record in records}

    def reject(self, record: Record, rejection: Rejection) -> None:
        """Put a record that decoding refused in line for the dead letters of the next block."""
        self.rejected.append((record, rejection))

    async def write(self) -> None:
        """Write one block and what belongs to it."""
        with self.parts.recorder.timed("join"):
            batch = self.join.take()
        self.number += 1
        await self._write_side(batch)  # 1
        failpoints.reached("join.side_acknowledged")
        with self.parts.recorder.timed("encode"):
            block = batch.block(self.parts.contract_id, self.log_id, self.owner, self.number)
            value = encode_training(block)
        delivery = await self.parts.sink.send(self.parts.training.partition, [Outgoing(None, value)])
        offset = (await delivery)[0]  # 2
        failpoints.reached("join.block_acknowledged")
        self.join.acknowledged(offset)
        self.hints.append(Hint(offset, self.owner, self.number))
        while len(self.hints) > 1 and self.hints[0].offset < batch.vector.oldest_row:
            self.hints.popleft()
        self.vector, self.mark = batch.vector, batch.mark
        self.written_s = self._now_s()
        self.is_committed = False
        self._count(batch)

    async def commit_if_due(self, *, at_once: bool = False) -> None:
        """Commit the last block's positions, then send its mark, each not too often."""
        if self.is_committed or not (at_once or self._now_s() - self.committed_s >= _COMMIT_EVERY_S):
            return
        scored, labels, relabelled = self.parts.topics.of(self.spec.partition)
        hint = self.hints[0].dump()
        done = await self.source.commit(  # 3
            {
                scored: Commit(offset_of(self.vector.scored_next), hint),
                labels: Commit(self.vector.labels_next, hint),
                relabelled: Commit(self.vector.relabelled_next, hint),
            }
        )
        self.committed_s = self._now_s()
        self.parts.recorder.committed(Role.JOIN, "ok" if done else "refused")
        if not done:
            self.refused += 1
            if self.refused >= _REFUSALS_KEPT:
                raise OwnershipLost(f"commits for partition {self.spec.partition} are refused; another member has it")
            return
        self.refused, self.is_committed = 0, True
        failpoints.reached("join.committed")
        await self._send_mark(at_once=at_once)

    async def _send_mark(self, *, at_once: bool) -> None:
        if self.mark is None or self.mark == self.told:
            return
        if not at_once and self._now_s() - self.marked_s < _MARK_EVERY_S:
            return
        value = encode_relabelled(self.mark)
        sent = [
            await self.parts.sink.send(TopicPartition(self.parts.topics.relabelled, other), [Outgoing(None, value)])
            for other in range(self.spec.partitions)
            if other != self.spec.partition
        ]
        for delivery in sent:  # 4
            await delivery
        self.told, self.marked_s = self.mark, self._now_s()

    async def _write_side(self, batch: Batch) -> None:
        rejected, self.rejected = self.rejected, []
        name = f"{self.spec.partition}/{self.owner}/{self.number}"
        sent = []
        if rejected:
            sent.append(await self.parts.dead_letters.send(rejected, block=name))
        if batch.dead:
            records = await self._records_of(batch.dead)
            late = [(records[dead.label.partition, dead.label.offset], _judged(dead)) for dead in batch.dead]
            sent.append(await self.parts.dead_letters.send(late, block=name))
        by_home: dict[int, list[Outgoing]] = {}
        for home, forward in batch.forwards:
            by_home.setdefault(home, []).append(Outgoing(forward.label.id.encode(), encode_relabelled(forward)))
        for home, outgoing in by_home.items():
            sent.append(await self.parts.sink.send(TopicPartition(self.parts.topics.relabelled, home), outgoing))
        for delivery in sent:
            await delivery

    async def _records_of(self, dead: Sequence[DeadLabel]) -> dict[tuple[int, int], Record]:
        """Return the records as they came; those that are no longer in memory are read again."""
        found: dict[tuple[int, int], Record] = {}
        for letter in dead:
            at = (letter.label.partition, letter.label.offset)
            here = self.records.get(letter.label.offset) if at[0] == self.spec.partition else None
            found[at] = here if here is not None else await self._record_again(*at)
        return found

    async def _record_again(self, partition: int, offset: int) -> Record:
        source = TopicPartition(self.parts.topics.labels, partition)
        async for batch in self.parts.reader.read(source, offset, offset + 1):
            for record in batch:
                return record
        raise LogError(
            f"{source.topic}/{partition} no longer holds offset {offset}, whose label waited here. "
            "Keep labels at least as long as the horizon and its disorder together."
        )

    def _count(self, batch: Batch) -> None:
        counts = batch.vector.counts
        labels = {name: counts[name] for name in _LABEL_OUTCOMES if name in counts}
        labels["joined"] = counts.get("joined", 0)
        self.parts.recorder.labels({name: count for name, count in labels.items() if count})
        events = {name: counts[name] for name in _EVENT_OUTCOMES if name in counts}
        self.parts.recorder.event_joins(events)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


_LABEL_OUTCOMES = ("duplicate", "conflicting", "late", "orphaned", "redelivered", "forwarded")
_EVENT_OUTCOMES = ("joined", "implicit", "dropped", "repeated", "stale")


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


def _judged(dead: DeadLabel) -> Rejection:
    return Rejection(dead.code, Stage.JOIN, _WHY[dead.code])


_WHY = {
    "late": "the label came after the horizon of its event",
    "orphaned": "no event of this id was scored in the time that the label belongs to",
    "conflicting": "another value was given for this event before; the first one counts",
}


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
