"""What the join of one partition writes, and in which order, numbered as the code repeats it.

    1. Dead letters and forwards are acknowledged.
    2. The block is acknowledged.
    3. The positions of its vector are committed.
    4. Where the waiting room is on disk, it follows: what changed up to that vector is written there.
    5. The mark of what was committed is put in line for the other partitions, at most one a second. Nobody waits until
       it is acknowledged; a partition that takes nothing now is told the newest mark once it has taken the one before.

Of many partitions each commits and sends marks less often, as `join_pace` says.

A block is numbered under a claim; after a crash or a takeover whatever was written without 2 is read and decided again.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Final

from tailrace.domain.blocks import Examples, Vector
from tailrace.domain.errors import ForeignLogError, OwnershipLost
from tailrace.domain.join import Batch, JoinSpec, LabelJoin
from tailrace.domain.positions import offset_of
from tailrace.domain.records import DeadLabel, Mark, Owner, Rejection, Stage
from tailrace.domain.status import Role
from tailrace.streams import failpoints
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.join_pace import commit_every_s, mark_every_s
from tailrace.streams.log import Commit, Headers, Outgoing, Reader, Record, Sink, Source, TopicPartition
from tailrace.streams.role import RoleReport
from tailrace.streams.sizes import pieces
from tailrace.streams.training_log import PASSED, Hint, TrainingLog, add_hint
from tailrace.telemetry.recorder import Recorder
from tailrace.telemetry.traces import Traces
from tailrace.wire.avro_codec import encode_relabelled, encode_training
from tailrace.wire.json_codec import LabelDecoder

if TYPE_CHECKING:  # what it imports is an extra
    from tailrace.stores.waiting_folders import WaitingFolders
    from tailrace.stores.waiting_room import DiskRoom

LETTERS_AT_ONCE: Final = 1_000
"""Dead letters of the join that are read again, encoded and sent at once."""

_POSITIONS_EVERY_S = 1.0  # a block without rows follows within a second when only positions moved
_GAP_READ_OVER = 2_000  # records that are read in vain rather than asked for apart
_DISK_BUSY_S = 0.01
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
class Keeping:
    """Where waiting records are kept.

    Attributes:
        folders: Of the waiting rooms on disk; None: the extra `disk` is not installed, all is kept in memory.
        starts_on_disk: From the first record on; otherwise once memory holds `JoinLimits.max_waiting` of a partition.
        max_on_disk: The bound on disk, in place of `JoinLimits.max_waiting`.
    """

    folders: WaitingFolders | None = None
    starts_on_disk: bool = False
    max_on_disk: int = 1


@dataclass(frozen=True, slots=True)
class JoinParts:
    """What every partition's join works with.

    Attributes:
        group: The consumer group of the join.
        spec: (partition, partitions) → the join's own settings.
        new_owner: Makes a name that nobody has used.
        clock_ms: A clock that never goes back; for idleness only.
        keeping: Where waiting records are kept.
    """

    topics: JoinTopics
    group: str
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
    clock_ms: Callable[[], int]
    idle_after_ms: int
    keeping: Keeping
    traces: Traces | None = None


@dataclass(slots=True)
class JoinWriter:
    """Writes what one join took.

    Attributes:
        generation: Of the assignment; nothing is committed under another.
        hints: Accepted blocks, the first at or before the oldest row that is still remembered: it is committed as the
            hint. When there are many, some in between are left out.
        room: The waiting room, when it is on disk.
        vector: Of the last block that was written, or recovered from; `mark` is that block's.
        due: The mark of the last commit that succeeded; `told` is the newest that others are told.
        untold: Partitions for which `told` is not in line yet.
        telling: Partition → the mark that is in line for it and not acknowledged.
        labels_passed: How far labels and markers were read, as it was committed last.
    """

    parts: JoinParts
    source: Source
    generation: int
    spec: JoinSpec
    join: LabelJoin
    owner: Owner
    log_id: str
    hints: deque[Hint]
    vector: Vector
    room: DiskRoom | None = None
    number: int = 0
    rejected: list[tuple[Record, Rejection]] = field(default_factory=list)
    records: dict[int, Record] = field(default_factory=dict)
    refused: int = 0
    written_s: float = 0.0
    committed_s: float = 0.0
    marked_s: float = 0.0
    is_committed: bool = True
    mark: Mark | None = None
    due: Mark | None = None
    told: Mark | None = None
    untold: set[int] = field(default_factory=set)
    telling: dict[int, Future[Sequence[int]]] = field(default_factory=dict)
    labels_passed: int = 0

    def __post_init__(self) -> None:
        self.labels_passed = self.vector.labels_next
        if self.hints:
            # What the former owner wrote last it may not have committed, nor told the others.
            self.is_committed, self.mark = False, self.join.mark()

    @property
    def has_rows(self) -> bool:
        """Whether anything waits that others wait for."""
        return self.join.has_output or bool(self.rejected)

    @property
    def must_write(self) -> bool:
        """Whether a block must be written before anything more is read."""
        return self.join.is_full or (self.room is not None and self.room.is_heavy)

    @property
    def positions_due(self) -> bool:
        """Whether a block without rows may be written again."""
        return self._now_s() - self.written_s >= _POSITIONS_EVERY_S

    def remember(self, records: Sequence[Record]) -> None:
        """Keep the bytes of the labels that are being read, should one become a dead letter."""
        self.records.update((record.offset, record) for record in records)
        if self.parts.traces is not None:
            for record in records:
                self.parts.traces.label(record)

    def reject(self, record: Record, rejection: Rejection) -> None:
        """Put a record that decoding refused in line for the dead letters of the next block."""
        self.rejected.append((record, rejection))

    async def write(self) -> None:
        """Write one block and what belongs to it."""
        with self.parts.recorder.timed("join"):
            batch = self.join.take()
        self.number += 1
        await self._write_side(batch)  # 1
        self.records = {at: record for at, record in self.records.items() if at >= batch.vector.labels_next}
        failpoints.reached("join.side_acknowledged")
        with self.parts.recorder.timed("encode"):
            block = batch.block(self.parts.contract_id, self.log_id, self.owner, self.number)
            value = encode_training(block)
        begun_s = perf_counter()
        outgoing = Outgoing(None, value, self._traced(block.examples))
        delivery = await self.parts.sink.send(self.parts.training.partition, [outgoing])
        failpoints.reached("join.block_sent")
        offset = (await delivery)[0]  # 2
        failpoints.reached("join.block_acknowledged")
        self.join.acknowledged(offset)
        self.parts.recorder.produced(self.parts.training.partition.topic, 1, perf_counter() - begun_s)
        add_hint(self.hints, Hint(offset, self.owner, self.number), batch.vector.oldest_row)
        if self.room is not None:
            self.room.acknowledged(self.log_id, offset, self.owner, self.number, self.hints[0].dump())
        self.vector, self.mark = batch.vector, batch.mark
        self.written_s = self._now_s()
        self.is_committed = False
        self._count(batch)
        self._count_delays(block.examples)

    async def commit_if_due(self, *, at_once: bool = False) -> None:
        """Commit the last block's positions, then send the mark of the last commit, each not too often.

        Args:
            at_once: Commit now, or give the partition up.

        Raises:
            OwnershipLost: Commits are refused: the partition has gone to another member.
        """
        partitions = self.spec.partitions
        every_s = commit_every_s(partitions, on_disk=self.room is not None, was_refused=self.refused > 0)
        is_due = not self.is_committed or (bool(self.hints) and self._labels_passed() > self.labels_passed)
        if is_due and (at_once or self._now_s() - self.committed_s >= every_s):
            await self._commit(at_once=at_once)
        every_s = mark_every_s(partitions, is_held=any(self.join.paused_inputs()))
        if (self.due != self.told or self.telling) and self._now_s() - self.marked_s >= every_s:
            await self._send_marks()

    async def _commit(self, *, at_once: bool) -> None:
        scored, labels, relabelled = self.parts.topics.of(self.spec.partition)
        hint, passed = self.hints[0].dump(), self._labels_passed()
        commits = {
            scored: Commit(offset_of(self.vector.scored_next), hint),
            labels: Commit(self.vector.labels_next, self.hints[0].dump(**{PASSED: passed})),
            relabelled: Commit(self.vector.relabelled_next, hint),
        }
        done = self.source.generation == self.generation and await self.source.commit(commits)  # 3
        self.committed_s = self._now_s()
        self.parts.recorder.committed(Role.JOIN, "ok" if done else "refused")
        if not done:
            self.refused += 1
            # After an idle move no label may be read before its block is committed: a forward would name a watermark
            # that the next owner does not know.
            if at_once or self.refused >= _REFUSALS_KEPT:
                raise OwnershipLost(f"commits for partition {self.spec.partition} are refused; another member has it")
            return
        self.refused, self.is_committed, self.due, self.labels_passed = 0, True, self.mark, passed
        failpoints.reached("join.committed")
        if self.room is not None:
            await follow(self.room)  # 4
        failpoints.reached("join.kept")

    async def _send_marks(self) -> None:
        for other in [other for other, delivery in self.telling.items() if delivery.done()]:
            self.telling.pop(other).result()  # what can never be sent ends the join
        if self.due != self.told:
            self.told, self.untold = self.due, set(range(self.spec.partitions)) - {self.spec.partition}
        free = sorted(self.untold - self.telling.keys())
        if not free:
            return
        assert self.told is not None, "nobody is untold until there is a first mark"
        value = encode_relabelled(self.told)
        for other in free:  # 5
            place = TopicPartition(self.parts.topics.relabelled, other)
            delivery = asyncio.ensure_future(await self.parts.sink.send(place, [Outgoing(None, value)]))
            delivery.add_done_callback(_look_at)
            self.telling[other] = delivery
            self.untold.remove(other)
        self.marked_s = self._now_s()

    def _labels_passed(self) -> int:
        """Return where labels go on that were not read; markers alone lie between the vector and there."""
        return self.source.passed(self.parts.topics.of(self.spec.partition)[1], self.vector.labels_next)

    async def _write_side(self, batch: Batch) -> None:
        # What was rejected past the vector belongs to the next block, which passes it.
        end = batch.vector.labels_next
        rejected = [each for each in self.rejected if each[0].offset < end]
        self.rejected = self.rejected[len(rejected) :]
        name = f"{self.spec.partition}/{self.owner}/{self.number}"
        sent = []
        if rejected:
            sent.append(await self.parts.dead_letters.send(rejected, block=name))
            self.parts.recorder.labels({"rejected": len(rejected)})
        by_home: dict[int, list[Outgoing]] = {}
        for home, forward in batch.forwards:
            by_home.setdefault(home, []).append(Outgoing(forward.label.id.encode(), encode_relabelled(forward)))
        for home, outgoing in by_home.items():
            sent.append(await self.parts.sink.send(TopicPartition(self.parts.topics.relabelled, home), outgoing))
        await self._send_dead(batch.dead, name)
        for delivery in sent:
            await delivery

    async def _send_dead(self, dead: Sequence[DeadLabel], block: str) -> None:
        """Send letters a piece at a time: one event that is far ahead in time may orphan all early labels at once.

        All of them would fill the sink, and hold up whatever else lives here while they are read again and encoded.
        """
        # By offset, of whichever partition: what pieces read again of each lies one behind the other.
        ordered = sorted(dead, key=attrgetter("label.offset")) if len(dead) > LETTERS_AT_ONCE else dead
        for some in pieces(ordered, LETTERS_AT_ONCE):
            records = await self._records_of(some)
            letters = [(records[_place(letter)], _judged(letter)) for letter in some]
            await (await self.parts.dead_letters.send(letters, block=block))

    async def _records_of(self, dead: Sequence[DeadLabel]) -> dict[tuple[int, int], Record]:
        """Return the records as they came; those that are no longer in memory are read again."""
        found: dict[tuple[int, int], Record] = {}
        gone: dict[int, list[int]] = {}
        for letter in dead:
            partition, offset = _place(letter)
            here = self.records.get(offset) if partition == self.spec.partition else None
            if here is not None:
                found[partition, offset] = here
            else:
                gone.setdefault(partition, []).append(offset)
        for partition, offsets in gone.items():
            for record in await self._records_again(partition, sorted(offsets)):
                found[partition, record.offset] = record
        return found

    async def _records_again(self, partition: int, offsets: Sequence[int]) -> Sequence[Record]:
        source = TopicPartition(self.parts.topics.labels, partition)
        wanted, found = set(offsets), []
        for start, end in _stretches(offsets):
            async for batch in self.parts.reader.read(source, start, end):
                found += [record for record in batch if record.offset in wanted]
        if len(found) < len(wanted):
            missing = min(wanted - {record.offset for record in found})
            raise ForeignLogError(
                f"{source.topic}/{partition} no longer holds offset {missing}, whose label waited here. "
                "Keep labels at least as long as the horizon and its disorder together."
            )
        return found

    def _count(self, batch: Batch) -> None:
        counts = batch.vector.counts
        self.parts.recorder.labels({name: counts[name] for name in _LABEL_OUTCOMES if name in counts})
        self.parts.recorder.event_joins({name: counts[name] for name in _EVENT_OUTCOMES if name in counts})

    def _traced(self, examples: Examples) -> Headers:
        if self.parts.traces is None:
            return ()
        labels = zip(examples.label_partitions.tolist(), examples.label_offsets.tolist(), strict=True)
        return self.parts.traces.joined(examples.ids, labels, time_ns())

    def _count_delays(self, examples: Examples) -> None:
        has_label = examples.label_broker_ms >= 0
        delays_ms = examples.label_broker_ms[has_label] - examples.times_ms[has_label]
        if len(delays_ms):
            self.parts.recorder.label_delays(delays_ms / 1_000)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


def _look_at(delivery: Future[Sequence[int]]) -> None:
    """Look at how it ended: a writer that was given up looks no more, and asyncio would call an error unseen."""
    if not delivery.cancelled():
        delivery.exception()


async def follow(room: DiskRoom) -> None:
    """Let a waiting room on disk follow the blocks whose positions are committed.

    Raises:
        WaitingRoomError: It cannot.
    """
    while room.is_behind:
        is_written = room.write()
        # A set is a few milliseconds; in between whatever else lives here, scoring first, has its turn.
        await asyncio.sleep(0 if is_written else _DISK_BUSY_S)


_LABEL_OUTCOMES = (
    "joined", "duplicate", "conflicting", "corrected", "withdrawn", "late", "orphaned", "redelivered", "forwarded",
)  # fmt: skip
_EVENT_OUTCOMES = ("joined", "implicit", "dropped", "repeated", "stale")


def _stretches(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Return half-open ranges that hold rising offsets; a range more costs as much as reading over a small gap."""
    found: list[tuple[int, int]] = []
    for offset in offsets:
        if found and offset - found[-1][1] < _GAP_READ_OVER:
            found[-1] = (found[-1][0], offset + 1)
        else:
            found.append((offset, offset + 1))
    return found


def _place(dead: DeadLabel) -> tuple[int, int]:
    return dead.label.partition, dead.label.offset


def _judged(dead: DeadLabel) -> Rejection:
    return Rejection(dead.code, Stage.JOIN, _WHY[dead.code])


_WHY = {
    "late": "the label came after the horizon of its event, or after the time in which corrections are taken",
    "orphaned": "no event of this id was scored in the time that the label belongs to",
    "conflicting": "another value was given for this event before; the first one counts",
}
