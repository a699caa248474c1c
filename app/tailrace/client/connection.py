"""Requests and answers: the token, deadlines, retries, and problems as exceptions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

import tailrace
from tailrace.domain.access import is_this_machine
from tailrace.domain.errors import SettingsError, TailraceError

Plain: TypeAlias = dict[str, Any]

_QUIET_S: Final = 45.0
"""A stream says at least every 15 s that it lives."""

_MOST_JSON_BYTES: Final = 64 << 20  # of an answer that is read as one value
_MOST_LINE_BYTES: Final = 4 << 20  # of a stream
_PIECE_BYTES: Final = 1 << 20

_TOKEN: Final = re.compile("[!-~]{1,256}")
_MOST_TOKEN_BYTES: Final = 4_096  # of a file

_URL: Final = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?")


class ApiError(TailraceError):
    """The API answered with a problem.

    Attributes:
        status: Of HTTP.
        code: Stable; decide by it.
        hint: What to do next.
        errors: What is wrong with single parts of the request.
    """

    def __init__(self, problem: Mapping[str, Any], status: int) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.hint = str(problem.get("hint", ""))
        self.errors: list[Plain] = list(problem.get("errors") or [])
        listed = "".join(f"\n  {each.get('at')}: {each.get('detail')}" for each in self.errors[:5])
        parts = [str(part) for part in (problem.get("title"), problem.get("detail"), self.hint) if part]
        said = " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)
        super().__init__(f"{status}: {said}{listed}")


class Unreachable(TailraceError):
    """The API gave no answer, after as many tries as are made."""

    retriable = True


class _Patience(Retry):
    """Tries again as often as is allowed, and waits at most `most_s` before each, whatever an answer asks for."""

    most_s: float = 0.0

    def new(self, **changes: Any) -> Self:
        made = super().new(**changes)
        made.most_s = self.most_s
        return made

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked_s = super().get_retry_after(response)
        return None if asked_s is None else min(asked_s, self.most_s)


class Connection:
    """Speaks to one API.

    Args:
        url: `https://HOST[:PORT]`, or `http://` on this machine: a token is not sent over a line that others read.
        token: As `tailrace tokens create` printed it; white space around it does not count.
        ca_file: PEM file of the authority of the server's certificate; the system's without it.
        timeout_s: For one try to connect, for each part of an answer, and for the pause before another try.

    Raises:
        SettingsError: The address or the token cannot be used.
    """

    def __init__(self, url: str, token: str | None, ca_file: Path | None, timeout_s: float) -> None:
        match = _URL.fullmatch(url)
        if match is None:
            raise SettingsError([f"url: found {url!r}; allowed: https://HOST:PORT, or http://127.0.0.1:PORT"])
        if match["scheme"] == "http" and token is not None and not is_this_machine(match["host"]):
            raise SettingsError(
                [f"url: found {url!r}, over which everyone on the way reads the token; allowed: https, or this machine"]
            )
        bearer = None if token is None else _checked(token.strip(), "token")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        headers = {"user-agent": f"tailrace-client/{tailrace.__version__}", "accept": "application/json"}
        if bearer is not None:
            headers["authorization"] = f"Bearer {bearer}"
        # A request that is sent again changes nothing: records count once, by their ids.
        self._patience = _Patience(
            total=3,
            status_forcelist=(429, 503),
            allowed_methods=None,
            backoff_factor=0.2,
            redirect=False,
            raise_on_status=False,
        )
        self._patience.most_s = timeout_s
        self._pool = urllib3.PoolManager(
            headers=headers,
            timeout=Timeout(connect=timeout_s, read=timeout_s),
            ca_certs=None if ca_file is None else str(ca_file),
        )

    def get(self, path: str, **parameters: Any) -> Plain:
        """Return the JSON of an answer.

        Raises:
            ApiError: It is a problem, or larger than any answer of the API.
            Unreachable: There is none.
        """
        return object_of(self._request("GET", path, _MOST_JSON_BYTES, fields=_given(parameters))[0])

    def get_bytes(self, path: str, *, most: int, **parameters: Any) -> tuple[bytes, Mapping[str, str]]:
        """Return the body, of at most so many bytes, and the headers of an answer; raises like `get`."""
        return self._request("GET", path, most, fields=_given(parameters))

    def post(self, path: str, body: str, **parameters: Any) -> Plain:
        """Send JSON and return that of the answer; raises like `get`."""
        query = f"?{'&'.join(f'{name}={value}' for name, value in _given(parameters).items())}" if parameters else ""
        headers = {"content-type": "application/json"}
        content, _ = self._request("POST", f"{path}{query}", _MOST_JSON_BYTES, body=body.encode(), headers=headers)
        return object_of(content)

    @contextmanager
    def lines(self, path: str, headers: Mapping[str, str], **parameters: Any) -> Iterator[Iterator[str]]:
        """Open a stream and give its lines as they come; raises like `get`."""
        quiet = Timeout(connect=self._timeout_s, read=_QUIET_S)
        with self._explained():
            answer = self._open("GET", path, self._patience, fields=_given(parameters), headers=headers, timeout=quiet)
            if answer.status >= 300:
                raise _problem(_content(answer, _MOST_JSON_BYTES), answer.status)
        try:
            yield _lines(answer)
        finally:
            answer.close()

    def close(self) -> None:
        """Let go of connections."""
        self._pool.clear()

    def _request(self, method: str, path: str, most: int, **options: Any) -> tuple[bytes, Mapping[str, str]]:
        retries: Retry = self._patience
        with self._explained():
            while True:
                answer = self._open(method, path, retries, **options)
                try:
                    content = _content(answer, most)
                except HTTPError as cause:  # it broke off: the same tries are for that
                    retries = (answer.retries or retries).increment(method, path, error=cause)
                    retries.sleep()
                    continue
                if answer.status >= 300:
                    raise _problem(content, answer.status)
                return content, answer.headers

    def _open(
        self, method: str, path: str, retries: Retry, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> BaseHTTPResponse:
        """Return an answer whose body is not read yet, so that nobody decides but we how much of it comes."""
        merged = {**self._pool.headers, **(headers or {})}
        url = f"{self._url}{path}"
        return self._pool.request(method, url, headers=merged, retries=retries, preload_content=False, **options)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except HTTPError as cause:
            raise Unreachable(
                f"{self._url} gives no answer: {type(cause).__name__}; does a worker run there?"
            ) from cause


def token_in(file: Path) -> str:
    """Return the token that a file holds.

    Raises:
        SettingsError: The file cannot be read, or holds none. The text of it is not repeated.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_TOKEN_BYTES)
    except OSError as cause:
        raise SettingsError([f"token_file: {file} cannot be read: {cause.strerror}"]) from cause
    # What is not ASCII becomes a character that no token has.
    return _checked(content.decode("ascii", "replace").strip(), f"token_file: {file}")


