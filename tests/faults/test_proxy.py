"""Real sockets on loopback; what is awaited is bounded, and what must not come is waited for as long as it is sure to."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
from tests.faults.proxy import (
    RETRANSMISSION_S,
    Delay,
    DropResponses,
    Fault,
    HalfOpen,
    Healthy,
    Loss,
    OneWay,
    Proxy,
    Refuse,
    Reset,
)

PRODUCE, METADATA = 0, 3
WITHIN_S = 20.0
# On loopback bytes arrive within a millisecond; what has not come by then is not on its way.
NOTHING_S = 0.3
MIB = 1024 * 1024
LARGE = Random(1).randbytes(20_000_000)


class Client:
    """One connection; every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, sent: bytes) -> None:
        self.writer.write(sent)
        await asyncio.wait_for(self.writer.drain(), WITHIN_S)

    async def get(self, count: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(count), WITHIN_S)

    async def echo(self, sent: bytes = b"ping") -> bytes:
        await self.send(sent)
        return await self.get(len(sent))

    async def get_all(self) -> bytes:
        return await asyncio.wait_for(self._reader.read(-1), WITHIN_S)

    async def is_silent(self, for_s: float = NOTHING_S) -> bool:
        """Whether neither a byte nor an end comes."""
        try:
            await asyncio.wait_for(self._reader.read(1), for_s)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            await asyncio.wait_for(self._reader.read(1), WITHIN_S)
        except ConnectionResetError:
            return True
        return False


class Server:
    """Echoes, or answers each Kafka request that it has noted with an empty answer; notes what it received."""

    def __init__(self, talk: Callable) -> None:
        self.received: list[bytes] = []
        self.ends: list[str] = []
        self.port = 0
        self._talk = talk
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            await self._talk(self, reader, writer)
            self.ends.append("FIN")
        except ConnectionResetError:
            self.ends.append("RST")
        finally:
            writer.close()

    async def until(self, holds: Callable[[], bool]) -> None:
        end_s = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < end_s, (len(self.received), self.ends)
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


