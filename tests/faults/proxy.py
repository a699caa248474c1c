"""Faults of the network between workers and a broker: a TCP proxy on loopback that a test tells what to do to the bytes.

It runs in the event loop of the test, on callbacks alone: a fault that is set is in force when the assignment returns,
on the connections that stand and on those to come. Whatever the fault, bytes that arrive, arrive in their order, and a
connection that has lost bytes never goes on as if it had not: it stays frozen for good.

A connection opens (the broker is dialled), flows, and is then either closed or frozen. FIN and RST of either end are
passed on in their place behind the bytes, and half-closed connections stay so. A frozen connection keeps both its
sockets, reads nothing, writes nothing and tells nobody, until `Reset`, `Proxy.cut` or `Proxy.stop`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from errno import EINPROGRESS
from random import Random
from typing import ClassVar, Literal, Self

from tests.faults.framing import Conversation, Verdict

HOST = "127.0.0.1"
BACKLOG = 1024
# What Linux merges small segments into at most is 64 KiB; a quarter keeps the figures of Loss near those of a network.
CHUNK_BYTES = 16 * 1024
# What waits in one direction of one connection for an end that is slow to read.
FLOWING_MAX_BYTES = 256 * 1024
# What a fault holds in one direction of one connection: 20 MB/s for 6 s.
HELD_MAX_BYTES = 128 * 1024 * 1024
# Linux: TCP_RTO_MIN and TCP_RTO_MAX.
RETRANSMISSION_S = 0.2
RETRANSMISSION_MAX_S = 120.0
# Linux: tcp_retries2. TCP would give up then, after 15 minutes; who waits for an answer has given up long before.
RETRANSMISSIONS_MAX = 15

Side = Literal["to_broker", "to_client"]


@dataclass(frozen=True)
class Fault:
    """What happens to bytes and connections; compared by value, and setting an equal one again changes nothing.

    What another fault still held goes on at once when this one is set, in its order.
    """

    holds: ClassVar[bool] = False

    def hold_s(self, rng: Random) -> float:
        """Return for how long the next chunk is held, in seconds."""
        return 0.0


@dataclass(frozen=True)
class Healthy(Fault):
    """Everything passes."""


@dataclass(frozen=True)
class Delay(Fault):
    """Every chunk is held for so long, in each direction; the throughput stays, up to `held_max_bytes` of the proxy.

    Connections open at once.

    Attributes:
        jitter: Up to so many seconds are added to each chunk; the order stays, so a chunk may wait for the one before.
    """

    holds: ClassVar[bool] = True

    seconds: float
    jitter: float = 0.0

    def hold_s(self, rng: Random) -> float:
        return self.seconds + rng.uniform(0.0, self.jitter)


@dataclass(frozen=True)
class Loss(Fault):
    """Packets are lost, as the ends of a TCP connection see it: late, never missing and never out of order.

    Each chunk of up to 16 KiB is lost with a probability and sent again after 200 ms, lost again, sent again after
    400 ms more, and so on; those behind it wait for it. So does a new connection before the broker is dialled (the
    client's kernel has seen it accepted). Of TCP's congestion control nothing is modelled: between losses, bytes flow
    at full speed.

    Attributes:
        share: Of the chunks that are lost, each time that they are sent; 0 <= share < 1.
    """

    holds: ClassVar[bool] = True

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share is {self.share}; it must be at least 0 and below 1; HalfOpen loses everything")

    def hold_s(self, rng: Random) -> float:
        held_s, next_s = 0.0, RETRANSMISSION_S
        for _ in range(RETRANSMISSIONS_MAX):
            if rng.random() >= self.share:
                break
            held_s += next_s
            next_s = min(2 * next_s, RETRANSMISSION_MAX_S)
        return held_s


@dataclass(frozen=True)
class HalfOpen(Fault):
    """Nothing flows any more in either direction, and neither end is told: no FIN, no RST.

    Connections that stand are frozen for good, and what was held is lost. New ones are accepted, the broker never
    hears of them, and they are frozen from birth. Healing is for the connections after it.
    """


@dataclass(frozen=True)
class OneWay(Fault):
    """What goes in one direction vanishes, a FIN or RST with it; the other direction flows, and connections open.

    Every connection that has lived under it is frozen for good when another fault is set, as its bytes have a gap.
    """

    lost: Side


@dataclass(frozen=True)
class DropResponses(Fault):
    """Requests reach the broker and are carried out; its answers to some of them vanish. For Kafka without TLS.

    An answer of which the client already has the beginning passes to its end. Answers to other requests pass, also
    those behind one that was dropped: a client that is strict about the order may take that for an error.

    Attributes:
        apis: Keys of the APIs, as Produce = 0, OffsetCommit = 8, EndTxn = 26.
        share: Of their answers that vanish.
        close: When the broker has answered and the answer is dropped, the connection is closed at both ends (FIN),
            after the answers before it have passed. Otherwise the client waits until its request times out.
    """

    apis: AbstractSet[int]
    share: float = 1.0
    close: bool = False


@dataclass(frozen=True)
class Refuse(Fault):
    """New connections are refused (ECONNREFUSED); those that stand go on."""


@dataclass(frozen=True)
class Reset(Fault):
    """Connections are reset (RST) at both ends, frozen ones too, and new ones as soon as they are accepted."""


class Proxy:
    """Stands before a broker at a loopback port of its own.

    Made by `of`, which takes the port, so that a broker can advertise it before either is started; until `start` the
    port refuses. `stop` gives it back, also when the proxy was never started. If the broker cannot be reached, a new
    connection is reset.

    Attributes:
        connections: Accepted so far.
        bytes: Passed on so far, both directions together.
        dropped_responses: Answers that `DropResponses` has dropped so far.
    """

    def __init__(self, place: socket.socket, rng: Random, held_max_bytes: int) -> None:
        self.port: int = place.getsockname()[1]
        self.rng = rng
        self.held_max_bytes = held_max_bytes
        self.target = ("", 0)
        self.connections = 0
        self.bytes = 0
        self.dropped_responses = 0
        self._fault: Fault = Healthy()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Bound and never listening: it keeps the port ours while connections are refused.
        self._place = place
        self._listener: socket.socket | None = None
        self._links: set[_Link] = set()

    @classmethod
    def of(cls, rng: Random, *, held_max_bytes: int = HELD_MAX_BYTES) -> Self:
        """Take a free port.

        Args:
            rng: Decides about jitter, losses and dropped answers.
            held_max_bytes: What a fault may hold in one direction of one connection; above it nothing more is read.
        """
        return cls(_bound(0), rng, held_max_bytes)

    async def start(self, host: str, port: int) -> None:
        """Pass connections on to a broker's address from now on."""
        assert self._loop is None, "a proxy is started once"
        assert self._place.fileno() >= 0, "a proxy that was stopped has no port any more"
        self.target = (host, port)
        self._loop = asyncio.get_running_loop()
        self._listen()

    async def stop(self) -> None:
        """Reset every connection and give the port back; what was held is lost."""
        self._unlisten()
        self._place.close()
        await self.cut()
        self._loop = None

    async def cut(self) -> None:
        """Reset every connection at both ends, frozen ones too; the fault stays as it is."""
        for link in list(self._links):
            link.reset()

    @property
    def fault(self) -> Fault:
        """What is done to connections and bytes; set it to change that at once."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        if fault == self._fault:
            return
        before, self._fault = self._fault, fault
        if self._loop is None:
            return
        if isinstance(fault, Refuse):
            self._unlisten()
        elif self._listener is None:
            self._listen()
        for link in list(self._links):
            link.meet(before, fault)

    def forget(self, link: _Link) -> None:
        """Drop a connection that has closed."""
        self._links.discard(link)

    def _listen(self) -> None:
        assert self._loop is not None
        if isinstance(self._fault, Refuse):
            return
        self._listener = _bound(self.port)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener, self._accept)

    def _unlisten(self) -> None:
        if self._listener is not None:
            assert self._loop is not None
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        assert self._loop is not None
        try:
            client, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.connections += 1
        link = _Link(self, self._loop, client)
        self._links.add(link)
        link.open()


class _Link:
    """One connection: the client's socket, the broker's, and a flow each way."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        self.proxy = proxy
        self._loop = loop
        self._client = client
        self._broker = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for end in (self._client, self._broker):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flows: dict[Side, _Flow] = {
            "to_broker": _Flow(self, loop, "to_broker", self._client, self._broker),
            "to_client": _Flow(self, loop, "to_client", self._broker, self._client),
        }
        self._conversation = Conversation()
        self._opening: asyncio.TimerHandle | None = None
        self._is_open = False
        self._is_frozen = False
        self._is_closed = False

    def open(self) -> None:
        """Dial the broker, as soon as the fault lets it."""
        fault = self.proxy.fault
        if isinstance(fault, Reset):
            self.reset()
        elif isinstance(fault, HalfOpen):
            self._freeze()
        elif isinstance(fault, Loss):
            self._opening = self._loop.call_later(fault.hold_s(self.proxy.rng), self._dial)
        else:
            self._dial()

    def meet(self, before: Fault, fault: Fault) -> None:
        """Come under another fault."""
        if isinstance(fault, Reset):
            self.reset()
        elif self._is_frozen:
            return
        elif isinstance(before, OneWay) or isinstance(fault, HalfOpen):
            self._freeze()
        elif self._opening is not None:
            self._opening.cancel()
            self._dial()
        elif self._is_open:
            for side, flow in self._flows.items():
                if not self._is_closed:  # by what the other flow met
                    flow.release(vanish=fault == OneWay(side))

    def passing(self, side: Side, chunk: bytes) -> bytes:
        """Return what goes on of what has arrived."""
        fault = self.proxy.fault
        if fault == OneWay(side):
            return b""
        if side == "to_broker":
            self._conversation.asked(chunk)
            return chunk
        return self._conversation.answered(chunk, self._judge if isinstance(fault, DropResponses) else None)

    @property
    def is_ended(self) -> bool:
        """Whether an answer was dropped after which the connection is to be closed."""
        return self._conversation.ended

    def settle(self) -> None:
        """Close when nothing flows any more either way."""
        if all(flow.is_over for flow in self._flows.values()):
            self.close()

    def reset(self) -> None:
        """Close at both ends with RST."""
        if self._is_closed:
            return
        for end in (self._client, self._broker):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close at both ends; the kernel still sends what it has taken."""
        if self._is_closed:
            return
        self._is_closed = True
        self._freeze()
        self._client.close()
        self._broker.close()
        self.proxy.forget(self)

    def _freeze(self) -> None:
        self._is_frozen = True
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self._loop.remove_writer(self._broker)
        for flow in self._flows.values():
            flow.halt()

    def _dial(self) -> None:
        self._opening = None
        if self._broker.connect_ex(self.proxy.target) in {0, EINPROGRESS}:
            self._loop.add_writer(self._broker, self._dialled)
        else:
            self.reset()

    def _dialled(self) -> None:
        self._loop.remove_writer(self._broker)
        if self._broker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.reset()
            return
        self._is_open = True
        for flow in self._flows.values():
            flow.start()

    def _judge(self, api: int) -> Verdict:
        fault = self.proxy.fault
        assert isinstance(fault, DropResponses)
        if api not in fault.apis or self.proxy.rng.random() >= fault.share:
            return Verdict.PASS
        self.proxy.dropped_responses += 1
        return Verdict.END if fault.close else Verdict.DROP


class _Ending(Enum):
    """How a flow ends, in its place behind the bytes."""

    FIN = "the source will send no more"
    RST = "the source is gone"
    CLOSE = "the proxy closes the connection"


class _Flow:
    """One direction of a connection: what has arrived waits in order until it is due and the sink takes it.

    Only the head of the queue is looked at, so what is due before it waits behind it. It has always either a timer or
    the sink's readiness to wait for.

    Attributes:
        is_over: The ending was passed on, or the sink takes nothing any more.
    """

    def __init__(
        self, link: _Link, loop: asyncio.AbstractEventLoop, side: Side, source: socket.socket, sink: socket.socket
    ) -> None:
        self.is_over = False
        self._link = link
        self._loop = loop
        self._side: Side = side
        self._source = source
        self._sink = sink
        self._waiting: deque[tuple[float, memoryview | _Ending]] = deque()
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._may_read = False
        self._reads = False

    def start(self) -> None:
        """Begin to read."""
        self._may_read = True
        self._regulate()

    def halt(self) -> None:
        """Read and write nothing any more; what waits is lost."""
        self._may_read = False
        self._forget_waiting()
        self._regulate()

    def release(self, *, vanish: bool) -> None:
        """Pass on at once what waits, or let it vanish."""
        if vanish:
            self._forget_waiting()
        self._waiting = deque((0.0, piece) for _due_s, piece in self._waiting)
        self._flush()

    def _read(self) -> None:
        try:
            chunk = self._source.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._arrive_ending(_Ending.RST)
            return
        if not chunk:
            self._arrive_ending(_Ending.FIN)
            return
        if passed := self._link.passing(self._side, chunk):
            self._append(memoryview(passed))
        if self._side == "to_client" and self._link.is_ended and self._may_read:
            self._arrive_ending(_Ending.CLOSE)

    def _arrive_ending(self, ending: _Ending) -> None:
        self._may_read = False
        if self._link.proxy.fault == OneWay(self._side):
            self._regulate()
        else:
            self._append(ending)

    def _append(self, piece: memoryview | _Ending) -> None:
        proxy = self._link.proxy
        self._waiting.append((self._loop.time() + proxy.fault.hold_s(proxy.rng), piece))
        if isinstance(piece, memoryview):
            self._waiting_bytes += len(piece)
        if len(self._waiting) == 1:
            self._flush()
        else:
            self._regulate()

    def _flush(self) -> None:
        """Pass on what is due, as far as the sink takes it; arrange for the rest."""
        self._wait_for_nothing()
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            due_s, piece = self._waiting[0]
            if isinstance(piece, _Ending):
                self._finish(piece)
                return
            try:
                sent = self._sink.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The other flow reads of the same loss and tells its own end, behind what that end is still to get.
                self._be_over()
                return
            self._link.proxy.bytes += sent
            self._waiting_bytes -= sent
            if sent < len(piece):
                self._waiting[0] = (due_s, piece[sent:])
                self._loop.add_writer(self._sink, self._flush)
                break
            self._waiting.popleft()
        else:
            if self._waiting:
                self._timer = self._loop.call_at(self._waiting[0][0], self._flush)
        self._regulate()

    def _finish(self, ending: _Ending) -> None:
        if ending is _Ending.RST:
            self._link.reset()
        elif ending is _Ending.CLOSE:
            self._link.close()
        else:
            with suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)
            self._be_over()

    def _be_over(self) -> None:
        self.is_over = True
        self.halt()
        self._link.settle()

    def _forget_waiting(self) -> None:
        self._wait_for_nothing()
        self._waiting.clear()
        self._waiting_bytes = 0

    def _wait_for_nothing(self) -> None:
        self._loop.remove_writer(self._sink)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _regulate(self) -> None:
        """Read while there is room."""
        proxy = self._link.proxy
        room_bytes = proxy.held_max_bytes if proxy.fault.holds else FLOWING_MAX_BYTES
        reads = self._may_read and self._waiting_bytes < room_bytes
        if reads and not self._reads:
            self._loop.add_reader(self._source, self._read)
        elif self._reads and not reads:
            self._loop.remove_reader(self._source)
        self._reads = reads


def _bound(port: int) -> socket.socket:
    """Return a socket at a port of loopback, 0 for any that is free; it shares the port with others that do not listen."""
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setblocking(False)
    place.bind((HOST, port))
    return place
