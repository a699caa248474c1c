"""Counts and times HTTP requests by the template of their route: a path that nobody serves becomes no series."""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.telemetry.instruments import OTHER
from tailrace.telemetry.recorder import ProcessRecorder

_STREAM = b"text/event-stream"


class Measured:
    """Stands around an application; a request is timed until its answer begins, a stream is open until it ends."""

    def __init__(self, app: ASGIApp, recorder: ProcessRecorder) -> None:
        self._app, self._recorder = app, recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_s, streams = perf_counter(), 0

        async def send_and_note(message: Message) -> None:
            nonlocal streams
            if message["type"] == "http.response.start":
                route = _route_of(scope)
                self._recorder.http_request(scope["method"], route, message["status"], perf_counter() - begun_s)
                if any(name == b"content-type" and value.startswith(_STREAM) for name, value in message["headers"]):
                    streams += 1
                    self._recorder.http_streams(route, 1)
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            if streams:
                self._recorder.http_streams(_route_of(scope), -1)


def _route_of(scope: Scope) -> str:
    """Return the template of the route that answered, as the router noted it and /openapi.json names it."""
    return getattr(scope.get("route"), "path_format", OTHER)
