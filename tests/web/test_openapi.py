"""The description names everything that an answer may be: every route, status, header and event."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.web.api_builders import FakeBackend, Site
from tests.web.test_api import BODIES, all_routes, path_of

from tailrace.inspection import tail
from tailrace.telemetry.instruments import Instruments
from tailrace.web import problems
from tailrace.web.openapi import description
from tailrace.web.routes import OPEN_PATHS, OPERATIONS, PAGES
from tailrace.web.server import MOST_HEAD_BYTES, build

WHOLE = description()
EVERY = [(path, method, made) for path, methods in WHOLE["paths"].items() for method, made in methods.items()]
ALL_HEADERS = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After"}


def test_every_route_is_described_and_nothing_else():
    served = {(path, method) for method, path in all_routes(Site()) if method != "HEAD"}

    described = {(path.replace("{name}", "phishing"), method.upper()) for path, method, _ in EVERY}

    assert served == described
    assert set(OPEN_PATHS) == {path for path, _, made in EVERY if made["security"] == []}


@pytest.mark.parametrize(("path", "method", "made"), EVERY, ids=lambda each: each if isinstance(each, str) else "")
def test_every_answer_of_an_operation_is_described_with_its_headers(path: str, method: str, made: dict[str, Any]):
    assert {"405", "421", "431", "500"} <= made["responses"].keys()
    for status, answer in made["responses"].items():
        if problems.MEDIA_TYPE in answer["content"]:
            assert "X-Request-Id" in answer["headers"], (path, status)
            assert ALL_HEADERS.get(int(status), "X-Request-Id") in answer["headers"], (path, status)
        if status == "503" and path.startswith("/v1"):
            assert "Retry-After" in answer["headers"], (path, status)


def test_every_reference_leads_somewhere():
    found = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(WHOLE)))

    assert found <= WHOLE["components"]["schemas"].keys()


def test_the_data_of_every_event_of_a_stream_has_a_schema():
    content = WHOLE["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]

    assert {tail.PREDICTION, tail.MODEL_EVENT, tail.GAP} == content["x-events"].keys()
    for name, reference in content["x-events"].items():
        schema = reference["$ref"].rpartition("/")[2]
        assert f"`{name}`: `{schema}`" in content["schema"]["description"]
        assert schema in WHOLE["components"]["schemas"]


def test_what_is_described_of_a_file_is_what_comes_with_it():
    described = WHOLE["paths"]["/v1/models/{name}/snapshot"]["get"]["responses"]["200"]["headers"]

    assert {"ETag", "X-Tailrace-Position", "X-Tailrace-Lineage", "Content-Disposition", "X-Request-Id"} == set(
        described
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("why", ["busy", "no token", "too large", "other method"])
def test_headers_that_are_promised_with_a_problem_are_there(operation: Any, why: str):
    site = Site(FakeBackend())
    if why == "busy":
        site.guard._requests.most = site.guard._streams.most = 0
    answer = site.ask(
        "PATCH" if why == "other method" else operation.method,
        path_of(operation),
        **({"token": None} if why == "no token" else {}),
        headers={"x-large": "x" * MOST_HEAD_BYTES} if why == "too large" else {},
        json_body=BODIES.get(operation.name),
    )

    if answer.status >= 400:
        responses = WHOLE["paths"][operation.path][operation.method.lower()]["responses"]
        promised = responses[str(answer.status)]["headers"]
        assert {name.lower() for name in promised} <= answer.headers.keys()
        assert answer.code in responses[str(answer.status)]["description"]
    else:
        assert operation.scope is None


def test_pages_are_served_without_an_api_too():
    site = Site()
    site.app = build(dict, dict, Instruments().registry)  # type: ignore[assignment]

    assert {200} == {site.ask("GET", page.path, token=None).status for page in PAGES}
