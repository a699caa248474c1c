"""The workload: seeded events of twenty numbers with a label each, and the topics that hold them.

Event i has the time T0 + i ms, its label comes LABEL_DELAY_MS later in event time; the topics are filled before
anybody reads them, so every reader finds all of it waiting. The short topics hold the first of the same examples, for
a contender that would take minutes over all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tailrace.wire.partitioner import partitions_of

EVENTS = "bench-events"
LABELS = "bench-labels"
SHORT_EVENTS = "bench-events-short"
SHORT_LABELS = "bench-labels-short"
FEATURES = tuple(f"f{number:02}" for number in range(20))
LABEL_DELAY_MS = 1_000
MODEL = "StandardScaler() | LogisticRegression()"

_SEED = 1
_BATCH_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Example:
    """One event and its label."""

    id: str
    x: dict[str, float]
    y: bool


def examples(count: int) -> Iterator[Example]:
    """Yield the examples; the same ones at every call."""
    rows = np.random.default_rng(_SEED).normal(size=(count, len(FEATURES)))
    targets = rows[:, :5].sum(axis=1) > 0
    for number, (row, y) in enumerate(zip(rows.tolist(), targets.tolist(), strict=True)):
        yield Example(f"e{number:07}", dict(zip(FEATURES, row, strict=True)), y)


async def fill(bootstrap: str, count: int, partitions: int, events_topic: str, labels_topic: str) -> float:
    """Create two topics and put everything into them; return the mean size of an event in bytes."""
    begin_ms = time.time_ns() // 1_000_000 - count - LABEL_DELAY_MS
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1) for topic in (events_topic, labels_topic)])
    finally:
        await admin.close()
    made = list(examples(count))
    keys = [example.id.encode() for example in made]
    homes = partitions_of(keys, partitions)
    events = [_event(example, begin_ms + number) for number, example in enumerate(made)]
    labels = [_label(example) for example in made]
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", max_batch_size=_BATCH_BYTES, max_request_size=4 << 20
    )
    await producer.start()
    try:
        for partition in range(partitions):
            rows = [row for row in range(count) if homes[row] == partition]
            await _send(producer, events_topic, partition, [(begin_ms + row, keys[row], events[row]) for row in rows])
            late = begin_ms + LABEL_DELAY_MS
            await _send(producer, labels_topic, partition, [(late + row, keys[row], labels[row]) for row in rows])
    finally:
        await producer.stop()
    return sum(map(len, events)) / count


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[tuple[int, bytes, bytes]]
) -> None:
    sent = []
    batch = producer.create_batch()
    for at_ms, key, value in records:
        while batch.append(timestamp=at_ms, key=key, value=value) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    for each in sent:
        await each


def _event(example: Example, at_ms: int) -> bytes:
    # A copy keeps its own length; what orjson returns keeps a much larger buffer.
    return bytes(memoryview(orjson.dumps({"id": example.id, "at": at_ms, **example.x})))


def _label(example: Example) -> bytes:
    return b'{"id":"%s","y":%s}' % (example.id.encode(), b"true" if example.y else b"false")


def write_config(
    folder: Path, bootstrap: str, loop: str, events_topic: str = EVENTS, labels_topic: str = LABELS
) -> Path:
    """Write the configuration of one loop: what a user has to say, and every default."""
    features = "\n".join(f'{name} = "number"' for name in FEATURES)
    path = folder / "tailrace.toml"
    path.write_text(
        f"""log = "kafka://{bootstrap}"
http = ""

[loops.{loop}]
task = "binary"
events = {{ topic = "{events_topic}", id = "id", time = "at" }}
labels = {{ topic = "{labels_topic}", id = "id", target = "y" }}
horizon = "1h"

[loops.{loop}.features]
{features}

[loops.{loop}.champion]
model = "{MODEL}"

[snapshots]
store = "file:./snapshots"
"""
    )
    return path
