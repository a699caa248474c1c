"""Outages of a real broker are waited out, said, and lose nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import urllib3
from aiokafka.admin import AIOKafkaAdminClient
from tests.conftest import require_kafka
from tests.faults.disks import lose_tail
from tests.log_forms import LogForm, load_launcher
from tests.scenarios.api_ground import served
from tests.scenarios.commanding import learn
from tests.scenarios.harness import Scenario
from tests.streams.log_tools import Inbox, outgoing, running, send, until

from tailrace.domain.errors import LogError, LogUnavailable
from tailrace.streams.kafka_log import KafkaLog, KafkaOptions
from tailrace.streams.log import TopicPartition
from tailrace.streams.topic_watch import ANSWER_S


def form_of(broker, folder: Path) -> LogForm:
    return LogForm("kafka", f"kafka://{broker.bootstrap}", folder)


async def values_of(form: LogForm, topic: str) -> list[str]:
    partition = TopicPartition(topic, 0)
    async with running(form.open().reader()) as reader:
        held = await reader.range_of(partition)
        return [(r.value or b"").decode() async for batch in reader.read(partition, *held) for r in batch]


def without_repeats(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


async def test_a_broker_that_is_killed_while_records_are_sent_loses_and_reorders_nothing(own_broker, tmp_path):
    form = form_of(own_broker, tmp_path)
    topic = await form.create()
    acknowledged: list[str] = []
    sent: list[str] = []
    stop = asyncio.Event()

    async def note(value: str, delivery: asyncio.Future) -> None:
        await delivery
        acknowledged.append(value)

    async with running(form.open().sink("test")) as sink, asyncio.TaskGroup() as tasks:

        async def send_on() -> None:
            while not stop.is_set():
                value = str(len(sent))
                sent.append(value)
                tasks.create_task(note(value, await sink.send(TopicPartition(topic, 0), outgoing(value))))
                await asyncio.sleep(0.001)

        tasks.create_task(send_on())
        await until(lambda: len(acknowledged) > 300)
        await asyncio.to_thread(own_broker.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(own_broker.start)
        at_restart = len(acknowledged)
        await until(lambda: len(acknowledged) > at_restart + 300, 40.0)
        stop.set()

    values = await values_of(form, topic)
    assert without_repeats(values) == sent
    assert acknowledged == sent


@pytest.fixture
def own_cluster(tmp_path):
    """Three real brokers for one test."""
    require_kafka()
    cluster = load_launcher().Cluster(tmp_path / "kafka", settings={"group.min.session.timeout.ms": "1000"}).start()
    yield cluster
    cluster.kill()


async def found(reader, partitions) -> set[TopicPartition]:
    """Return the partitions that are found, by a look that is cut short as that of the watch is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_S):
            return set(await reader.ranges_of(partitions))
    return set()


async def test_what_other_brokers_hold_goes_on_when_one_that_has_the_only_copy_is_killed(own_cluster, tmp_path):
    """Fails when offsets are asked for of all partitions at once: none of them would be read, nor looked at."""
    form, inbox = form_of(own_cluster, tmp_path), Inbox()
    topic = await form.create(partitions=3, min_insync_replicas="1")
    partitions = [TopicPartition(topic, number) for number in range(3)]
    admin = AIOKafkaAdminClient(bootstrap_servers=own_cluster.bootstrap)
    await admin.start()
    (described,) = await admin.describe_topics([topic])
    await admin.close()
    lost = next(each["partition"] for each in described["partitions"] if each["leader"] == 3)
    kept = [partition for partition in partitions if partition.partition != lost]

    async with running(form.open().sink("test")) as sink, running(form.open().reader()) as reader:
        async with running(form.open().source(form.spec(topic), inbox)) as inbox.source:
            for number in range(3):
                await send(sink, topic, f"before {number}", partition=number)
            await until(lambda: len(inbox.values) == 3)
        for number in range(3):
            await send(sink, topic, f"after {number}", partition=number)
        await asyncio.to_thread(own_cluster.brokers[2].kill)
        async with asyncio.timeout(20.0):
            while {*kept} != await found(reader, partitions):  # noqa: ASYNC110 - the cluster tells nobody by itself
                await asyncio.sleep(0.1)

        async with running(form.open().source(form.spec(topic), inbox)) as inbox.source:
            await until(lambda: {f"after {each.partition}" for each in kept} <= set(inbox.values))
            assert f"after {lost}" not in inbox.values
            await asyncio.to_thread(own_cluster.brokers[2].start)
            await until(lambda: f"after {lost}" in inbox.values, 40.0)

    assert 6 == len(inbox.values)


async def test_a_source_goes_on_after_the_broker_was_killed(own_broker, tmp_path):
    form = form_of(own_broker, tmp_path)
    topic = await form.create()
    inbox = Inbox()

    async with (
        running(form.open().sink("test")) as sink,
        running(form.open().source(form.spec(topic), inbox)) as inbox.source,
    ):
        await send(sink, topic, "before")
        await until(lambda: inbox.values == ["before"])
        await asyncio.to_thread(own_broker.kill)
        await asyncio.to_thread(own_broker.start)
        await send(sink, topic, "after")
        await until(lambda: inbox.values[-1:] == ["after"], 40.0)

    assert without_repeats(inbox.values) == ["before", "after"]


