"""Connections before their handshake for TLS: how long and how many are waited for.

asyncio makes the protocol of a connection known only when hands were shaken, and waits for a minute until then. So they
are counted where they come in: at the socket that listens.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, suppress
from typing import Any, Final

WITHIN_S: Final = 10.0
MOST: Final = 256


class Handshakes:
    """The connections that have not shaken hands for TLS: each is given so long, and beyond a bound the oldest goes."""

    def __init__(self) -> None:
        self._begun: dict[int, tuple[socket.socket, asyncio.TimerHandle]] = {}

    def begin(self, connection: socket.socket) -> None:
        """Begin to wait for one; its file descriptor may be that of one that has failed since."""
        self.end(connection.fileno())
        if len(self._begun) >= MOST:
            self._drop(next(iter(self._begun)))
        timer = asyncio.get_running_loop().call_later(WITHIN_S, self._drop, connection.fileno())
        self._begun[connection.fileno()] = connection, timer

    def end(self, descriptor: int) -> None:
        """Wait no more: hands were shaken."""
        if (found := self._begun.pop(descriptor, None)) is not None:
            found[1].cancel()

    def _drop(self, descriptor: int) -> None:
        connection, _ = self._begun[descriptor]
        self.end(descriptor)
        with suppress(OSError):  # it has gone by itself
            connection.shutdown(socket.SHUT_RDWR)  # who reads it sees its end, and closes it


class Doorstep(socket.socket):
    """Listens; whoever comes is waited for by `handshakes`."""

    handshakes: Handshakes

    def accept(self) -> tuple[socket.socket, Any]:
        """Let the next one in."""
        connection, address = super().accept()
        self.handshakes.begin(connection)
        return connection, address


def listening(host: str, port: int, handshakes: Handshakes) -> list[socket.socket]:
    """Return a socket for each address of a host, as asyncio would make them.

    Raises:
        OSError: One cannot be listened on.
    """
    with ExitStack() as stack:
        found = sorted(set(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)))
        made: list[socket.socket] = []
        for family, kind, protocol, _, address in found:
            door = stack.enter_context(Doorstep(family, kind, protocol))
            door.handshakes = handshakes
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind(address)
            made.append(door)
        stack.pop_all()
    return made
