"""Health and metrics pages, asked as an orchestrator and Prometheus ask."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import Instruments
from tailrace.web.server import SECURITY_HEADERS, Checks, beating, build

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


def ask(app: Any, target: str, *, method: str = "GET", accept: str = "") -> Answer:
    """Ask an ASGI application as a server would, without one."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), (b"accept", accept.encode())],
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

    assert (404, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert {"type", "title", "status", "detail"} == set(json.loads(answer.body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/livez", "/metrics"])
def test_only_get_and_head_are_answered(method: str, path: str):
    answer = ask(make_app(), path, method=method)

    assert (405, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert {"GET", "HEAD"} == set(answer.headers["allow"].replace(" ", "").split(","))


def test_head_has_the_headers_without_the_page():
    answer = ask(make_app(), "/readyz", method="HEAD")

    assert 200 == answer.status
    assert "3" == answer.headers["content-length"]


def test_a_check_that_breaks_tells_a_stranger_nothing():
    def broken() -> dict[str, tuple[bool, str]]:
        raise RuntimeError("secret")

    answer = ask(make_app(readiness=broken), "/readyz")

    assert (500, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert "secret" not in answer.text
    assert SECURITY_HEADERS.items() <= answer.headers.items()


@pytest.mark.parametrize("path", ["/livez", "/metrics", "/nowhere"])
def test_every_answer_has_the_security_headers(path: str):
    answer = ask(make_app(), path)

    assert SECURITY_HEADERS.items() <= answer.headers.items()
