"""The log: what Tailrace needs of Kafka, as one small interface with two forms.

`kafka_log` speaks to Apache Kafka, `embedded_log` keeps the same topics in one SQLite file. Agents know only this
module. Delivery is at least once on both; nothing here is atomic across topics, and nothing relies on it.

The rules of a batch, numbered as the code repeats them:
    1. A Source puts record batches on a channel, at most `max_in_flight` per partition that are not completed.
    2. A batch is completed only after everything that was produced for it is acknowledged.
    3. Only the run of completed batches from the front of a partition may be committed.
    4. A batch of an older assignment generation is dropped, before anything is sent for it.
    5. A commit that is refused because the assignment moved on is normal: another member reads the records again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from mode import Service

from tailrace.domain.errors import CodecError


class TopicPartition(NamedTuple):
    """A partition; equal to aiokafka's tuple of the same fields."""

    topic: str
    partition: int


Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: in order, names may come again, a value may be null."""


class Record(Protocol):
    """One record as it was read. aiokafka's ConsumerRecord is one."""

    @property
    def topic(self) -> str:
        """The topic's name."""

    @property
    def partition(self) -> int:
        """The partition's number."""

    @property
    def offset(self) -> int:
        """The place in the partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970: the broker's time where the topic uses LogAppendTime."""

    @property
    def key(self) -> bytes | None:
        """The key as bytes."""

    @property
    def value(self) -> bytes | None:
        """The value as bytes; None: a tombstone."""

    @property
    def headers(self) -> Headers:
        """The headers, in order."""


def value_of(record: Record) -> bytes:
    """Return the value of a record that only Tailrace writes.

    Raises:
        CodecError: It has none.
    """
    if record.value is None:
        raise CodecError(
            f"offset {record.offset} of {record.topic}/{record.partition} has no value; only Tailrace may write this "
            "topic. Find out who wrote it; where that stops a process, restore the topic or begin a loop with another "
            "name."
        )
    return record.value


class Outgoing(NamedTuple):
    """One record to be sent.

    Attributes:
        timestamp_ms: None: the producer's clock, or the broker's where the topic uses LogAppendTime.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


@dataclass(slots=True, eq=False)
class RecordBatch:
    """Consecutive records of one partition, read under one assignment generation."""

    partition: TopicPartition
    generation: int
    records: Sequence[Record]

    @property
    def next_offset(self) -> int:
        """The offset to commit when this batch and all before it are completed."""
        return self.records[-1].offset + 1


class Commit(NamedTuple):
    """What to commit for one partition: the next offset to read, and up to 4 kB of text beside it."""

    offset: int
    metadata: str = ""


class Assignment(Protocol):
    """Told when partitions come and go. Both calls finish before any other member gets the partitions."""

    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
        """Partitions were added. They begin paused if the source was made with `start_paused`."""

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Partitions are about to go. Work that cannot finish within the revoke timeout is left uncommitted."""


