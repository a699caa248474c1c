"""The pages that an orchestrator and Prometheus ask for. Binding to an address is the worker's business.

    /livez      the event loop turns; a failure means: restart me
    /readyz     every role can do its work; a failure means: send me nothing yet
    /startupz   as /readyz until that was true once, then always 200
    /metrics    Prometheus text, or OpenMetrics where it is asked for

`?verbose` lists the checks with their reasons. Errors are problems as those of the API. These pages change
nothing, and nothing is read from a request for them but its method, path, Accept and `verbose`. Everything below /v1
is the business of `api`, which answers nobody without a token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.telemetry.failures import place_of
from tailrace.web import problems
from tailrace.web.api import Api, request_id_of
from tailrace.web.exposition import Exposition
from tailrace.web.guard import is_local, misdirected
from tailrace.web.problems import ProblemError
from tailrace.web.routes import PAGES

log = structlog.get_logger(__name__)

Checks: TypeAlias = Callable[[], Mapping[str, tuple[bool, str]]]
"""Name → (whether it is well, the reason in words). Cheap: called once per request."""

Answer: TypeAlias = Callable[[Request], Awaitable[Response]]

SECURITY_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

API: Final = "/v1/"

MOST_HEAD_BYTES: Final = 16 * 1024

_METHODS: Final = ["GET"]  # Starlette adds HEAD.


def build(
    readiness: Checks,
    liveness: Checks,
    registry: CollectorRegistry,
    api: Api | None = None,
    *,
    only_local: bool = False,
) -> ASGIApp:
    """Make the ASGI application; it holds no connection and starts nothing.

    Args:
        readiness: One check per role that this process runs.
        liveness: Of the event loop; see `beating`.
        registry: Of the instruments that /metrics shows.
        api: What is served beside the pages; None: nothing.
        only_local: Answer only where the Host names this machine, against DNS rebinding. Below /v1 the API sees to it.
    """
    routes = [
        Route("/livez", _page_of(liveness), methods=_METHODS),
        Route("/readyz", _page_of(readiness), methods=_METHODS),
        Route("/startupz", _page_of(_once_well(readiness)), methods=_METHODS),
        Route("/metrics", _metrics_page(registry), methods=_METHODS),
        *([] if api is None else api.routes),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _problem_of(api), Exception: _failure})
    app.router.redirect_slashes = False
    return _SecurityHeaders(app, only_local=only_local)


def no_http() -> bytes:
    """Return the whole answer to what the server under the application cannot read as a request."""
    problem = ProblemError(problems.NO_HTTP, "the head of the request cannot be read", headers={"connection": "close"})
    response = problem.response(uuid4().hex)
    response.headers.update(SECURITY_HEADERS)
    status = problem.kind.status
    head = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {text}" for name, text in response.headers.items())]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + bytes(response.body)


def beating(last_beat_s: Callable[[], float], clock: Callable[[], float], limit_s: float = 10.0) -> Checks:
    """Make the liveness check: a task of the event loop beat within the last `limit_s` seconds.

    Args:
        last_beat_s, clock: Of one clock that never goes back.
    """

    def checks() -> Mapping[str, tuple[bool, str]]:
        age_s = clock() - last_beat_s()
        return {"event_loop": (age_s < limit_s, f"last beat {age_s:.1f} s ago, allowed are {limit_s:.0f} s")}

    return checks


def _once_well(readiness: Checks) -> Checks:
    has_started = False

    def checks() -> Mapping[str, tuple[bool, str]]:
        nonlocal has_started
        found = {} if has_started else readiness()
        has_started = has_started or all(is_well for is_well, _ in found.values())
        return {"started": (True, "")} if has_started else found

    return checks


def _page_of(checks: Checks) -> Answer:
    async def page(request: Request) -> Response:
        found = checks()
        is_well = all(each for each, _ in found.values())
        status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
        if is_well and "verbose" not in request.query_params:
            return PlainTextResponse("ok\n", status)
        return PlainTextResponse(_listed(found, is_well=is_well), status)

    return page


def _listed(found: Mapping[str, tuple[bool, str]], *, is_well: bool) -> str:
    lines = [
        f"[{'+' if each else '-'}] {name}{': ' if reason else ''}{reason}" for name, (each, reason) in found.items()
    ]
    return "\n".join([*lines, "ok" if is_well else "not ok", ""])


def _metrics_page(registry: CollectorRegistry) -> Answer:
    exposition = Exposition(registry)

    async def page(request: Request) -> Response:
        text, content_type = await exposition.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return page


def _problem_of(api: Api | None) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def problem(request: Request, cause: Exception) -> Response:
        assert isinstance(cause, HTTPException)
        if api is not None and request.url.path.startswith(API):
            return api.refuse(request, cause.status_code)
        return _refusal(cause).response(request_id_of(request))

    return problem


def _refusal(cause: HTTPException) -> ProblemError:
    if cause.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (cause.headers or {}).get("Allow", "GET, HEAD")
        return ProblemError(problems.METHOD_NOT_ALLOWED, f"allowed: {allowed}", headers={"allow": allowed})
    hint = f"There are {', '.join(page.path for page in PAGES)}; /openapi.json lists all, where the API is served."
    return ProblemError(problems.NOT_FOUND, "no page has this path", hint=hint)


async def _failure(request: Request, cause: Exception) -> Response:
    request_id = request_id_of(request)
    log.error("request failed", request=request_id, error=type(cause).__name__, place=place_of(cause))
    return ProblemError(problems.INTERNAL, "what went wrong is in the log").response(request_id)


class _SecurityHeaders:
    """Puts the same headers on every answer, those about failures included: it stands around the application.

    A head that is too large, which the server under it may have read in one piece, goes no further; nor does what is
    meant for another machine.
    """

    def __init__(self, app: ASGIApp, *, only_local: bool) -> None:
        self._app = app
        self._only_local = only_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._answer_to(scope)(scope, receive, send_with_headers)

    def _answer_to(self, scope: Scope) -> ASGIApp:
        size = sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope["query_string"])
        if size > MOST_HEAD_BYTES:
            detail = f"the head has {size} bytes; allowed: {MOST_HEAD_BYTES}"
            problem = ProblemError(problems.HEAD_TOO_LARGE, detail, headers={"connection": "close"})
            return problem.response(request_id_of(Request(scope)))
        is_page = not scope["path"].startswith(API)
        if self._only_local and is_page and not is_local(Headers(scope=scope).get("host", "")):
            return misdirected().response(request_id_of(Request(scope)))
        return self._app
