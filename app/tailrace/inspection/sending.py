"""Events and labels sent by hand, and user-facing topics followed: for trying a loop out.

Labels are keyed by event id and go where Kafka's own clients put that key, which is where the join looks for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final

import orjson

from tailrace.domain.errors import LogError
from tailrace.domain.features import find
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Delivery, Outgoing, Range, Record, TopicPartition
from tailrace.wire.partitioner import partitions_of

IN_FLIGHT: Final = 64
"""Deliveries that are not yet acknowledged when the next value is read."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was acknowledged.

    Attributes:
        first, last: "partition/offset" of the first and the last record; None when nothing was sent.
    """

    topic: str
    records: int
    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of a user-facing topic.

    Attributes:
        time_ms: Its Kafka time.
    """

    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None


async def send(reading: Reading, topic: str, id_field: str | None, values: Iterable[bytes]) -> Sent:
    """Send values byte for byte, keyed by their id where they have one.

    Args:
        id_field: Field or dotted path of the id; None: values have no key and go round the partitions.

    Raises:
        LogError: The topic does not exist.
        RecordTooLarge: A value is larger than the topic accepts; those before it were sent.
    """
    partitions = await reading.reader.partitions(topic)
    if not partitions:
        raise LogError(f"topic {topic} does not exist; `tailrace topics apply --yes` creates the topics of a loop")
    turns = cycle(range(partitions))
    places: list[str] = []
    count = 0
    async with reading.sink() as sink:
        waiting: deque[tuple[int, Delivery]] = deque()
        for value in values:
            key = None if id_field is None else key_of(value, id_field)
            partition = next(turns) if key is None else partitions_of([key], partitions)[0]
            waiting.append((partition, await sink.send(TopicPartition(topic, partition), [Outgoing(key, value)])))
            count += 1
            while len(waiting) >= IN_FLIGHT:
                places = _ends(places, *await _acknowledged(waiting))
        while waiting:
            places = _ends(places, *await _acknowledged(waiting))
    return Sent(topic, count, places[0] if places else None, places[-1] if places else None)


def key_of(value: bytes, id_field: str) -> bytes | None:
    """Return the id of a JSON object as a key; None where there is no id that is text or a whole number."""
    try:
        raw = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    found = find(raw, id_field) if isinstance(raw, dict) else None
    return str(found).encode() if isinstance(found, str | int) and not isinstance(found, bool) else None


def nested(fields: Mapping[str, object]) -> bytes:
    """Return a JSON object; a dotted path becomes objects in each other."""
    made: dict[str, Any] = {}
    for path, value in fields.items():
        *folders, name = path.split(".")
        place = made
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return orjson.dumps(made)


async def follow(reading: Reading, topic: str, *, from_earliest: bool, limit: int | None) -> AsyncGenerator[Seen, None]:
    """Yield the records of a topic as they come, from all partitions, for ever or until `limit` were yielded.

    Raises:
        LogError: The topic does not exist.
    """
    held = await reading.ranges(topic)
    ready: asyncio.Queue[Record | BaseException] = asyncio.Queue(maxsize=1_000)
    tasks = [
        asyncio.create_task(_pump(reading, partition, offsets, ready, from_earliest=from_earliest))
        for partition, offsets in held.items()
    ]
    try:
        yielded = 0
        while limit is None or yielded < limit:
            record = await ready.get()
            if isinstance(record, BaseException):
                raise record
            yield Seen(record.partition, record.offset, record.timestamp, record.key, record.value)
            yielded += 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    reading: Reading,
    partition: TopicPartition,
    held: Range,
    ready: asyncio.Queue[Record | BaseException],
    *,
    from_earliest: bool,
) -> None:
    try:
        async for batch in reading.reader.follow(partition, held.start if from_earliest else held.end):
            for record in batch:
                await ready.put(record)
    except Exception as problem:  # noqa: BLE001 - raised again where the records are taken
        await ready.put(problem)


async def _acknowledged(waiting: deque[tuple[int, Delivery]]) -> tuple[int, int]:
    partition, delivery = waiting.popleft()
    return partition, (await delivery)[-1]


def _ends(places: list[str], partition: int, offset: int) -> list[str]:
    return [*places[:1], f"{partition}/{offset}"]
