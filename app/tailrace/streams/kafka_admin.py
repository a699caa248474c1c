"""Topics, brokers and group offsets of a Kafka cluster.

`alter_configs` of aiokafka is the request that resets what is not sent again, so every setting that somebody
else made is read and sent along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from tailrace.domain.errors import LogError
from tailrace.streams.kafka_client import KafkaOptions, close_admin, explained, keep_trying, start_or_close
from tailrace.streams.log import Admin, Commit, TopicPartition, TopicState
from tailrace.streams.sizes import DEFAULT_MAX_MESSAGE_BYTES

T = TypeVar("T")

# DescribeConfigs version 1: where a value comes from. Only what was set on the topic itself counts as set.
_SET_ON_TOPIC = 1
_VISIBLE_WITHIN_S = 10.0


class KafkaAdmin(Admin):
    """Opens its connection at the first call; every call waits through an outage."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._client: AIOKafkaAdminClient | None = None
        self._opening = asyncio.Lock()

    async def describe(self, names: Iterable[str]) -> Mapping[str, TopicState]:
        """Return the state of those topics that exist."""
        shapes = await self._shapes()
        wanted = [name for name in names if name in shapes]
        settings = await self._settings(wanted)
        return {name: TopicState(name, *shapes[name], settings[name]) for name in wanted}

    async def create(self, topics: Iterable[TopicState]) -> None:
        """Create topics; return when they can be used. One that exists is left as it is."""
        new = [
            NewTopic(
                name=topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication,
                topic_configs=dict(topic.settings),
            )
            for topic in topics
        ]
        if new:
            answer = await self._call("create topics", lambda client: client.create_topics(new))
            for name, code, message in answer.topic_errors:
                self._raise_for(name, code, message, allowed=(TopicAlreadyExistsError.errno,))
            await self._are_visible({topic.name: topic.num_partitions for topic in new})

    async def alter(self, name: str, settings: Mapping[str, str]) -> None:
        """Set these settings and send every other one that was read again."""
        merged = {**(await self._settings([name]))[name], **settings}
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs=merged)
        answers = await self._call("change a topic", lambda client: client.alter_configs([resource]))
        for answer in answers:
            for code, message, *_ in answer.resources:
                self._raise_for(name, code, message)

    async def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to `total`."""
        change = {name: NewPartitions(total)}
        await self._call("add partitions", lambda client: client.create_partitions(change))
        await self._are_visible({name: total})

    async def brokers(self) -> int:
        """Return the number of brokers."""
        cluster = await self._call("describe the cluster", lambda client: client.describe_cluster())
        return len(cluster["brokers"])

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; 0 when it does not exist."""
        shape = (await self._shapes()).get(topic)
        return shape[0] if shape else 0

    async def limits_of(self, topic: str) -> tuple[int, int] | None:
        """Return max.message.bytes and the number of partitions; None when the topic does not exist."""
        partitions = await self.partitions(topic)
        if not partitions:
            return None
        try:
            details = await self._details([topic])
        except LogError:
            return DEFAULT_MAX_MESSAGE_BYTES, partitions  # Not allowed to ask: the broker itself has the last word.
        text = details.get(topic, {}).get("max.message.bytes", ("", 0))[0]
        return int(text) if text else DEFAULT_MAX_MESSAGE_BYTES, partitions

    async def group_offsets(self, group: str) -> Mapping[TopicPartition, Commit]:
        """Return what a group has committed, metadata included."""
        found = await self._call("read group offsets", lambda client: client.list_consumer_group_offsets(group))
        return {
            TopicPartition(*theirs): Commit(commit.offset, commit.metadata or "")
            for theirs, commit in found.items()
            if commit.offset >= 0
        }

    async def close(self) -> None:
        """Let go of connections."""
        client, self._client = self._client, None
        if client is not None:
            await close_admin(client)

    # ---- asking

    async def _call(self, what: str, ask: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        async def attempt() -> T:
            return await ask(await self._connected())

        return await keep_trying(attempt, self._options, what)

    async def _connected(self) -> AIOKafkaAdminClient:
        async with self._opening:
            if self._client is None:
                client = AIOKafkaAdminClient(**self._options.arguments())
                await start_or_close(client)
                self._client = client
            return self._client

    async def _shapes(self) -> dict[str, tuple[int, int]]:
        """Return partitions and replication of every topic. Asking for all creates none by mistake."""
        topics: list[Any] = await self._call("list topics", lambda client: client.describe_topics())
        return {
            topic["topic"]: (
                len(topic["partitions"]),
                min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
            )
            for topic in topics
            if topic["error_code"] == 0
        }

    async def _settings(self, names: list[str]) -> dict[str, dict[str, str]]:
        details = await self._details(names)
        return {
            name: {key: value for key, (value, source) in details.get(name, {}).items() if source == _SET_ON_TOPIC}
            for name in names
        }

    async def _details(self, names: list[str]) -> dict[str, dict[str, tuple[str, int]]]:
        """Return every setting of the topics, with where its value comes from."""
        if not names:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await self._call("describe topics", lambda client: client.describe_configs(resources))
        found: dict[str, dict[str, tuple[str, int]]] = {}
        for answer in answers:
            for code, message, _, name, entries in answer.resources:
                self._raise_for(name, code, message)
                found[name] = {entry[0]: (entry[1] or "", int(entry[3])) for entry in entries}
        return found

    async def _are_visible(self, partitions: Mapping[str, int]) -> None:
        # A broker answers for a topic a moment after the controller has made it.
        async with asyncio.timeout(_VISIBLE_WITHIN_S):
            while True:
                shapes = await self._shapes()
                if all(shapes.get(name, (0, 0))[0] >= count for name, count in partitions.items()):
                    return
                await asyncio.sleep(0.05)

    def _raise_for(self, name: str, code: int, message: str | None, allowed: tuple[int, ...] = ()) -> None:
        if code == 0 or code in allowed:
            return
        error: KafkaError = for_code(code)(f"{name}: {message or 'no reason given'}")
        if explained_error := explained(error, self._options):
            raise explained_error if type(explained_error) is LogError else LogError(
                f"Kafka refuses a change or question about topic {name}: {type(error).__name__} {message or ''}".rstrip()
            )
