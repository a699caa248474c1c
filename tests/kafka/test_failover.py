"""Takeover, stops and starts of `tailrace run` on a real broker, seen from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from tests.faults.commands import Command
from tests.faults.topics import Gap, Topics, gap_of, why_not_quiet
from tests.log_forms import LogForm, load_launcher
from tests.scenarios.harness import Scenario, pairs, until, write_config

from tailrace.domain.positions import offset_of
from tailrace.domain.status import Role
from tailrace.streams.log import TopicPartition
from tailrace.wire.avro_codec import decode_status

PARTITIONS = 4


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    started: list[Command] = []
    yield started
    for command in started:
        command.close()


@pytest.fixture
async def scenario(kafka_form, tmp_path) -> AsyncIterator[Scenario]:
    made = await Scenario.make(kafka_form, tmp_path, partitions=PARTITIONS)
    yield made
    await made.close()


@asynccontextmanager
async def load(scenario: Scenario) -> AsyncIterator[None]:
    """Send events to every partition, and their labels, as long as the block."""

    async def send() -> None:
        for first in count(0, PARTITIONS):
            events, labels = pairs(PARTITIONS, time.time_ns() // 1_000_000, first)
            await scenario.user.events(*events)
            await scenario.user.labels(*labels)
            await asyncio.sleep(0.02)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


@asynccontextmanager
async def topics_of(scenario: Scenario) -> AsyncIterator[Topics]:
    reader = scenario.log.reader()
    await reader.start()
    try:
        yield Topics(reader, scenario.domain, PARTITIONS)
    finally:
        await reader.stop()


async def events_sent(topics: Topics) -> list[int]:
    """Return how many events each partition holds."""
    return [len(column.records) for column in await topics.read(topics.domain.topics.events)]


async def answers(topics: Topics) -> list[int]:
    """Return how many predictions each partition holds."""
    await asyncio.sleep(0.05)
    return [len(column.records) for column in await topics.read(topics.domain.topics.predictions)]


async def some_answered(topics: Topics) -> None:
    """Wait until there is a prediction on every partition."""

    async def answered() -> bool:
        return all(await answers(topics))

    await until(answered, "events of every partition are answered", 60.0)


async def partitions_read(scenario: Scenario, role: Role) -> dict[str, int]:
    """Return how many partitions each member says that it reads."""
    found: dict[str, int] = {}
    for record in await scenario.user.read(scenario.domain.topics.status):
        name = (record.key or b"").decode()
        found.pop(name, None)
        if record.value is not None:
            roles = decode_status(record.value).roles
            found[name] = sum(len(each.partitions) for each in roles if each.role is role)
    return found


def with_patience(scenario: Scenario) -> Path:
    """Let members be silent for ten seconds, so that a machine that is busy for two expels nobody."""
    config = scenario.config
    config.write_text(config.read_text().replace('session_timeout = "2s"', 'session_timeout = "10s"'))
    return config


async def test_the_partitions_of_a_killed_scorer_are_served_within_fifteen_seconds(scenario, commands):
    config = with_patience(scenario)
    commands += [Command.start(config, "--role", "score", name=name) for name in ("one", "two")]

    async def both_serve() -> bool:
        await asyncio.sleep(0.1)
        return list((await partitions_read(scenario, Role.SCORE)).values()) == [2, 2]

    await until(both_serve, "each of two scorers reads two partitions", 60.0)
    async with topics_of(scenario) as topics, load(scenario):
        await some_answered(topics)
        commands[0].process.kill()
        killed_s, before = time.monotonic(), await events_sent(topics)

        async def all_served() -> bool:
            return all(now > then for now, then in zip(await answers(topics), before, strict=True))

        await until(all_served, "events of every partition that were sent after the kill are answered", 30.0)
        lasted_s = time.monotonic() - killed_s

    assert lasted_s < 15.0


async def test_a_stop_under_load_is_orderly_and_the_next_start_reads_nothing_again(scenario, commands):
    with_patience(scenario)
    commands.append(Command.start(scenario.config))
    async with topics_of(scenario) as topics:
        async with load(scenario):
            await some_answered(topics)
            before = sum(await answers(topics))

            async def is_busy() -> bool:
                return sum(await answers(topics)) > before + 200

            await until(is_busy, "there is load")
            commands[0].terminate()
            code, lasted_s = await commands[0].ended(20.0)
        gap, newest = await gap_of(topics), topics.newest_snapshot()
        learned = await learner_committed(topics)
        commands.append(Command.start(scenario.config))
        sent = await events_sent(topics)
        ends = {TopicPartition(topics.domain.topics.events, partition): end for partition, end in enumerate(sent)}

        async def is_quiet() -> bool:
            await asyncio.sleep(0.1)
            return not await why_not_quiet(topics, ends)

        await until(is_quiet, "everything has come through", 60.0)
        predictions = await answers(topics)

    assert (code, lasted_s < 10.0) == (0, True)
    assert gap == Gap(0, 0)
    assert newest is not None
    assert learned == offset_of(newest.position)
    assert predictions == sent


async def test_a_worker_that_is_started_while_kafka_is_down_says_so_and_works_when_it_comes(
    own_broker, tmp_path, commands
):
    form = LogForm("kafka", f"kafka://{own_broker.bootstrap}", tmp_path)
    scenario = await Scenario.make(form, tmp_path, partitions=PARTITIONS)
    await scenario.close()
    await asyncio.to_thread(own_broker.stop)
    commands.append(Command.start(scenario.config))

    await until(
        lambda: f"waiting for Kafka at {own_broker.bootstrap}" in commands[0].said, "it says that it waits", 60.0
    )
    await asyncio.to_thread(own_broker.start)
    scenario.user.sink = scenario.log.sink("user")
    await scenario.user.sink.start()
    async with topics_of(scenario) as topics, load(scenario):
        await some_answered(topics)
    await scenario.close()

    assert commands[0].process.poll() is None


async def test_a_worker_that_waits_for_kafka_can_be_stopped(tmp_path, commands):
    nobody = f"127.0.0.1:{load_launcher()._free_ports(1)[0]}"
    commands.append(Command.start(write_config(tmp_path, LogForm("kafka", f"kafka://{nobody}", tmp_path))))

    await until(lambda: f"waiting for Kafka at {nobody}" in commands[0].said, "it says that it waits", 60.0)
    commands[0].terminate()
    code, lasted_s = await commands[0].ended(20.0)

    assert (code, lasted_s < 10.0) == (0, True)


@pytest.fixture
async def orphaned(own_broker, tmp_path, commands) -> Command:
    """A worker that was busy when Kafka was killed."""
    form = LogForm("kafka", f"kafka://{own_broker.bootstrap}", tmp_path)
    scenario = await Scenario.make(form, tmp_path, partitions=PARTITIONS)
    commands.append(Command.start(scenario.config))
    async with topics_of(scenario) as topics, load(scenario):
        await some_answered(topics)
    await scenario.close()
    await asyncio.to_thread(own_broker.kill)
    return commands[0]


async def test_a_stop_while_kafka_is_away_takes_less_than_ten_seconds(orphaned):
    orphaned.terminate()
    code, lasted_s = await orphaned.ended(20.0)

    assert (code, lasted_s < 10.0) == (0, True)


async def test_a_second_signal_ends_a_worker_at_once(orphaned):
    orphaned.terminate()
    # While Kafka is away a stop takes its time, so that there is a moment to lose patience.
    await until(lambda: "finishing what is in flight" in orphaned.said, "it says that it stops")
    orphaned.terminate()
    code, lasted_s = await orphaned.ended(5.0)

    assert (code, lasted_s < 1.0) == (143, True)


async def learner_committed(topics: Topics) -> int:
    offsets = await topics.reader.group_offsets(f"tailrace.{topics.domain.name}.learn")
    return offsets[TopicPartition(topics.domain.topics.training, 0)].offset
