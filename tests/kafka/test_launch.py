"""The launcher leaves nothing behind; a cluster outlives a broker; a proxy's clients stay on the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from tests.conftest import require_kafka
from tests.faults.brokers import coordinator_of, in_sync, leader_of
from tests.log_forms import REPOSITORY, load_launcher
from tests.scenarios.harness import until

LAUNCHER = REPOSITORY / "deploy" / "kafka" / "launch.py"
launcher = load_launcher()


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory) -> Iterator[Any]:
    require_kafka()
    made = launcher.Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def cluster(shared_cluster) -> Iterator[Any]:
    """Three brokers; those that a test kills are started again after it."""
    yield shared_cluster
    shared_cluster.start()


@asynccontextmanager
async def admin_of(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Make a topic with as many replicas as the brokers give it of themselves."""
    topic = NewTopic(name, partitions, 1)
    topic.replication_factor = -1  # "The broker's default"; the constructor refuses it.
    async with admin_of(bootstrap) as admin:
        response = await admin.create_topics([topic])
    assert [0] == [error for _, error, *_ in response.topic_errors]


async def send(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Send records to partition 0 and return when all of them are acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, request_timeout_ms=5_000)
    await producer.start()
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(*[await producer.send(topic, value, partition=0) for value in values])
    finally:
        await producer.stop()


