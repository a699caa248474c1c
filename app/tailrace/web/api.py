"""The operations of the API: each takes what the guard let through, asks the backend, and returns a body."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final, TypeAlias
from uuid import uuid4

import orjson
import structlog
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from tailrace.domain.errors import LogError, StoreUnavailable, TailraceError
from tailrace.telemetry.failures import place_of
from tailrace.web import bodies, openapi, problems
from tailrace.web.backend import Backend, Plain, StreamEvent
from tailrace.web.guard import Guard, parameters_of
from tailrace.web.problems import ProblemError, harmless
from tailrace.web.routes import EVENT_STREAM, JSON, LAST_EVENT_ID, OCTETS, OPERATIONS, Operation

log = structlog.get_logger(__name__)

PING_S: Final = 15.0
"""A stream in which nothing comes says at least so often that it lives."""

PIECE_BYTES: Final = 1 << 16
"""Of a file that is sent: what a slow client has not taken waits in the file, and not twice."""

ADMITTED_FOR_S: Final = 1.0
"""A stream asks so often whether its token still counts."""

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _LoopName(Convertor[str]):
    """A loop's name in a path: never a part of a path of files, never an operation."""

    regex = "[a-z][a-z0-9_]{0,63}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("loop", _LoopName())


@dataclass(frozen=True, slots=True)
class Call:
    """What an operation is given.

    Attributes:
        name: Of the loop in the path; "" where it has none.
        is_head: Only the head of the answer is asked for.
        is_admitted: Tells whether who asked may still do so.
        request_id: For the log.
    """

    name: str
    parameters: Mapping[str, Any]
    body: bodies.Asked | None
    is_head: bool
    is_admitted: Callable[[], bool]
    request_id: str


Operate: TypeAlias = Callable[[Call], Awaitable[Plain | Response]]


class Api:
    """The operations of one process.

    Args:
        clock: In seconds; never goes back.
    """

    def __init__(self, backend: Backend, guard: Guard, clock: Callable[[], float] = perf_counter) -> None:
        self._backend = backend
        self._guard = guard
        self._clock = clock
        self._description = orjson.dumps(openapi.description())
        self.routes = [self._route(operation) for operation in OPERATIONS]

    def _route(self, operation: Operation) -> Route:
        operate: Operate = getattr(self, operation.name)

        async def endpoint(request: Request) -> Response:
            request_id = request_id_of(request)
            try:
                response = await self._answer(request, operation, operate, request_id)
            except Exception as error:  # noqa: BLE001 - a stranger gets no trace; the log has no values
                response = _told(error, request_id, operation.path).response(request_id)
            response.headers["x-request-id"] = request_id
            return response

        return Route(operation.path.replace("{name}", "{name:loop}"), endpoint, methods=[operation.method])

    async def _answer(self, request: Request, operation: Operation, operate: Operate, request_id: str) -> Response:
        is_admitted: Callable[[], bool] = lambda: True  # noqa: E731
        if operation.scope is not None:
            token = self._guard.admit(request, operation.scope)
            is_admitted = partial(self._guard.still_admits, token, operation.scope)
        async with AsyncExitStack() as stack:
            if operation.scope is not None:
                stack.enter_context(self._guard.under_way(operation, is_head=request.method == "HEAD"))
            parameters = parameters_of(request, operation)
            body = None if operation.body is None else await self._guard.body_of(request, operation)
            name = request.path_params.get("name", "")
            if name and name not in self._backend.names:
                raise self._no_such_loop(name)
            found = await operate(Call(name, parameters, body, request.method == "HEAD", is_admitted, request_id))
            if isinstance(found, _Stream):
                found.stack.push_async_exit(stack.pop_all())  # it goes on when this function has returned
            if isinstance(found, Response):
                return found
            return Response(harmless(orjson.dumps(found)), operation.success, media_type=JSON)

    def refuse(self, request: Request, status: int) -> Response:
        """Answer a request under /v1 that no operation is for; who has no token does not learn what there is."""
        request_id = request_id_of(request)
        try:
            self._guard.admit(request, None)
            refusal = self._refusal(request, status)
        except ProblemError as problem:
            refusal = _told(problem, request_id, "none")
        response = refusal.response(request_id)
        response.headers["x-request-id"] = request_id
        return response

    def _refusal(self, request: Request, status: int) -> ProblemError:
        if status != HTTPStatus.METHOD_NOT_ALLOWED:
            return ProblemError(problems.NOT_FOUND, "no operation has this path")
        allowed = self._methods_of(request)
        return ProblemError(problems.METHOD_NOT_ALLOWED, f"allowed: {allowed}", headers={"allow": allowed})

    def _methods_of(self, request: Request) -> str:
        matching = [route for route in self.routes if route.matches(request.scope)[0] is not Match.NONE]
        return ", ".join(sorted({method for route in matching for method in route.methods or ()}))

    def _loop(self, given: str | None, *, is_in_body: bool = False) -> str:
        names = self._backend.names
        if given is None:
            if len(names) == 1:
                return names[0]
            detail, hint = f"found no name of a loop; there are: {', '.join(names)}", "Name one of them with `loop`."
            if is_in_body:
                missing = {"at": "loop", "code": "missing", "detail": detail}
                raise ProblemError(problems.INVALID_BODY, detail, hint=hint, errors=[missing])
            raise ProblemError(problems.INVALID_PARAMETER, detail, hint=hint)
        if given not in names:
            raise self._no_such_loop(given)
        return given

    def _no_such_loop(self, name: str) -> ProblemError:
        names = ", ".join(self._backend.names)
        return ProblemError(problems.NOT_FOUND, f"there is no loop {name}", hint=f"There are: {names}.")

    # ── operations, by their names in the table ─────────────────────────────────────────────────────────────────

    async def openapi(self, _call: Call) -> Response:
        """Return the description."""
        return Response(self._description, media_type=JSON)

    async def status(self, _call: Call) -> Plain:
        """Return what runs."""
        return await self._backend.status()

    async def models(self, _call: Call) -> Plain:
        """Return all models."""
        return {"models": [self._backend.model(name) for name in self._backend.names]}

    async def model(self, call: Call) -> Plain:
        """Return one model."""
        return self._backend.model(call.name)

    async def predict(self, call: Call) -> Plain:
        """Ask the model."""
        assert isinstance(call.body, bodies.PredictRequest)
        explain, instances = bool(call.parameters["explain"]), call.body.instances
        if explain and len(instances) > bodies.MOST_EXPLAINED:
            raise ProblemError(
                problems.INVALID_PARAMETER,
                f"found {len(instances)} instances with explain; allowed: {bodies.MOST_EXPLAINED}",
            )
        return {"model": call.name, "predictions": await self._backend.predict(call.name, instances, explain=explain)}

    async def versions(self, call: Call) -> Plain:
        """Return the snapshots."""
        return await self._backend.versions(call.name, call.parameters["limit"])

    async def snapshot(self, call: Call) -> Response:
        """Return the file of a snapshot."""
        asked = call.name, call.parameters["number"], call.parameters["lineage"]
        if call.is_head:
            return Response(headers=await self._backend.snapshot_head(*asked), media_type=OCTETS)
        content, told = await self._backend.snapshot(*asked)
        headers = {**told, "content-length": str(len(content))}
        return _Stream(_pieces(content), AsyncExitStack(), OCTETS, headers)

    async def metrics(self, call: Call) -> Plain:
        """Return quality over time."""
        return await self._backend.quality(call.name, call.parameters["step"])

    async def predictions(self, call: Call) -> Plain:
        """Return published predictions."""
        asked = call.parameters
        return await self._backend.predictions(self._loop(asked["loop"]), asked["limit"], asked["cursor"])

    async def write_events(self, call: Call) -> Plain:
        """Write events."""
        assert isinstance(call.body, bodies.EventsRequest)
        return await self._backend.write("events", self._loop(call.body.loop, is_in_body=True), call.body.events)

    async def write_labels(self, call: Call) -> Plain:
        """Write labels."""
        assert isinstance(call.body, bodies.LabelsRequest)
        return await self._backend.write("labels", self._loop(call.body.loop, is_in_body=True), call.body.labels)

    async def events(self, call: Call) -> Response:
        """Open a stream."""
        asked = call.parameters
        name = self._loop(asked["loop"])
        if call.is_head:
            return Response(media_type=EVENT_STREAM)
        stack = AsyncExitStack()
        events = await stack.enter_async_context(self._backend.stream(name, asked["types"], asked[LAST_EVENT_ID.name]))
        return _Stream(self._frames(events, call), stack, EVENT_STREAM)

    async def _frames(self, events: AsyncIterator[StreamEvent], call: Call) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        said = checked = self._clock()
        async for event in _until_trouble(events, call.request_id):
            now = self._clock()
            if now - checked >= ADMITTED_FOR_S:
                checked = now
                if not call.is_admitted():
                    log.info("a stream has ended: its access was withdrawn", request=call.request_id)
                    return
            if event.id and not event.name:
                yield f"id: {event.id}\n\n".encode()
            elif event.name:
                said = now
                head = f"id: {event.id}\nevent: {event.name}\ndata: ".encode()
                yield head + harmless(event.data) + b"\n\n"
            elif now - said >= PING_S:
                said = now
                yield b": still here\n\n"


