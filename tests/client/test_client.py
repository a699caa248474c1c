"""The client against a server that says what the test wants."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tailrace.client import ApiError, Client, Predictions, Quality, SettingsError, Unreachable
from tailrace.client import client as asking
from tailrace.stores.key_folder import KeyFolder
from tailrace.stores.signing import Purpose
from tailrace.web import bodies, guard

PROBLEM = {"title": "Broken.", "detail": "found x; allowed: y", "code": "invalid_records", "hint": "do z",
           "errors": [{"at": "events.0", "code": "id_missing", "detail": "no id"}]}  # fmt: skip


@dataclass
class Stub:
    """Answers in turn, and keeps what it was asked.

    Attributes:
        answers: (status, headers, body) of each request; the last one is given again.
        asked: (method, path, headers, body).
    """

    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def say(self, body: Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, headers, content))


@contextmanager
def serving(made: Stub, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    """Answer at the address of a stub as long as the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub([])

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append((self.command, self.path, headers, content))
            status, extra, body = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **extra}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - as http.server asks for them

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(made, Handler):
        yield made


def test_the_token_goes_with_every_request_and_comes_out_of_its_file(stub: Stub, tmp_path: Path):
    (tmp_path / "token").write_text("tailrace_x\n")
    stub.say({"sentence": "All is well."})

    with Client(stub.url, token_file=tmp_path / "token") as client:
        assert "All is well." == client.status()["sentence"]

    assert "Bearer tailrace_x" == stub.asked[0][2]["authorization"]


@pytest.mark.parametrize("text", ["secret\nnewline", "secret\r\nx: y", "secrét", "secret token", "secret\0", "  ", ""])
def test_a_token_that_is_none_is_refused_and_not_repeated(text: str, tmp_path: Path):
    (tmp_path / "token").write_bytes(text.encode("latin-1"))

    for given in ({"token": text}, {"token_file": tmp_path / "token"}):
        with pytest.raises(SettingsError, match="tailrace tokens create") as refused:
            Client("http://127.0.0.1:1", **given)
        error: BaseException | None = refused.value
        while error is not None:
            assert "secr" not in str(error)
            error = error.__cause__ or error.__context__


def test_white_space_around_a_token_does_not_count(stub: Stub):
    stub.say({"sentence": "ok"})

    Client(stub.url, token=" tailrace_x\n").status()

    assert "Bearer tailrace_x" == stub.asked[0][2]["authorization"]


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match="token_file: .*absent"):
        Client(token_file=tmp_path / "absent")


def test_a_problem_is_an_exception_with_its_code_and_what_to_do(stub: Stub):
    stub.say(PROBLEM, 422)

    with Client(stub.url) as client, pytest.raises(ApiError) as caught:
        client.write_events([{}])

    assert (422, "invalid_records", "do z") == (caught.value.status, caught.value.code, caught.value.hint)
    assert "422: Broken. found x; allowed: y. do z.\n  events.0: no id" == str(caught.value)


def test_what_is_no_problem_of_ours_is_one_too(stub: Stub):
    stub.say(b"<html>", 502)

    with Client(stub.url) as client, pytest.raises(ApiError, match="none of Tailrace's API"):
        client.status()


def test_what_may_succeed_later_is_asked_again(stub: Stub):
    stub.say({"title": "busy"}, 503, retry_after="0")
    stub.say({"title": "busy"}, 429, retry_after="0")
    stub.say({"models": []})

    with Client(stub.url) as client:
        assert [] == client.models()
    assert 3 == len(stub.asked)


