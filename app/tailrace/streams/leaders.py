"""Which partitions have a broker that answers for them, as a client of Kafka was told last.

aiokafka answers a question about offsets for all partitions that are asked for, or not at all: one that has no leader
holds up those of every other broker until its own is back. So whoever asks for many leaves such partitions out.
"""

# ruff: noqa: SLF001 - what a consumer knows of its cluster has no public methods.
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer
    from aiokafka import TopicPartition as KafkaPartition

_NONE = -1


def with_leader(consumer: AIOKafkaConsumer, partitions: Iterable[KafkaPartition]) -> list[KafkaPartition]:
    """Return those that can be asked for: their leader is known, or it is not known yet whether they have one."""
    cluster = consumer._client.cluster
    return [partition for partition in partitions if cluster.leader_for_partition(partition) != _NONE]
