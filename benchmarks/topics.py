"""The topics that hold the examples, filled before anybody reads them; and what is read of them afterwards.

Event i has the time T0 + i ms, its label comes LABEL_DELAY_MS later in event time. Predictions carry the broker's
time, which says when the last one was written.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.examples import Example, examples
from tailrace.wire.partitioner import partitions_of

LABEL_DELAY_MS = 1_000
_BATCH_BYTES = 256 << 10
_POURED_AT_ONCE = 100_000
_FETCH_BYTES = 8 << 20
_LOOK_S = 0.02

Keyed = tuple[int, bytes, bytes]
"""Time, key, value."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """A topic of events and one of labels.

    Attributes:
        event_bytes: Mean size of an event's value.
    """

    events: str
    labels: str
    count: int
    partitions: int
    event_bytes: float = 0.0


async def create(bootstrap: str, *names: str, partitions: int = 1, broker_time: bool = False) -> None:
    """Create topics."""
    configs = {"message.timestamp.type": "LogAppendTime"} if broker_time else {}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs) for name in names])
    finally:
        await admin.close()


async def delete(bootstrap: str, *names: str) -> None:
    """Delete topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(names))
    finally:
        await admin.close()


async def fill(bootstrap: str, name: str, count: int, partitions: int, **how: Any) -> Inputs:
    """Create two topics and put everything into them; further arguments are those of `pour`."""
    made = Inputs(f"{name}-events", f"{name}-labels", count, partitions)
    await create(bootstrap, made.events, made.labels, partitions=partitions)
    return await pour(bootstrap, made, **how)


async def pour(
    bootstrap: str,
    inputs: Inputs,
    made: Iterable[Example] | None = None,
    *,
    step_ms: int = 1,
    form: Form | None = None,
    is_labelled: bool = True,
) -> Inputs:
    """Put examples into two topics that exist; return them with the size of an event.

    Args:
        made: `inputs.count` of them; without it the usual ones.
        step_ms: Between two events, in event time; the last one is now.
        is_labelled: Whether their labels come too.
    """
    form = form or JSON
    begin_ms = time.time_ns() // 1_000_000 - inputs.count * step_ms - LABEL_DELAY_MS
    left, first, size_bytes = iter(examples(inputs.count) if made is None else made), 0, 0
    async with Pourer(bootstrap) as pourer:
        while rows := list(itertools.islice(left, _POURED_AT_ONCE)):
            keys = [row.id.encode() for row in rows]
            times_ms = [begin_ms + (first + number) * step_ms for number in range(len(rows))]
            homes = partitions_of(keys, inputs.partitions)
            events = [form.event(row, at_ms) for row, at_ms in zip(rows, times_ms, strict=True)]
            for home in range(inputs.partitions):
                at = [number for number in range(len(rows)) if homes[number] == home]
                await pourer.send(inputs.events, home, [(times_ms[each], keys[each], events[each]) for each in at])
                if is_labelled:
                    late = [(times_ms[each] + LABEL_DELAY_MS, keys[each], form.label(rows[each])) for each in at]
                    await pourer.send(inputs.labels, home, late)
            first, size_bytes = first + len(rows), size_bytes + sum(map(len, events))
    return replace(inputs, count=first, event_bytes=size_bytes / max(1, first))


class Pourer:
    """Writes many records at once."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, compression_type="lz4", max_batch_size=_BATCH_BYTES, max_request_size=4 << 20
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, topic: str, partition: int, records: Sequence[Keyed]) -> None:
        """Write records to one partition and wait until they are acknowledged."""
        sent = []
        batch = self._producer.create_batch()
        for at_ms, key, value in records:
            while batch.append(timestamp=at_ms, key=key, value=value) is None:
                sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
        sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        for each in sent:
            await each


def event_of(example: Example, at_ms: int) -> bytes:
    """Return an event as it lies in the topic."""
    # A copy keeps its own length; what orjson returns keeps a much larger buffer.
    return bytes(memoryview(orjson.dumps({"id": example.id, "at": at_ms, **example.x})))


def label_of(example: Example) -> bytes:
    """Return a label as it lies in the topic."""
    return b'{"id":"%s","y":%s}' % (example.id.encode(), orjson.dumps(example.y))


@dataclass(frozen=True)
class Form:
    """How an event and a label are written."""

    event: Callable[[Example, int], bytes]
    label: Callable[[Example], bytes]


JSON = Form(event_of, label_of)


class Answers(NamedTuple):
    """What stands in a topic of predictions.

    Attributes:
        last_s: The broker's time of the last record.
    """

    written: int
    ids: set[str]
    last_s: float


class Watcher:
    """Reads topics of predictions, of no group."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, max_partition_fetch_bytes=_FETCH_BYTES, enable_auto_commit=False
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def written(self, topic: str, partitions: int) -> int:
        """Return how many records a topic has."""
        return sum((await self._ends(topic, partitions)).values())

    async def holds(self, topic: str, partitions: int, count: int, within_s: float) -> None:
        """Wait until a topic has so many records.

        Raises:
            TimeoutError: It has not in time.
        """
        async with asyncio.timeout(within_s):
            while await self.written(topic, partitions) < count:  # noqa: ASYNC110 - the broker is what is asked
                await asyncio.sleep(_LOOK_S)

    async def answers(self, topic: str, partitions: int) -> Answers:
        """Read a whole topic of predictions."""
        ids: set[str] = set()
        last_ms = written = 0
        async for record in self.records(topic, partitions):
            prediction = orjson.loads(record.value)
            ids.add(prediction.get("event_id") or prediction["id"])
            last_ms, written = max(last_ms, record.timestamp), written + 1
        return Answers(written, ids, last_ms / 1_000)

    async def records(self, topic: str, partitions: int = 1) -> AsyncIterator[Any]:
        """Yield every record that a topic has now."""
        ends = {partition: end for partition, end in (await self._ends(topic, partitions)).items() if end}
        if not ends:
            return
        self._consumer.assign(list(ends))
        await self._consumer.seek_to_beginning(*ends)
        left = set(ends)
        while left:
            for partition, records in (await self._consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
                if records[-1].offset + 1 >= ends[partition]:
                    left.discard(partition)

    async def _ends(self, topic: str, partitions: int) -> dict[TopicPartition, int]:
        return await self._consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
