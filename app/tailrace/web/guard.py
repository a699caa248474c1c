"""What stands before every operation: who asks, whether they may, how much, how large, how long.

Default deny, numbered as the code repeats it; a request that fails a step reaches none behind it:
    1. The Host names this machine, where only this machine is listened to (against DNS rebinding).
    2. A token that counts is presented; who guesses is slowed down, by address.
    3. The token's own rate.
    4. The token has the operation's scope.
    5. Not too much is under way.
    6. Query parameters are those of the table.
    7. The body is JSON of the media type, bounded in size, time and number of values, and of the operation's schema.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import orjson
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from tailrace.domain.access import Denial, Scope, Token, admit, id_in, is_this_machine
from tailrace.web import bodies, problems
from tailrace.web.problems import ProblemError
from tailrace.web.routes import JSON, Operation, Parameter

GUESSES: Final = 5
"""Requests a second without a token that counts, from one address."""

MOST_MARKS: Final = 50_000
"""Of `[`, `{` and `,` in a body, of which JSON has no fewer than values: 500 records of about 100 fields."""

_DOWNLOAD_RETRY_S: Final = 5  # a file takes longer than any other answer
_MOST_BUCKETS: Final = 10_000
_MOST_CHARS: Final = 64  # of what a problem repeats
_BEARER: Final = re.compile(r"[Bb]earer +(?P<token>[!-~]{1,256})")
_WORDS: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process takes.

    Attributes:
        max_body: Bytes of a body.
        rate: Requests a second of one token; twice as many at once.
        max_streams: Streams that are open at once.
        max_at_once: Other requests that are under way at once.
        max_of_log: Those among them that wait for the log: where it hangs, models are still asked.
        max_downloads: Those among them that hold a whole file in memory, until the last of it was taken.
        body_within_s: For a body to arrive.
    """

    max_body: int = 1 << 20
    rate: int = 100
    max_streams: int = 16
    max_at_once: int = 64
    max_of_log: int = 48
    max_downloads: int = 2
    body_within_s: float = 10.0


class BucketsState:
    """Token buckets by key; those that were not used for longest are forgotten."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._most = max(1.0, 2 * rate)
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Take one; return 0, or how long to wait until there is one again."""
        now_s = self._clock()
        level, since_s = self._levels.pop(key, (self._most, now_s))
        level = min(self._most, level + (now_s - since_s) * self._rate)
        is_enough = level >= 1
        self._levels[key] = (level - 1 if is_enough else level, now_s)
        if len(self._levels) > _MOST_BUCKETS:
            self._levels.popitem(last=False)
        return 0.0 if is_enough else (1 - level) / self._rate


class _Room:
    """What may be under way at once, and how much of it is.

    Args:
        retry_after_s: Told to who finds it full.
    """

    def __init__(self, what: str, most: int, retry_after_s: int = 1) -> None:
        self.what = what
        self.most = most
        self.retry_after_s = retry_after_s
        self.taken = 0