async def _until_trouble(events: AsyncIterator[StreamEvent], request_id: str) -> AsyncIterator[StreamEvent]:
    """Yield events; where the log cannot be read on, the stream ends, and the client comes back."""
    try:
        async for event in events:
            yield event
    except TailraceError as problem:
        log.warning("a stream has ended early", request=request_id, why=str(problem))
    except Exception as error:  # noqa: BLE001 - the head of the answer is long gone; the log has no values
        log.error("a stream has failed", request=request_id, error=type(error).__name__, place=place_of(error))


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


class _Stream(StreamingResponse):
    """An answer that goes on for a while, and what is to be closed when it ends, also where it ends before it began.

    Attributes:
        stack: Closed at the end.
    """

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        stack: AsyncExitStack,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(parts, headers=headers, media_type=media_type)
        self.stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.stack:
            await super().__call__(scope, receive, send)


def request_id_of(request: Request) -> str:
    """Return the id that the caller gave, if it is one, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _told(error: Exception, request_id: str, route: str) -> ProblemError:
    """Return what is answered where something was raised, and tell the log of what only the log may hold."""
    if isinstance(error, ProblemError):
        if error.kind in {problems.UNAUTHORIZED, problems.FORBIDDEN}:
            log.info("request refused", request=request_id, route=route, why=error.kind.code, who=error.who)
        return error
    about = {"request": request_id, "route": route, "error": type(error).__name__, "place": place_of(error)}
    if isinstance(error, LogError):
        log.warning("request failed: the log does not answer", why=str(error), **about)
        return ProblemError(problems.LOG_UNAVAILABLE, str(error), headers={"retry-after": "2"})
    if isinstance(error, StoreUnavailable):
        log.warning("request failed: the store does not answer", why=str(error), **about)
        return ProblemError(problems.STORE_UNAVAILABLE, "the store gives nothing now", headers={"retry-after": "2"})
    log.error("request failed", **about)
    return ProblemError(problems.INTERNAL, "what went wrong is in the log")
