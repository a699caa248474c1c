"""Connections: slow clients are served for as long as they take something, and nobody else is waited for."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.certificates import make_certificate

from tailrace.streams import handshakes, http_server
from tailrace.streams.handshakes import Handshakes, listening
from tailrace.streams.http_server import Tls, options_of
from tailrace.web.server import no_http

PIECE = bytes(1 << 16)
PIECES = 96
PATIENCE_S = 0.4


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """Answer /pieces with a file in pieces, everything else with a file in one."""
    length = len(PIECE) * PIECES
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(length).encode())]})
    if scope["path"] == "/pieces":
        for left in reversed(range(PIECES)):
            await send({"type": "http.response.body", "body": PIECE, "more_body": left > 0})
    else:
        await send({"type": "http.response.body", "body": PIECE * PIECES})


@asynccontextmanager
async def serving(tls: Tls | None) -> AsyncIterator[tuple[int, set[Any]]]:
    """Serve as a worker does; give the port and the connections."""
    begun = Handshakes()
    sockets = listening("127.0.0.1", 0, begun)
    options = options_of(tls, None if tls is None else begun, no_http)
    server = uvicorn.Server(uvicorn.Config(app, **options | {"timeout_graceful_shutdown": 0}))
    task = asyncio.create_task(server._serve(sockets))
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    yield sockets[0].getsockname()[1], server.server_state.connections
    server.should_exit = server.force_exit = True
    await task


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> Tls | None:
    return None if request.param == "plain" else Tls(*make_certificate(tmp_path))


def connect(port: int, tls: Tls | None) -> socket.socket:
    """Open a connection whose own buffer is small."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    line.settimeout(10)
    line.connect(("127.0.0.1", port))
    if tls is None:
        return line
    context = ssl._create_unverified_context()
    return context.wrap_socket(line)


def take(line: socket.socket, pause_s: float) -> int:
    """Take what comes, and pause each time; return how much came before the end. A record of TLS has 16 KiB."""
    taken = 0
    with suppress(OSError):
        while chunk := line.recv(1 << 17):
            taken += len(chunk)
            time.sleep(pause_s)
            if taken >= len(PIECE) * PIECES:
                break
    return taken


@pytest.mark.parametrize("path", ["/pieces", "/whole"])
async def test_who_takes_slowly_and_steadily_gets_all_of_it(tls: Tls | None, path: str, monkeypatch: Any):
    monkeypatch.setattr(http_server, "TAKEN_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(http_server, "HEAD_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(http_server, "KEPT_IDLE_S", 1)

    def download(port: int) -> tuple[int, float]:
        with connect(port, tls) as line:
            begun_s = time.monotonic()
            line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return take(line, 0.02 if tls is None else 0.005), time.monotonic() - begun_s

    async with serving(tls) as (port, _):
        taken, took_s = await asyncio.to_thread(download, port)

    assert took_s > 2 * PATIENCE_S
    assert taken >= len(PIECE) * PIECES


@pytest.mark.parametrize("path", ["/pieces", "/whole"])
async def test_who_takes_nothing_any_more_is_dropped(tls: Tls | None, path: str, monkeypatch: Any):
    monkeypatch.setattr(http_server, "TAKEN_WITHIN_S", PATIENCE_S)

    async with serving(tls) as (port, connections):
        line = await asyncio.to_thread(connect, port, tls)
        await asyncio.to_thread(line.sendall, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await asyncio.to_thread(line.recv, 1_000)
        assert 1 == len(connections)
        async with asyncio.timeout(5 * PATIENCE_S):
            while connections:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.02)
        line.close()


@pytest.mark.parametrize(
    "sent",
    [bytes(200), b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000],
    ids=["zeros", "head"],
)
async def test_what_is_no_request_is_refused_with_a_problem_as_everything_is(sent: bytes, tls: Tls | None):
    def ask(port: int) -> bytes:
        content = b""
        with connect(port, tls) as line, suppress(OSError):
            line.sendall(sent)
            while chunk := line.recv(1 << 16):
                content += chunk
        return content

    async with serving(tls) as (port, connections):
        content = await asyncio.to_thread(ask, port)
        await asyncio.sleep(0.05)
        assert not connections

    head, _, body = content.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    assert f"x-request-id: {problem['instance'].rpartition(':')[2]}".encode() in head
    assert ("no_http", str(len(body))) == (problem["code"], re.search(rb"content-length: (\d+)", head)[1].decode())  # type: ignore[index]


def is_cut(line: socket.socket) -> bool:
    line.settimeout(0)
    try:
        return not line.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


async def test_who_does_not_shake_hands_is_dropped(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(handshakes, "WITHIN_S", 0.5)
    tls = Tls(*make_certificate(tmp_path))

    async with serving(tls) as (port, connections):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        silent[0].send(b"\x16\x03\x01")
        polite = await asyncio.to_thread(connect, port, tls)
        await asyncio.sleep(0.2)
        assert [False] * 3 == [is_cut(line) for line in silent]
        await asyncio.sleep(0.6)
        assert [True] * 3 == [is_cut(line) for line in silent]
        assert 1 == len(connections)
        assert not is_cut(polite)
        for line in (*silent, polite):
            line.close()


async def test_of_too_many_who_do_not_shake_hands_the_oldest_goes_and_others_come_through(
    tmp_path: Path, monkeypatch: Any
):
    monkeypatch.setattr(handshakes, "MOST", 4)
    tls = Tls(*make_certificate(tmp_path))

    async with serving(tls) as (port, connections):
        silent = []
        for _ in range(6):
            silent.append(socket.create_connection(("127.0.0.1", port)))
            await asyncio.sleep(0.02)
        polite = await asyncio.to_thread(connect, port, tls)
        await asyncio.sleep(0.05)

        assert [True, True, True, False, False, False] == [is_cut(line) for line in silent]
        assert 1 == len(connections)
        for line in (*silent, polite):
            line.close()


def test_an_address_in_use_is_said(tmp_path: Path):
    taken = listening("127.0.0.1", 0, Handshakes())[0]
    taken.listen()

    with taken, pytest.raises(OSError, match="in use"):
        listening("127.0.0.1", taken.getsockname()[1], Handshakes())


def test_every_address_of_a_host_is_listened_on(monkeypatch: Any):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", partial(lambda *_, **__: found))

    made = listening("both", 0, Handshakes())

    assert ["127.0.0.1", "127.0.0.2"] == [each.getsockname()[0] for each in made]
    for each in made:
        each.close()