class Guard:
    """Stands before the operations of one process.

    Args:
        tokens: As they are at each moment, by id.
        now_ms, clock: The wall clock, and one that never goes back, in seconds.
        only_local: This process listens to this machine alone, and nothing stands before it.
    """

    def __init__(
        self,
        tokens: Callable[[], Mapping[str, Token]],
        limits: Limits,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
        *,
        only_local: bool,
    ) -> None:
        self.limits = limits
        self._tokens = tokens
        self._now_ms = now_ms
        self._only_local = only_local
        self._guesses = BucketsState(GUESSES, clock)
        self._uses = BucketsState(limits.rate, clock)
        self._streams = _Room("streams are open", limits.max_streams)
        self._requests = _Room("requests are under way", limits.max_at_once)
        self._of_log = _Room("requests wait for the log", limits.max_of_log)
        self._downloads = _Room("downloads are under way", limits.max_downloads, _DOWNLOAD_RETRY_S)
        self._parsing = asyncio.Lock()

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return self._streams.taken

    def admit(self, request: Request, scope: Scope | None) -> Token:
        """Let a request pass steps 1 to 4.

        Args:
            scope: What the token must have; None: any token that counts.

        Returns:
            The token.

        Raises:
            ProblemError: It may not.
        """
        self._check_host(request)  # 1
        token = self._token(request)  # 2
        if (wait_s := self._uses.wait_s(token.id)) > 0:  # 3
            raise _too_many(f"token {token.id} sent more than {self.limits.rate} requests a second", wait_s)
        if scope is not None and scope not in token.scopes:  # 4
            found = ", ".join(sorted(token.scopes)) or "none"
            raise ProblemError(
                problems.FORBIDDEN,
                f"found token {token.id} with the scopes: {found}; needed is {scope.value}",
                hint=f"Use a token that has it; `tailrace tokens create --scope {scope.value}` makes one.",
                who=token.id,
            )
        return token

    def still_admits(self, token: Token, scope: Scope) -> bool:
        """Tell whether a token that was admitted still counts and has the scope; takes nothing of its rate."""
        found = self._tokens().get(token.id)
        return (
            found is not None
            and found.digest == token.digest
            and found.denial(self._now_ms()) is None
            and scope in found.scopes
        )

    @contextmanager
    def under_way(self, operation: Operation, *, is_head: bool) -> Iterator[None]:
        """Count a request while it lasts: step 5.

        Args:
            is_head: Only the head of the answer is asked for, for which no file is fetched.

        Raises:
            ProblemError: There are too many.
        """
        rooms = [self._streams] if operation.is_stream else [self._requests]
        if operation.asks_log and not operation.is_stream:
            rooms.append(self._of_log)
        if operation.is_download and not is_head:
            rooms.append(self._downloads)
        for room in rooms:
            if room.taken >= room.most:
                detail = f"{room.most} {room.what}, which is the most here"
                raise ProblemError(problems.BUSY, detail, headers={"retry-after": str(room.retry_after_s)})
        for room in rooms:
            room.taken += 1
        try:
            yield
        finally:
            for room in rooms:
                room.taken -= 1

    async def body_of(self, request: Request, operation: Operation) -> bodies.Asked:
        """Return the body: step 7. One body is parsed per turn of the event loop, in which models score and learn.

        Raises:
            ProblemError: It is too large, too slow, no JSON, or not of the schema.
        """
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != JSON or "content-encoding" in request.headers:
            raise ProblemError(
                problems.UNSUPPORTED_MEDIA_TYPE,
                f"found a body that is not plain {JSON}; allowed: only that",
                headers=_CLOSE,
            )
        content = await _read(request, self.limits)
        async with self._parsing:
            try:
                return _parsed(content, operation)
            finally:
                await asyncio.sleep(0)

    def _check_host(self, request: Request) -> None:
        if self._only_local and not is_local(request.headers.get("host", "")):
            raise misdirected()

    def _token(self, request: Request) -> Token:
        presented = request.headers.getlist("authorization")
        match = _BEARER.fullmatch(presented[0]) if len(presented) == 1 else None
        found: Token | Denial | None = None
        if match is not None:
            found = admit(self._tokens(), match["token"], self._now_ms())
        if isinstance(found, Token):
            return found
        address = request.client.host if request.client is not None else ""
        if (wait_s := self._guesses.wait_s(address)) > 0:
            raise _too_many("too many requests without a token that counts came from this address", wait_s)
        raise ProblemError(
            problems.UNAUTHORIZED,
            _DENIALS[found] if found is not None else "found no header `Authorization: Bearer TOKEN`",
            headers={"www-authenticate": 'Bearer realm="tailrace"'},
            who="" if match is None else id_in(match["token"]),
        )


_DENIALS: Final = {
    Denial.MALFORMED: "found a token that is not of the form that `tailrace tokens create` makes",
    Denial.UNKNOWN: "found a token that is not known here",
    Denial.REVOKED: "found a token that was revoked",
    Denial.EXPIRED: "found a token that has expired",
}


def misdirected() -> ProblemError:
    """Return the problem of a request whose Host header names another machine."""
    return ProblemError(problems.MISDIRECTED, "the Host header does not name this machine; only it is answered")


def is_local(host: str) -> bool:
    """Tell whether a Host header, or the host of an address, names this machine to itself."""
    if not host.startswith("[") and host.count(":") > 1:
        host = f"[{host}]"
    match = re.fullmatch(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host)
    return match is not None and is_this_machine(match["name"])


