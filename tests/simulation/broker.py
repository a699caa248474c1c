"""The broker as one process of the product sees it: the product's own interfaces over the topics of a world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from typing import Any, Final

from tests.simulation.kept import SNAPSHOTS, TRAINING
from tests.simulation.virtual import Machine
from tests.simulation.world import Seat, World

from tailrace.domain.records import Owner
from tailrace.domain.snapshots import manifest_of
from tailrace.streams.log import (
    Commit,
    Delivery,
    Outgoing,
    Range,
    Reader,
    Record,
    RecordBatch,
    Sink,
    Source,
    TopicPartition,
)
from tailrace.wire.avro_codec import decode_manifest

_FOLLOW_S: Final = 0.1
_IN_FLIGHT: Final = 4


class Killed(BaseException):
    """Raised to what still runs in a process that was killed."""


class SimReader(Reader):
    """Reads the topics of a world.

    Attributes:
        followed: Topic → the offset up to which it was handed out by `follow`.
    """

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__()
        self.followed: dict[str, int] = {}
        self._world = world
        self._machine = machine

    async def range_of(self, partition: TopicPartition) -> Range:
        """Return what the topic holds."""
        await asyncio.sleep(0)
        return Range(0, self._world.end_of(partition.topic))

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Yield records in batches of any size."""
        records = self._world.records(partition.topic, start, end)
        while records:
            count = self._world.rng.choice([1, 7, 100])
            batch, records = records[:count], records[count:]
            yield batch
            await asyncio.sleep(0)

    async def follow(self, partition: TopicPartition, start: int) -> AsyncIterator[Sequence[Record]]:
        """Yield records as they come."""
        at = self.followed[partition.topic] = start
        while True:
            end = self._world.end_of(partition.topic)
            batch = self._world.records(partition.topic, at, end)[: self._world.rng.choice([1, 3, 100])]
            if not batch:
                await asyncio.sleep(_FOLLOW_S)
            yield batch
            at = self.followed[partition.topic] = batch[-1].offset + 1 if batch else end

    async def partitions(self, topic: str) -> int:
        """Every topic that is read here has one."""
        del topic
        return 1

    async def group_offsets(self, group: str) -> Mapping[TopicPartition, Commit]:
        """Nothing is decided by them."""
        del group
        return {}


class _Acknowledged:
    """Records in line; they are acknowledged a moment after they were appended."""

    def __init__(self, offsets: list[int], rounds: int) -> None:
        self._offsets = offsets
        self._rounds = rounds

    def __await__(self) -> Generator[Any, None, Sequence[int]]:
        for _ in range(self._rounds):
            yield
        return self._offsets


class SimSink(Sink):
    """Appends to the topics of a world; now and then a record is sent twice, as an idempotent producer's successor."""

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__()
        self._world = world
        self._machine = machine

    async def send(self, partition: TopicPartition, records: Sequence[Outgoing]) -> Delivery:
        """Append, after a moment in which the process may be killed."""
        await asyncio.sleep(0)
        world = self._world
        if self._machine.is_dead:
            raise Killed
        offsets = [world.append(partition.topic, record.key, record.value) for record in records]
        if partition.topic == SNAPSHOTS:
            world.genuine.update(record.value for record in records if record.value is not None)
            world.violations += [problem for record in records for problem in early_records(world, record.value)]
        if partition.topic == TRAINING and world.faults.strikes("sent_twice", 0.05):
            for record in records:
                world.append(partition.topic, record.key, record.value)
        return _Acknowledged(offsets, world.rng.randrange(3))

    @property
    def max_record_bytes(self) -> int:
        """As on a broker."""
        return 1_000_000


def early_records(world: World, value: bytes | None) -> list[str]:
    """Say whether an index record names a file that was not acknowledged as a whole before."""
    if value is None:
        return []
    sealed = decode_manifest(value)
    manifest = manifest_of(sealed.content)
    path = manifest.store_path
    if path is None or any(sealed.content in each for each in world.vault.acknowledged.get(path, ())):
        return []
    return ["index record before its file"]


class SimSource(Source):
    """One member of the group that learns."""

    def __init__(self, world: World, machine: Machine, seat: Seat, name: Owner) -> None:
        super().__init__()
        self._world = world
        self._machine = machine
        self._seat = seat
        self._name = name
        self._at = 0
        self._paused = True
        self._in_flight: set[int] = set()

    @property
    def generation(self) -> int:
        """It has one life."""
        return 1

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        """The training log."""
        return frozenset({TopicPartition(TRAINING, 0)})

    async def batches(self) -> AsyncIterator[RecordBatch]:
        """Yield what comes, as the channel of the agent does."""
        while True:
            await asyncio.sleep(0 if self._has_more() else _FOLLOW_S)
            if not self._has_more():
                continue
            count = self._world.rng.choice([1, 3, 20])
            records = self._world.records(TRAINING, self._at, self._world.end_of(TRAINING))[:count]
            self._at = records[-1].offset + 1
            batch = RecordBatch(TopicPartition(TRAINING, 0), 1, records)
            self._in_flight.add(id(batch))
            yield batch

    def _has_more(self) -> bool:
        ready = not self._paused and len(self._in_flight) < _IN_FLIGHT
        return ready and self._at < self._world.end_of(TRAINING)

    def complete(self, batch: RecordBatch) -> None:
        """Note it."""
        self._in_flight.discard(id(batch))

    async def commit(self, commits: Mapping[TopicPartition, Commit]) -> bool:
        """Commit, if the group still believes in this member."""
        del commits
        await asyncio.sleep(0)
        return not self._machine.is_dead and (
            self._world.rules.is_planted("claim_without_commit") or self._world.owns(self._seat, self._name)
        )

    async def committed(self, partition: TopicPartition) -> Commit | None:
        """Nothing is decided by it."""
        del partition
        return None

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Deliver from here next; what was delivered is not in flight any more."""
        del partition
        self._at = offset
        self._in_flight.clear()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver nothing."""
        del partitions
        self._paused = True

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver again."""
        del partitions
        self._paused = False

    def end_offset(self, partition: TopicPartition) -> int | None:
        """Return the end."""
        return self._world.end_of(partition.topic)

    def lag(self) -> Mapping[TopicPartition, int]:
        """Return what is left."""
        return {TopicPartition(TRAINING, 0): self._world.end_of(TRAINING) - self._at}