async def records(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """Read partition 0 from its start until there are as many records."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", request_timeout_ms=5_000)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        async with asyncio.timeout(30):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def addresses(bootstrap: str) -> list[tuple[str, int]]:
    """Return the brokers as they are told to clients of an address."""
    async with admin_of(bootstrap) as admin:
        return [(each["host"], each["port"]) for each in (await admin.describe_cluster())["brokers"]]


@pytest.mark.kafka
def test_run_prints_the_address_and_stops_when_its_input_ends(tmp_path):
    require_kafka()
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), "run", "--dir", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None

    name, _, address = process.stdout.readline().decode().strip().partition("=")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass
    broker = int((tmp_path / "broker.pid").read_text())
    process.stdin.close()
    code = process.wait(30)
    process.stdout.close()

    assert (name, code) == ("bootstrap", 0)
    assert not Path(f"/proc/{broker}").exists()


@pytest.mark.kafka
def test_a_launcher_that_is_killed_takes_the_broker_with_it(tmp_path):
    require_kafka()
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), "run", "--dir", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    broker = int((tmp_path / "broker.pid").read_text())

    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{broker}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{broker}/cmdline").read_bytes():
            break
        time.sleep(0.05)

    assert not Path(f"/proc/{broker}").exists() or not Path(f"/proc/{broker}/cmdline").read_bytes()


@pytest.mark.kafka
async def test_three_brokers_list_each_other_and_give_topics_three_replicas(cluster):
    await make_topic(cluster.bootstrap, "replicated", partitions=4)

    for broker in cluster.brokers:
        listed = await addresses(broker.bootstrap)
        assert sorted(cluster.bootstrap.split(",")) == sorted(f"{host}:{port}" for host, port in listed)
    assert {partition: {1, 2, 3} for partition in range(4)} == await in_sync(cluster.bootstrap, "replicated")
    async with admin_of(cluster.bootstrap) as admin:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "replicated")])
    settings = {name: value for name, value, *_ in response.resources[0][4]}
    assert ("2", "false") == (settings["min.insync.replicas"], settings["unclean.leader.election.enable"])


@pytest.mark.kafka
async def test_when_a_leader_is_killed_another_leads_with_every_acknowledged_record(cluster):
    await make_topic(cluster.bootstrap, "led")
    before = [b"%d" % each for each in range(500)]
    await send(cluster.bootstrap, "led", before)
    victim = await leader_of(cluster.bootstrap, "led", 0)
    broker = cluster.brokers[victim - 1]

    broker.kill()

    async def another_leads() -> bool:
        return await leader_of(cluster.bootstrap, "led", 0) != victim

    await until(another_leads, "another broker leads", 30.0)
    await send(cluster.bootstrap, "led", [b"after"])
    assert [*before, b"after"] == await records(cluster.bootstrap, "led", 501)

    async def in_sync_without_it() -> bool:
        return await in_sync(cluster.bootstrap, "led") == {0: {1, 2, 3} - {victim}}

    await until(in_sync_without_it, "the killed broker is no longer in sync", 10.0)


@pytest.mark.kafka
async def test_a_broker_of_a_cluster_comes_back_alone_and_catches_up(cluster):
    await make_topic(cluster.bootstrap, "missed")
    broker = cluster.brokers[2]
    address, pid = broker.bootstrap, broker.pid

    broker.kill()
    await send(cluster.bootstrap, "missed", [b"meanwhile"])
    broker.start()

    async def all_in_sync() -> bool:
        return await in_sync(cluster.bootstrap, "missed") == {0: {1, 2, 3}}

    assert (3, address) == (broker.node_id, broker.bootstrap)
    assert pid != broker.pid
    await until(all_in_sync, "the broker that came back has caught up", 30.0)


@pytest.mark.kafka
async def test_when_a_coordinator_is_killed_another_coordinates(cluster):
    victim = await coordinator_of(cluster.bootstrap, "some-group")
    broker = cluster.brokers[victim - 1]

    broker.kill()

    async def another_coordinates() -> bool:
        return await coordinator_of(cluster.bootstrap, "some-group") != victim

    await until(another_coordinates, "another broker coordinates", 30.0)


@pytest.mark.kafka
async def test_a_cluster_that_lost_power_comes_back_with_its_addresses_and_records(cluster):
    await make_topic(cluster.bootstrap, "kept")
    await send(cluster.bootstrap, "kept", [b"one", b"two"])

    cluster.kill()
    assert not cluster.is_running
    again = launcher.Cluster(cluster.folder)
    again.start()
    try:
        assert cluster.bootstrap == again.bootstrap
        assert [b"one", b"two"] == await records(again.bootstrap, "kept", 2)
    finally:
        again.kill()


def test_a_folder_keeps_its_size(tmp_path):
    launcher.Cluster(tmp_path, size=3)

    with pytest.raises(launcher.LaunchError, match="a cluster of 3 brokers, not 5"):
        launcher.Cluster(tmp_path, size=5)


@pytest.mark.kafka
def test_a_cluster_that_was_left_running_is_stopped_by_its_folder(tmp_path):
    require_kafka()
    command = [sys.executable, str(LAUNCHER)]
    started = subprocess.run(
        [*command, "start", "--brokers", "3", "--dir", str(tmp_path)], capture_output=True, text=True, check=False
    )
    pids = [int(path.read_text()) for path in sorted(tmp_path.glob("broker-*/broker.pid"))]
    ran = [Path(f"/proc/{pid}").exists() for pid in pids]
    stopped = subprocess.run(
        [*command, "stop", "--dir", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )

    assert (0, "") == (started.returncode, started.stderr)
    assert 3 == len(started.stdout.strip().removeprefix("bootstrap=").split(","))
    assert [True, True, True] == ran
    assert (0, "stopped\n") == (stopped.returncode, stopped.stdout)
    assert [False, False, False] == [Path(f"/proc/{pid}").exists() for pid in pids]


class Relay:
    """A TCP proxy that counts what comes through it."""

    def __init__(self) -> None:
        self.target: tuple[str, int] | None = None
        self.connections = 0
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.target is not None
        self.connections += 1
        self.open += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            with contextlib.suppress(OSError):
                await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))
        finally:
            self.open -= 1

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(65_536):
                writer.write(some)
                await writer.drain()
        finally:
            writer.close()


@pytest.mark.kafka
async def test_clients_that_come_through_a_proxy_stay_on_it(tmp_path):
    require_kafka()
    relay = Relay()
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxied = f"127.0.0.1:{port}"
    broker = launcher.Broker(tmp_path, front=port)
    relay.target = broker.front_address
    try:
        broker.start()

        assert [("127.0.0.1", port)] == await addresses(proxied)
        assert [broker.bootstrap] == [f"{host}:{port}" for host, port in await addresses(broker.bootstrap)]
        await make_topic(proxied, "fronted")
        await send(proxied, "fronted", [b"through"])
        through = relay.connections
        assert [b"through"] == await records(broker.bootstrap, "fronted", 1)
        assert through == relay.connections
    finally:
        broker.kill()
        server.close()
        await until(lambda: not relay.open, "the proxy has closed its connections", 10.0)
