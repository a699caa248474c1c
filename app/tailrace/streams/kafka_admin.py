"""Topics, brokers and group offsets of a Kafka cluster.

`alter_configs` of aiokafka is the request that resets what is not sent again, so every setting that somebody
else made is read and sent along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CommitFailedError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import TopicPartition as KafkaPartition

from tailrace.domain.errors import LogError
from tailrace.streams.kafka_client import (
    IDLE_MS,
    KafkaOptions,
    close_admin,
    close_consumer,
    is_refusal,
    keep_trying,
    new_consumer,
    start_or_close,
)
from tailrace.streams.log import Admin, Commit, TopicPartition, TopicState
from tailrace.streams.sizes import DEFAULT_MAX_MESSAGE_BYTES

T = TypeVar("T")

# DescribeConfigs version 1: where a value comes from. 1 is the topic itself, 2 to 4 are settings of the brokers,
# 5 is Kafka's own default.
_SET_ON_TOPIC = frozenset({1})
_SET_ANYWHERE = frozenset({1, 2, 3, 4})
_VISIBLE_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05


class KafkaAdmin(Admin):
    """Opens its connection at the first call; every call waits through an outage."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._client: AIOKafkaAdminClient | None = None
        self._opening = asyncio.Lock()

    async def describe(self, names: Iterable[str]) -> Mapping[str, TopicState]:
        """Return the state of those topics that exist."""
        asked = list(names)
        shapes = await self._shapes(asked)
        wanted = [name for name in asked if name in shapes]
        settings = await self._settings(wanted, _SET_ANYWHERE)
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
        merged = {**(await self._settings([name], _SET_ON_TOPIC))[name], **settings}
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs=merged)
        answers = await self._call("change a topic", lambda client: client.alter_configs([resource]))
        for answer in answers:
            for code, message, *_ in answer.resources:
                self._raise_for(name, code, message)
        # Otherwise the next change could read the settings of before, and send those.
        await self._shows(name, merged)

    async def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to `total`."""
        change = {name: NewPartitions(total)}
        await self._call("add partitions", lambda client: client.create_partitions(change))
        await self._are_visible({name: total})

    async def commit(self, group: str, commits: Mapping[TopicPartition, Commit]) -> None:
        """Commit for a group in which nobody is a member, through a consumer that joins none."""
        theirs = {KafkaPartition(*partition): tuple(commit) for partition, commit in commits.items()}

        async def attempt() -> None:
            consumer = new_consumer(self._options, group_id=group, enable_auto_commit=False)
            await start_or_close(consumer)
            try:
                consumer.assign(list(theirs))
                await consumer.commit(theirs)
            except CommitFailedError as error:
                raise LogError(
                    f"Kafka at {self._options.bootstrap} refuses a position of {group}: the group has a member; stop it"
                ) from error
            finally:
                await close_consumer(consumer)

        await keep_trying(attempt, self._options, "commit")

    async def delete(self, name: str) -> None:
        """Delete a topic; return when the brokers do not show it any more."""
        answer = await self._call("delete a topic", lambda client: client.delete_topics([name]))
        for topic, code, *_ in answer.topic_error_codes:
            self._raise_for(topic, code, None, allowed=(UnknownTopicOrPartitionError.errno,))

        async def gone() -> bool:
            return name not in await self._shapes([name])

        await self._becomes(gone, f"that {name} is gone")

    async def brokers(self) -> int:
        """Return the number of brokers."""
        cluster = await self._call("describe the cluster", lambda client: client.describe_cluster())
        return len(cluster["brokers"])

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; 0 when it does not exist."""
        shape = (await self._shapes([topic])).get(topic)
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
                client = AIOKafkaAdminClient(**self._options.arguments(), connections_max_idle_ms=IDLE_MS)
                await start_or_close(client)
                self._client = client
            return self._client

    async def _shapes(self, names: list[str]) -> dict[str, tuple[int, int]]:
        """Return partitions and replication of those of the topics that exist."""

        async def ask(client: AIOKafkaAdminClient) -> Any:
            # `describe_topics` lets a broker that may create topics create what does not exist.
            question = MetadataRequest(names, allow_auto_topic_creation=False)
            return await client._send_request(question)  # noqa: SLF001

        topics: list[Any] = (await self._call("describe topics", ask)).to_object()["topics"]
        for topic in topics:
            if is_refusal(for_code(topic["error_code"])()):  # it may exist
                self._raise_for(topic["topic"], topic["error_code"], None)
        return {
            topic["topic"]: (
                len(topic["partitions"]),
                min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
            )
            for topic in topics
            if topic["error_code"] == 0
        }

    async def _settings(self, names: list[str], sources: frozenset[int]) -> dict[str, dict[str, str]]:
        details = await self._details(names)
        return {
            name: {key: value for key, (value, source) in details.get(name, {}).items() if source in sources}
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
        async def visible() -> bool:
            shapes = await self._shapes(list(partitions))
            return all(shapes.get(name, (0, 0))[0] >= count for name, count in partitions.items())

        await self._becomes(visible, "new topics or partitions")

    async def _shows(self, name: str, settings: Mapping[str, str]) -> None:
        async def shown() -> bool:
            return (await self._settings([name], _SET_ON_TOPIC))[name] == settings

        await self._becomes(shown, f"the changed settings of {name}")

    async def _becomes(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        for _ in range(int(_VISIBLE_WITHIN_S / _LOOK_EVERY_S)):
            if await condition():
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        raise LogError(
            f"Kafka at {self._options.bootstrap} accepted a change and does not show {what} after "
            f"{_VISIBLE_WITHIN_S:.0f} s; look at its log, then do it again"
        )

    def _raise_for(self, name: str, code: int, message: str | None, allowed: tuple[int, ...] = ()) -> None:
        if code == 0 or code in allowed:
            return
        error = for_code(code)
        step = ". docs/access.md lists the rights that are needed" if is_refusal(error()) else ""
        raise LogError(
            f"Kafka at {self._options.bootstrap} refuses a change or question about topic {name}: "
            f"{error.__name__} {(message or '').rstrip('.')}".rstrip()
            + step
        )