def test_a_pause_that_an_answer_asks_for_is_no_longer_than_a_try_may_take(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    """Defence: the bound; whatever answers there would decide how long a caller hangs."""
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    stub.say({"title": "busy"}, 503, retry_after="86400")

    with Client(stub.url, timeout_s=0.5) as client, pytest.raises(ApiError, match="503"):
        client.status()

    assert 4 == len(stub.asked)
    assert [0.5] * 3 == slept


def test_an_answer_that_breaks_off_is_asked_for_again(stub: Stub):
    stub.say(b'{"sentence"', **{"content-length": "100"})
    stub.say({"sentence": "All is well."})

    with Client(stub.url) as client:
        assert "All is well." == client.status()["sentence"]
    assert 2 == len(stub.asked)


def test_an_answer_that_always_breaks_off_is_none(stub: Stub):
    stub.say(b'{"sentence"', **{"content-length": "100"})

    with Client(stub.url) as client, pytest.raises(Unreachable, match="gives no answer"):
        client.status()
    assert 4 == len(stub.asked)


@pytest.fixture
def endless() -> Iterator[Stub]:
    """A server whose answers have no end; `asked` has one entry for each piece of 64 kB that somebody took."""
    made = Stub([])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, piece = made.answers[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # whoever asked has gone
                while len(made.asked) < 1_000:
                    self.wfile.write(piece)
                    made.asked.append(("GET", self.path, {}, b""))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(made, Handler):
        yield made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.client.connection._MOST_JSON_BYTES", 200_000)
    monkeypatch.setattr("tailrace.client.connection._MOST_LINE_BYTES", 200_000)
    monkeypatch.setattr("tailrace.stores.snapshot_file.MAX_FILE_BYTES", 200_000)


@pytest.mark.parametrize(
    ("status", "ask"),
    [
        (200, lambda client: client.status()),
        (500, lambda client: client.status()),
        (200, lambda client: client.model("phishing@champion")),
        (200, lambda client: next(client.events())),
        (403, lambda client: next(client.events())),
    ],
    ids=["json", "problem", "snapshot", "line", "problem of a stream"],
)
@pytest.mark.usefixtures("small")
def test_no_more_of_an_answer_is_read_than_one_may_have(endless: Stub, tmp_path: Path, status: int, ask: Any):
    """Defence: the caps; what answers there is not known yet to be Tailrace, and its key has signed nothing so far."""
    KeyFolder(tmp_path).generate(Purpose.SNAPSHOTS)
    endless.say(b"x" * 65_536, status)

    with (
        Client(endless.url, trusted=[tmp_path]) as client,
        pytest.raises(ApiError, match=rf"{status}: The answer is too large. found more than 200,000 bytes; allowed"),
    ):
        ask(client)

    assert len(endless.asked) < 1_000


@pytest.mark.usefixtures("small")
def test_few_bytes_do_not_become_very_many(stub: Stub):
    """Defence: an answer that was compressed although nobody asked for that is not unpacked."""
    stub.say(gzip.compress(b" " * 10_000_000), content_encoding="gzip")

    with Client(stub.url) as client, pytest.raises(ApiError, match="none of Tailrace's API"):
        client.status()


def test_many_records_go_in_parts(stub: Stub):
    stub.say({"written": [{"id": "x"}]})

    with Client(stub.url) as client:
        assert 3 == len(client.write_labels(({"id": str(number)} for number in range(1_001)), loop="phishing"))

    bodies = [json.loads(content) for *_, content in stub.asked]
    assert [500, 500, 1] == [len(each["labels"]) for each in bodies]
    assert {"phishing"} == {each["loop"] for each in bodies}


def test_what_is_not_json_is_not_sent(stub: Stub):
    with Client(stub.url) as client, pytest.raises(ValueError, match="JSON"):
        client.predict("phishing", [{"a": float("nan")}])
    assert not stub.asked


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "a?b"])
def test_a_name_never_leads_elsewhere(stub: Stub, name: str):
    with Client(stub.url) as client:
        for ask in (client.describe, client.versions, client.quality, client.model):
            with pytest.raises(SettingsError, match="allowed"):
                ask(name)
    assert not stub.asked


def at(hour: int, minute: int) -> str:
    return f"2026-01-01T{hour:02}:{minute:02}:00.000Z"


def say_page(stub: Stub, *events: tuple[int, int], oldest: str | None, cursor: str | None) -> None:
    found = [{"event_id": f"{hour}:{minute}", "event_time": at(hour, minute)} for hour, minute in events]
    stub.say({"predictions": found, "oldest": oldest, "next": cursor})


def test_predictions_since_a_moment_are_found_in_whatever_order_their_events_came(stub: Stub):
    say_page(stub, (9, 9), (3, 0), oldest=at(9, 9), cursor="4")
    say_page(stub, (3, 1), (3, 2), oldest=at(9, 8), cursor="3")  # events of long ago that came now
    say_page(stub, (9, 7), oldest=at(7, 50), cursor="2")
    say_page(stub, (9, 8), oldest=at(7, 30), cursor="1")
    say_page(stub, (9, 59), oldest=at(6, 0), cursor="0")

    with Client(stub.url) as client:
        found = client.predictions(since=datetime(2026, 1, 1, 9, 0, tzinfo=UTC))

    assert ["9:9", "9:7"] == [each["event_id"] for each in found]
    assert 3 == len(stub.asked)  # what was published an hour before is of no interest


def test_as_many_predictions_as_are_wanted_are_looked_for_in_all_pages(stub: Stub):
    for number in range(5, 0, -1):
        say_page(stub, (9, number), oldest=None, cursor=str(number))
    say_page(stub, (9, 0), oldest=None, cursor=None)

    with Client(stub.url) as client:
        assert 2 == len(client.predictions(limit=2))
        assert 4 == len(client.predictions(since=datetime(2026, 1, 1, tzinfo=UTC)))

    assert ["limit=2", "limit=1&cursor=5"] == [path.partition("?")[2] for _, path, *_ in stub.asked[:2]]


def test_as_many_versions_are_asked_for_as_the_api_gives(stub: Stub):
    stub.say({"versions": []})

    with Client(stub.url) as client:
        client.versions("phishing")

    assert f"/v1/models/phishing/versions?limit={bodies.MOST_LISTED}" == stub.asked[0][1]


