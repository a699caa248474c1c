"""How the join of one partition is claimed and made again, from the log, the topics and what a waiting room kept.

A waiting room on disk stands as of the block that it names. It is taken as it is when the log holds that very block
with that very vector; then only what came since is read. Otherwise, and when nothing that waits in it still waits, it
is emptied and made again like a join in memory. In memory is then only what one read brings and one piece changes.

What was deleted from an input before it was joined is never passed over in silence: nothing is claimed then, unless
the group's commit for the labels passes it: it was markers of transactions, or somebody has set the offset, so that the
model goes on without them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from tailrace.domain.blocks import Lowest, ScoredBlock, TrainingBlock, Vector
from tailrace.domain.errors import CodecError, ForeignLogError, UnexplainedState
from tailrace.domain.join import JoinSpec, Kept, LabelJoin, recover, starts
from tailrace.domain.join.state import JoinState
from tailrace.domain.positions import end_of, offset_of, position_of
from tailrace.domain.records import Forward, Label, Mark, Owner
from tailrace.domain.times import NEVER
from tailrace.streams.join_writer import JoinParts, follow
from tailrace.streams.log import Commit, Range, Record, Source, TopicPartition, value_of
from tailrace.streams.sizes import pieces
from tailrace.streams.training_log import DECODED_AT_ONCE, Hint, add_hint, block_of, passed_of
from tailrace.wire.avro_codec import decode_relabelled, decode_scored
from tailrace.wire.partitioner import partitions_of

if TYPE_CHECKING:  # what it imports is an extra
    from tailrace.stores.waiting_folders import WaitingFolders
    from tailrace.stores.waiting_room import DiskRoom

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

_TELL_EVERY = 100_000
"""Events read again after which the state says how far it has come."""

_STOP_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Written:
    """What was written under a claim, as in `join_writer.JoinWriter`: nothing yet, where it is new."""

    owner: Owner
    log_id: str
    number: int
    hints: deque[Hint]


@dataclass(frozen=True, slots=True)
class Recovered:
    """A join as it stood after the last block that counts.

    Attributes:
        vector: Of that block.
        room: Its waiting room, when that is on disk.
    """

    join: LabelJoin
    was: Written
    vector: Vector
    room: DiskRoom | None


@dataclass(slots=True)
class JoinRecovery:
    """Makes the join of one partition again.

    Attributes:
        tell: Says in words how far it has come.
        room: The waiting room on disk, from when it is opened on; whoever stops the recovery closes it.
        read_again: How many events of `scored` were read again.
        labels_from: The first label that is still there, where those before it may be done without; else None.
    """

    parts: JoinParts
    source: Source
    generation: int
    spec: JoinSpec
    tell: Callable[[str], None]
    room: DiskRoom | None = None
    _stopped: Event = field(default_factory=Event)
    _reading: Future[Any] | None = None
    read_again: int = 0
    labels_from: int | None = None
    _inputs: tuple[TopicPartition, TopicPartition, TopicPartition] = field(init=False)

    def __post_init__(self) -> None:
        self._inputs = self.parts.topics.of(self.spec.partition)

    async def claimed(self, *, on_disk: bool, anew: bool = False) -> Recovered:
        """Claim the partition and make its join.

        Args:
            on_disk: Keep what waits on disk.
            anew: What is on disk is not to be used.

        Raises:
            ForeignLogError: The group has committed where a block of this partition stands, and the log holds none; or
                an input ends before what was joined of it, or begins behind it.
            OwnershipLost: Another member has the partition.
            WaitingRoomError: The disk cannot be used.
        """
        training, partition = self.parts.training, self.spec.partition
        committed = await self.source.committed(self._inputs[0])
        hint = Hint.load(committed.metadata) if committed is not None else None
        kept = await self._open(anew=anew) if on_disk else None
        standing = _standing_hint(kept, self.room)
        owner = self.parts.new_owner()
        view = await training.view_from(partition, standing or hint)

        async def confirmed() -> bool:  # asked when the view has been read to the end of the log
            if hint is not None and view.last is None:
                raise ForeignLogError(
                    f"{training.partition.topic} holds no block of partition {partition}, and one was written at "
                    f"offset {hint.offset}: it was deleted and created anew. Restore the topic, or begin a loop with "
                    "another name."
                )
            if view.last is not None:
                await self._hold_what_was_joined(block_of(view.last).vector)
            return await self._confirm()

        claimed = await training.claim(partition, owner, confirmed, view)
        if view.last is None:
            self._renew()
            vector = await self._beginning()
            join = await self._again(vector, _nothing(), self._empty())
            return Recovered(join, Written(owner, claimed.log_id, 0, deque()), vector, self.room)
        offset, block = view.last.offset, block_of(view.last)
        if self.labels_from is not None and self.labels_from <= block.vector.labels_next:
            self.labels_from = None  # a block came before the claim
        if self.labels_from is not None:
            block = replace(block, vector=without_labels(block.vector, self.labels_from))
            kept = None  # it stands as of another vector
            self._renew()
        oldest_row = block.vector.oldest_row
        start = view.before(oldest_row) or hint
        if on_disk:
            join, hints = await self._onto_disk((offset, block), kept, start)
        else:
            hints = deque[Hint]()
            join = await self._again(block.vector, self._rows(start, oldest_row - 1, offset, hints), None)
        return Recovered(join, Written(owner, claimed.log_id, 0, hints), block.vector, self.room)

    async def moved(self, was: Written) -> Recovered:
        """Return a join that has outgrown memory as one on disk; everything it decided is written.

        Raises:
            ForeignLogError: The log does not hold any more what was written to it.
            WaitingRoomError: The disk cannot be used.
        """
        await self._open(anew=True)
        last, first = was.hints[-1], was.hints[0]
        block = await self.parts.training.block_at(self.spec.partition, last)
        if block is None:
            raise self.parts.training.lost(self.spec.partition, last.offset)
        join, hints = await self._onto_disk((last.offset, block), None, first)
        return Recovered(join, replace(was, hints=hints), block.vector, self.room)

    # ── the waiting room on disk ────────────────────────────────────────────────────────────────────────────────

    @property
    def _folders(self) -> WaitingFolders:
        folders = self.parts.keeping.folders
        assert folders is not None, "settings refuse a disk that is not there"
        return folders

    async def _open(self, *, anew: bool) -> Kept | None:
        """Open the room; return what it holds when the log knows the block that it stands as of."""
        partition = self.spec.partition
        self.room = room = self._folders.open(partition)
        standing = room.standing
        if standing is not None and not anew:
            hint = Hint(standing.offset, standing.owner, standing.number)
            block = await self.parts.training.block_at(partition, hint)
            if block is not None and standing.is_of(block.log_id, block.vector):
                state = JoinState.empty(self.spec, room, room.early)
                state.acknowledged = standing.offset
                return Kept(state, block.vector)
            log.warning("waiting room is of another log and is made again", partition=partition, offset=standing.offset)
        self._renew()
        return None

    def _renew(self) -> None:
        if self.room is not None and not self.room.is_empty:
            self.room = self._folders.renew(self.room, self.spec.partition)

    def _empty(self) -> Kept | None:
        return None if self.room is None else Kept(JoinState.empty(self.spec, self.room, self.room.early), None)

    async def _onto_disk(
        self, last: tuple[int, TrainingBlock], kept: Kept | None, hint: Hint | None
    ) -> tuple[LabelJoin, deque[Hint]]:
        """Make the join of the last block that counts, on disk; return it with the hints of its writer."""
        offset, block = last
        assert self.room is not None
        if kept is not None and kept.vector is not None and block.vector.scored_low.position > kept.vector.scored_next:
            log.info("nothing that waits on disk still waits; made again", partition=self.spec.partition)
            self._renew()
            kept = None
        standing, hints = _standing_hint(kept, self.room), deque[Hint]()
        if standing is not None and self.room.standing is not None:
            hints.append(Hint.load(self.room.standing.hint) or standing)
        after = block.vector.oldest_row - 1 if standing is None else standing.offset
        rows = self._rows(standing or hint, after, offset, hints)
        self.room.remake()
        join = await self._again(block.vector, rows, kept or self._empty())
        self.room.made()
        self.room.seal(block.vector)
        self.room.acknowledged(block.log_id, offset, block.owner, block.number, hints[0].dump())
        await follow(self.room)
        return join, hints

    async def _rows(
        self, start: Hint | None, after: int, last: int, hints: deque[Hint]
    ) -> AsyncIterator[Sequence[tuple[int, TrainingBlock]]]:
        """Yield the blocks that count in (after, last], in batches, and put them among the hints."""
        async for found in self.parts.training.accepted(self.spec.partition, start, after, last):
            for offset, block in found:
                add_hint(hints, Hint(offset, block.owner, block.number), block.vector.oldest_row)
            yield found

    # ── reading again ───────────────────────────────────────────────────────────────────────────────────────────

    async def _again(
        self, vector: Vector, rows: AsyncIterator[Sequence[tuple[int, TrainingBlock]]], kept: Kept | None
    ) -> LabelJoin:
        start = starts(vector, kept.vector if kept else None)
        loop = asyncio.get_running_loop()

        def pulled(
            batches: AsyncIterator[Sequence[Item]], ids_of: Callable[[Item], Sequence[str]] | None = None
        ) -> Iterator[Item]:
            async def following() -> Sequence[Item] | None:
                return await anext(batches, None)

            while not self._stopped.is_set():
                self._reading = asyncio.run_coroutine_threadsafe(following(), loop)
                try:
                    batch = self._reading.result()
                except CancelledError as cancelled:
                    if self._stopped.is_set():
                        return
                    raise UnexplainedState("a reading of the join's recovery was given up, by nobody") from cancelled
                if batch is None or self._stopped.is_set():
                    return
                if self.room is not None and ids_of is not None:
                    self.room.load([event_id for item in batch for event_id in ids_of(item)])
                yield from batch

        self._stopped.clear()
        # A million rows take seconds. A thread of its own, since it waits for reads, and reads may wait for a thread.
        own = ThreadPoolExecutor(1, "join-recovery")
        made = loop.run_in_executor(
            own,
            partial(
                recover,
                self.spec,
                vector,
                rows=pulled(rows),
                scored=pulled(self._scored(start.scored.position, vector.scored_next), lambda item: item[1].ids),
                labels=pulled(self._labels(start.labels.position, vector.labels_next), lambda item: (item[0].id,)),
                relabelled=pulled(self._relabelled(vector)),
                kept=kept,
            ),
        )
        try:
            return await asyncio.shield(made)
        finally:
            self._stopped.set()
            while not made.done():  # it uses the room, which is about to be closed
                if self._reading is not None:
                    self._reading.cancel()  # Kafka may be away
                await asyncio.wait((made,), timeout=_STOP_LOOK_S)
            own.shutdown(wait=False)

    async def _scored(self, low: int, last: int) -> AsyncIterator[Sequence[tuple[int, ScoredBlock]]]:
        end = end_of(last)
        told = 0
        async for records in self._records(self._inputs[0], offset_of(low), end):
            for some in pieces(records, DECODED_AT_ONCE):
                blocks = [(record.offset, decode_scored(value_of(record))) for record in some]
                yield blocks
                self.read_again += sum(len(block.ids) for _, block in blocks)
            if self.read_again - told >= _TELL_EVERY:
                told = self.read_again
                self.tell(
                    f"partition {self.spec.partition} reads {self.read_again:,} events again, at offset "
                    f"{records[-1].offset:,} of {end:,}"
                )

    async def _labels(self, start: int, end: int) -> AsyncIterator[Sequence[tuple[Label, int]]]:
        async for records in self._records(self._inputs[1], start, end):
            found = [self.parts.labels.decode(record) for record in records]
            labels = [label for label in found if isinstance(label, Label)]
            yield list(
                zip(labels, partitions_of([label.id.encode() for label in labels], self.spec.partitions), strict=True)
            )

    async def _relabelled(self, vector: Vector) -> AsyncIterator[Sequence[tuple[int, Forward | Mark]]]:
        async for records in self._records(self._inputs[2], vector.relabelled_low, vector.relabelled_next):
            found = [(record.offset, relabelled_of(record)) for record in records]
            yield [(offset, record) for offset, record in found if record is not None]

    async def _records(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        if start < end:
            async for batch in self.parts.reader.read(partition, start, end):
                yield batch

    async def _hold_what_was_joined(self, vector: Vector) -> None:
        scored, labels, relabelled = self._inputs
        joined = {
            scored: (offset_of(vector.scored_next), end_of(vector.scored_next)),
            labels: (vector.labels_next, vector.labels_next),
            relabelled: (vector.relabelled_next, vector.relabelled_next),
        }
        self.labels_from = None
        for partition, (following, end) in joined.items():
            held = await self.parts.reader.range_of(partition)  # which waits an outage out
            if held.end < end:
                raise ForeignLogError(
                    f"{partition.topic}/{partition.partition} ends at offset {held.end}, and was joined up "
                    f"to offset {end}: it was truncated, or deleted and created anew. Restore the topic, or begin a "
                    "loop with another name."
                )
            if held.start > following:
                if partition != labels:
                    raise ForeignLogError(_deleted(partition, held, following) + _NO_WAY_ON)
                known = await self.source.committed(labels)
                if not _passes(known, vector, held.start):
                    raise ForeignLogError(_deleted(partition, held, following) + self._way_on(held.start))
                log.warning(
                    "labels begin behind what was joined; the group's commit says that none is missed",
                    topic=partition.topic,
                    partition=partition.partition,
                    joined_to=following,
                    goes_on_at=held.start,
                )
                self.labels_from = held.start

    def _way_on(self, start: int) -> str:
        labels = self._inputs[1]
        return (
            "Of labels that are written in transactions it may be markers alone, which nobody can tell any more. Keep "
            "labels for longer than a joiner is ever away. To go on without what was deleted, with the model that is "
            f"there: stop every process with the role join, set the offset of group {self.parts.group} for "
            f"{labels.topic}/{labels.partition} to {start} or later (kafka-consumer-groups.sh --reset-offsets "
            "--to-earliest), and start them."
        )

    async def _confirm(self) -> bool:
        commits = {}
        for partition in self._inputs:
            known = await self.source.committed(partition)
            commits[partition] = known or Commit((await self.parts.reader.range_of(partition)).start)
        return self.source.generation == self.generation and await self.source.commit(commits)

    async def _beginning(self) -> Vector:
        """Where the first joiner of a partition begins: at what the topics still hold."""
        return first_vector(*[(await self.parts.reader.range_of(partition)).start for partition in self._inputs])


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


def without_labels(vector: Vector, start: int) -> Vector:
    """Return a vector that takes what lies before `start` for read: no label of it waits."""
    return replace(vector, labels_next=start, labels_low=Lowest(start, vector.labels_watermark_ms), idle_moves=())


def relabelled_of(record: Record) -> Forward | Mark | None:
    """Return a record of `relabelled`; None, and a warning, when it is none."""
    try:
        return decode_relabelled(value_of(record))
    except CodecError as problem:
        log.warning("relabelled record passed over", offset=record.offset, partition=record.partition, why=str(problem))
        return None


def _passes(known: Commit | None, vector: Vector, start: int) -> bool:
    """Tell whether the group's commit for the labels passes everything before `start`.

    A joiner's names how far markers of transactions were read behind the last label; any other one was made by somebody
    who takes it on himself.
    """
    if known is None:
        return False
    if Hint.load(known.metadata) is None:
        return known.offset >= start
    # Otherwise the log has lost what the commit stands for, or a label still waits that is not there any more.
    is_of_vector = known.offset == vector.labels_next == vector.labels_low.position
    return is_of_vector and passed_of(known.metadata) >= start


_NO_WAY_ON = "Keep the topic for longer than a joiner is ever away. Restore it, or begin a loop with another name."


def _deleted(partition: TopicPartition, held: Range, joined_to: int) -> str:
    what = "holds nothing any more and goes on" if held.start == held.end else "begins"
    return (
        f"{partition.topic}/{partition.partition} {what} at offset {held.start}, and was joined up to offset "
        f"{joined_to}: what lay between was deleted before it was joined. "
    )


def _standing_hint(kept: Kept | None, room: DiskRoom | None) -> Hint | None:
    if kept is None or room is None or room.standing is None:
        return None
    return Hint(room.standing.offset, room.standing.owner, room.standing.number)


async def _nothing() -> AsyncIterator[Sequence[tuple[int, TrainingBlock]]]:
    return
    yield
