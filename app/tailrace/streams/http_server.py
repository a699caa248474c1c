"""How uvicorn serves: TLS, and connections that a slow or hostile client cannot keep.

Each connection has a deadline for the head of a request, and one for taking what is sent to it. There is a bound on
connections; beyond it the one that has been without a request for longest goes, so that probes always come through.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS: Final = 512
MOST_HEAD_BYTES: Final = 16 * 1024
HEAD_WITHIN_S: Final = 10.0
TAKEN_WITHIN_S: Final = 30.0
"""For a client to take what waits for it."""

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
    """A connection of HTTP/1.1 with deadlines."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None
        if len(self.connections) >= MOST_CONNECTIONS:
            _drop_idlest(self.connections)
        super().connection_made(transport)
        self.idle_since_s: float | None = self.loop.time()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        for timer in (self._deadline, self._stuck):
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

    def on_response_complete(self) -> None:
        """Wait for the head of the next request."""
        self.idle_since_s = self.loop.time()
        if not self.transport.is_closing():
            self._await_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what was sent."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(TAKEN_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken it."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.abort()


def _drop_idlest(connections: Any) -> None:
    idle = [each for each in connections if getattr(each, "idle_since_s", None) is not None]
    if idle:
        idlest = min(idle, key=lambda each: each.idle_since_s)
        connections.discard(idlest)  # now: many may come before the loop tells this one that it is lost
        idlest.transport.abort()


def options_of(tls: Tls | None) -> dict[str, Any]:
    """Return what uvicorn is told, as it serves in a worker."""
    options: dict[str, Any] = {
        "lifespan": "off",
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": DRAIN_S,
        "timeout_keep_alive": KEPT_IDLE_S,
        "http": PatientProtocol,
        "ws": "none",
        "proxy_headers": False,  # rates are by address: nobody may say for himself which one is his
        "server_header": False,
        "h11_max_incomplete_event_size": MOST_HEAD_BYTES,
    }
    return options if tls is None else options | tls_options(tls)


def tls_options(tls: Tls) -> dict[str, Any]:
    """Return what uvicorn is told of TLS: 1.2 and newer."""

    def context(_config: Config, make: Any) -> ssl.SSLContext:
        made: ssl.SSLContext = make()
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        return made

    return {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key), "ssl_context_factory": context}
