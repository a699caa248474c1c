"""Sends to Apache Kafka: idempotent, in order, and never lost while the process lives.

Every partition has a line of parcels. A line gives its front to the producer in batches and keeps each parcel
until all its records are acknowledged. After any failure, or when an acknowledgement is late (idempotent sends
never expire by themselves), the producer is thrown away and every line begins again at its first
unacknowledged record. So a record may stand in the log twice, and the last time in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from mode import Service

from tailrace.domain.errors import LogError, LogUnavailable, RecordTooLarge
from tailrace.streams.kafka_admin import KafkaAdmin
from tailrace.streams.kafka_client import (
    RETRY_S,
    KafkaOptions,
    Waiting,
    discard_producer,
    explained,
    is_refusal,
    keep_trying,
)
from tailrace.streams.log import Outgoing, Sink, TopicPartition
from tailrace.streams.sizes import DEFAULT_MAX_MESSAGE_BYTES, RECORD_OVERHEAD_BYTES, check_sizes, headers_bytes

log = logging.getLogger(__name__)

BATCH_BYTES = 512 << 10
RECORD_BYTES = 24
MAX_OUTSTANDING_BYTES = 64 << 20
DELIVERY_S = 20.0
FLUSH_S = 5.0
# Idempotent producers number the records of a partition with 31 bits, and aiokafka does not wrap around.
RENEW_AFTER_RECORDS = 2_000_000_000


class _Parcel:
    """The records of one call of `send`, until all are acknowledged."""

    __slots__ = ("delivery", "given", "offsets", "records", "size_bytes")

    def __init__(self, records: Sequence[Outgoing], size_bytes: int, delivery: asyncio.Future[Sequence[int]]) -> None:
        self.records = records
        self.size_bytes = size_bytes
        self.delivery = delivery
        self.offsets: list[int] = []
        self.given = 0

    def fail(self, error: Exception) -> None:
        if not self.delivery.done():
            self.delivery.set_exception(error)
            self.delivery.exception()  # It may be that nobody waits for it; that is no second error.


class _Line:
    """What is to be sent to one partition, in order."""

    def __init__(self, partition: TopicPartition, batch_bytes: int) -> None:
        self.partition = partition
        self.batch_bytes = batch_bytes
        self.unacknowledged: deque[_Parcel] = deque()
        self.not_given: deque[_Parcel] = deque()
        self.oldest_s: deque[float] = deque()
        self.wake = asyncio.Event()
        self.given_records = 0

    def put(self, parcel: _Parcel) -> None:
        self.unacknowledged.append(parcel)
        self.not_given.append(parcel)
        self.wake.set()

    def begin_again(self) -> None:
        """Give everything that is not acknowledged to a new producer."""
        for parcel in self.unacknowledged:
            parcel.given = len(parcel.offsets)
        self.not_given = deque(self.unacknowledged)
        self.oldest_s.clear()
        self.given_records = 0
        self.wake.set()


class KafkaSink(Sink):
    """One idempotent producer at a time, renewed after any failure."""

    def __init__(self, options: KafkaOptions, name: str) -> None:
        super().__init__()
        self._options = options
        self._name = name
        self._admin = KafkaAdmin(options)
        self._lines: dict[TopicPartition, _Line] = {}
        self._limits: dict[str, tuple[int, int]] = {}
        self._refusing: set[str] = set()
        self._outstanding_bytes = 0
        self._renewals = 0
        self._gate = asyncio.Lock()
        self._room = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._discarding: asyncio.Future[None] | None = None
        self._giving: dict[TopicPartition, asyncio.Task[None]] = {}
        self._failed = asyncio.Event()
        self._reason: BaseException | str = ""
        self._outage: Waiting | None = None

    @property
    def label(self) -> str:
        """The name, for logs and tracebacks."""
        return f"sink {self._name}"

    @property
    def max_record_bytes(self) -> int:
        """The largest value that `send` takes where the topic has Kafka's default size."""
        return DEFAULT_MAX_MESSAGE_BYTES - RECORD_OVERHEAD_BYTES

    @property
    def waiting_bytes(self) -> int:
        """What is in line and not acknowledged."""
        return self._outstanding_bytes

    @property
    def renewals(self) -> int:
        """How many producers were given up after a failed send."""
        return self._renewals

    # ---- sending

    async def send(self, partition: TopicPartition, records: Sequence[Outgoing]) -> asyncio.Future[Sequence[int]]:
        """Put records in line for one partition; await the result for their offsets."""
        async with self._gate:  # First come, first in line, also while limits are asked for or there is no room.
            limit_bytes = await self._limit_of(partition)
            size_bytes = check_sizes(partition, records, limit_bytes)
            while self._outstanding_bytes > MAX_OUTSTANDING_BYTES and not self._stops():
                self._room.clear()
                await self._room.wait()
            if self.should_stop:
                raise LogUnavailable(f"{self.label} is stopped; nothing can be sent any more")
            delivery: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()
            if not records:
                delivery.set_result([])
                return delivery
            self._outstanding_bytes += size_bytes
            line = self._lines.get(partition)
            if line is None:
                line = self._lines[partition] = _Line(partition, _batch_bytes(limit_bytes))
                self._run_line(line)
            line.put(_Parcel(records, size_bytes, delivery))
            return delivery

    async def _limit_of(self, partition: TopicPartition) -> int:
        limit_bytes, partitions = self._limits.get(partition.topic) or await self._learn_limits(partition.topic)
        if not 0 <= partition.partition < partitions:
            limit_bytes, partitions = await self._learn_limits(partition.topic)
            if not 0 <= partition.partition < partitions:
                raise LogError(
                    f"topic {partition.topic} has {partitions} partitions; there is no partition {partition.partition}"
                )
        return limit_bytes

    async def _learn_limits(self, topic: str) -> tuple[int, int]:
        """Read how large a record of the topic may be and how many partitions it has; wait while it is missing."""
        waiting = Waiting(self._options, f"send to topic {topic}")
        while not self.should_stop:
            limits = await self._admin.limits_of(topic)
            if limits is not None:
                self._limits[topic] = limits
                return limits
            if self._options.reach_within_s is not None:
                raise LogError(f"topic {topic} does not exist; `tailrace topics apply` creates it")
            waiting.say("the topic does not exist; `tailrace topics apply` creates it")
            await asyncio.sleep(RETRY_S)
        raise LogUnavailable(f"{self.label} is stopped; nothing can be sent any more")

    # ---- the producer's life

    @Service.task
    async def _supervise(self) -> None:
        while not self._stops():
            try:
                await self._fit_batches()
                producer = await keep_trying(
                    self._new_producer, self._options, f"send ({self._name})", gives_up=self._stops
                )
            except LogUnavailable:
                if self.should_stop:
                    return
                raise
            self._failed.clear()
            self._producer = producer
            for line in self._lines.values():
                line.begin_again()
                self._run_line(line)
            await self._failed.wait()
            self._renewals += 1
            await self._give_up_producer()
            if isinstance(self._reason, BaseException) and is_refusal(self._reason):
                raise explained(self._reason, self._options)
            self._outage = self._outage or Waiting(self._options, f"send ({self._name})")
            self._outage.say(self._reason)
            await self.sleep(RETRY_S)

    def _stops(self) -> bool:
        return bool(self.should_stop)

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._options.arguments(),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,  # Batches are closed when they are given; waiting for more is the line's business.
            max_batch_size=BATCH_BYTES,
            max_request_size=64 << 20,
            compression_type=self._options.compression,
        )
        # How long a batch waits for the one before it is the business of `_watch_deadlines`.
        producer._request_timeout_ms = int(2 * DELIVERY_S * 1_000)  # noqa: SLF001
        try:
            await producer.start()
        except BaseException:
            await discard_producer(producer)
            raise
        return producer

    async def _give_up_producer(self) -> None:
        producer, self._producer = self._producer, None
        tasks = list(self._giving.values())
        self._giving.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if producer is not None:
            self._discarding = asyncio.ensure_future(discard_producer(producer))
        if self._discarding is not None:
            await asyncio.shield(self._discarding)

    def _fail(self, producer: AIOKafkaProducer, reason: BaseException | str) -> None:
        if producer is self._producer and not self._failed.is_set():
            self._reason = reason
            self._failed.set()

    @Service.task
    async def _watch_deadlines(self) -> None:
        while not self.should_stop:
            await self.sleep(0.5)
            producer, now_s = self._producer, time.monotonic()
            if producer is None:
                continue
            for line in self._lines.values():
                if line.oldest_s and now_s - line.oldest_s[0] > DELIVERY_S:
                    self._fail(producer, f"no acknowledgement for {DELIVERY_S:.0f} s")

    # ---- one line

    def _run_line(self, line: _Line) -> None:
        if self._producer is not None and line.partition not in self._giving:
            self._giving[line.partition] = asyncio.create_task(self._give(line, self._producer))

    async def _give(self, line: _Line, producer: AIOKafkaProducer) -> None:
        topic, number = line.partition
        try:
            while True:
                while not line.not_given:
                    line.wake.clear()
                    await line.wake.wait()
                if line.given_records > RENEW_AFTER_RECORDS:
                    self._fail(producer, "the producer's record numbers are used up")
                    return
                batch, contents, count = _fill(producer, line)
                line.oldest_s.append(time.monotonic())
                line.given_records += count
                sent = await producer.send_batch(batch, topic, partition=number)
                sent.add_done_callback(_Acknowledge(self, line, producer, contents))
        except (KafkaError, OSError, AssertionError) as error:
            self._fail(producer, error)
        except Exception as error:  # noqa: BLE001 - ours, not Kafka's: the sink must not go on without this line
            await self.crash(error)

    def acknowledge(
        self, line: _Line, producer: AIOKafkaProducer, contents: Sequence[tuple[_Parcel, int]], base_offset: int
    ) -> None:
        """Note that the front of a line is in the log from `base_offset` on."""
        if producer is not self._producer or self._failed.is_set():
            return  # It is sent again behind what failed, so that order holds.
        if self._outage is not None:
            self._outage.over()
            self._outage = None
        line.oldest_s.popleft()
        for parcel, count in contents:
            parcel.offsets.extend(range(base_offset, base_offset + count))
            base_offset += count
            if len(parcel.offsets) == len(parcel.records):
                assert line.unacknowledged[0] is parcel
                self._done(line, line.unacknowledged.popleft())
                if not parcel.delivery.done():
                    parcel.delivery.set_result(parcel.offsets)

    def _done(self, line: _Line, parcel: _Parcel) -> None:
        self._outstanding_bytes -= parcel.size_bytes
        self._room.set()
        if not line.unacknowledged:
            self._acknowledged.set()

    def refused(
        self, line: _Line, producer: AIOKafkaProducer, contents: Sequence[tuple[_Parcel, int]], error: BaseException
    ) -> None:
        """Note that a batch failed: the next producer sends it again, unless it can never be sent."""
        if producer is not self._producer or self._failed.is_set():
            return
        if isinstance(error, MessageSizeTooLargeError):
            self._shrink(line, contents)
        self._fail(producer, error)

    def _shrink(self, line: _Line, contents: Sequence[tuple[_Parcel, int]]) -> None:
        # The topic's limit was lowered since it was read: smaller batches, and one record alone is given up.
        self._limits.pop(line.partition.topic, None)
        if sum(count for _, count in contents) > 1:
            refused_bytes = sum(parcel.size_bytes * count // len(parcel.records) for parcel, count in contents)
            line.batch_bytes = max(1, min(line.batch_bytes, refused_bytes) // 2)
            self._refusing.add(line.partition.topic)
            return
        front = line.unacknowledged.popleft()
        self._done(line, front)
        front.fail(
            RecordTooLarge(
                f"{line.partition.topic} refuses a record of about {front.size_bytes} bytes as too large. Make the "
                "record smaller or raise max.message.bytes of the topic"
            )
        )

    async def _fit_batches(self) -> None:
        """Cut batches for topics that refused one to what these take now, at once and not by halves."""
        while self._refusing:
            topic = self._refusing.pop()
            limit_bytes, _ = await self._learn_limits(topic)
            for line in self._lines.values():
                if line.partition.topic == topic:
                    line.batch_bytes = min(line.batch_bytes, _batch_bytes(limit_bytes))

    # ---- the end

    async def on_stop(self) -> None:
        """Wait a moment for what is in line, then close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                while any(line.unacknowledged for line in self._lines.values()) and self._producer is not None:
                    self._acknowledged.clear()
                    await self._acknowledged.wait()

    async def on_shutdown(self) -> None:
        """Close the producer; say so to those who still wait."""
        await self._give_up_producer()
        await self._admin.close()
        left = [parcel for line in self._lines.values() for parcel in line.unacknowledged]
        for parcel in left:
            parcel.fail(LogUnavailable(f"{self.label} was stopped before Kafka acknowledged; send it again"))
        if left:
            log.warning("%s: %d sends were not acknowledged at the end", self.label, len(left))
        self._room.set()


class _Acknowledge:
    """What to do when one batch is acknowledged or refused."""

    __slots__ = ("_contents", "_line", "_producer", "_sink")

    def __init__(
        self, sink: KafkaSink, line: _Line, producer: AIOKafkaProducer, contents: Sequence[tuple[_Parcel, int]]
    ) -> None:
        self._sink = sink
        self._line = line
        self._producer = producer
        self._contents = contents

    def __call__(self, sent: asyncio.Future[object]) -> None:
        if sent.cancelled():
            return
        error = sent.exception()
        base_offset = -1 if error is not None else getattr(sent.result(), "offset", -1)
        if error is not None:
            self._sink.refused(self._line, self._producer, self._contents, error)
        elif base_offset < 0:
            # The broker knew the batch but not any more where it lies; send it again rather than guess.
            self._sink.refused(
                self._line, self._producer, self._contents, LogError("an acknowledgement came without an offset")
            )
        else:
            self._sink.acknowledge(self._line, self._producer, self._contents, base_offset)


def _batch_bytes(limit_bytes: int) -> int:
    return max(1, min(BATCH_BYTES, limit_bytes - RECORD_OVERHEAD_BYTES))


def _fill(producer: AIOKafkaProducer, line: _Line) -> tuple[object, list[tuple[_Parcel, int]], int]:
    """Take records from the front of a line into one closed batch."""
    batch = producer.create_batch()
    append = batch.append
    contents: list[tuple[_Parcel, int]] = []
    room, total = line.batch_bytes, 0
    while line.not_given and room > 0:
        parcel = line.not_given[0]
        begin = at = parcel.given
        records = parcel.records
        while at < len(records) and room > 0:
            key, value, headers, timestamp_ms = records[at]
            size = RECORD_BYTES + (len(value) if value is not None else 0) + (len(key) if key is not None else 0)
            if headers:
                size += headers_bytes(headers)
            if size > room and total + at - begin:
                room = 0
                break
            if append(timestamp=timestamp_ms, key=key, value=value, headers=list(headers) if headers else []) is None:
                room = 0
                break
            at += 1
            room -= size
        parcel.given = at
        if at > begin:
            contents.append((parcel, at - begin))
            total += at - begin
        if at == len(records):
            line.not_given.popleft()
    batch.close()
    return batch, contents, total
