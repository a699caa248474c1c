"""What strangers do to an HTTP port, each with a check of its own. Speaks through sockets: a library would be too polite.

Every function takes the address of a process and returns how often it tried; it raises AssertionError where a promise
does not hold.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.scenarios.harness import InVain

from tailrace.web.routes import OPEN_PATHS

SCRIPT = "<script>alert(1)</script>"
XSS = (
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</script><svg onload=alert(1)>",
    "javascript:alert(1)//",
)
UP = (
    "/v1/models/../../../etc/passwd",
    "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    "/v1/models/%2e%2e/%2e%2e/etc/passwd",
    "/v1/models/..%5c..%5cetc%5cpasswd",
    "/v1/models/%00",
    "/v1/models/{loop}%00",
    "/v1/models/{loop}/versions/../../../keys/learner.key",
    "/v1/models/{loop}/snapshot/../../tokens.json",
    "/v1/models/file:///etc/passwd",
    "/v1//models/{loop}",
    "/keys/tokens.json",
    "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
)
HOSTS = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:80", "[::2]", "localhost@evil.example", "0.0.0.0", "")  # fmt: skip
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Said:
    """An answer as it came."""

    status: int
    head: bytes
    body: bytes


def connect(address: str) -> socket.socket:
    """Open a connection."""
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), PATIENCE_S)


def say(address: str, *parts: bytes) -> Said:
    """Send bytes as they are and read the whole answer."""
    with connect(address) as line:
        for part in parts:
            line.sendall(part)
        return heard(line)


def heard(line: socket.socket) -> Said:
    """Read an answer until its end, or until the other side closes."""
    content = b""
    try:
        while b"\r\n\r\n" not in content or _is_open(content):
            chunk = line.recv(65_536)
            if not chunk:
                break
            content += chunk
    except ConnectionError:
        pass
    head, _, body = content.partition(b"\r\n\r\n")
    return Said(int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0, head.lower(), body)


def _is_open(content: bytes) -> bool:
    head, _, body = content.partition(b"\r\n\r\n")
    length = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return len(body) < int(length[0]) if length else True


def request(
    method: str, target: str, token: str = "", body: bytes | None = None, host: str = "localhost", **headers: str
) -> bytes:
    """Return a request's bytes; `_` in the name of a header stands for `-`."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    if body is not None:
        headers = {"content_type": "application/json", "content_length": str(len(body))} | headers
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def walk_without_a_token(address: str, token: str, loop: str) -> int:
    """No operation answers without a token that counts, however it is brought."""
    paths = json.loads(say(address, request("GET", "/openapi.json")).body)["paths"]
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    tries = 0
    for path, operations in paths.items():
        if path in OPEN_PATHS:
            continue
        target = path.replace("{name}", loop)
        for method in {*map(str.upper, operations), "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"}:
            for asked in (
                request(method, target),
                request(method, target, forged),
                request(method, f"{target}?token={token}&access_token={token}"),
                request(method, target, cookie=f"token={token}"),
                request(method, target, authorization=f"Basic {token}"),
            ):
                found = say(address, asked)
                assert found.status in {401, 429}, (method, target, found)
                tries += 1
        time.sleep(0.3)
    return tries


def tricks_with_hosts(address: str, token: str, loop: str) -> int:
    """On loopback nothing is answered under another name, a token or not."""
    del loop
    for host in HOSTS:
        for page in ("/v1/status", "/livez", "/metrics"):
            found = say(address, request("GET", page, token, host=host))
            assert found.status in {400, 421}, (host, page, found)
    twice = request("GET", "/v1/status", token).replace(b"Host: localhost", b"Host: localhost\r\nHost: evil.example")
    assert say(address, twice).status in {400, 421}
    absolute = request("GET", "http://evil.example/v1/status", token, host="evil.example")
    assert say(address, absolute).status in {400, 404, 421}
    return len(HOSTS) + 2


