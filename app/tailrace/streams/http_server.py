"""How uvicorn serves: TLS, and connections that a slow or hostile client cannot keep.

Each connection has a deadline for the head of a request, and one for taking something of what is sent to it. There is
a bound on connections; beyond it the one that has been without a request for longest goes, so that probes always come
through. Before that, by TLS, they are the business of `handshakes`.
"""

from __future__ import annotations

import asyncio
import fcntl
import ssl
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from faust.contrib.asgi import AsgiService, serve_asgi
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from tailrace.streams.handshakes import Handshakes, listening

MOST_CONNECTIONS: Final = 512
MOST_HEAD_BYTES: Final = 16 * 1024
HEAD_WITHIN_S: Final = 10.0
TAKEN_WITHIN_S: Final = 30.0
"""For a client to take something of what waits for it."""

KEPT_IDLE_S: Final = 10
DRAIN_S: Final = 3


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of a certificate, its chain with it, and of its key."""

    certificate: Path
    key: Path

    def problem(self) -> str:
        """Return why they cannot be used, "" when they can; the words hold nothing of the key."""
        try:
            # A passphrase of nothing: without one, OpenSSL would ask at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password=lambda: "")
        except OSError as problem:
            return f"{self.certificate}, {self.key}: {problem.strerror or type(problem).__name__}"
        return ""


class PatientProtocol(H11Protocol):
    """A connection of HTTP/1.1 with deadlines.

    Args:
        handshakes: Where the connection counted until hands were shaken; None: it speaks no TLS.
        no_http: Returns the answer to what is no request; None: uvicorn's own.
    """

    def __init__(
        self,
        *args: Any,
        handshakes: Handshakes | None = None,
        no_http: Callable[[], bytes] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._handshakes = handshakes
        self._no_http = no_http
        self._deadline: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._untaken = 0
        self.idle_since_s: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        if self._handshakes is not None:
            self._handshakes.end(transport.get_extra_info("socket").fileno())
        if len(self.connections) >= MOST_CONNECTIONS:
            _drop_idlest(self.connections)
        super().connection_made(transport)
        transport.set_write_buffer_limits(HIGH_WATER_LIMIT)  # by TLS it would be eight times as much
        self.idle_since_s = self.loop.time()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        for timer in (self._deadline, self._taking):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Read what came; the head is complete when a request is under way."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self.idle_since_s = None
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
            if not self.flow.write_paused:  # what is added to what waits would look as if nothing were taken
                self._stop_taking()

    def on_response_complete(self) -> None:
        """Wait for the client to take the rest of the answer, and for the head of the next request."""
        self.idle_since_s = self.loop.time()
        self._await_taking()
        if not self.transport.is_closing():
            self._await_head()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; where it follows one that is being answered, that answer is cut."""
        if self._no_http is None:
            super().send_400_response(msg)
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(self._no_http())
        self.transport.close()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what was sent."""
        super().pause_writing()
        self._stop_taking()
        self._await_taking()

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        super().resume_writing()
        self._stop_taking()
        if self.cycle is not None and self.cycle.response_complete:
            self._await_taking()

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, on which nothing comes any more; not while it still carries an answer."""
        if _untaken(self.transport):
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def _await_taking(self) -> None:
        if self._taking is None and (waiting := _untaken(self.transport)):
            self._untaken = waiting
            self._taking = self.loop.call_later(TAKEN_WITHIN_S, self._look_at_taking)

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _look_at_taking(self) -> None:
        """Cut the connection where nothing was taken since the last look: nothing is added while a client is late."""
        self._taking = None
        if _untaken(self.transport) < self._untaken:
            self._await_taking()
        else:
            self.transport.abort()

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if self.transport.is_closing() or not (self.cycle is None or self.cycle.response_complete):
            return
        if _untaken(self.transport):
            self._await_head()
        else:
            self.transport.abort()


def _untaken(transport: asyncio.Transport) -> int:
    """Return how many bytes wait for the client: in both layers of TLS, and in the kernel.

    A transport of TLS tells only of what it has not enciphered, and the kernel asks for more only when a third of its
    buffer, which may be megabytes, is free: of a slow client neither would show for a long time that it takes anything.
    """
    layer = getattr(transport, "_ssl_protocol", transport)
    if layer is None:  # it was closed twice
        return 0
    under = getattr(layer, "_transport", None)
    ours = transport.get_write_buffer_size() + (0 if under is None else under.get_write_buffer_size())
    return ours + _in_kernel(transport.get_extra_info("socket"))


def _in_kernel(connection: Any) -> int:
    """Return how many bytes the kernel has sent and nobody has acknowledged, or not sent; 0 where it does not tell."""
    try:
        told = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # another system than Linux; it is closed
        return 0
    return int.from_bytes(told, sys.byteorder)


def _drop_idlest(connections: Any) -> None:
    idle = [each for each in connections if getattr(each, "idle_since_s", None) is not None]
    if idle:
        idlest = min(idle, key=lambda each: each.idle_since_s)
        connections.discard(idlest)  # now: many may come before the loop tells this one that it is lost
        idlest.transport.abort()


def options_of(
    tls: Tls | None, handshakes: Handshakes | None = None, no_http: Callable[[], bytes] | None = None
) -> dict[str, Any]:
    """Return what uvicorn is told, as it serves in a worker; the last two are for each PatientProtocol."""
    options: dict[str, Any] = {
        "lifespan": "off",
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": DRAIN_S,
        "timeout_keep_alive": KEPT_IDLE_S,
        "http": partial(PatientProtocol, handshakes=handshakes, no_http=no_http),
        "ws": "none",
        "proxy_headers": False,  # rates are by address: nobody may say for himself which one is his
        "server_header": False,
        "h11_max_incomplete_event_size": MOST_HEAD_BYTES,
    }
    return options if tls is None else options | tls_options(tls)


def serve(app: Any, api: Any, at: tuple[str, int], tls: Tls | None, no_http: Callable[[], bytes] | None) -> None:
    """Let a Faust app serve an ASGI application at an address."""
    host, port = at
    if tls is None:
        serve_asgi(app, api, host=host, port=port, **options_of(None, None, no_http))
        return
    handshakes = Handshakes()
    options = options_of(tls, handshakes, no_http)
    given = {"asgi_app": api, "faust_app": app, "host": host, "port": port, "uvicorn_options": options}
    app.web_server(type("TlsService", (_TlsService,), given | {"handshakes": handshakes}))


class _TlsService(AsgiService):
    """Serves on sockets that know who has not shaken hands; uvicorn's own do not, and wait for a minute."""

    handshakes: Handshakes

    def _create_server(self) -> Any:
        server = super()._create_server()
        assert self.host is not None, "given when the class was made"
        assert self.port is not None, "likewise"
        server.serve = partial(server.serve, listening(self.host, self.port, self.handshakes))
        return server


def tls_options(tls: Tls) -> dict[str, Any]:
    """Return what uvicorn is told of TLS: 1.2 and newer."""

    def context(_config: Config, make: Any) -> ssl.SSLContext:
        made: ssl.SSLContext = make()
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        return made

    return {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key), "ssl_context_factory": context}
