"""The embedded log: the interface of `log` on one SQLite file.

For the demo, for tests of whole flows, and for a device without Kafka. One worker process reads in groups;
others may read and append. Every group has one member, which gets all partitions. Acknowledgements are per
partition, with a moment between any two; its atomicity is never used. It is no broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from mode import Service

from tailrace.domain.errors import LogError, LogUnavailable
from tailrace.streams.embedded_store import (
    MAX_APPEND_BYTES,
    MAX_APPEND_RECORDS,
    Busy,
    EmbeddedRecord,
    EmbeddedStore,
)
from tailrace.streams.log import (
    Admin,
    Assignment,
    BatchSink,
    Commit,
    Log,
    Outgoing,
    Range,
    Reader,
    RecordBatch,
    Sink,
    Source,
    SourceSpec,
    TopicPartition,
    TopicState,
)
from tailrace.streams.membership import MemberSource
from tailrace.streams.ranges import check_start
from tailrace.streams.sizes import DEFAULT_MAX_MESSAGE_BYTES, RECORD_OVERHEAD_BYTES, check_sizes

log = logging.getLogger(__name__)

T = TypeVar("T")

# How soon a process sees what another one appended.
POLL_S = 0.02
BUSY_RETRY_S = 0.001
MAX_OUTSTANDING_BYTES = 64 << 20
FOLLOW_RECORDS = 500


class EmbeddedLog(Log):
    """One process's view of the log in a folder."""

    def __init__(self, folder: str | Path) -> None:
        self._store = EmbeddedStore(Path(folder))
        self._members: dict[str, EmbeddedSource] = {}

    def source(self, spec: SourceSpec, sink: BatchSink, assignment: Assignment | None = None) -> Source:
        """Make the member of a group; a later one takes the group over."""
        return EmbeddedSource(self._store, self._members, spec, sink, assignment)

    def sink(self, name: str) -> Sink:
        """Make a producer."""
        return EmbeddedSink(self._store, name)

    def reader(self) -> Reader:
        """Make a reader of ranges."""
        return EmbeddedReader(self._store)

    def admin(self) -> Admin:
        """Make an admin client."""
        return EmbeddedAdmin(self._store)

    def abandon(self) -> None:
        """Write nothing more and be the worker no longer, as after a SIGKILL. For tests of crashes.

        What was acknowledged stays; sends in line are never acknowledged, commits are refused.
        """
        self._store.abandon()

    @property
    def address(self) -> str:
        """`embedded:` and the folder."""
        return f"embedded:{self._store.folder}"


