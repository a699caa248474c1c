"""The API: nothing without a token, nothing that the table does not name, and problems that say what to do."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import pytest
from starlette.routing import Route
from structlog.testing import capture_logs
from tests.web.api_builders import ALL, Answer, FakeBackend, Site, ask_app, make_token, text_of, unavailable

from tailrace.domain.access import Scope
from tailrace.domain.errors import CodecError, StoreUnavailable
from tailrace.telemetry.instruments import MOST_ROUTES, OTHER, Instruments
from tailrace.web import guard, problems
from tailrace.web.api import PIECE_BYTES
from tailrace.web.backend import StreamEvent
from tailrace.web.guard import GUESSES, Limits, is_local
from tailrace.web.problems import ProblemError
from tailrace.web.routes import OPEN_PATHS, OPERATIONS, Operation
from tailrace.web.server import build

EVENT = {"page_id": "p1", "a": 1.0}
BODIES: dict[str, Any] = {
    "predict": {"instances": [EVENT]},
    "write_events": {"events": [EVENT]},
    "write_labels": {"labels": [{"page_id": "p1", "y": True}]},
}
JSON_BODY = {"content-type": "application/json"}
SCOPED = [operation for operation in OPERATIONS if operation.scope is not None]
SNAPSHOT = [operation.name for operation in OPERATIONS].index("snapshot")


def problem_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def path_of(operation: Operation) -> str:
    return operation.path.replace("{name}", "phishing")


def all_routes(site: Site) -> list[tuple[str, str]]:
    """Walk the router itself: what it answers, and not what a table says."""
    app = site.app
    while not hasattr(app, "routes"):
        app = app._app
    found = []
    for route in app.routes:
        assert isinstance(route, Route), route
        path = re.sub(r"\{name(:[a-z]+)?\}", "phishing", route.path)
        found += [(method, path) for method in sorted(route.methods or ())]
    return found


# ── default deny ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_route_but_the_open_ones_refuses_who_has_no_token():
    routes = all_routes(Site())

    assert {path for _, path in routes} > {"/v1/status", "/v1/models/phishing:predict", *OPEN_PATHS}
    for method, path in routes:
        site = Site()
        answer = site.ask(method, path, token=None, json_body={} if method == "POST" else None)
        expected = 200 if path in OPEN_PATHS else 401
        assert expected == answer.status, (method, path)
        assert not site.backend.asked


def test_every_route_refuses_a_token_of_every_other_scope():
    for operation in SCOPED:
        others = [scope for scope in Scope if scope is not operation.scope]
        site = Site(tokens=(make_token(1, others),))

        answer = site.ask(operation.method, path_of(operation), json_body=BODIES.get(operation.name))

        assert (403, "forbidden") == (answer.status, answer.code), operation.name
        assert f"--scope {operation.scope}" in answer.json["hint"]
        assert not site.backend.asked


def test_every_route_answers_a_token_of_its_own_scope_alone():
    for operation in SCOPED:
        site = Site(tokens=(make_token(1, [operation.scope]),))

        answer = site.ask(operation.method, path_of(operation), json_body=BODIES.get(operation.name))

        assert operation.success == answer.status, (operation.name, answer.body)
        assert site.backend.asked, operation.name


def test_without_an_api_there_is_none():
    site = Site()
    site.app = build(dict, dict, Instruments().registry)

    assert 404 == site.ask("GET", "/v1/status").status


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1/x", "/v1/models/../../etc/passwd", "/v1/models/phishing:learn", "/v1/status/"]
)
def test_what_is_not_there_is_told_to_nobody_without_a_token(path: str):
    assert (401, "unauthorized") == problem_of(Site().ask("GET", path, token=None))
    assert (404, "not_found") == problem_of(Site().ask("GET", path))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_a_method_that_a_resource_does_not_take_names_those_that_it_does(method: str):
    answer = Site().ask(method, "/v1/events")

    assert (405, "method_not_allowed") == (answer.status, answer.code)
    assert "GET, HEAD, POST" == answer.headers["allow"]
    assert 401 == Site().ask(method, "/v1/events", token=None).status


@pytest.mark.parametrize(
    ("tokens", "header", "detail"),
    [
        ((ALL,), None, "found no header"),
        ((ALL,), "Basic YTpi", "found no header"),
        ((ALL,), "Bearer x", "not of the form"),
        ((ALL,), f"Bearer {text_of(2)}", "not known"),
        ((make_token(1, Scope, expires_ms=1_000),), f"Bearer {text_of(1)}", "expired"),
    ],
)
def test_a_token_that_does_not_count_is_refused_with_the_reason(tokens: Any, header: str | None, detail: str):
    headers = {} if header is None else {"authorization": header}

    answer = Site(tokens=tokens).ask("GET", "/v1/status", token=None, headers=headers)

    assert (401, "unauthorized") == (answer.status, answer.code)
    assert detail in answer.json["detail"]
    assert "tailrace tokens create" in answer.json["hint"]
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert text_of(2) not in answer.body.decode()


def test_a_token_in_the_address_is_no_token():
    assert 401 == Site().ask("GET", f"/v1/status?access_token={text_of(1)}", token=None).status


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:8321", 200), ("[::1]:1", 200), ("evil.example", 421), ("", 421), ("localhost.evil.example", 421), ("127.0.0.1@evil.example", 421), ("127.0.0.1, evil.example", 421)],
)  # fmt: skip
def test_on_loopback_only_this_machine_may_be_meant(host: str, status: int):
    assert status == Site().ask("GET", "/v1/status", headers={"host": host}).status
    assert 200 == Site(only_local=False).ask("GET", "/v1/status", headers={"host": host}).status


def test_hosts_of_the_machine_itself_are_known():
    assert all(map(is_local, ["LOCALHOST", "127.9.9.9", "::1", "[::1]"]))
    assert not any(map(is_local, ["10.0.0.1", "::2", "a b", "[::1", "localhost:x"]))


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_guesses_tokens_is_slowed_down_and_nobody_else():
    site = Site()
    found = [site.ask("GET", "/v1/status", token=text_of(2)).status for _ in range(3 * GUESSES)]

    assert [401] * 2 * GUESSES + [429] * GUESSES == found
    assert 401 == site.ask("GET", "/v1/status", token=text_of(2), client="127.0.0.2").status
    assert 200 == site.ask("GET", "/v1/status").status
    site.now_s += 1
    assert 401 == site.ask("GET", "/v1/status", token=text_of(2)).status


def test_a_token_has_a_rate_of_its_own():
    site = Site(limits=Limits(rate=2), tokens=(ALL, make_token(2, Scope)))

    found = [site.ask("GET", "/v1/status") for _ in range(5)]

    assert [200, 200, 200, 200, 429] == [answer.status for answer in found]
    assert "too_many_requests" == found[-1].code
    assert 1 <= int(found[-1].headers["retry-after"])
    assert 200 == site.ask("GET", "/v1/status", token=text_of(2)).status


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read_to_its_end(announced: bool):
    site = Site(limits=Limits(max_body=1_000))
    headers = {"content-type": "application/json"} | ({"content-length": "100000000"} if announced else {})
    chunks = [b"wait"] if announced else [b"x" * 600, b"x" * 600, b"wait"]

    answer = site.ask("POST", "/v1/events", headers=headers, chunks=chunks)

    assert (413, "body_too_large", "close") == (answer.status, answer.code, answer.headers["connection"])


def test_a_body_that_does_not_come_is_not_waited_for():
    site = Site(limits=Limits(body_within_s=0.05))

    answer = site.ask("POST", "/v1/events", headers={"content-type": "application/json"}, chunks=[b"{", b"wait"])

    assert (408, "request_timeout") == (answer.status, answer.code)


def test_there_are_so_many_streams_and_requests_at_once():
    site = Site(limits=Limits(max_streams=0, max_at_once=1))
    assert (503, "busy") == problem_of(site.ask("GET", "/v1/events"))
    assert 200 == site.ask("GET", "/v1/status").status

    site = Site(limits=Limits(max_at_once=0))
    assert "busy" == site.ask("GET", "/v1/status").code
    assert 200 == site.ask("GET", "/v1/events").status


# ── what comes in ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("/v1/predictions?limit=0", "from 1 to 500"),
        ("/v1/predictions?limit=1e3", "from 1 to 500"),
        ("/v1/predictions?limit=2&limit=3", "once"),
        ("/v1/predictions?limits=2", "loop, limit, cursor"),
        ("/v1/predictions?cursor=../../x", "text that matches"),
        ("/v1/status?x=1", "none"),
        ("/v1/events?types=prediction,secrets", "prediction, model-event"),
        ("/v1/models/phishing/snapshot?number=-1", "from 1"),
        ("/v1/models/phishing/snapshot?lineage=../x", "text that matches"),
    ],
)
def test_a_parameter_that_cannot_be_used_says_what_is_allowed(target: str, allowed: str):
    site = Site()

    answer = site.ask("GET", target)

    assert (400, "invalid_parameter") == (answer.status, answer.code)
    assert allowed in answer.json["detail"]
    assert not site.backend.asked


@pytest.mark.parametrize("value", ["yes", "TRUE", ""])
def test_a_flag_is_true_or_false(value: str):
    answer = Site().ask("POST", f"/v1/models/phishing:predict?explain={value}", json_body=BODIES["predict"])

    assert "true or false" in answer.json["detail"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b'{"events":[NaN]}', "not_json"),
        (b"[" * 40_000, "not_json"),
        (b"[]", "invalid_body"),
        (b"{}", "invalid_body"),
        (b'{"events":[]}', "invalid_body"),
        (b'{"events":[5]}', "invalid_body"),
        (b'{"events":{}}', "invalid_body"),
        (b'{"events":[{}],"loop":5}', "invalid_body"),
        (b'{"events":[{}],"loop":"../x"}', "invalid_body"),
        (b'{"events":[{}],"learn":true}', "invalid_body"),
    ],
)
def test_a_body_that_cannot_be_used_says_why(content: bytes, code: str):
    site = Site()

    answer = site.ask("POST", "/v1/events", headers={"content-type": "application/json"}, chunks=[content])

    assert code == answer.code
    assert not site.backend.asked


@pytest.mark.parametrize("mark", [b"[],", b"{},", b"0,"])
def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(mark: bytes, monkeypatch: pytest.MonkeyPatch):
    def never(_content: bytes) -> Any:
        raise AssertionError("it was parsed")

    count = (1 << 20) // len(mark) - 30
    content = b'{"instances":[{"a":[' + mark * count + b"0]}]}"
    monkeypatch.setattr(guard.orjson, "loads", never)

    answer = Site().ask(
        "POST", "/v1/models/phishing:predict", headers={"content-type": "application/json"}, chunks=[content]
    )

    found = sum(map(content.count, (b"[", b"{", b",")))
    assert (413, "body_too_large") == problem_of(answer)
    assert f"found {found} " in answer.json["detail"]
    assert f"allowed: {guard.MOST_MARKS}" in answer.json["detail"]


def test_as_many_records_as_may_be_written_at_once_may_have_many_fields():
    events = [{f"f{index}": 1.0 for index in range(98)} for _ in range(500)]

    assert 202 == Site().ask("POST", "/v1/events", json_body={"events": events}).status


def test_between_two_bodies_the_event_loop_gets_a_turn(monkeypatch: pytest.MonkeyPatch):
    turns, parsed_at = 0, []
    loads = orjson.loads

    def noting(content: bytes) -> Any:
        parsed_at.append(turns)
        return loads(content)

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def ask_together() -> None:
        ticking = asyncio.create_task(tick())
        request = ("POST", "/v1/events", {"host": "localhost", "authorization": f"Bearer {text_of(1)}"} | JSON_BODY)
        await asyncio.gather(*[ask_app(site.app, *request, [b'{"events":[{}]}'], "127.0.0.1") for _ in range(5)])
        ticking.cancel()

    monkeypatch.setattr(guard.orjson, "loads", noting)
    site = Site()
    asyncio.run(ask_together())

    assert 5 == len(set(parsed_at)), parsed_at


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "text/plain"}, {"content-type": "application/json", "content-encoding": "gzip"}],
)
def test_only_plain_json_is_read(headers: dict[str, str]):
    answer = Site().ask("POST", "/v1/events", headers=headers, chunks=[b'{"events":[{}]}'])

    assert (415, "unsupported_media_type") == (answer.status, answer.code)


def test_a_value_that_is_refused_is_not_repeated():
    answer = Site().ask("POST", "/v1/events", json_body={"events": ["<script>secret</script>"]})

    assert b"secret" not in answer.body
    assert [{"at": "events.0", "code": "dict_type", "detail": "Input should be a valid dictionary"}] == (
        answer.json["errors"]
    )


def test_too_many_instances_to_explain_are_refused():
    answer = Site().ask("POST", "/v1/models/phishing:predict?explain=true", json_body={"instances": [EVENT] * 17})

    assert "found 17 instances with explain; allowed: 16" == answer.json["detail"]


@pytest.mark.parametrize("name", ["other", "Phishing", "x" * 65])
def test_a_loop_that_is_not_there_is_not_found(name: str):
    answer = Site().ask("POST", f"/v1/models/{name}:predict", json_body=BODIES["predict"])

    assert (404, "not_found") == (answer.status, answer.code)


def test_where_there_are_several_loops_one_is_named():
    two = FakeBackend(names=("phishing", "churn"))

    unnamed = [
        Site(two).ask("GET", "/v1/predictions"),
        Site(two).ask("GET", "/v1/events"),
        Site(two).ask("POST", "/v1/events", json_body=BODIES["write_events"]),
    ]
    expected = [(400, "invalid_parameter"), (400, "invalid_parameter"), (422, "invalid_body")]
    assert expected == [problem_of(answer) for answer in unnamed]
    assert {"found no name of a loop; there are: phishing, churn"} == {answer.json["detail"] for answer in unnamed}
    assert [{"at": "loop", "code": "missing"}] == [
        {"at": error["at"], "code": error["code"]} for error in unnamed[-1].json["errors"]
    ]
    assert 404 == Site(two).ask("GET", "/v1/predictions?loop=other").status
    assert 200 == Site(two).ask("GET", "/v1/predictions?loop=churn").status
    assert ("predictions", "churn", 100, None) == two.asked[-1]


# ── what goes out ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_asked_reaches_the_backend_as_it_was():
    site = Site()
    site.ask("POST", "/v1/models/phishing:predict?explain=1", json_body=BODIES["predict"])
    site.ask("POST", "/v1/labels", json_body=BODIES["write_labels"] | {"loop": "phishing"})
    site.ask("GET", "/v1/models/phishing/snapshot?number=3&lineage=ab")
    site.ask("GET", "/v1/events?types=prediction", headers={"last-event-id": "4.5/6"})

    assert [
        ("predict", "phishing", [EVENT], True),
        ("write", "labels", "phishing", [{"page_id": "p1", "y": True}]),
        ("snapshot", "phishing", 3, "ab"),
        ("stream", "phishing", ("prediction",), "4.5/6"),
    ] == site.backend.asked


def test_a_failure_tells_a_stranger_nothing():
    site = Site(FakeBackend(failure=RuntimeError("secret")))

    with capture_logs() as logs:
        answer = site.ask("GET", "/v1/status", headers={"x-request-id": "abc-1"})

    assert (500, "internal_error") == (answer.status, answer.code)
    assert b"secret" not in answer.body
    (told,) = logs
    assert ("error", "abc-1", "/v1/status", "RuntimeError") == tuple(
        told[key] for key in ("log_level", "request", "route", "error")
    )
    assert re.fullmatch(r"web/api\.py:[0-9]+", told["place"])
    assert "secret" not in str(told)


def test_an_error_of_ours_that_nobody_expected_is_in_the_log_too():
    with capture_logs() as logs:
        answer = Site(FakeBackend(failure=CodecError("secret"))).ask("GET", "/v1/status")

    assert (500, "internal_error") == problem_of(answer)
    assert [("error", "CodecError")] == [(told["log_level"], told["error"]) for told in logs]
    assert answer.headers["x-request-id"] == logs[0]["request"]
    assert "secret" not in str(logs)


def test_a_stream_that_fails_tells_the_log_and_nobody_else():
    class Broken(tuple[StreamEvent, ...]):
        __slots__ = ()

        def __iter__(self):
            yield StreamEvent("prediction", "1/0", b"{}")
            raise RuntimeError("secret")

    site = Site(FakeBackend(events=Broken()))

    with capture_logs() as logs:
        answer = site.ask("GET", "/v1/events")

    assert answer.body.endswith(b"data: {}\n\n")
    assert [(answer.headers["x-request-id"], "RuntimeError")] == [(told["request"], told["error"]) for told in logs]
    assert "secret" not in str(logs)
    assert (1, 0) == (site.backend.closed, site.guard.streams)


@pytest.mark.parametrize("path", ["/v1/status", "/v1/nothing"])
@pytest.mark.parametrize(
    ("presented", "who"), [(text_of(2), "00000002"), (text_of(1)[:-1] + "f", "00000001"), ("x", ""), (None, "")]
)
def test_a_token_that_is_refused_is_in_the_log_by_its_id(path: str, presented: str | None, who: str):
    with capture_logs() as logs:
        answer = Site().ask("GET", path, token=presented)

    assert 401 == answer.status
    (told,) = logs
    assert ("info", answer.headers["x-request-id"], "unauthorized", who) == tuple(
        told[key] for key in ("log_level", "request", "why", "who")
    )
    assert "_" + text_of(2).rpartition("_")[2] not in str(told)


def test_a_token_without_the_scope_is_in_the_log_by_its_id():
    with capture_logs() as logs:
        Site(tokens=(make_token(1, [Scope.PREDICT]),)).ask("GET", "/v1/status")

    assert [("info", "forbidden", "00000001", "/v1/status")] == [
        (told["log_level"], told["why"], told["who"], told["route"]) for told in logs
    ]


@pytest.mark.parametrize("path", OPEN_PATHS)
def test_open_pages_on_loopback_are_for_this_machine_alone_too(path: str):
    evil = {"host": "evil.example"}

    assert 421 == Site().ask("GET", path, token=None, headers=evil).status
    assert "misdirected" == Site().ask("GET", path, token=None, headers=evil).code
    assert 200 == Site(only_local=False).ask("GET", path, token=None, headers=evil).status
    assert 200 == Site().ask("GET", path, token=None).status


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (unavailable(), 503, "log_unavailable"),
        (StoreUnavailable("s3://b gives nothing"), 503, "store_unavailable"),
        (ProblemError(problems.NOT_READY, "nothing serves", headers={"retry-after": "1"}), 503, "model_not_ready"),
    ],
)
def test_what_may_succeed_later_says_when_to_ask_again(failure: Exception, status: int, code: str):
    answer = Site(FakeBackend(failure=failure)).ask("GET", "/v1/status")

    assert (status, code) == (answer.status, answer.code)
    assert answer.headers["retry-after"]


def test_a_request_keeps_its_id():
    answer = Site().ask("GET", "/v1/status", headers={"x-request-id": "abc-1"})
    refused = Site().ask("GET", "/v1/x", headers={"x-request-id": "abc-2"})
    made = Site().ask("GET", "/v1/status", headers={"x-request-id": "<script>"})

    assert "abc-1" == answer.headers["x-request-id"]
    assert ("abc-2", "urn:tailrace:request:abc-2") == (refused.headers["x-request-id"], refused.json["instance"])
    assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])


def test_every_answer_has_the_security_headers():
    for answer in (Site().ask("GET", "/v1/status"), Site().ask("GET", "/v1/status", token=None)):
        assert "nosniff" == answer.headers["x-content-type-options"]
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in answer.headers


def test_every_request_is_counted_once_by_the_template_of_its_route():
    site = Site()
    site.ask("GET", "/v1/models/phishing")
    site.ask("GET", "/v1/models/phishing", token=None)
    site.ask("POST", "/v1/models/phishing:predict", json_body={"instances": [{}]})
    site.ask("GET", "/v1/models/phishing:predict")
    site.ask("GET", "/v1/secret")
    site.ask("GET", "/v1/events")
    site.ask("GET", "/livez", token=None)

    lines = site.ask("GET", "/metrics", token=None).body.decode().splitlines()

    counted = {line for line in lines if line.startswith("tailrace_http_requests_total{")}
    assert counted == {
        'tailrace_http_requests_total{method="GET",route="/v1/models/{name}",status="2xx"} 1.0',
        'tailrace_http_requests_total{method="GET",route="/v1/models/{name}",status="4xx"} 1.0',
        'tailrace_http_requests_total{method="POST",route="/v1/models/{name}:predict",status="2xx"} 1.0',
        'tailrace_http_requests_total{method="GET",route="/v1/models/{name}:predict",status="4xx"} 1.0',
        'tailrace_http_requests_total{method="GET",route="_other",status="4xx"} 1.0',
        'tailrace_http_requests_total{method="GET",route="/v1/events",status="2xx"} 1.0',
        'tailrace_http_requests_total{method="GET",route="/livez",status="2xx"} 1.0',
    }


def test_there_is_room_for_the_series_of_every_route():
    paths = {operation.path for operation in OPERATIONS} | {*OPEN_PATHS, OTHER}

    assert len(paths) <= MOST_ROUTES


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 1])
def test_a_snapshot_is_sent_in_pieces_and_counts_as_under_way_until_it_is_taken(size: int):
    site = Site(FakeBackend(file=bytes(size)))
    sent: list[int] = []
    held: list[tuple[int, int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            sent.append(len(message.get("body", b"")))
            held.append((site.guard._of_log.taken, site.guard._downloads.taken))
            await send(message)

        await site.api.routes[SNAPSHOT].app(scope, receive, noting)

    whole = site.ask("GET", "/v1/models/phishing/snapshot")
    site.app = app  # type: ignore[assignment]
    site.ask("GET", "/v1/models/phishing/snapshot")

    assert (bytes(size), str(size)) == (whole.body, whole.headers["content-length"])
    assert (size, True) == (sum(sent), max(sent) <= PIECE_BYTES)
    assert {(1, 1)} == set(held)
    assert (0, 0) == (site.guard._of_log.taken, site.guard._downloads.taken)


async def test_two_snapshots_are_downloaded_at_once_and_no_more():
    """Guards memory: each is held whole, up to a GiB, until the last of it was taken."""

    class Slow(FakeBackend):
        async def snapshot(self, *asked: Any) -> Any:
            await taken.wait()
            return await super().snapshot(*asked)

    taken, site = asyncio.Event(), Site(Slow())

    async def ask(method: str) -> Answer:
        head = {"host": "localhost", "authorization": f"Bearer {text_of(1)}"}
        return await ask_app(site.app, method, "/v1/models/phishing/snapshot", head, [b""], "127.0.0.1")

    under_way = [asyncio.create_task(ask("GET")) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        refused, head = await ask("GET"), await ask("HEAD")
    taken.set()
    downloaded = await asyncio.gather(*under_way)

    assert (503, "busy") == problem_of(refused)
    assert (True, True) == ("2 downloads" in refused.json["detail"], int(refused.headers["retry-after"]) > 1)
    assert [200] * 4 == [each.status for each in (*downloaded, head, await ask("GET"))]


def test_the_head_of_a_snapshot_is_that_of_the_file_without_it():
    sites = {method: Site() for method in ("GET", "HEAD")}
    whole, head = (site.ask(method, "/v1/models/phishing/snapshot") for method, site in sites.items())

    assert [("snapshot_head", "phishing", None, None)] == sites["HEAD"].backend.asked
    assert (200, b"") == (head.status, head.body)
    assert {name: value for name, value in whole.headers.items() if name != "x-request-id"} == {
        name: value for name, value in head.headers.items() if name != "x-request-id"
    }


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_names_its_events_and_where_to_go_on():
    site = Site(FakeBackend(events=(StreamEvent("prediction", "1/0", b'{"a":1}'), StreamEvent("gap", "2/0", b"{}"))))

    answer = site.ask("GET", "/v1/events")

    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert (
        'retry: 1000\n\nid: 1/0\nevent: prediction\ndata: {"a":1}\n\nid: 2/0\nevent: gap\ndata: {}\n\n'
        == answer.body.decode()
    )
    assert (1, 0) == (site.backend.closed, site.guard.streams)
    assert (
        'tailrace_http_streams_active{route="/v1/events"} 0.0' in site.ask("GET", "/metrics", token=None).body.decode()
    )


def test_a_stream_ends_where_the_log_cannot_be_read_on():
    class Broken(tuple[StreamEvent, ...]):
        __slots__ = ()

        def __iter__(self):
            yield StreamEvent("prediction", "1/0", b"{}")
            raise unavailable()

    site = Site(FakeBackend(events=Broken()))

    assert site.ask("GET", "/v1/events").body.endswith(b"data: {}\n\n")
    assert (1, 0) == (site.backend.closed, site.guard.streams)


def test_a_quiet_stream_says_that_it_lives():
    site = Site()

    class Slow(tuple[StreamEvent, ...]):
        __slots__ = ()

        def __iter__(self):
            for _ in range(4):
                site.now_s += 10
                yield StreamEvent("")

    site.backend.events = Slow()

    assert 2 == site.ask("GET", "/v1/events").body.count(b": still here\n\n")


def test_a_stream_says_first_where_it_begins():
    begin = StreamEvent("", "4.5/6")

    body = Site(FakeBackend(events=(begin, StreamEvent("")))).ask("GET", "/v1/events").body

    assert b"retry: 1000\n\nid: 4.5/6\n\n" == body


@pytest.mark.parametrize("is_quiet", [True, False])
@pytest.mark.parametrize(
    "after",
    [(), (make_token(1, Scope, expires_ms=1_000),), (make_token(2, Scope),), (make_token(1, [Scope.PREDICT]),)],
    ids=["gone", "expired", "another", "without the scope"],
)
def test_a_stream_ends_when_its_token_counts_no_more(after: Any, is_quiet: bool):
    site = Site()

    class Endless(tuple[StreamEvent, ...]):
        __slots__ = ()

        def __iter__(self):
            for number in range(100):
                if number == 10:
                    site.hold(*after)
                site.now_s += 0.25
                yield StreamEvent("") if is_quiet else StreamEvent("prediction", f"{number}/0", b"{}")
            raise AssertionError("it goes on")

    site.backend.events = Endless()
    answer = site.ask("GET", "/v1/events")

    assert 200 == answer.status
    assert answer.body.count(b"data:") <= 14
    assert (1, 0) == (site.backend.closed, site.guard.streams)


def test_the_head_of_a_stream_opens_none():
    site = Site()

    answer = site.ask("HEAD", "/v1/events")

    assert (200, "text/event-stream; charset=utf-8", b"") == (
        answer.status,
        answer.headers["content-type"],
        answer.body,
    )
    assert not site.backend.asked
    assert 404 == site.ask("HEAD", "/v1/events?loop=nothing").status


@pytest.mark.parametrize("cursor", ["1", "a/b", "1/2/3", "-1/0", "1/" + "9" * 20])
def test_a_cursor_that_is_none_is_refused(cursor: str):
    assert "invalid_parameter" == Site().ask("GET", "/v1/events", headers={"last-event-id": cursor}).code
