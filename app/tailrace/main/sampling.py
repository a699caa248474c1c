"""Reads a sample of a topic, so that `tailrace init` can see what its records look like."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tailrace.streams.embedded_log import EmbeddedLog
from tailrace.streams.kafka_log import KafkaLog, KafkaOptions
from tailrace.streams.log import Log, TopicPartition

_REACH_WITHIN_S = 10.0


def sample_topic(address: str, topic: str, count: int) -> list[bytes]:
    """Return up to `count` of the newest values of a topic, spread over its partitions.

    Args:
        address: `kafka://HOST:PORT[,…]` or `embedded:PATH`.

    Raises:
        LogError: The log does not answer, or there is no such topic.
    """
    return asyncio.run(_sample(_open(address), topic, count))


def _open(address: str) -> Log:
    if address.startswith("embedded:"):
        return EmbeddedLog(Path(address.removeprefix("embedded:")))
    return KafkaLog(KafkaOptions(address.removeprefix("kafka://"), reach_within_s=_REACH_WITHIN_S))


async def _sample(opened: Log, topic: str, count: int) -> list[bytes]:
    reader = opened.reader()
    await reader.start()
    try:
        values: list[bytes] = []
        partitions = max(1, await reader.partitions(topic))
        for number in range(partitions):
            partition = TopicPartition(topic, number)
            held = await reader.range_of(partition)
            start = max(held.start, held.end - -(-count // partitions))
            if start < held.end:
                async for batch in reader.read(partition, start, held.end):
                    values += [record.value for record in batch if record.value is not None]
        return values[:count]
    finally:
        await reader.stop()