def parameters_of(request: Request, operation: Operation) -> dict[str, Any]:
    """Return the parameters of an operation, those that are not given by their defaults: step 6.

    Raises:
        ProblemError: One is not of the table, is given twice, or is not what it may be.
    """
    known = {each.name: each for each in operation.parameters}
    found = {name: each.default for name, each in known.items()}
    seen: set[str] = set()
    for name, text in request.query_params.multi_items():
        parameter = known.get(name)
        if parameter is None or parameter.place != "query":
            allowed = ", ".join(each.name for each in operation.parameters if each.place == "query") or "none"
            raise _parameter(f"found the parameter {name[:_MOST_CHARS]!r}; allowed: {allowed}")
        if name in seen:
            raise _parameter(f"found the parameter {name} twice; allowed: once")
        seen.add(name)
        found[name] = _value(parameter, text)
    for each in operation.parameters:
        if each.place == "header" and (text_ := request.headers.get(each.name)) is not None:
            found[each.name] = _value(each, text_)
    return found


def _value(parameter: Parameter, text: str) -> Any:
    if parameter.type == "integer":
        if re.fullmatch(r"-?[0-9]{1,19}", text) and parameter.minimum <= int(text) <= parameter.maximum:
            return int(text)
        raise _refused(parameter, f"a whole number from {parameter.minimum} to {parameter.maximum}")
    if parameter.type == "boolean":
        if text in _WORDS:
            return _WORDS[text]
        raise _refused(parameter, "true or false")
    if parameter.type == "list":
        parts = tuple(dict.fromkeys(text.split(",")))
        if all(part in parameter.choices for part in parts):
            return parts
        raise _refused(parameter, f"some of {', '.join(parameter.choices)}, parted by commas")
    if len(text) <= 32_768 and re.fullmatch(parameter.pattern, text):
        return text
    raise _refused(parameter, f"text that matches {parameter.pattern}")


def _parsed(content: bytes, operation: Operation) -> bodies.Asked:
    assert operation.body is not None, "an operation without a body is not asked"
    # A MiB can hold hundreds of thousands of values, which stop the event loop while they are made.
    marks = sum(map(content.count, (b"[", b"{", b",")))
    if marks > MOST_MARKS:
        raise ProblemError(
            problems.BODY_TOO_LARGE,
            f"found {marks} of the characters [, {{ and comma in the body; allowed: {MOST_MARKS}",
            hint="Send fewer records at once.",
        )
    try:
        plain = orjson.loads(content)
    except orjson.JSONDecodeError as cause:
        raise ProblemError(problems.NOT_JSON, f"the body is not JSON from character {cause.pos} on") from cause
    try:
        return operation.body.model_validate(plain)
    except ValidationError as cause:
        errors = [
            {"at": _place(each["loc"]), "code": each["type"], "detail": each["msg"]}
            for each in cause.errors(include_input=False, include_url=False, include_context=False)[:10]
        ]
        found = f"{cause.error_count()} part{'s' if cause.error_count() > 1 else ''}"
        raise ProblemError(
            problems.INVALID_BODY, f"{found} of the body cannot be used; allowed is what the schema says", errors=errors
        ) from cause


_CLOSE: Final = {"connection": "close"}  # What is left of the body is not read.


async def _read(request: Request, limits: Limits) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:19]) > limits.max_body:
        raise _too_large(limits)
    content = bytearray()
    try:
        async with asyncio.timeout(limits.body_within_s):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limits.max_body:
                    raise _too_large(limits)
    except TimeoutError as cause:
        detail = f"the body had not arrived after {limits.body_within_s:.0f} s"
        raise ProblemError(problems.REQUEST_TIMEOUT, detail, headers=_CLOSE) from cause
    except ClientDisconnect as cause:
        raise ProblemError(problems.NOT_JSON, "the body was cut", headers=_CLOSE) from cause
    return bytes(content)


def _too_large(limits: Limits) -> ProblemError:
    return ProblemError(
        problems.BODY_TOO_LARGE, f"the body is larger than {limits.max_body} bytes, the most here", headers=_CLOSE
    )


def _too_many(detail: str, wait_s: float) -> ProblemError:
    return ProblemError(problems.TOO_MANY_REQUESTS, detail, headers={"retry-after": str(ceil(wait_s))})


def _parameter(detail: str) -> ProblemError:
    return ProblemError(problems.INVALID_PARAMETER, detail)


def _refused(parameter: Parameter, allowed: str) -> ProblemError:
    return _parameter(f"found another value for {parameter.name} than is allowed: {allowed}")


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:_MOST_CHARS] for part in location) or "body"