async def test_started_with_the_broker_down_everything_waits_and_says_so(own_broker, tmp_path, caplog):
    form = form_of(own_broker, tmp_path)
    topic = await form.create()
    own_broker.stop()
    inbox = Inbox()

    with caplog.at_level(logging.WARNING, "tailrace"):
        async with (
            running(form.open().sink("test")) as sink,
            running(form.open().source(form.spec(topic), inbox)) as inbox.source,
        ):
            sending = asyncio.ensure_future(send(sink, topic, "x"))
            await until(lambda: "waiting for Kafka at" in caplog.text)
            await asyncio.to_thread(own_broker.start)
            await sending
            await until(lambda: inbox.values == ["x"])

    assert f"waiting for Kafka at {own_broker.bootstrap}, since" in caplog.text


async def test_stopping_while_the_broker_is_down_does_not_hang(own_broker, tmp_path):
    form = form_of(own_broker, tmp_path)
    topic = await form.create()
    inbox = Inbox()
    sink, source, reader = form.open().sink("test"), form.open().source(form.spec(topic), inbox), form.open().reader()
    inbox.source = source
    for service in (sink, source, reader):
        await service.start()
    await send(sink, topic, "x")
    await until(lambda: inbox.values == ["x"])
    own_broker.kill()
    unsent = await sink.send(TopicPartition(topic, 0), outgoing("y"))

    began = time.monotonic()
    for service in (source, sink, reader):
        await service.stop()
    lasted_s = time.monotonic() - began

    assert lasted_s < 20
    with pytest.raises(LogUnavailable, match="send it again"):
        await unsent


async def test_one_who_will_not_wait_is_told_that_kafka_cannot_be_reached():
    port = load_launcher()._free_ports(1)[0]
    log = KafkaLog(KafkaOptions(f"127.0.0.1:{port}", reach_within_s=0.5))
    admin = log.admin()

    with pytest.raises(LogUnavailable, match=r"gave no answer for \d+ s"):
        await admin.brokers()
    await admin.close()


async def test_batches_that_a_lowered_limit_refuses_are_sent_in_smaller_ones(own_broker, tmp_path, caplog):
    form = form_of(own_broker, tmp_path)
    topic = await form.create()
    admin = form.open().admin()
    values = [f"{number:04d}" + "x" * 200 for number in range(600)]

    with caplog.at_level(logging.WARNING, "tailrace"):
        async with running(form.open().sink("test")) as sink:
            await send(sink, topic, "before")
            await admin.alter(topic, {"max.message.bytes": "2000"})
            await send(sink, topic, *values)
    await admin.close()

    assert without_repeats(await values_of(form, topic)) == ["before", *values]
    assert "MessageSizeTooLarge" in caplog.text
    # One more where the broker still told the limit of before; by halves from 512 KiB it would be nine.
    assert caplog.text.count("answers again") <= 2


async def test_a_partition_is_heard_only_while_its_broker_answers(own_broker, tmp_path):
    form = form_of(own_broker, tmp_path)
    topic = await form.create()
    partition, inbox = TopicPartition(topic, 0), Inbox()
    async with running(form.open().source(form.spec(topic), inbox)) as source:
        await until(lambda: source.hears(partition))
        for _ in range(160):
            await asyncio.sleep(0.05)
            assert source.hears(partition), "a quiet partition is heard all the time"

        await asyncio.to_thread(own_broker.kill)
        await until(lambda: not source.hears(partition), 15.0)
        await asyncio.to_thread(own_broker.start)
        await until(lambda: source.assigned and source.hears(partition), 40.0)

        source.pause((partition,))
        await until(lambda: source.hears(partition))
        await asyncio.sleep(8.0)
        assert source.hears(partition), "one that is paused as well"


async def test_readyz_says_that_kafka_is_away_and_is_well_again_when_it_is_back(own_broker, tmp_path):
    """Fails when readiness asks only whether the roles run: a worker would be sent requests through a whole outage."""
    async with served(form_of(own_broker, tmp_path), tmp_path) as at:
        assert await readyz(at) == (200, "")

        await asyncio.to_thread(own_broker.kill)
        await until_asked(at, lambda status, words: status == 503 and "has not answered" in words)
        await asyncio.to_thread(own_broker.start)

        await until_asked(at, lambda status, _: status == 200)


async def until_asked(at, holds) -> None:
    async with asyncio.timeout(40.0):
        while not holds(*await readyz(at)):  # noqa: ASYNC110 - who is asked tells nobody by itself
            await asyncio.sleep(0.1)


async def readyz(at) -> tuple[int, str]:
    """Return what a process says; no words where it is ready."""

    def ask() -> tuple[int, str]:
        answer = urllib3.request("GET", f"http://{at.address}/readyz", retries=False, timeout=10)
        return answer.status, "" if answer.status == 200 else answer.data.decode()

    return await asyncio.to_thread(ask)


async def test_a_process_that_has_read_what_its_broker_lost_since_ends_and_says_so(own_broker, tmp_path):
    """Fails when a reader waits behind the end of a log that was cut: it would go on in another history some day."""
    async with AsyncExitStack() as stack:
        scenario = await Scenario.make(form_of(own_broker, tmp_path), tmp_path)
        stack.push_async_callback(scenario.close)
        await _loses_the_tail(own_broker, tmp_path, scenario)


async def _loses_the_tail(own_broker, tmp_path, scenario) -> None:
    process = await scenario.start()
    for first in range(0, 60, 10):
        await learn(scenario, process, 10, first=first)
    training = scenario.domain.topics.training

    await asyncio.to_thread(own_broker.kill)
    lose_tail(tmp_path / "kafka" / "data", training, 0, 3)
    await asyncio.to_thread(own_broker.start)

    await until(lambda: process.failure or process.crashed, 40.0)
    reason = process.failure or process.crash_reason
    assert isinstance(reason, LogError)
    assert training in str(reason)
    assert "estore" in str(reason)
