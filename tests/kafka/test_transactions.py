"""Inputs that are written in transactions: their marks lie behind the records and are never delivered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from tests.scenarios.commanding import learn
from tests.scenarios.harness import Scenario, pairs, running, until

from tailrace.domain.status import Role
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.streams.log import TopicPartition
from tailrace.streams.training_log import passed_of

HOUR_MS = 3_600_000


@pytest.fixture
async def scenario(kafka_form, tmp_path):
    made = await Scenario.make(kafka_form, tmp_path, partitions=1, idle_after="1s")
    yield made
    await made.close()


@asynccontextmanager
async def transactional(scenario: Scenario):
    bootstrap = scenario.form.address.removeprefix("kafka://")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=scenario.form.topic("user"))
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(producer: AIOKafkaProducer, topic: str, records: Sequence[dict[str, Any]]) -> None:
    async with producer.transaction():
        for record in records:
            await producer.send_and_wait(topic, orjson.dumps(record), key=str(record["id"]).encode())


async def test_the_end_of_a_transaction_is_no_lag_and_ends_no_wait(scenario):
    process = await scenario.start()
    topics, now_ms = scenario.domain.topics, time.time_ns() // 1_000_000
    events, labels = pairs(10, now_ms - 3 * HOUR_MS)
    later, _ = pairs(1, now_ms, first=100)

    async with transactional(scenario) as producer:
        await send(producer, topics.events, events)
        await send(producer, topics.labels, labels[:5])
        await send(producer, topics.events, later)
    await until(lambda: scenario.learned(process) == 5, "what has a label is learned")

    (join,) = scenario.loop_of(process).join.joins
    await until(
        lambda: join.join.waiting == 1, "events whose horizon has passed wait no longer, though labels are quiet"
    )
    await until(
        lambda: not any(process.worker.sources[name].lag()[at] for name, at in partitions(process)), "no lag is left"
    )
    name, loop = next(iter(scenario.settings.loops.items()))
    async with running(scenario.log.reader()) as reader:
        books = (await account_of(Reading(scenario.settings, scenario.log, reader), name, loop)).books
    assert books.holds, [str(balance) for balance in books.balances]


async def test_a_mark_that_was_deleted_while_no_joiner_ran_is_no_label_that_is_missed(scenario):
    """Fails when only labels count as read: a gap of marks cannot be told from one of labels any more."""
    at = TopicPartition(scenario.domain.topics.labels, 0)

    async def learned_and_deleted(producer, first):
        process = await scenario.start()
        assert scenario.learned(process) == first
        events, labels = pairs(10, time.time_ns() // 1_000_000, first=first)
        await send(producer, scenario.domain.topics.events, events)
        await send(producer, at.topic, labels)
        await until(lambda: scenario.learned(process) == first + 10, "labels are learned")
        end = await end_of(scenario, at)

        async def is_told():
            commit = await process.worker.sources[scenario.domain.group(Role.JOIN)].committed(at)
            return commit is not None and end == passed_of(commit.metadata)

        await until(is_told, "it is told that the mark was read")
        await scenario.stop(process)
        await scenario.form.delete_before(at, end)

    async with transactional(scenario) as producer:
        for first in (0, 10):
            await learned_and_deleted(producer, first)
    assert 20 == scenario.learned(await scenario.start())


async def test_a_mark_in_front_of_the_first_label_holds_nothing_up(scenario):
    at = TopicPartition(scenario.domain.topics.labels, 0)
    async with transactional(scenario) as producer:
        await send(producer, at.topic, pairs(10, time.time_ns() // 1_000_000)[1])
    await scenario.form.delete_before(at, await end_of(scenario, at) - 1)

    process = await scenario.start()
    source = process.worker.sources[scenario.domain.group(Role.JOIN)]
    await until(lambda: source.passed(at, 10) == 11, "the mark was read")
    await asyncio.sleep(0.5)
    await learn(scenario, process, 10, first=100)


async def end_of(scenario, partition):
    async with running(scenario.log.reader()) as reader:
        return (await reader.range_of(partition)).end


def partitions(process):
    return [(name, at) for name, source in process.worker.sources.items() for at in source.assigned]
