"""Health and metrics pages, asked as an orchestrator and Prometheus ask."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import Instruments
from tailrace.web import exposition
from tailrace.web.exposition import Exposition
from tailrace.web.server import MOST_HEAD_BYTES, SECURITY_HEADERS, Checks, beating, build

GOOD: Checks = lambda: {"score": (True, "4 partitions"), "join": (True, "")}  # noqa: E731
BAD: Checks = lambda: {"score": (True, ""), "join": (False, "waits for the broker")}  # noqa: E731


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(app: Any, target: str, *, method: str = "GET", accept: str = "", **headers: str) -> Answer:
    """Ask an ASGI application as a server would, without one."""
    path, _, query = target.partition("?")
    all_headers = {"host": "localhost", "accept": accept} | {k.replace("_", "-"): v for k, v in headers.items()}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    # After the answer to a failure it is raised again, so that the server logs it.
    with suppress(RuntimeError):
        asyncio.run(app(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


def problem_of(answer: Answer) -> dict[str, Any]:
    """Return a problem, which has all the fields of one wherever it comes from."""
    problem: dict[str, Any] = json.loads(answer.body)
    assert "application/problem+json" == answer.headers["content-type"]
    assert {"type", "title", "status", "detail", "instance", "code", "hint"} == set(problem)
    assert f"urn:tailrace:request:{answer.headers['x-request-id']}" == problem["instance"]
    return problem


def make_app(readiness: Checks = GOOD, liveness: Checks = GOOD) -> Any:
    return build(readiness, liveness, Instruments().registry)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
def test_a_healthy_process_answers_ok(path: str):
    answer = ask(make_app(), path)

    assert (200, "ok\n") == (answer.status, answer.text)
    assert answer.headers["content-type"].startswith("text/plain")


def test_verbose_lists_the_checks():
    assert "[+] score: 4 partitions\n[+] join\nok\n" == ask(make_app(), "/readyz?verbose").text


def test_a_role_that_is_not_ready_is_503_with_the_reason():
    answer = ask(make_app(readiness=BAD), "/readyz")

    assert (503, "[+] score\n[-] join: waits for the broker\nnot ok\n") == (answer.status, answer.text)


def test_a_process_that_is_not_ready_is_still_alive():
    app = make_app(readiness=BAD)

    assert 200 == ask(app, "/livez").status


def test_startup_is_over_for_good_once_everything_was_ready():
    is_ready = False
    app = make_app(readiness=lambda: {"score": (is_ready, "")})

    before = ask(app, "/startupz").status
    is_ready = True
    once = ask(app, "/startupz").status
    is_ready = False
    after = ask(app, "/startupz").status

    assert (503, 200, 200) == (before, once, after)
    assert 503 == ask(app, "/readyz").status


@pytest.mark.parametrize(("age_s", "status"), [(9.9, 200), (10.0, 503)])
def test_a_process_whose_event_loop_stands_still_is_not_alive(age_s: float, status: int):
    answer = ask(make_app(liveness=beating(lambda: 5.0, lambda: 5.0 + age_s)), "/livez?verbose")

    assert status == answer.status
    assert f"last beat {age_s:.1f} s ago, allowed are 10 s" in answer.text


def test_metrics_are_prometheus_text_by_default_and_openmetrics_when_asked_for():
    instruments = Instruments()
    instruments.add(declared.EVENTS, 3, "phishing", "scored")
    app = build(GOOD, GOOD, instruments.registry)

    plain = ask(app, "/metrics")
    open_metrics = ask(app, "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert 'tailrace_events_total{loop="phishing",outcome="scored"} 3.0' in plain.text
    assert open_metrics.text.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/", "/livez/", "/favicon.ico", "/../etc/passwd", "//readyz", "/READYZ"])
def test_an_unknown_page_is_a_problem_in_json(path: str):
    answer = ask(make_app(), path)

    problem = problem_of(answer)
    assert (404, "not_found") == (answer.status, problem["code"])
    assert "/livez, /readyz, /startupz, /metrics" in problem["hint"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/livez", "/metrics"])
def test_only_get_and_head_are_answered(method: str, path: str):
    answer = ask(make_app(), path, method=method)

    assert (405, "method_not_allowed") == (answer.status, problem_of(answer)["code"])
    assert {"GET", "HEAD"} == set(answer.headers["allow"].replace(" ", "").split(","))


def test_head_has_the_headers_without_the_page():
    answer = ask(make_app(), "/readyz", method="HEAD")

    assert 200 == answer.status
    assert "3" == answer.headers["content-length"]


def test_a_check_that_breaks_tells_a_stranger_nothing():
    def broken() -> dict[str, tuple[bool, str]]:
        raise RuntimeError("secret")

    with capture_logs() as logs:
        answer = ask(make_app(readiness=broken), "/readyz")

    assert (500, "internal_error") == (answer.status, problem_of(answer)["code"])
    assert [(answer.headers["x-request-id"], "RuntimeError")] == [(told["request"], told["error"]) for told in logs]
    assert "secret" not in answer.text + str(logs)
    assert SECURITY_HEADERS.items() <= answer.headers.items()


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/v1/status"])
def test_a_head_that_is_too_large_is_a_problem_like_others(path: str):
    answer = ask(make_app(), path, x_large="x" * MOST_HEAD_BYTES, x_request_id="abc-1")

    assert (431, "head_too_large", "close") == (answer.status, problem_of(answer)["code"], answer.headers["connection"])
    assert "abc-1" == answer.headers["x-request-id"]
    assert SECURITY_HEADERS.items() <= answer.headers.items()


class Registry:
    """Tells how often it was read, and at how many places at once."""

    def __init__(self) -> None:
        self.reads = 0
        self.most_at_once = 0
        self._now = 0

    def collect(self) -> Iterator[Any]:
        self.reads += 1
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(0.02)
        self._now -= 1
        return iter(())


async def ask_together(registry: Any, accepts: list[str]) -> list[tuple[bytes, str]]:
    page = Exposition(registry)
    return await asyncio.gather(*[page.text(accept) for accept in accepts])


def test_metrics_are_made_once_for_all_who_ask_and_one_format_at_a_time():
    registry = Registry()

    asyncio.run(ask_together(registry, ["", "application/openmetrics-text", "text/plain"] * 50))

    assert (2, 1) == (registry.reads, registry.most_at_once)


def test_a_made_up_version_is_no_text_of_its_own():
    registry = Registry()
    versions = [f"application/openmetrics-text;version=1.{number}.0" for number in range(1, 50)]

    found = asyncio.run(ask_together(registry, [*versions, "application/openmetrics-text;version=x"]))

    assert 2 == registry.reads
    assert {
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "text/plain; version=0.0.4; charset=utf-8",
    } == {content_type for _, content_type in found}


def test_what_a_store_that_hangs_holds_up_is_not_metrics():
    async def ask_beside() -> bytes:
        loop, free = asyncio.get_running_loop(), threading.Event()
        hanging = [loop.run_in_executor(None, free.wait) for _ in range(100)]
        async with asyncio.timeout(2):
            text, _ = await Exposition(Instruments().registry).text("")
        free.set()
        await asyncio.gather(*hanging)
        return text

    assert b"tailrace_ready" in asyncio.run(ask_beside())


async def test_a_text_is_kept_for_about_a_second(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "KEPT_FOR_S", 0.1)
    registry = Registry()
    page = Exposition(registry)  # type: ignore[arg-type]

    for pause_s in (0.0, 0.0, 0.15, 0.0):
        await asyncio.sleep(pause_s)
        await page.text("")

    assert 2 == registry.reads


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/nowhere"])
def test_every_answer_has_the_security_headers(path: str):
    answer = ask(make_app(), path)

    assert SECURITY_HEADERS.items() <= answer.headers.items()
