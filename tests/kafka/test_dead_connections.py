"""A connection whose other end is gone without a word, or an answer that never comes, costs one request's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from tests.conftest import launcher, require_kafka
from tests.faults.proxy import HalfOpen, Healthy, Proxy
from tests.log_forms import LogForm
from tests.streams.log_tools import Inbox, running, send, until

from tailrace.streams.kafka_client import IDLE_MS, REQUEST_MS
from tailrace.streams.log import TopicPartition

ONE_REQUEST_S = REQUEST_MS / 1_000 + 3.0


@asynccontextmanager
async def behind_a_proxy(folder: Path) -> AsyncIterator[tuple[LogForm, Proxy]]:
    require_kafka()
    proxy = Proxy.of(Random(1))
    broker = launcher.Broker(folder / "kafka", settings={"group.min.session.timeout.ms": "1000"}, front=proxy.port)
    try:
        await asyncio.to_thread(broker.start)
        await proxy.start(*broker.front_address)
        yield LogForm("kafka", f"kafka://127.0.0.1:{proxy.port}", folder), proxy
    finally:
        await proxy.stop()
        broker.kill()


async def freeze(proxy: Proxy) -> None:
    proxy.fault = HalfOpen()
    await asyncio.sleep(0.2)
    proxy.fault = Healthy()


async def test_questions_on_a_connection_that_died_without_a_word_are_answered_on_another(tmp_path):
    async with behind_a_proxy(tmp_path) as (form, proxy), running(form.open().reader()) as reader:
        topic = await form.create()
        partition = TopicPartition(topic, 0)
        assert await reader.range_of(partition) == (0, 0)
        await freeze(proxy)

        # One frozen connection is asked for the topic, and another for its end.
        async with asyncio.timeout(2 * ONE_REQUEST_S):
            assert await reader.range_of(partition) == (0, 0)


async def test_a_connection_that_was_idle_is_not_trusted(tmp_path):
    async with behind_a_proxy(tmp_path) as (form, proxy), running(form.open().reader()) as reader:
        topic = await form.create()
        partition = TopicPartition(topic, 0)
        await reader.range_of(partition)
        await asyncio.sleep(IDLE_MS / 1_000 + 0.5)
        await freeze(proxy)

        async with asyncio.timeout(ONE_REQUEST_S / 2):
            assert await reader.range_of(partition) == (0, 0)


async def test_a_member_waits_for_a_slow_one_longer_than_one_request_may_take(own_broker, tmp_path):
    form = LogForm("kafka", f"kafka://{own_broker.bootstrap}", tmp_path)
    topic = await form.create(partitions=2)
    slow, quick = Inbox(completes=False), Inbox()

    async with running(form.open().sink("test")) as sink:
        spec = form.spec(topic, revoke_timeout_s=ONE_REQUEST_S)
        async with running(form.open().source(spec, slow)) as slow.source:
            await send(sink, topic, "never completed")
            await until(lambda: slow.values == ["never completed"])
            async with running(form.open().source(spec, quick)) as quick.source:
                await until(lambda: len(quick.source.assigned) == 1, 4 * ONE_REQUEST_S)
                await until(lambda: len(slow.source.assigned) == 1)