class EmbeddedSource(MemberSource):
    """The one member of a group."""

    def __init__(
        self,
        store: EmbeddedStore,
        members: dict[str, EmbeddedSource],
        spec: SourceSpec,
        sink: BatchSink,
        assignment: Assignment | None,
    ) -> None:
        super().__init__(spec, sink, assignment)
        self._store = store
        self._members = members
        self._epoch = 0
        self._taken_over = False
        self._ends: dict[TopicPartition, int] = {}

    async def on_start(self) -> None:
        """Become the worker and the group's member; the former member lets go first."""
        self._store.open(create=True)
        try:
            self._store.lock_worker()
        except LogError:
            self._store.close()
            raise
        former = self._members.get(self.spec.group)
        if former is not None:
            await former.yield_group()
        self._members[self.spec.group] = self
        self._epoch = await _retried(lambda: self._store.join_group(self.spec.group))
        self._store.listeners.add(self._progress)

    async def on_stop(self) -> None:
        """Finish, commit, leave."""
        if not self._store.abandoned:
            await self._release()

    async def on_shutdown(self) -> None:
        """Let go of the file."""
        if self._members.get(self.spec.group) is self:
            del self._members[self.spec.group]
        self._store.listeners.discard(self._progress)
        self._store.unlock_worker()
        self._store.close()

    async def yield_group(self) -> None:
        """Give everything to another member of the same group."""
        self._taken_over = True
        await self._release()

    async def commit(self, commits: Mapping[TopicPartition, Commit]) -> bool:
        """Commit now; False when another member has taken the group over."""
        if self._store.abandoned:
            return False
        return await _retried(lambda: self._store.commit(self.spec.group, self._epoch, commits))

    async def committed(self, partition: TopicPartition) -> Commit | None:
        """Return what the group last committed."""
        return self._store.offsets(self.spec.group).get(partition)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The end of the partition as of the last look."""
        return self._ends.get(partition)

    @Service.task
    async def _read_on(self) -> None:
        await self._topics_exist()
        seen = -1
        while not (self.should_stop or self._taken_over or self._store.abandoned):
            self._progress.clear()
            await self._assign_if_changed()
            version = self._store.version()
            if not await self._deliver_round(fresh=version != seen):
                seen = version
                await _wait(self._progress, POLL_S)

    async def _topics_exist(self) -> None:
        said = False
        while not self.should_stop and (missing := [t for t in self.spec.topics if not self._store.topic(t)]):
            if not said:
                log.warning("%s waits for topics that do not exist yet: %s", self.label, ", ".join(missing))
                said = True
            await self.sleep(POLL_S)

    async def _assign_if_changed(self) -> None:
        held = {topic: self._store.topic(topic) for topic in self.spec.topics}
        wanted = {
            TopicPartition(topic, number)
            for topic, state in held.items()
            if state
            for number in range(state.partitions)
        }
        if wanted == self.assigned or self.should_stop or self._taken_over:
            return
        await self._release()
        await self._take({partition: self._begin_at(partition) for partition in wanted})

    def _begin_at(self, partition: TopicPartition) -> int:
        commit = self._store.offsets(self.spec.group).get(partition)
        held = self._store.range_of(partition)
        if commit is not None:
            return commit.offset
        if self.spec.from_earliest or self.spec.start_paused:
            return held.start
        raise LogError(
            f"group {self.spec.group} has no offset for {partition.topic}/{partition.partition} and may not begin at "
            "the earliest record; restore the group's offsets"
        )

    async def _deliver_round(self, *, fresh: bool) -> bool:
        delivered = False
        if fresh:
            self._ends.update((partition, self._store.range_of(partition).end) for partition in self.assigned)
        for partition in self._those_abreast(sorted(self.assigned)):
            if not self._may_deliver(partition):
                continue
            position = self._completions[partition].position
            if position == self._ends.get(partition):
                continue
            records = self._store.fetch(partition, position, self.spec.max_records)
            if records:
                if self._abreast is not None:
                    records = records[: self._abreast.part_of(partition, records)]
                await self._deliver(RecordBatch(partition, self._generation, records))
                delivered = True
                await asyncio.sleep(0)
            elif position > self._ends.get(partition, position):
                check_start(partition, position, self._store.range_of(partition))
        return delivered


class EmbeddedSink(Sink):
    """Appends what is in line, one transaction per partition and turn of the event loop."""

    def __init__(self, store: EmbeddedStore, name: str) -> None:
        super().__init__()
        self._store = store
        self._name = name
        self._lines: dict[TopicPartition, deque[_Parcel]] = {}
        self._outstanding_bytes = 0
        self._work = asyncio.Event()
        self._gate = asyncio.Lock()
        self._room = asyncio.Event()

    @property
    def label(self) -> str:
        """The name, for logs and tracebacks."""
        return f"sink {self._name}"

    @property
    def max_record_bytes(self) -> int:
        """The largest value that `send` takes where the topic has Kafka's default size."""
        return DEFAULT_MAX_MESSAGE_BYTES - RECORD_OVERHEAD_BYTES

    async def on_start(self) -> None:
        """Open the file."""
        self._store.open(create=True)

    async def on_stop(self) -> None:
        """Append what is still in line."""
        while self._lines and not self._store.abandoned:
            await self._append_round()

    async def on_shutdown(self) -> None:
        """Let go of the file."""
        self._store.close()

    async def send(self, partition: TopicPartition, records: Sequence[Outgoing]) -> asyncio.Future[Sequence[int]]:
        """Put records in line for one partition; await the result for their offsets."""
        size_bytes = check_sizes(partition, records, self._store.max_message_bytes(partition))
        async with self._gate:  # First come, first in line.
            while self._outstanding_bytes > MAX_OUTSTANDING_BYTES and not self.should_stop:
                self._room.clear()
                await self._room.wait()
            if self.should_stop:
                raise LogUnavailable(f"{self.label} is stopped; nothing can be sent any more")
            delivery: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
            if not records:
                delivery.set_result([])
                return delivery
            self._outstanding_bytes += size_bytes
            self._lines.setdefault(partition, deque()).append(_Parcel(records, size_bytes, delivery))
            self._work.set()
            return delivery

    @Service.task
    async def _append_on(self) -> None:
        while not self.should_stop:
            await self._work.wait()
            self._work.clear()
            while self._lines and not (self.should_stop or self._store.abandoned):
                await self._append_round()

    async def _append_round(self) -> None:
        for partition in list(self._lines):
            if (line := self._lines.get(partition)) is not None:
                try:
                    self._append_some(partition, line)
                except Busy:
                    await asyncio.sleep(BUSY_RETRY_S)
                    continue
                if not line:
                    self._lines.pop(partition, None)
            # A moment between two acknowledgements, so that both orders of a crash can happen.
            await asyncio.sleep(0)

    def _append_some(self, partition: TopicPartition, line: deque[_Parcel]) -> None:
        taken = 0
        records: list[Outgoing] = []
        size_bytes = 0
        for parcel in line:
            if taken and (len(records) >= MAX_APPEND_RECORDS or size_bytes + parcel.size_bytes > MAX_APPEND_BYTES):
                break
            records.extend(parcel.records)
            size_bytes += parcel.size_bytes
            taken += 1
        offsets = self._store.append(partition, records)
        at = 0
        for _ in range(taken):
            parcel = line.popleft()
            parcel.acknowledge(offsets[at : at + len(parcel.records)])
            at += len(parcel.records)
        self._outstanding_bytes -= size_bytes
        self._room.set()


