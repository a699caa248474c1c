"""An API over a backend of the tests' own, and a way to ask it without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tailrace.domain.access import Scope, Token, token_text
from tailrace.domain.errors import LogUnavailable
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import ProcessRecorder
from tailrace.web.api import Api
from tailrace.web.backend import StreamEvent
from tailrace.web.guard import Guard, Limits
from tailrace.web.measuring import Measured
from tailrace.web.server import build

READY = lambda: {"score": (True, "")}  # noqa: E731


@dataclass
class FakeBackend:
    """Notes what it was asked.

    Attributes:
        failure: Raised by every question, where there is one.
        events: What a stream holds before it ends.
        file: Of every snapshot.
    """

    names: tuple[str, ...] = ("phishing",)
    failure: Exception | None = None
    events: Sequence[StreamEvent] = (StreamEvent("prediction", "1/0", b'{"y_pred":true}'),)
    file: bytes = b"TAILRACE"
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    closed: int = 0

    def _note(self, *question: Any) -> None:
        self.asked.append(question)
        if self.failure is not None:
            raise self.failure

    async def status(self) -> dict[str, Any]:
        self._note("status")
        return {"sentence": "All is well.", "code": "all_well", "verdict": "ok", "time": None, "loops": []}

    def model(self, name: str) -> dict[str, Any]:
        self._note("model", name)
        return {"name": name}

    async def predict(self, name: str, instances: Sequence[Any], *, explain: bool) -> list[dict[str, Any]]:
        self._note("predict", name, instances, explain)
        return [{"outcome": "served"} for _ in instances]

    async def write(self, side: str, name: str, records: Sequence[Any]) -> dict[str, Any]:
        self._note("write", side, name, records)
        return {"loop": name, "topic": "pages", "written": []}

    async def versions(self, name: str, limit: int) -> dict[str, Any]:
        self._note("versions", name, limit)
        return {"model": name, "versions": []}

    async def snapshot_head(self, name: str, number: int | None, lineage: str | None) -> Mapping[str, str]:
        self._note("snapshot_head", name, number, lineage)
        told = {"etag": '"d"', "x-tailrace-position": "1:0", "x-tailrace-lineage": "l"}
        return told | {"content-length": str(len(self.file))}

    async def snapshot(self, name: str, number: int | None, lineage: str | None) -> tuple[bytes, Mapping[str, str]]:
        self._note("snapshot", name, number, lineage)
        told = {"etag": '"d"', "x-tailrace-position": "1:0", "x-tailrace-lineage": "l"}
        return self.file, told | {"content-length": str(len(self.file))}

    async def quality(self, name: str, step_s: int) -> dict[str, Any]:
        self._note("quality", name, step_s)
        return {"model": name, "points": []}

    async def predictions(self, name: str, limit: int, cursor: str | None) -> dict[str, Any]:
        self._note("predictions", name, limit, cursor)
        return {"loop": name, "predictions": [], "oldest": None, "next": None}

    @asynccontextmanager
    async def stream(self, name: str, types: Sequence[str], last_id: str | None) -> AsyncIterator[Any]:
        self._note("stream", name, types, last_id)

        async def events() -> AsyncIterator[StreamEvent]:
            for event in self.events:
                yield event

        try:
            yield events()
        finally:
            self.closed += 1


def text_of(number: int) -> str:
    """Return the text of a token of the tests."""
    return token_text(f"{number:08x}", f"{number:064x}")


def make_token(number: int, scopes: Iterable[Scope], **changes: Any) -> Token:
    """Return what is kept of that token."""
    return Token.of(text_of(number), scopes, 0, **changes)


ALL = make_token(1, Scope)


@dataclass
class Site:
    """An API, and the clock that its rates go by."""

    backend: FakeBackend = field(default_factory=FakeBackend)
    tokens: tuple[Token, ...] = (ALL,)
    limits: Limits = field(default_factory=Limits)
    only_local: bool = True
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.instruments = Instruments()
        self.hold(*self.tokens)
        guard = Guard(lambda: self.held, self.limits, lambda: 1_000, lambda: self.now_s, only_local=self.only_local)
        self.api = Api(self.backend, guard, lambda: self.now_s)
        self.guard = guard
        pages = build(READY, READY, self.instruments.registry, self.api, only_local=self.only_local)
        self.app = Measured(pages, ProcessRecorder(self.instruments))

    def hold(self, *tokens: Token) -> None:
        """Let these tokens count from now on."""
        self.held = {token.id: token for token in tokens}

    def ask(
        self,
        method: str,
        target: str,
        *,
        token: str | None = text_of(1),
        headers: Mapping[str, str] | None = None,
        json_body: Any = None,
        chunks: Sequence[bytes] | None = None,
        client: str = "127.0.0.1",
    ) -> Answer:
        """Ask as a client would; `token` None: without one."""
        given = {"host": "localhost:8321"} | {name.lower(): value for name, value in (headers or {}).items()}
        if token is not None:
            given.setdefault("authorization", f"Bearer {token}")
        if json_body is not None:
            chunks = [json.dumps(json_body).encode()]
            given.setdefault("content-type", "application/json")
        return asyncio.run(ask_app(self.app, method, target, given, chunks or [b""], client))


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a problem, which is one as RFC 9457 has it."""
        assert "application/problem+json" == self.headers["content-type"], self
        assert {"type", "title", "status", "detail", "instance", "code", "hint"} <= set(self.json)
        assert self.status == self.json["status"]
        return str(self.json["code"])


async def ask_app(
    app: Any, method: str, target: str, headers: Mapping[str, str], chunks: Sequence[bytes], client: str
) -> Answer:
    """Ask an application, in the event loop that runs."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": (client, 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    coming = list(chunks)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not coming:
            await asyncio.sleep(30)
        body = coming.pop(0)
        if body == b"wait":
            await asyncio.sleep(30)
        return {"type": "http.request", "body": body, "more_body": bool(coming)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


def unavailable() -> LogUnavailable:
    """Return what a log raises that does not answer."""
    return LogUnavailable("kafka://b:1 does not answer; wait")