BatchSink = Callable[[RecordBatch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What one source reads.

    Attributes:
        group: The consumer group id.
        co_partitioned: Give this member the same partition numbers of every topic (range assignment).
        start_paused: Deliver nothing of a new partition until `seek` and `resume` were called for it.
        commit_every_s: Completed batches are committed this often; 0: the agent commits itself.
        from_earliest: Where to begin when the group has no offset; False refuses instead.
        abreast_ms: While catching up, how far in Kafka's time one partition may be read ahead of another; None: at all.
        pace_s: On Kafka, from one delivery to the next at least, unless one had `max_records`: what nobody waits for by
            the millisecond costs less in larger batches.
        instance_id: Static membership, only when configured.
    """

    group: str
    topics: tuple[str, ...]
    co_partitioned: bool = False
    start_paused: bool = False
    commit_every_s: float = 1.0
    from_earliest: bool = True
    abreast_ms: int | None = None
    pace_s: float = 0.0
    max_records: int = 1_000
    max_in_flight: int = 4
    session_timeout_ms: int = 10_000
    revoke_timeout_s: float = 5.0
    instance_id: str | None = None


class Source(Service, ABC):
    """One group member. A service: start it after the channel it feeds, stop it first.

    While the log does not answer it waits and says so; it ends the process only on a state that nobody can explain.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_commit: Callable[[bool], None] = lambda _done: None
        """Told after each regular commit whether it was taken."""
        self.on_complete: Callable[[RecordBatch, float], None] = lambda _batch, _seconds: None
        """Told of each batch that is completed, and how long after it was delivered."""
        self.on_deleted: Callable[[TopicPartition], bool] = lambda _partition: False
        """Told of a partition that begins behind what is to be read of it; returns whether it is seen to.

        The partition is paused then; otherwise, where the source may not begin elsewhere by itself, it ends.
        """

    @property
    def paused(self) -> frozenset[TopicPartition]:
        """The assigned partitions of which nothing is delivered now."""
        return frozenset()

    @property
    def in_flight(self) -> Mapping[TopicPartition, int]:
        """Batches that were delivered and are not completed, per assigned partition."""
        return {}

    @property
    def moved_in_s(self) -> float | None:
        """How long ago this member gave up its partitions in the rebalance that is going on; None: it had none."""
        return None

    @property
    @abstractmethod
    def generation(self) -> int:
        """Rises at every assignment and revocation; -1 before the first."""

    @property
    @abstractmethod
    def assigned(self) -> frozenset[TopicPartition]:
        """The partitions that this member reads now."""

    @abstractmethod
    def complete(self, batch: RecordBatch) -> None:
        """Say that everything produced for this batch is acknowledged (rule 2)."""

    def give_back(self, batch: RecordBatch) -> None:
        """Say that nobody works on a batch, nor on those of its partition behind it: they are delivered again."""
        self.seek(batch.partition, batch.records[0].offset)

    @abstractmethod
    async def commit(self, commits: Mapping[TopicPartition, Commit]) -> bool:
        """Commit now; return False when it was refused because the assignment moved on (rule 5)."""

    @abstractmethod
    async def committed(self, partition: TopicPartition) -> Commit | None:
        """Return what the group last committed, metadata included."""

    @abstractmethod
    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Deliver from this offset next."""

    @abstractmethod
    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver nothing of these until resumed; membership is kept."""

    @abstractmethod
    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver again."""

    @abstractmethod
    def end_offset(self, partition: TopicPartition) -> int | None:
        """The end of the partition as of the last fetch; None before the first. For lag and idleness."""

    def hears(self, partition: TopicPartition) -> bool:  # noqa: ARG002 - for those whose log may be silent
        """Whether the log has told the end of a partition within the last seconds: it is quiet only then."""
        return True

    def passed(self, partition: TopicPartition, position: int) -> int:  # noqa: ARG002 - for those with such places
        """Return how far a partition was read without a record, where `position` follows the last one delivered.

        Markers of transactions take places in a partition and are never delivered.
        """
        return position

    @abstractmethod
    def lag(self) -> Mapping[TopicPartition, int]:
        """Records between what was completed and the known end, per assigned partition."""


class Sink(Service, ABC):
    """Sends records; keeps order per partition; every acknowledgement is awaited with a deadline.

    Any failed send makes a new producer that sends everything unacknowledged again, in order. So a record may
    be sent twice, and never lost while the process lives.
    """

    @abstractmethod
    async def send(self, partition: TopicPartition, records: Sequence[Outgoing]) -> Delivery:
        """Put records in line for one partition; returns as soon as they are in line.

        Order of calls is the order in the partition. Waits while too much is in line.

        Raises:
            RecordTooLarge: One record alone is larger than the topic accepts; nothing of the call was sent.
        """

    @property
    @abstractmethod
    def max_record_bytes(self) -> int:
        """The largest value that `send` takes."""

    @property
    def waiting_bytes(self) -> int:
        """What is in line and not acknowledged; 0 where that is not counted."""
        return 0

    @property
    def renewals(self) -> int:
        """How many producers were given up after a failed send."""
        return 0


class Delivery(Protocol):
    """Records in line; await it for their offsets, in order, once all are acknowledged."""

    def __await__(self) -> Generator[Any, None, Sequence[int]]: ...


class Range(NamedTuple):
    """A half-open range of offsets."""

    start: int
    end: int


class Reader(Service, ABC):
    """Reads bounded ranges without a group: recovery, verify, status, books."""

    @abstractmethod
    async def range_of(self, partition: TopicPartition) -> Range:
        """Return the first offset still there and the end offset (one past the last).

        Raises:
            LogError: The topic or partition does not exist.
        """

    async def ranges_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Range]:
        """Return the ranges of partitions that exist, asked for at once where that is cheaper.

        Left out are those that no broker answers for now, though others of the log do.
        """
        return {partition: await self.range_of(partition) for partition in partitions}

    @abstractmethod
    def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Yield the records of [start, end) in batches, in order.

        Raises:
            ForeignLogError: `start` lies outside of what the partition holds.
        """

    @abstractmethod
    def follow(self, partition: TopicPartition, start: int) -> AsyncIterator[Sequence[Record]]:
        """Yield records from `start` for ever, in batches; an empty batch at least once a second."""

    @abstractmethod
    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; 0 when it does not exist."""

    @abstractmethod
    async def group_offsets(self, group: str) -> Mapping[TopicPartition, Commit]:
        """Return what a group has committed."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it exists.

    Attributes:
        settings: Every topic setting that is not the broker's default, by its Kafka name.
    """

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str] = field(default_factory=dict)


class Admin(ABC):
    """Describes and changes topics; commits for groups that have no members."""

    @abstractmethod
    async def describe(self, names: Iterable[str]) -> Mapping[str, TopicState]:
        """Return the state of those topics that exist."""

    @abstractmethod
    async def create(self, topics: Iterable[TopicState]) -> None:
        """Create topics."""

    @abstractmethod
    async def alter(self, name: str, settings: Mapping[str, str]) -> None:
        """Set these settings and send every other one that was read again, so that none is reset."""

    @abstractmethod
    async def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to `total`."""

    @abstractmethod
    async def commit(self, group: str, commits: Mapping[TopicPartition, Commit]) -> None:
        """Commit for a group in which nobody is a member: a position that commands keep.

        Raises:
            LogError: The group has a member, whose business its offsets are.
        """

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete a topic with everything in it; return when it is gone. One that does not exist is fine."""

    @abstractmethod
    async def brokers(self) -> int:
        """Return the number of brokers; 1 for the embedded log."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections."""


class Log(ABC):
    """Opens the parts above. Cheap to make; opens nothing by itself."""

    @abstractmethod
    def source(self, spec: SourceSpec, sink: BatchSink, assignment: Assignment | None = None) -> Source:
        """Make a group member that puts its batches into `sink`."""

    @abstractmethod
    def sink(self, name: str) -> Sink:
        """Make a producer; `name` appears in logs."""

    @abstractmethod
    def reader(self) -> Reader:
        """Make a reader of ranges."""

    @abstractmethod
    def admin(self) -> Admin:
        """Make an admin client."""

    @property
    @abstractmethod
    def address(self) -> str:
        """What the user configured, without secrets: for banners and messages."""