def pages_of_others(address: str, token: str, loop: str) -> int:
    """What a page of another site can make a browser send does nothing, and no answer lets such a page read it."""
    del token
    body = json.dumps({"events": [{"id": "x", "a": 1.0, "b": 1.0}]}).encode()
    origin = {"origin": "http://evil.example", "cookie": "session=1"}
    asked = [
        request("POST", "/v1/events", body=body, content_type="text/plain", **origin),
        request("POST", "/v1/labels", body=body, content_type="application/x-www-form-urlencoded", **origin),
        request("POST", f"/v1/models/{loop}:predict", body=body, **origin),
        request("OPTIONS", "/v1/events", access_control_request_method="POST", **origin),
    ]
    for each in asked:
        found = say(address, each)
        assert found.status in {401, 429}, found
        assert b"access-control-allow" not in found.head
    return len(asked)


def ways_up(address: str, token: str, loop: str) -> int:
    """No path leads out of the table."""
    for path in UP:
        found = say(address, request("GET", path.format(loop=loop), token))
        assert found.status in {400, 404}, (path, found)
        assert b"root:" not in found.body
        assert b"sha256" not in found.body
    return len(UP)


def scripts(address: str, token: str, loop: str) -> int:
    """What is sent comes back, if at all, as JSON in which no character means anything to a browser."""
    tries = 0
    for text in XSS:
        record = {"id": text, "a": text, text: text, "b": 1.0}
        fine = {"id": text, "a": 1.0, "b": 1.0}
        escaped = text.replace("<", "%3C").replace(">", "%3E").replace('"', "%22").replace(" ", "%20")
        for asked in (
            request(
                "POST",
                f"/v1/models/{loop}:predict?explain=1",
                token,
                json.dumps({"instances": [record, fine]}).encode(),
            ),
            request("POST", "/v1/events", token, json.dumps({"events": [record]}).encode()),
            request("POST", "/v1/labels", token, json.dumps({"labels": [record], text: 1}).encode()),
            request("GET", f"/v1/predictions?{escaped}={escaped}", token),
            request("GET", f"/v1/models/{escaped}", token),
            request("GET", f"/{escaped}"),
            request("GET", "/v1/status", token, x_request_id=text),
            request("GET", "/v1/events", token, last_event_id=text),
        ):
            found = say(address, asked)
            assert b"content-type: application/" in found.head, found
            assert b"x-content-type-options: nosniff" in found.head
            assert b"<" not in found.body, found
            assert b"<script" not in found.head
            tries += 1
    return tries


def great_bodies(address: str, token: str, loop: str) -> int:
    """What is too large is refused before it is read, and takes no memory."""
    announced = request("POST", "/v1/events", token, b"", content_length="100000000")
    assert say(address, announced).status == 413
    with connect(address) as line:
        line.sendall(request("POST", "/v1/events", token, content_type="application/json", transfer_encoding="chunked"))
        sent = _pour(line, b"%x\r\n%b\r\n" % (65_536, b" " * 65_536), 100_000_000)
        assert sent < 20_000_000, f"{sent} bytes were taken"
    with connect(address) as line:  # of a page that reads no body
        line.sendall(request("GET", "/livez", transfer_encoding="chunked"))
        sent = _pour(line, b"%x\r\n%b\r\n" % (65_536, b" " * 65_536), 100_000_000)
    deep = b'{"events":' + b"[" * 40_000
    many = b'{"instances":[{"a":[' + b"[]," * 340_000 + b"0]}]}"
    nested = json.dumps({"instances": [{"a": _nested(240), "b": 1.0}]}).encode()
    wide = json.dumps(
        {"instances": [{f"k{number}": number for number in range(20_000)} | {"a": 1.0, "b": 1.0}]}
    ).encode()
    assert say(address, request("POST", "/v1/events", token, deep)).status == 400
    assert say(address, request("POST", f"/v1/models/{loop}:predict", token, many)).status == 413
    assert say(address, request("POST", f"/v1/models/{loop}:predict", token, nested)).status == 200
    assert say(address, request("POST", f"/v1/models/{loop}:predict", token, wide)).status == 200
    assert say(address, request("POST", "/v1/events", token, b"x", content_encoding="gzip")).status == 415
    return 8


def _pour(line: socket.socket, chunk: bytes, most: int) -> int:
    sent = 0
    line.settimeout(5)
    try:
        while sent < most:
            line.sendall(chunk)
            sent += len(chunk)
    except (ConnectionError, TimeoutError):
        pass
    return sent