async def echo(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        server.received.append(chunk)
        writer.write(chunk)
        await writer.drain()


async def answer(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.IncompleteReadError):
        while True:
            (length,) = struct.unpack(">i", await reader.readexactly(4))
            request = await reader.readexactly(length)
            server.received.append(request)
            (correlation,) = struct.unpack(">i", request[4:8])
            writer.write(struct.pack(">ii", 4, correlation))
            await writer.drain()


def request(api: int, correlation: int) -> bytes:
    return struct.pack(">ihhi", 12, api, 9, correlation) + b"body"


def answer_to(correlation: int) -> bytes:
    return struct.pack(">ii", 4, correlation)


@asynccontextmanager
async def served(talk: Callable) -> AsyncIterator[Server]:
    server = Server(talk)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()
    await server.close()
    await listener.wait_closed()


class Net:
    """A server, a proxy before it, and who has connected to that."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy
        self.clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.proxy.port), WITHIN_S))
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for client in self.clients:
            client.writer.transport.abort()
            with suppress(OSError):
                await client.writer.wait_closed()


@asynccontextmanager
async def net_of(talk: Callable, held_max_bytes: int = 128 * MIB) -> AsyncIterator[Net]:
    async with served(talk) as server:
        net = Net(server, Proxy.of(Random(7), held_max_bytes=held_max_bytes))
        await net.proxy.start("127.0.0.1", server.port)
        try:
            yield net
        finally:
            await net.proxy.stop()
            await net.close()


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with net_of(echo) as made:
        yield made


@pytest.fixture
async def kafka_net() -> AsyncIterator[Net]:
    async with net_of(answer) as made:
        yield made


async def exchange(client: Client, sent: bytes) -> bytes:
    """Send and receive at once, as an echo needs it."""
    sending = asyncio.create_task(client.send(sent))
    got = await client.get(len(sent))
    await sending
    return got


async def test_the_port_is_taken_before_the_start_and_refuses_until_then():
    async with served(echo) as server:
        proxy = Proxy.of(Random(7))
        try:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy.port)
            await proxy.start("127.0.0.1", server.port)

            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            client = Client(reader, writer)
            assert b"ping" == await client.echo()
            writer.close()
            await writer.wait_closed()
        finally:
            await proxy.stop()


async def test_a_proxy_that_was_never_started_gives_its_port_back():
    proxy = Proxy.of(Random(7))

    await proxy.stop()

    with socket.socket() as other:
        other.bind(("127.0.0.1", proxy.port))


async def test_a_half_closed_connection_stays_half_closed(net):
    client = await net.client()

    await client.send(b"last words")
    client.writer.write_eof()

    assert b"last words" == await client.get_all()
    assert ["FIN"] == net.server.ends


async def test_the_reset_of_a_client_reaches_the_broker(net):
    client = await net.client()
    await client.echo()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    client.writer.transport.abort()

    await net.server.until(lambda: net.server.ends == ["RST"])


async def test_a_connection_that_has_ended_at_both_ends_is_no_more(net):
    client = await net.client()
    await client.echo()
    client.writer.close()
    await net.server.until(lambda: net.server.ends == ["FIN"])

    await net.server.until(lambda: not net.proxy._links)


async def test_the_broker_that_cannot_be_reached_resets_a_new_connection():
    proxy = Proxy.of(Random(7))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        await proxy.start(*nobody.getsockname())
        try:
            client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))

            assert await client.is_reset()
            client.writer.close()
        finally:
            await proxy.stop()


async def test_a_broker_that_is_slow_to_read_slows_the_client_down():
    async def stuck(server, reader, writer):
        await asyncio.sleep(WITHIN_S)

    async with net_of(stuck) as net:
        client = await net.client()
        client.writer.write(LARGE + LARGE)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.writer.drain(), 1)


@pytest.mark.parametrize("fault", [Healthy(), Loss(share=0.05), Delay(seconds=0.2, jitter=0.1)], ids=repr)
async def test_a_large_transfer_comes_back_intact(net, fault):
    net.proxy.fault = fault
    client = await net.client()

    assert LARGE == await exchange(client, LARGE)
    assert 2 * len(LARGE) == net.proxy.bytes


async def test_a_healthy_proxy_passes_20_mb_in_a_second(net):
    client = await net.client()
    begin_s = time.monotonic()

    await exchange(client, LARGE)

    # Both ways, and both ends of it, in this one loop.
    assert time.monotonic() - begin_s < 2


async def test_delay_holds_each_way_and_not_the_throughput(net):
    net.proxy.fault = Delay(seconds=0.5)
    client = await net.client()
    begin_s = time.monotonic()

    await exchange(client, LARGE)

    assert 1.0 <= time.monotonic() - begin_s < 4


async def test_delay_with_jitter_keeps_the_order(net):
    net.proxy.fault = Delay(seconds=0.01, jitter=0.2)
    client = await net.client()
    sent = [struct.pack(">i", i) for i in range(200)]

    for piece in sent:
        await client.send(piece)
        await asyncio.sleep(0.001)

    assert b"".join(sent) == await client.get(800)


async def test_delay_holds_an_end_behind_the_bytes(net):
    client = await net.client()
    await client.echo()
    net.proxy.fault = Delay(seconds=0.5)
    begin_s = time.monotonic()

    await client.send(b"last words")
    client.writer.write_eof()

    assert b"last words" == await client.get_all()
    assert time.monotonic() - begin_s >= 1.0


async def test_what_delay_holds_goes_on_at_once_when_it_is_healed(net):
    client = await net.client()
    await client.echo()
    net.proxy.fault = Delay(seconds=60)
    await client.send(b"held")
    assert await client.is_silent()

    net.proxy.fault = Healthy()

    assert b"held" == await client.get(4)
    assert b"ping" == await client.echo()


async def test_delay_takes_no_more_than_its_bound():
    async with net_of(echo, held_max_bytes=MIB) as net:
        net.proxy.fault = Delay(seconds=60)
        client = await net.client()
        sending = asyncio.create_task(client.send(LARGE + LARGE))
        await asyncio.sleep(1)
        (link,) = net.proxy._links
        assert MIB <= link._flows["to_broker"]._waiting_bytes < MIB + 65_536
        assert not sending.done()

        net.proxy.fault = Healthy()

        assert LARGE + LARGE == await client.get(2 * len(LARGE))
        await sending


async def test_the_order_stays_while_the_faults_change(net):
    client = await net.client()
    rng = Random(3)
    sending = asyncio.create_task(client.send(LARGE[:4_000_000]))
    receiving = asyncio.create_task(client.get(4_000_000))

    for _ in range(60):
        net.proxy.fault = rng.choice(
            [Healthy(), Delay(0.05, jitter=0.05), Loss(0.3), Refuse(), DropResponses(apis=set())]
        )
        await asyncio.sleep(0.01)
    net.proxy.fault = Healthy()

    assert LARGE[:4_000_000] == await receiving
    await sending


async def test_a_fault_may_change_while_the_broker_is_dialled(net):
    connecting = asyncio.create_task(net.client())

    for _ in range(1000):
        net.proxy.fault = Delay(0.0) if isinstance(net.proxy.fault, Healthy) else Healthy()
        await asyncio.sleep(0)

    assert b"ping" == await (await connecting).echo()


async def test_loss_makes_some_late_by_the_retransmission_and_none_missing(net):
    client = await net.client()
    await client.echo()
    net.proxy.fault = Loss(share=0.3)
    late = 0

    for i in range(20):
        begin_s = time.monotonic()
        assert struct.pack(">i", i) == await client.echo(struct.pack(">i", i))
        late += time.monotonic() - begin_s >= RETRANSMISSION_S

    assert 1 <= late <= 19


def test_what_is_lost_again_waits_twice_as_long():
    rng, loss = Random(1), Loss(share=0.5)

    held_ms = [round(1000 * loss.hold_s(rng)) for _ in range(10_000)]

    assert {0, 200, 600, 1400, 3000} == {held for held in held_ms if held < 5000}
    assert 5_000 == pytest.approx(held_ms.count(0), rel=0.05)
    assert 2_500 == pytest.approx(held_ms.count(200), rel=0.05)
    assert 1_250 == pytest.approx(held_ms.count(600), rel=0.1)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_loss_of_all_is_no_loss(share):
    with pytest.raises(ValueError, match="share"):
        Loss(share=share)


async def test_a_new_connection_is_lost_as_a_chunk_is(net):
    net.proxy.fault = Loss(share=0.999)
    client = await net.client()
    await client.send(b"ping")
    assert await client.is_silent()
    assert [] == net.server._writers

    net.proxy.fault = Healthy()

    assert b"ping" == await client.get(4)


async def test_half_open_freezes_what_stands_and_tells_neither_end(net):
    client = await net.client()
    await client.echo(b"before")

    net.proxy.fault = HalfOpen()
    await client.send(b"lost")

    assert await client.is_silent()
    client.writer.close()
    await asyncio.sleep(NOTHING_S)
    assert [b"before"] == net.server.received
    assert [] == net.server.ends


async def test_half_open_accepts_and_never_answers(net):
    net.proxy.fault = HalfOpen()

    client = await net.client()
    await client.send(b"lost")

    assert await client.is_silent()
    assert 1 == net.proxy.connections
    assert [] == net.server._writers


async def test_half_open_loses_what_was_held(net):
    client = await net.client()
    await client.echo(b"before")
    net.proxy.fault = Delay(seconds=0.2)
    await client.send(b"held")
    await asyncio.sleep(0.05)

    net.proxy.fault = HalfOpen()

    assert await client.is_silent(0.6)
    assert [b"before"] == net.server.received


async def test_half_open_healed_is_for_new_connections(net):
    standing = await net.client()
    await standing.echo()
    net.proxy.fault = HalfOpen()
    born_frozen = await net.client()

    net.proxy.fault = Healthy()
    await standing.send(b"still")
    await born_frozen.send(b"still")

    assert b"ping" == await (await net.client()).echo()
    assert await standing.is_silent()
    assert await born_frozen.is_silent()


async def test_one_way_to_the_client_loses_the_answers_alone(net):
    client = await net.client()
    await client.echo()

    net.proxy.fault = OneWay("to_client")
    await client.send(b"heard")

    await net.server.until(lambda: net.server.received[-1] == b"heard")
    assert await client.is_silent()


async def test_one_way_to_the_broker_loses_the_requests_alone():
    async def tick(server, reader, writer):
        while not reader.at_eof():
            writer.write(b"tick")
            with suppress(TimeoutError):
                server.received.append(await asyncio.wait_for(reader.read(100), 0.02))

    async with net_of(tick) as net:
        client = await net.client()
        await client.get(4)

        net.proxy.fault = OneWay("to_broker")
        await client.send(b"lost")

        assert b"tick" * 10 == await client.get(40)
        assert [] == net.server.received


@pytest.mark.parametrize("lost", ["to_client", "to_broker"])
async def test_a_connection_that_has_lived_one_way_is_frozen_after(net, lost):
    standing = await net.client()
    await standing.echo(b"before")
    net.proxy.fault = OneWay(lost)

    net.proxy.fault = Healthy()
    await standing.send(b"after")

    assert await standing.is_silent()
    assert [b"before"] == net.server.received
    assert b"ping" == await (await net.client()).echo()


async def test_a_request_whose_answer_is_dropped_is_carried_out(kafka_net):
    client = await kafka_net.client()
    kafka_net.proxy.fault = DropResponses(apis={PRODUCE})

    await client.send(request(METADATA, 1))
    assert answer_to(1) == await client.get(8)
    await client.send(request(PRODUCE, 2))

    assert await client.is_silent()
    assert request(PRODUCE, 2)[4:] == kafka_net.server.received[-1]
    assert 1 == kafka_net.proxy.dropped_responses


async def test_answers_behind_one_that_was_dropped_pass(kafka_net):
    client = await kafka_net.client()
    kafka_net.proxy.fault = DropResponses(apis={PRODUCE})

    await client.send(request(PRODUCE, 1) + request(METADATA, 2) + request(PRODUCE, 3) + request(METADATA, 4))

    assert answer_to(2) + answer_to(4) == await client.get(16)
    assert 2 == kafka_net.proxy.dropped_responses


async def test_a_connection_that_stands_loses_answers_too_and_goes_on_when_healed(kafka_net):
    client = await kafka_net.client()
    await client.send(request(PRODUCE, 1))
    assert answer_to(1) == await client.get(8)

    kafka_net.proxy.fault = DropResponses(apis={PRODUCE})
    await client.send(request(PRODUCE, 2))
    assert await client.is_silent()
    kafka_net.proxy.fault = Healthy()
    await client.send(request(PRODUCE, 3))

    assert answer_to(3) == await client.get(8)


async def test_frames_in_single_bytes_are_told_apart(kafka_net):
    client = await kafka_net.client()
    kafka_net.proxy.fault = DropResponses(apis={PRODUCE})

    for byte in request(PRODUCE, 1) + request(METADATA, 2):
        await client.send(bytes([byte]))
        await asyncio.sleep(0.001)

    assert answer_to(2) == await client.get(8)
    assert 1 == kafka_net.proxy.dropped_responses


async def test_a_share_of_the_answers_is_dropped(kafka_net):
    client = await kafka_net.client()
    kafka_net.proxy.fault = DropResponses(apis={PRODUCE}, share=0.25)

    await client.send(b"".join(request(PRODUCE, i) for i in range(400)) + request(METADATA, 400))
    passed = 0
    while answer_to(400) != await client.get(8):
        passed += 1

    assert 400 == passed + kafka_net.proxy.dropped_responses
    assert 60 < kafka_net.proxy.dropped_responses < 140


async def test_the_connection_of_a_dropped_answer_is_closed_behind_the_answers_before(kafka_net):
    client = await kafka_net.client()
    kafka_net.proxy.fault = DropResponses(apis={PRODUCE}, close=True)

    await client.send(request(METADATA, 1) + request(PRODUCE, 2) + request(METADATA, 3))

    assert answer_to(1) == await client.get_all()
    assert request(PRODUCE, 2)[4:] in kafka_net.server.received
    assert 1 == kafka_net.proxy.dropped_responses
    await kafka_net.server.until(lambda: len(kafka_net.server.ends) == 1)
    again = await kafka_net.client()
    await again.send(request(METADATA, 1))
    assert answer_to(1) == await again.get(8)


async def test_refused_is_who_is_new(net):
    standing = await net.client()
    await standing.echo()

    net.proxy.fault = Refuse()

    with pytest.raises(ConnectionRefusedError):
        await net.client()
    assert b"ping" == await standing.echo()
    net.proxy.fault = Healthy()
    assert b"ping" == await (await net.client()).echo()


async def test_reset_is_who_stands_and_who_is_new(net):
    standing = await net.client()
    await standing.echo()

    net.proxy.fault = Reset()

    assert await standing.is_reset()
    await net.server.until(lambda: net.server.ends == ["RST"])
    # The kernel tells of it at the connect or at the first read.
    with pytest.raises(ConnectionResetError):
        await (await net.client()).get(1)
    assert 2 == net.proxy.connections
    net.proxy.fault = Healthy()
    assert b"ping" == await (await net.client()).echo()


async def test_cut_resets_every_connection_and_leaves_the_fault(net):
    net.proxy.fault = HalfOpen()
    frozen = await net.client()
    net.proxy.fault = Delay(seconds=0.1)
    standing = await net.client()
    await standing.echo()

    await net.proxy.cut()

    assert await standing.is_reset()
    assert await frozen.is_reset()
    assert Delay(seconds=0.1) == net.proxy.fault
    assert b"ping" == await (await net.client()).echo()
    assert 3 == net.proxy.connections


@pytest.mark.parametrize(
    "fault",
    [Healthy(), Delay(60), Loss(0.99), HalfOpen(), OneWay("to_client"), DropResponses({PRODUCE}), Refuse()],
    ids=repr,
)
async def test_stop_leaves_nothing_open(fault: Fault):
    async with served(echo) as server:
        open_before = len(os.listdir("/proc/self/fd"))
        net = Net(server, Proxy.of(Random(7)))
        await net.proxy.start("127.0.0.1", server.port)
        standing = await net.client()
        await standing.echo()
        net.proxy.fault = fault
        await standing.send(b"on the way")
        if not isinstance(fault, Refuse):
            await (await net.client()).send(b"on the way")
        await asyncio.sleep(0.05)

        await net.proxy.stop()

        for client in net.clients:
            with suppress(ConnectionResetError):
                await client.get_all()
        await net.close()
        await server.close()
        assert open_before == len(os.listdir("/proc/self/fd"))
        with pytest.raises(ConnectionRefusedError):
            await net.client()
