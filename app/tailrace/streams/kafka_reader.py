"""Reads ranges of Kafka topics without a group."""

# ruff: noqa: SLF001 - an idle consumer lets go of its topics without asking for those of the whole cluster.

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from tailrace.domain.errors import ForeignLogError, LogError, LogUnavailable
from tailrace.streams.kafka_admin import KafkaAdmin
from tailrace.streams.kafka_client import (
    IDLE_MS,
    RETRY_S,
    SAY_EVERY_S,
    KafkaOptions,
    Waiting,
    close_consumer,
    explained,
    is_outage,
    keep_trying,
    new_consumer,
    start_or_close,
)
from tailrace.streams.leaders import with_leader
from tailrace.streams.log import Commit, Range, Reader, TopicPartition
from tailrace.streams.ranges import check_start
from tailrace.streams.watchdog import stopped_fetching

log = logging.getLogger(__name__)

# What a consumer asks for next waits for the answer to what it asked for before: short, where partitions change.
FETCH_WAIT_MS = 50
FOLLOW_WAIT_MS = 500
POLL_MS = 500
READ_RECORDS = 500
MAX_IDLE_CONSUMERS = 4


class KafkaReader(Reader):
    """Each reading has a consumer of its own; idle ones are kept for the next."""

    def __init__(self, options: KafkaOptions) -> None:
        super().__init__()
        self._options = options
        self._admin = KafkaAdmin(options)
        self._idle: list[AIOKafkaConsumer] = []
        self._open: set[AIOKafkaConsumer] = set()

    async def on_stop(self) -> None:
        """Close every consumer, also of readings that were left in the middle."""
        await asyncio.gather(*(close_consumer(consumer) for consumer in self._open))
        self._open.clear()
        self._idle.clear()
        await self._admin.close()

    async def range_of(self, partition: TopicPartition) -> Range:
        """Return the first offset and the end."""
        await self._check_exists(partition)
        async with self._consumer() as consumer:
            return await self._range(consumer, partition)

    async def ranges_of(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Range]:
        """Return the ranges of partitions that exist and have a leader, with one question to each broker."""
        theirs = [KafkaPartition(*partition) for partition in partitions]
        async with self._consumer() as consumer:
            try:
                await _know(consumer, theirs)
                return await _ranges(consumer, with_leader(consumer, theirs))
            except KafkaError as error:
                if is_outage(error):
                    raise LogUnavailable(f"Kafka at {self._options.bootstrap} gives no offsets: {error}") from error
                raise explained(error, self._options) from error

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Yield the records of [start, end) in batches; what lies past the end of the partition is left out."""
        await self._check_exists(partition)
        async with self._consumer() as consumer:
            held = await self._range(consumer, partition)
            check_start(partition, start, held)
            end = min(end, held.end)
            theirs = KafkaPartition(*partition)
            consumer.assign([theirs])
            consumer.seek(theirs, start)
            waiting = Waiting(self._options, f"read {partition.topic}")
            position = start
            while position < end:
                records = await self._poll(consumer, theirs, waiting)
                position = await consumer.position(theirs)
                wanted = records if position <= end else [record for record in records if record.offset < end]
                if wanted:
                    waiting = Waiting(self._options, f"read {partition.topic}")
                    yield wanted

    async def follow(self, partition: TopicPartition, start: int) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Yield records from `start` for ever; an empty batch at least once a second."""
        await self._check_exists(partition)
        consumer = await keep_trying(partial(self._connect, FOLLOW_WAIT_MS), self._options, "read")
        try:
            check_start(partition, start, await self._range(consumer, partition))
            theirs = KafkaPartition(*partition)
            consumer.assign([theirs])
            consumer.seek(theirs, start)
            while not self.should_stop:
                yield await self._poll(consumer, theirs, None)
        finally:
            await self._close(consumer)

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; 0 when it does not exist."""
        return await self._admin.partitions(topic)

    async def group_offsets(self, group: str) -> Mapping[TopicPartition, Commit]:
        """Return what a group has committed."""
        return await self._admin.group_offsets(group)

    async def _check_exists(self, partition: TopicPartition) -> None:
        # aiokafka asks for ever for a partition that does not exist.
        count = await self._admin.partitions(partition.topic)
        if not 0 <= partition.partition < count:
            raise LogError(
                f"{partition.topic}/{partition.partition} was asked for; the topic "
                + (f"has {count} partitions" if count else "does not exist; `tailrace topics apply` creates it")
            )

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = await self._idle_or_new()
        try:
            yield consumer
        except BaseException:
            await self._close(consumer)
            raise
        # Not `consumer.unsubscribe()`: it makes aiokafka ask at once for every topic of the cluster.
        consumer._subscription.unsubscribe()
        consumer._client._topics = set()  # else it asks for them by name now and then, which creates what was deleted
        if len(self._idle) < MAX_IDLE_CONSUMERS and not self.should_stop:
            self._idle.append(consumer)
        else:
            await self._close(consumer)

    async def _idle_or_new(self) -> AIOKafkaConsumer:
        while self._idle:
            consumer = self._idle.pop()
            if stopped_fetching(consumer) is None:
                return consumer
            await self._close(consumer)
        return await keep_trying(self._connect, self._options, "read")

    async def _close(self, consumer: AIOKafkaConsumer) -> None:
        self._open.discard(consumer)
        await close_consumer(consumer)

    async def _connect(self, wait_ms: int = FETCH_WAIT_MS) -> AIOKafkaConsumer:
        consumer = new_consumer(
            self._options,
            group_id=None,
            connections_max_idle_ms=IDLE_MS,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=wait_ms,
            max_partition_fetch_bytes=1 << 20,
        )
        await start_or_close(consumer)
        self._open.add(consumer)
        return consumer

    async def _range(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> Range:
        theirs = KafkaPartition(*partition)

        ask = partial(_ranges, consumer, [theirs])
        return (await keep_trying(ask, self._options, "list offsets"))[partition]

    async def _poll(
        self, consumer: AIOKafkaConsumer, theirs: KafkaPartition, waiting: Waiting | None
    ) -> Sequence[ConsumerRecord]:
        try:
            fetched = await consumer.getmany(theirs, timeout_ms=POLL_MS, max_records=READ_RECORDS)
        except OffsetOutOfRangeError as error:
            raise ForeignLogError(
                f"{theirs.topic}/{theirs.partition} does not hold offset {error.args[0].get(theirs)} any more; "
                "the topic was truncated or created anew: restore it, or start the loop anew under another name"
            ) from error
        except KafkaError as error:
            if not is_outage(error):
                raise explained(error, self._options) from error
            (waiting or Waiting(self._options, f"read {theirs.topic}")).say(error)
            await asyncio.sleep(RETRY_S)
            return []
        if not fetched and not self.should_stop and (reason := stopped_fetching(consumer)) is not None:
            raise explained(reason, self._options) from reason
        records: Sequence[ConsumerRecord] = fetched.get(theirs, [])
        if not records and waiting is not None and waiting.lasted_s > SAY_EVERY_S:
            waiting.say("no records come")
        return records


async def _know(consumer: AIOKafkaConsumer, theirs: Sequence[KafkaPartition]) -> None:
    for topic in {each.topic for each in theirs}:
        await consumer._client.add_topic(topic)


async def _ranges(consumer: AIOKafkaConsumer, theirs: Sequence[KafkaPartition]) -> Mapping[TopicPartition, Range]:
    await _know(consumer, theirs)
    first = await consumer.beginning_offsets(theirs)
    end = await consumer.end_offsets(theirs)
    return {TopicPartition(*each): Range(first[each], end[each]) for each in theirs}