def _nested(depth: int) -> Any:
    found: Any = 1.0
    for _ in range(depth):
        found = [found]
    return found


def bad_heads(address: str, token: str, loop: str) -> int:
    """What is no request is refused, or the line is cut."""
    del loop
    asked = [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        request("POST", "/v1/events", token, b"zz\r\n\r\n", transfer_encoding="chunked"),
        request("GET", "/v1/status", token).replace(b"Host: localhost", b"Host: localhost\r\nX: a\r\n b\x00c"),
    ]
    for each in asked:
        assert say(address, each).status in {0, 400, 404, 415, 421, 422, 431}, each[:80]
    return len(asked)


def slow_ones(address: str, token: str, loop: str, *, connections: int, most: int, head_within_s: float) -> int:
    """Lines that never finish a request cost nothing to those that do, and are cut."""
    del loop
    with ExitStack() as stack:
        lines = []
        for number in range(connections):
            line = stack.enter_context(connect(address))
            line.sendall(b"GET /v1/status HTTP/1.1\r\nHost: loc"[: 1 + number % 30])
            lines.append(line)
        until_s = time.monotonic() + 4.0  # some may wait where the process has not seen them
        while (still := len(lines) - sum(map(_is_cut, lines))) > most + 1:
            if time.monotonic() >= until_s:
                raise InVain(f"{still} lines are open, of {most} that there may be")
            time.sleep(0.05)
        body = stack.enter_context(connect(address))
        body.sendall(request("POST", "/v1/events", token, b"", content_length="1000"))
        begun = time.monotonic()
        while time.monotonic() - begun < head_within_s:
            with_patience(lambda: say(address, request("GET", "/livez")).status == 200, 2.0)
            with_patience(lambda: say(address, request("GET", "/v1/status", token)).status in {200, 429}, 5.0)
            for line in lines[::10]:
                _drip(line)
            time.sleep(0.2)
        time.sleep(1.0)
        cut = sum(map(_is_cut, lines))
        assert cut == len(lines), f"{len(lines) - cut} of {len(lines)} slow lines are still open"
        body.settimeout(PATIENCE_S)
        assert heard(body).status == 408
    return connections + 1


def _drip(line: socket.socket) -> None:
    try:
        line.sendall(b"a")
    except OSError:
        return


def _is_cut(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return not line.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def with_patience(holds: Callable[[], bool], within_s: float) -> None:
    """Ask once; it must hold, and soon."""
    begun = time.monotonic()
    assert holds()
    took_s = time.monotonic() - begun
    if took_s >= within_s:
        raise InVain(f"it took {took_s:.1f} s")


def many_streams(address: str, token: str, loop: str, *, most: int) -> int:
    """Streams are bounded, those that nobody reads too; when they are gone there is room again."""
    del loop
    with ExitStack() as stack:
        lines = [stack.enter_context(connect(address)) for _ in range(most + 4)]
        found = []
        for line in lines:
            line.sendall(request("GET", "/v1/events", token, last_event_id="0/0"))
            found.append(line.recv(15))
        statuses = [int(each.split(b" ")[1]) for each in found]
        assert statuses == [200] * most + [503] * 4, statuses
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        with connect(address) as line:
            line.sendall(request("GET", "/v1/events", token))
            if line.recv(15).startswith(b"HTTP/1.1 200"):
                return most + 5
        time.sleep(0.2)
    raise InVain("streams that were closed are still counted")


ABUSES: Sequence[Callable[[str, str, str], int]] = (
    walk_without_a_token,
    tricks_with_hosts,
    pages_of_others,
    ways_up,
    scripts,
    great_bodies,
    bad_heads,
)


def all_of_them(address: str, token: str, loop: str, **bounds: Any) -> Iterator[tuple[str, int]]:
    """Do everything; yield what was done and how often."""
    for abuse in ABUSES:
        yield abuse.__name__, abuse(address, token, loop)
    yield "many_streams", many_streams(address, token, loop, most=bounds["streams"])
    time.sleep(1.0)
    slow = {"connections": bounds["connections"], "most": bounds["most"], "head_within_s": bounds["head_within_s"]}
    yield "slow_ones", slow_ones(address, token, loop, **slow)
