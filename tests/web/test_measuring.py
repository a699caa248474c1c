"""Requests are counted by route, whatever paths strangers ask for."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import ProcessRecorder
from tailrace.web.measuring import Measured


async def ask(app: Any, path: str, method: str = "GET", *, leave: asyncio.Event | None = None) -> None:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        if leave is not None:
            await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        del message

    await app(scope, receive, send)


def make_app() -> tuple[Measured, Instruments, asyncio.Event]:
    end = asyncio.Event()

    async def one(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["name"])

    async def events(_request: Request) -> StreamingResponse:
        async def lines() -> Any:
            yield "data: 1\n\n"
            await end.wait()

        return StreamingResponse(lines(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/models/{name}", one), Route("/v1/events", events)])
    instruments = Instruments()
    return Measured(app, ProcessRecorder(instruments)), instruments, end


def told(instruments: Instruments) -> list[str]:
    lines = generate_latest(instruments.registry).decode().splitlines()
    return [
        line for line in lines if line.startswith(("tailrace_http_requests_total{", "tailrace_http_streams_active{"))
    ]


async def test_a_request_is_counted_by_the_template_of_its_route():
    app, instruments, _ = make_app()

    for name in ("a", "b"):
        await ask(app, f"/v1/models/{name}")

    assert told(instruments) == [
        'tailrace_http_requests_total{method="GET",route="/v1/models/{name}",status="2xx"} 2.0'
    ]
    assert 'tailrace_http_request_duration_seconds_count{method="GET",route="/v1/models/{name}"} 2.0' in (
        generate_latest(instruments.registry).decode()
    )


async def test_paths_and_methods_that_are_not_served_are_one_series():
    app, instruments, _ = make_app()

    for number in range(20):
        await ask(app, f"/secret/{number}", f"M{number}")

    assert told(instruments) == ['tailrace_http_requests_total{method="_other",route="_other",status="4xx"} 20.0']


async def test_a_stream_is_active_until_it_ends():
    app, instruments, end = make_app()
    asked = asyncio.create_task(ask(app, "/v1/events", leave=end))
    for _ in range(1_000):
        await asyncio.sleep(0)
        if told(instruments):
            break
    during = told(instruments)

    end.set()
    await asked

    assert 'tailrace_http_streams_active{route="/v1/events"} 1.0' in during
    assert 'tailrace_http_streams_active{route="/v1/events"} 0.0' in told(instruments)
