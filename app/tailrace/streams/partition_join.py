"""The join of one partition, for as long as this member has it: claim, recover, read, hand over what is to be written.

The decisions are `domain.join`'s, the order of what is written `join_writer`'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

import structlog
from mode import Service

from tailrace.domain.errors import CodecError, ForeignLogError, OwnershipLost, WaitingRoomError
from tailrace.domain.join import JoinLimits, LabelJoin, PausedInputs
from tailrace.domain.positions import offset_of, row_of
from tailrace.domain.records import Label, Rejection
from tailrace.domain.status import Role, RoleState
from tailrace.domain.times import rfc3339_of
from tailrace.streams.join_recovery import JoinRecovery, Recovered, Written, relabelled_of
from tailrace.streams.join_writer import JoinParts, JoinWriter
from tailrace.streams.log import Record, RecordBatch, Source, TopicPartition, value_of
from tailrace.streams.sizes import read_bytes
from tailrace.wire.avro_codec import decode_scored
from tailrace.wire.partitioner import partitions_of

if TYPE_CHECKING:  # what it imports is an extra
    from tailrace.stores.waiting_room import DiskRoom

log = structlog.get_logger(__name__)

_REST_S = 4.0  # a stop waits so long for the round to end: less than a revocation may take
_IDLE_EVERY_MS = 1_000  # a quiet labels partition follows the scored watermark at most this often
_ROOMS_LOST = 2  # waiting rooms on disk that may fail one after the other before the disk is given up, or rested
_PAUSES_S = (2.0, 4.0, 8.0, 16.0, 30.0)  # between tries to make a waiting room on a disk that takes none
_ROWS_OF_DISK = 250  # of one training block, whose rows are read from disk: some milliseconds
_LOOKS_APART_MS = 5_000  # what happened to a partition between two looks that are further apart is not known
_LABELS_AT_ONCE = 100  # labels whose events are read from disk at once: some milliseconds
_TICK_S = 0.1  # how often a quiet partition looks at what only time brings: idleness, commits, blocks without rows


def pause_after(rooms_lost: int) -> float:
    """Return how long to wait before a disk that took no waiting room is tried again, however often that was."""
    return _PAUSES_S[min(rooms_lost - _ROOMS_LOST, len(_PAUSES_S)) - 1]


class _Deleted(Exception):
    """An input does not hold any more what was to be read of it."""


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
        self._looked_ms = 0
        self._rested = asyncio.Event()
        self._is_deleted = False  # what this join was to read next
        self._room: DiskRoom | None = None
        self._rooms_lost = 0
        self._is_spoilt = False
        folders = parts.keeping.folders
        self._is_on_disk = folders is not None and (parts.keeping.starts_on_disk or folders.has(partition))

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
        if not self.is_ready:  # it was on its way when the join was begun anew, from another offset
            self._source.complete(batch)
            return
        self._inbox.append(batch)
        self._arrived.set()

    def lose_input(self) -> None:
        """Say that what this join was to read next is deleted; what is left is for its recovery to judge."""
        self._is_deleted = True
        self._arrived.set()

    @Service.task
    async def _live(self) -> None:
        self._tell()
        try:
            while not self.should_stop:
                try:
                    await self._join_on()
                except _Deleted:
                    self._close_room()
                    self._let_go()
                    self._now(RoleState.RESTORING, f"partition {self.partition} looks at what is left of its input")
                except WaitingRoomError as problem:
                    self._lose_room(problem)
                    if self._rooms_lost > _ROOMS_LOST and self._is_on_disk:
                        await self._rest(problem)
        except OwnershipLost as lost:
            log.info("partition given up", topic=self._scored.topic, partition=self.partition, why=str(lost))
            if self._source.generation == self._generation:
                self._let_inputs_rest()
        except (ForeignLogError, CodecError) as problem:
            log.error("partition stays down, scoring goes on", partition=self.partition, why=str(problem))
            self._let_go()
            self._now(RoleState.FAILED, f"partition {self.partition}: {problem}")
        finally:
            self._close_room()
            self._rested.set()

    async def _join_on(self) -> None:
        await self._recover()
        self.is_ready = True
        self._now(RoleState.RUNNING)
        while not self.should_stop:
            await self._round()
        await self._finish()

    def _let_inputs_rest(self) -> None:
        inputs = (self._scored, self._labels, self._relabelled)
        self._source.pause(inputs)
        for partition in inputs:  # what was read of it is not in flight any more, so that a release need not wait
            self._source.seek(partition, 0)

    def _lose_room(self, problem: WaitingRoomError) -> None:
        """Go on with a new waiting room, and after some that were lost with one in memory.

        Where the settings ask for the disk it is tried again for as long as it takes: a disk that is full has room
        again some day, and memory may not suffice. Nothing is lost meanwhile, it waits in the topics. A room that
        could not be opened may be good still; one that failed while it was used is not used again.
        """
        self._is_spoilt = self._is_spoilt or self._room is not None
        self._close_room()
        self._rooms_lost += 1
        if self._rooms_lost > _ROOMS_LOST and not self._parts.keeping.starts_on_disk:
            self._is_on_disk = False
        if self._is_spoilt:
            log.warning(
                "waiting room lost, it is made again from the topics", partition=self.partition, why=str(problem)
            )
        else:
            log.warning("waiting room not opened, it is tried again", partition=self.partition, why=str(problem))
        self._let_go()
        does = "makes its waiting room again" if self._is_spoilt else "tries its waiting room again"
        self._now(RoleState.RESTORING, f"partition {self.partition} {does}: {problem}")

    def _let_go(self) -> None:
        """Hold nothing any more, and let the inputs rest where a join that is made again will begin."""
        self._let_inputs_rest()
        self._inbox.clear()
        self.is_ready = False
        self._join = self._writer = None

    async def _rest(self, problem: WaitingRoomError) -> None:
        pause_s = pause_after(self._rooms_lost)
        log.error("partition is down, scoring goes on", partition=self.partition, again_in_s=pause_s, why=str(problem))
        self._now(RoleState.FAILED, f"partition {self.partition}: {problem} It is tried again.")
        await self.sleep(pause_s)

    def _close_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            with suppress(WaitingRoomError):
                room.close()

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
        recovery = self._recovery()
        try:
            self._adopt(await recovery.claimed(on_disk=self._is_on_disk, anew=self._is_spoilt))
        finally:
            self._room = recovery.room
        join, writer = self._made
        if recovery.labels_from is not None:
            await writer.write()  # else whoever comes next would ask for the labels that are gone
        log.info(
            "partition recovered",
            partition=self.partition,
            remembered=join.remembered,
            events_read_again=recovery.read_again,
            disk=None if self._room is None else str(self._room.shelf.folder),
        )
        self._source.seek(self._scored, offset_of(join.scored_next))
        self._source.seek(self._labels, join.labels_next)
        self._source.seek(self._relabelled, join.relabelled_next)
        self._quiet_since_ms = self._parts.clock_ms()
        self._source.resume((self._scored, self._labels, self._relabelled))

    async def _move_to_disk(self) -> None:
        """Make the join again on disk, where it stands now."""
        log.info("waiting records go to disk", partition=self.partition, most=self._spec.limits.max_waiting)
        await self._finish()
        _, writer = self._made
        was = Written(writer.owner, writer.log_id, writer.number, writer.hints)
        self._join = self._writer = writer = None  # type: ignore[assignment]  # what they hold must go first
        self._is_on_disk = True
        self._now(RoleState.RESTORING, f"partition {self.partition} moves what waits to disk")
        recovery = self._recovery()
        try:
            self._adopt(await recovery.moved(was))
        finally:
            self._room = recovery.room
        self._now(RoleState.RUNNING)

    def _recovery(self) -> JoinRecovery:
        spec, keeping = self._spec, self._parts.keeping
        if self._is_on_disk:
            bounds = JoinLimits(_ROWS_OF_DISK, spec.limits.max_bytes, keeping.max_on_disk, spec.limits.max_waiting)
            spec = replace(spec, limits=bounds)
        return JoinRecovery(
            self._parts, self._source, self._generation, spec, tell=lambda why: self._now(RoleState.RESTORING, why)
        )

    def _adopt(self, made: Recovered) -> None:
        self._join = made.join
        self._writer = JoinWriter(
            self._parts,
            self._source,
            self._generation,
            self._spec,
            made.join,
            made.was.owner,
            made.was.log_id,
            made.was.hints,
            made.vector,
            made.room,
            made.was.number,
        )

    def _homes(self, labels: Sequence[Label | Rejection]) -> list[int]:
        """Return the partition of each label's id; of a rejection, which has none, any."""
        ids = [label.id.encode() if isinstance(label, Label) else b"" for label in labels]
        return partitions_of(ids, self._spec.partitions)

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
        if self._is_deleted:
            self._is_deleted = False
            raise _Deleted
        read: list[RecordBatch] = []
        while self._inbox and not self.should_stop:
            batch = self._inbox.popleft()
            await self._read(batch)
            read.append(batch)
            if batch.partition == self._labels:
                self._quiet_since_ms = self._parts.clock_ms()
        moved = self._move_idle()
        await self._expire()
        if moved or (join.is_dirty and writer.positions_due):
            await writer.write()
        while writer.has_rows:
            await writer.write()
        for batch in read:
            self._source.complete(batch)
        await writer.commit_if_due(at_once=moved)
        await self._bound_memory()
        self._record()

    async def _read(self, batch: RecordBatch) -> None:
        with self._parts.recorder.timed("join"):
            records, topic = batch.records, batch.partition.topic
            self._parts.recorder.consumed(Role.JOIN, topic, self.partition, len(records), read_bytes(records))
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
                block = decode_scored(value_of(record))
            if self._parts.traces is not None:
                self._parts.traces.waits(block.ids, record.headers)
            rows = len(block.ids)
            row = self._first_row(record.offset)
            while True:
                with self._parts.recorder.timed("join"):
                    self._load(block.ids[row:])
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
        _, writer = self._made
        with self._parts.recorder.timed("decode"):
            decoded = self._parts.labels.decode_batch(records)
            homes = self._homes(decoded)
            labels = decoded if _are_labels(decoded) else None
        writer.remember(records)
        read = 0
        while read < len(records):
            with self._parts.recorder.timed("join"):
                read = self._join_some(records, decoded, labels, homes, read)
            await self._make_room()
            if self._room is not None:
                await asyncio.sleep(0)  # what else lives here, scoring first, has its turn

    def _join_some(
        self,
        records: Sequence[Record],
        decoded: Sequence[Label | Rejection],
        labels: Sequence[Label] | None,
        homes: Sequence[int],
        read: int,
    ) -> int:
        """Read labels from `read` on; return the first that was not read, since a block must be written before.

        Args:
            labels: What was decoded, where nothing of it was rejected.
        """
        join, writer = self._made
        stop = len(records)
        if self._room is not None:
            stop = min(stop, read + _LABELS_AT_ONCE)
            self._load([label.id for label in decoded[read:stop] if isinstance(label, Label)])
        if labels is not None:
            return join.on_labels(labels, homes, read, stop)
        for at in range(read, stop):
            label = decoded[at]
            if isinstance(label, Rejection):
                writer.reject(records[at], label)
                join.on_rejected_label(records[at].offset)
            else:
                join.on_label(label, homes[at])
            if writer.must_write:
                return at + 1
        return stop

    async def _read_relabelled(self, records: Sequence[Record]) -> None:
        join, writer = self._made
        for record in records:
            content = relabelled_of(record)
            if content is None:
                join.on_rejected_relabelled(record.offset)
            else:
                join.on_relabelled(record.offset, content)
            if writer.must_write:
                await self._make_room()

    async def _make_room(self) -> None:
        _, writer = self._made
        while writer.must_write:
            await writer.write()
            if self._room is not None:
                await writer.commit_if_due()  # what is committed goes to disk and out of memory

    async def _expire(self) -> None:
        join, writer = self._made
        while join.expire():
            await writer.write()

    def _move_idle(self) -> bool:
        """Move a labels partition that has been quiet at its end for long enough."""
        join, _ = self._made
        clock_ms = self._parts.clock_ms()
        is_watched = clock_ms - self._looked_ms < _LOOKS_APART_MS  # a round may have waited an outage out
        self._looked_ms = clock_ms
        if not (is_watched and self._source.hears(self._labels)):
            self._quiet_since_ms = clock_ms  # labels may lie there, or wait at producers for their broker
        if clock_ms < max(self._quiet_since_ms + self._parts.idle_after_ms, self._idle_from_ms):
            return False
        moved = join.idle(self._source.end_offset(self._labels) == join.labels_next)
        if moved:
            self._idle_from_ms = clock_ms + _IDLE_EVERY_MS
        return moved

    async def _finish(self) -> None:
        """Write and commit what was read, so that the next joiner begins there."""
        join, writer = self._made
        while writer.has_rows or join.is_dirty:
            await writer.write()
        await writer.commit_if_due(at_once=True)

    def _load(self, event_ids: Sequence[str]) -> None:
        if self._room is not None:
            self._room.load(event_ids)

    async def _bound_memory(self) -> None:
        join, _ = self._made
        held, resting = join.paused_inputs(), self._resting(join)
        is_held, can_move = any(held), self._parts.keeping.folders is not None and self._rooms_lost <= _ROOMS_LOST
        # One that rests soon reads on, and frees memory; unless the other one is held by the mark of another partition.
        is_soon_over = resting.scored or (resting.labels and not held.scored)
        # Where times are those of days, watermarks are equal for most of one, and nothing is held however much waits.
        if join.holds_most and can_move and not self._is_on_disk and not is_soon_over:
            await self._move_to_disk()
            return
        why = self._held(held) if is_held else ""
        if why != self.why:
            self._now(RoleState.RUNNING, why)
        for partition, is_paused in (
            (self._scored, held.scored or resting.scored),
            (self._labels, held.labels or resting.labels),
        ):
            if is_paused:
                self._source.pause((partition,))
            else:
                self._source.resume((partition,))

    def _resting(self, join: LabelJoin) -> PausedInputs:
        """Return the input that is far ahead in time while the other one has a backlog that can be read first."""
        ahead = join.inputs_ahead()
        return PausedInputs(
            scored=ahead.scored and self._has_more(self._labels, join.labels_next),
            labels=ahead.labels and self._has_more(self._scored, offset_of(join.scored_next)),
        )

    def _has_more(self, partition: TopicPartition, read_to: int) -> bool:
        end = self._source.end_offset(partition)
        return end is not None and read_to < end and self._source.hears(partition)

    def _held(self, held: PausedInputs) -> str:
        join, _ = self._made
        least, heard_ms = join.least_heard
        heard = rfc3339_of(heard_ms)
        when = "yet" if heard is None else f"of a time after {heard}"
        awaited = (
            f"partition {least} of {self._labels.topic} has told nothing {when}, and no wait ends before it does; "
        )
        return (
            f"partition {self.partition} holds {join.remembered + join.early:,} records, as many as it may, and reads "
            f"on only what lags behind; {awaited if held.scored else ''}"
            f"{'raise join.max_on_disk' if self._is_on_disk else 'use the disk or raise join.max_waiting'}; "
            "see also that labels arrive"
        )

    def _record(self) -> None:
        join, _ = self._made
        self._parts.recorder.join_holds(
            self.partition, waiting=join.waiting, early=join.early, remembered=join.remembered
        )


def _are_labels(decoded: Sequence[Label | Rejection]) -> TypeGuard[Sequence[Label]]:
    return Rejection not in set(map(type, decoded))