ASKS = {
    "status": lambda client: client.status(),
    "models": lambda client: client.models(),
    "describe": lambda client: client.describe("phishing"),
    "versions": lambda client: client.versions("phishing"),
    "predict": lambda client: client.predict("phishing", [{}]),
    "write_events": lambda client: client.write_events([{}]),
    "write_labels": lambda client: client.write_labels([{}]),
    "predictions": lambda client: client.predictions(),
    "quality": lambda client: client.quality("phishing"),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize(
    "content", [b"<html>", b"", b"\xff", b"[]", b"7", b"[" * 100_000], ids=["html", "", "bytes", "list", "7", "deep"]
)
def test_an_answer_that_is_none_of_the_apis_is_an_error_of_the_client(stub: Stub, ask: str, content: bytes):
    stub.say(content)

    with Client(stub.url) as client, pytest.raises(ApiError, match="200: The answer is none of Tailrace's API"):
        ASKS[ask](client)


@pytest.mark.parametrize("ask", ASKS.keys() - {"status", "describe"})
def test_an_answer_of_something_else_is_an_error_of_the_client_too(stub: Stub, ask: str):
    stub.say({"ok": True})

    with Client(stub.url) as client, pytest.raises(ApiError, match="none of Tailrace's API"):
        ASKS[ask](client)


@pytest.mark.parametrize("data", ["<html>", "[]", "\xff"])
def test_an_event_that_is_none_of_the_apis_is_an_error_of_the_client(stub: Stub, data: str):
    stub.say(f"id: 1/0\nevent: prediction\ndata: {data}\n\n".encode("latin-1"))

    with Client(stub.url) as client, pytest.raises(ApiError, match="none of Tailrace's API"):
        next(client.events())


@pytest.mark.parametrize(
    "record",
    [{f"f{number}": 0 for number in range(2_000)}, {"a": "x" * 200_000}, {"a": [[]] * 9_000}],
    ids=["many fields", "long", "nested"],
)
def test_wide_records_go_in_parts_that_the_api_takes(stub: Stub, record: dict[str, Any]):
    stub.say({"written": []})

    with Client(stub.url) as client:
        client.write_events([record] * 40, loop="phishing")

    contents = [content for *_, content in stub.asked]
    assert 40 == sum(len(json.loads(content)["events"]) for content in contents)
    assert all(len(json.loads(content)["events"]) > 1 for content in contents[:-1])
    assert all(len(content) <= guard.Limits().max_body for content in contents)
    assert all(sum(map(content.count, b"[{,")) <= guard.MOST_MARKS for content in contents)


def test_a_record_that_is_too_wide_goes_alone(stub: Stub):
    stub.say({"written": []})

    with Client(stub.url) as client:
        client.write_events([{}, {"a": "x" * 2_000_000}, {}])

    assert [1, 1, 1] == [len(json.loads(content)["events"]) for *_, content in stub.asked]


def test_parts_have_as_many_records_as_the_api_takes():
    assert (bodies.MOST_RECORDS, bodies.MOST_INSTANCES, bodies.MOST_EXPLAINED, bodies.MOST_LISTED) == (
        asking._RECORDS,
        asking._INSTANCES,
        asking._EXPLAINED,
        asking._PAGE,
    )


def test_a_stream_goes_on_behind_the_last_event_that_came(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tailrace.client.client._BACK_AFTER_S", 0.0)
    stub.say(b'retry: 1000\n\n: still here\n\nid: 1/0\nevent: prediction\ndata: {"a":1}\n\n')
    stub.say({"title": "stopping"}, 500)
    stub.say(b"id: 2/0\nevent: gap\ndata: {}\n\nid: 3/0\nevent: cut off")

    with Client(stub.url) as client:
        events = list(islice(client.events("phishing", types=["prediction"]), 2))

    assert [("1/0", "prediction", {"a": 1}), ("2/0", "gap", {})] == [tuple(event) for event in events]
    assert [None, "1/0", "1/0"] == [headers.get("last-event-id") for _, _, headers, _ in stub.asked]
    assert "/v1/events?loop=phishing&types=prediction" == stub.asked[0][1]


def test_a_stream_that_breaks_before_its_first_event_goes_on_where_it_began(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tailrace.client.client._BACK_AFTER_S", 0.0)
    stub.say(b"retry: 1000\n\nid: 7/2\n\n: still here\n\n")
    stub.say(b"id: 8/2\nevent: prediction\ndata: {}\n\n")

    with Client(stub.url) as client:
        event = next(client.events())

    assert ("8/2", "prediction", {}) == tuple(event)
    assert [None, "7/2"] == [headers.get("last-event-id") for _, _, headers, _ in stub.asked]


def test_a_stream_that_is_refused_is_not_tried_for_ever(stub: Stub):
    stub.say({"code": "forbidden"}, 403)

    with Client(stub.url) as client, pytest.raises(ApiError):
        next(client.events())


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    for made in (Predictions([]), Quality("phishing", [])):
        with pytest.raises(SettingsError, match="with its extra `client`"):
            made.to_pandas()
