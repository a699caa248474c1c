"""Inputs that are written in transactions: their marks lie behind the records and are never delivered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from tests.scenarios.harness import Scenario, pairs, running, until

from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading

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


def partitions(process):
    return [(name, at) for name, source in process.worker.sources.items() for at in source.assigned]
