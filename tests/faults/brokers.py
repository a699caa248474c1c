"""What a cluster says of itself: who leads, who coordinates, who is in sync.

Each answer is of one broker that could be reached, and as old as that broker's metadata: for some seconds after a kill
the dead one is still said to lead. Who waits for a change asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, LeaderNotAvailableError, UnknownTopicOrPartitionError, for_code
from tests.scenarios.harness import InVain

from tailrace.streams.kafka_client import close_admin, start_or_close

ANSWER_S = 20.0
REQUEST_MS = 2_000
RETRY_S = 0.1

T = TypeVar("T")


async def leader_of(bootstrap: str, topic: str, partition: int = 0) -> int:
    """Return the node id of a partition's leader; wait while there is none."""

    async def ask(admin: AIOKafkaAdminClient) -> int:
        for each in await _partitions(admin, topic):
            if each["partition"] == partition and each["leader"] >= 0:
                return int(each["leader"])
        raise LeaderNotAvailableError(f"{topic}-{partition}")

    return await ask_of(bootstrap, ask, f"the leader of {topic}-{partition}")


async def coordinator_of(bootstrap: str, group: str) -> int:
    """Return the node id of a group's coordinator; wait while there is none."""

    async def ask(admin: AIOKafkaAdminClient) -> int:
        return int(await admin.find_coordinator(group))

    return await ask_of(bootstrap, ask, f"the coordinator of {group}")


async def in_sync(bootstrap: str, topic: str) -> dict[int, set[int]]:
    """Return the node ids of the replicas in sync, by partition."""

    async def ask(admin: AIOKafkaAdminClient) -> dict[int, set[int]]:
        return {each["partition"]: set(each["isr"]) for each in await _partitions(admin, topic)}

    return await ask_of(bootstrap, ask, f"the replicas in sync of {topic}")


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> list[dict[str, Any]]:
    (found,) = await admin.describe_topics([topic])
    if found["error_code"]:
        raise for_code(found["error_code"])(topic)
    if not found["partitions"]:
        raise UnknownTopicOrPartitionError(topic)
    return list(found["partitions"])


async def ask_of(bootstrap: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]], what: str) -> T:
    """Ask until some broker answers; a client picks brokers by chance, so each attempt has one of its own."""
    loop = asyncio.get_running_loop()
    end = loop.time() + ANSWER_S
    while True:
        try:
            async with asyncio.timeout_at(end):
                return await _attempt(bootstrap, ask)
        except (KafkaError, OSError, TimeoutError) as error:
            if loop.time() >= end:
                raise InVain(f"nobody at {bootstrap} told {what} within {ANSWER_S} s: {error!r}") from error
        await asyncio.sleep(RETRY_S)


async def _attempt(bootstrap: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap.split(","), request_timeout_ms=REQUEST_MS)
    await start_or_close(admin)
    try:
        return await ask(admin)
    finally:
        await close_admin(admin)