class _Parcel:
    """The records of one call of `send`."""

    __slots__ = ("delivery", "records", "size_bytes")

    def __init__(self, records: Sequence[Outgoing], size_bytes: int, delivery: asyncio.Future[Sequence[int]]) -> None:
        self.records = records
        self.size_bytes = size_bytes
        self.delivery = delivery

    def acknowledge(self, offsets: Sequence[int]) -> None:
        if not self.delivery.done():  # Its only waiter may have been cancelled.
            self.delivery.set_result(offsets)


class EmbeddedReader(Reader):
    """Reads ranges without a group."""

    def __init__(self, store: EmbeddedStore) -> None:
        super().__init__()
        self._store = store
        self._appended = asyncio.Event()

    async def on_start(self) -> None:
        """Open the file, which must exist."""
        self._store.open(create=False)
        self._store.listeners.add(self._appended)

    async def on_shutdown(self) -> None:
        """Let go of the file."""
        self._store.listeners.discard(self._appended)
        self._store.close()

    async def range_of(self, partition: TopicPartition) -> Range:
        """Return the first offset and the end."""
        return self._store.range_of(partition)

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[EmbeddedRecord]]:
        """Yield the records of [start, end) in batches."""
        check_start(partition, start, self._store.range_of(partition))
        while start < end and (records := self._store.fetch(partition, start, FOLLOW_RECORDS, end)):
            yield records
            start = records[-1].offset + 1
            await asyncio.sleep(0)

    async def follow(self, partition: TopicPartition, start: int) -> AsyncIterator[Sequence[EmbeddedRecord]]:
        """Yield records from `start` for ever; an empty batch at least once a second."""
        check_start(partition, start, self._store.range_of(partition))
        waited_s = 0.0
        while not self.should_stop:
            version = self._store.version()
            records = self._store.fetch(partition, start, FOLLOW_RECORDS)
            if records or waited_s >= 0.5:
                waited_s = 0.0
                yield records
                start = records[-1].offset + 1 if records else start
                await asyncio.sleep(0)
            while not records and waited_s < 0.5 and self._store.version() == version and not self.should_stop:
                self._appended.clear()
                await _wait(self._appended, POLL_S)
                waited_s += POLL_S

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; 0 when it does not exist."""
        state = self._store.topic(topic)
        return state.partitions if state else 0

    async def group_offsets(self, group: str) -> Mapping[TopicPartition, Commit]:
        """Return what a group has committed."""
        return self._store.offsets(group)


class EmbeddedAdmin(Admin):
    """Describes and changes topics."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._opened = False

    def _open(self) -> EmbeddedStore:
        if not self._opened:
            self._store.open(create=True)
            self._opened = True
        return self._store

    async def describe(self, names: Iterable[str]) -> Mapping[str, TopicState]:
        """Return the state of those topics that exist."""
        topics = self._open().topics()
        return {name: topics[name] for name in names if name in topics}

    async def create(self, topics: Iterable[TopicState]) -> None:
        """Create topics."""
        store = self._open()
        for topic in topics:
            await _retried(partial(store.create_topic, topic))

    async def alter(self, name: str, settings: Mapping[str, str]) -> None:
        """Set these settings beside the others."""
        store = self._open()
        await _retried(lambda: store.alter_topic(name, settings))

    async def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to `total`."""
        store = self._open()
        await _retried(lambda: store.add_partitions(name, total))

    async def commit(self, group: str, commits: Mapping[TopicPartition, Commit]) -> None:
        """Commit as the only member, for this moment."""
        store = self._open()
        epoch = await _retried(lambda: store.join_group(group))
        if not await _retried(lambda: store.commit(group, epoch, commits)):
            raise LogError(f"another process commits for {group} now; let it end, then do this again")

    async def delete(self, name: str) -> None:
        """Delete a topic with everything in it."""
        store = self._open()
        await _retried(lambda: store.delete_topic(name))

    async def brokers(self) -> int:
        """Return 1."""
        return 1

    async def close(self) -> None:
        """Let go of the file."""
        if self._opened:
            self._opened = False
            self._store.close()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def _retried(write: Callable[[], T]) -> T:
    while True:
        try:
            return write()
        except Busy:
            await asyncio.sleep(BUSY_RETRY_S)
