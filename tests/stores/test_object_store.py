"""The store in a bucket: the rules of every store against a real S3 protocol, and what only a network can get wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.stores.s3_server import SECRET, Proxy, S3Server, proxied, s3_server
from tests.stores.store_rules import PATH, StoreRules

from tailrace.domain.errors import SettingsError, SnapshotRefused, StoreUnavailable
from tailrace.stores.object_store import Access, ObjectStore


@pytest.fixture(scope="module")
def running() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(running: S3Server) -> S3Server:
    running.reset()
    return running


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    with proxied(server) as proxy:
        yield proxy


class TestBucket(StoreRules):
    """The rules of every store, at the top of a bucket."""

    @pytest.fixture
    def store(self, server: S3Server) -> ObjectStore:
        return server.store()


class TestPrefix(StoreRules):
    """The rules of every store, below a prefix."""

    @pytest.fixture
    def store(self, server: S3Server) -> ObjectStore:
        return server.store("team/loops")


@contextmanager
def http_server(put: int, get: tuple[int, bytes], asked: list[str] | None = None) -> Iterator[str]:
    """Answer every PUT and GET alike, whatever was put before; `asked` gets the lines of the requests."""

    class Answers(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(put, b"")

        def do_GET(self) -> None:
            self._answer(*get)

        def _answer(self, status: int, content: bytes) -> None:
            if asked is not None:
                asked.append(f"{self.command} {unquote(self.path)}")
            self.send_response(status)
            for name, value in (("Content-Length", str(len(content))), ("ETag", '"1"'), ("Last-Modified", _MODIFIED)):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_MODIFIED = "Wed, 25 Nov 2026 07:00:00 GMT"


def store_at(endpoint: str, deadline_s: float = 10.0) -> ObjectStore:
    return ObjectStore("s3://bucket/p", Access(endpoint, None, "id", SECRET), deadline_s=deadline_s)


def test_two_prefixes_of_one_bucket_know_nothing_of_each_other(server: S3Server):
    one, other, longer = server.store("a"), server.store("b"), server.store("ab")
    for store in (one, other, longer):
        store.put("x/1", store.address.encode())

    one.delete("x/1")

    assert [] == one.paths()
    assert ["x/1"] == other.paths() == longer.paths()
    assert b"s3://bucket/b" == other.get("x/1", 100)


def test_keys_of_others_that_are_no_paths_are_not_listed(server: S3Server):
    import urllib.request

    for key in ("p/.hidden", "p/a%20b", "p/good"):
        urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/bucket/{key}", b"x", method="PUT")).close()

    assert ["good"] == server.store("p").paths()


def test_a_write_that_was_lost_after_it_was_acknowledged_is_no_write():
    """Defence: what was put is read back before put returns."""
    with http_server(put=200, get=(404, b"")) as endpoint, pytest.raises(StoreUnavailable, match=r"\(missing\)"):
        store_at(endpoint).put(PATH, b"content")


def test_a_write_that_comes_back_as_other_bytes_is_no_write():
    """Defence: what was read back is compared."""
    with http_server(put=200, get=(200, b"CONTENT")) as endpoint, pytest.raises(StoreUnavailable, match="not the same"):
        store_at(endpoint).put(PATH, b"content")


def test_a_store_that_hangs_is_left_at_the_deadline(server: S3Server, proxy: Proxy):
    """Defence: the deadline around each call. It heals without a new store."""
    store = server.store(endpoint=proxy.endpoint, deadline_s=0.3)
    store.put(PATH, b"before")
    proxy.hang()

    begun = time.monotonic()
    for call in (lambda: store.put(PATH, b"x"), lambda: store.get(PATH, 9), store.paths, lambda: store.delete(PATH)):
        with pytest.raises(StoreUnavailable, match="no answer within 0.3 s"):
            call()
    waited_s = time.monotonic() - begun
    proxy.heal()

    assert waited_s < 4 * 2
    assert b"before" == store.get(PATH, 9)


def test_a_connection_that_is_cut_is_a_store_that_is_not_available(server: S3Server, proxy: Proxy):
    store = server.store(endpoint=proxy.endpoint)
    proxy.cut()

    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.put(PATH, b"content")
    proxy.heal()
    store.put(PATH, b"content")

    assert b"content" == store.get(PATH, 9)


def test_a_content_larger_than_asked_for_is_refused_before_its_body_comes(server: S3Server):
    store = server.store()
    store.put(PATH, bytes(8 << 20))

    with pytest.raises(SnapshotRefused, match="8388608 bytes, allowed are 100") as refused:
        store.get(PATH, 100)

    assert "too_large" == refused.value.reason


@pytest.mark.parametrize("act", ["put", "get", "paths"])
def test_a_bucket_that_is_not_there_is_named(server: S3Server, act: str):
    store = ObjectStore("s3://no-such-bucket", Access(server.endpoint, None, "id", SECRET))
    calls = {"put": lambda: store.put(PATH, b"x"), "get": lambda: store.get(PATH, 9), "paths": store.paths}

    with pytest.raises(StoreUnavailable, match=r"NoSuchBucket.*s3://no-such-bucket"):
        calls[act]()


@pytest.mark.parametrize("status", [403, 500])
def test_a_refusal_tells_its_status_and_no_secret(status: int):
    with http_server(put=status, get=(status, b"")) as endpoint, pytest.raises(StoreUnavailable) as refused:
        store_at(endpoint).put(PATH, b"content")

    assert str(status) in str(refused.value)
    assert SECRET not in str(refused.value)
    assert endpoint not in str(refused.value)


def test_a_secret_stands_in_no_text():
    access = Access("http://127.0.0.1:1", None, "id", SECRET)
    store = ObjectStore("s3://bucket/p", access)

    with pytest.raises(StoreUnavailable) as refused:
        store.put(PATH, b"content")

    for text in (repr(access), repr(store), store.address, str(refused.value), repr(refused.value.__context__)):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("address", "access", "problem"),
    [
        ("az://models", Access(), "no account; name it as [snapshots] key_id"),
        ("az://models", Access(key_id="account", secret="no base64!"), "is no base64"),
        ("gs://models", Access(key_file=Path("none.json")), "service account's file cannot be read"),
    ],
)
def test_access_that_cannot_be_right_is_told_at_once(
    address: str, access: Access, problem: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(SettingsError) as refused:
        ObjectStore(address, access)

    assert problem in str(refused.value)
    assert "no base64!" not in str(refused.value)


def test_google_is_asked_for_the_bucket_and_the_prefix(tmp_path: Path):
    """No emulator takes what the client sends, so that only the address of each request is looked at."""
    asked: list[str] = []
    with http_server(put=200, get=(200, b"content"), asked=asked) as endpoint:
        key_file = tmp_path / "key.json"
        names = ("client_email", "private_key", "private_key_id")
        key_file.write_text(json.dumps(dict.fromkeys(names, "") | {"gcs_base_url": endpoint, "disable_oauth": True}))

        ObjectStore("gs://models/team", Access(endpoint, key_file=key_file)).put("x/1", b"content")

    assert ["PUT /models/team/x/1", "GET /models/team/x/1"] == asked


def test_the_usual_variables_give_access_too(server: S3Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    store = ObjectStore("s3://bucket", Access(server.endpoint))

    store.put(PATH, b"content")

    assert b"content" == store.get(PATH, 9)