def _checked(token: str, where: str) -> str:
    if _TOKEN.fullmatch(token) is None:
        found = "text that is none" if token else "nothing"
        raise SettingsError([f"{where}: found {found}; allowed: a token, as `tailrace tokens create` prints it"])
    return token


def _content(answer: BaseHTTPResponse, most: int) -> bytes:
    """Return the body as it comes; it was asked for uncompressed, so that few bytes cannot become very many.

    Raises:
        ApiError: It is larger than `most`; no more than that was read.
        HTTPError: It broke off.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := answer.read(_PIECE_BYTES, decode_content=False):
            size += len(piece)
            if size > most:
                raise _too_large(answer.status, most)
            pieces.append(piece)
    finally:
        answer.close()
    return b"".join(pieces)


def _lines(answer: BaseHTTPResponse) -> Iterator[str]:
    rest = b""
    try:
        for chunk in answer.stream(65_536, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _MOST_LINE_BYTES:
                raise _too_large(answer.status, _MOST_LINE_BYTES)
            for line in lines:
                yield line.decode(errors="replace")
    except HTTPError as cause:
        raise Unreachable(f"the stream broke off: {type(cause).__name__}") from cause


def _given(parameters: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None
    }


def listed(answer: Plain, name: str) -> list[Plain]:
    """Return a list that an answer holds.

    Raises:
        ApiError: There is none.
    """
    found = answer.get(name)
    if not isinstance(found, list):
        raise not_ours(200)
    return found


def not_ours(status: int) -> ApiError:
    """Return what is raised where an answer is none of the API's: something else answers at this address."""
    return ApiError({"title": "The answer is none of Tailrace's API."}, status)


def _too_large(status: int, most: int) -> ApiError:
    detail = f"found more than {most:,} bytes; allowed are {most:,}"
    return ApiError(
        {
            "title": "The answer is too large.",
            "detail": detail,
            "hint": "look whether Tailrace answers at this address",
        },
        status,
    )


def object_of(content: bytes | str) -> Plain:
    """Return the JSON object of an answer.

    Raises:
        ApiError: It is none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise not_ours(200) from cause
    if not isinstance(found, dict):
        raise not_ours(200)
    return found


def _problem(content: bytes, status: int) -> ApiError:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    return ApiError(found, status) if isinstance(found, dict) else not_ours(status)
