"""Requests and answers: the token, deadlines, retries, and problems as exceptions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

import tailrace
from tailrace.domain.access import is_this_machine
from tailrace.domain.errors import SettingsError, TailraceError

Plain: TypeAlias = dict[str, Any]

_QUIET_S: Final = 45.0
"""A stream says at least every 15 s that it lives."""

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


class Connection:
    """Speaks to one API.

    Args:
        url: `https://HOST[:PORT]`, or `http://` on this machine: a token is not sent over a line that others read.
        token: As `tailrace tokens create` printed it; white space around it does not count.
        ca_file: PEM file of the authority of the server's certificate; the system's without it.
        timeout_s: For one try to connect, and for each part of an answer.

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
        retry = Retry(
            total=3,
            status_forcelist=(429, 503),
            allowed_methods=None,
            backoff_factor=0.2,
            redirect=False,
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(
            headers=headers,
            retries=retry,
            timeout=Timeout(connect=timeout_s, read=timeout_s),
            ca_certs=None if ca_file is None else str(ca_file),
        )

    def get(self, path: str, **parameters: Any) -> Plain:
        """Return the JSON of an answer.

        Raises:
            ApiError: It is a problem.
            Unreachable: There is none.
        """
        return object_of(self._request("GET", path, fields=_given(parameters)).data)

    def get_bytes(self, path: str, **parameters: Any) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and the headers of an answer; raises like `get`."""
        answer = self._request("GET", path, fields=_given(parameters))
        return answer.data, answer.headers

    def post(self, path: str, body: str, **parameters: Any) -> Plain:
        """Send JSON and return that of the answer; raises like `get`."""
        query = f"?{'&'.join(f'{name}={value}' for name, value in _given(parameters).items())}" if parameters else ""
        headers = {"content-type": "application/json"}
        return object_of(self._request("POST", f"{path}{query}", body=body.encode(), headers=headers).data)

    @contextmanager
    def lines(self, path: str, headers: Mapping[str, str], **parameters: Any) -> Iterator[Iterator[str]]:
        """Open a stream and give its lines as they come; raises like `get`."""
        quiet = Timeout(connect=self._timeout_s, read=_QUIET_S)
        asked = _given(parameters)
        answer = self._request("GET", path, fields=asked, headers=headers, preload_content=False, timeout=quiet)
        try:
            yield _lines(answer)
        finally:
            answer.close()

    def close(self) -> None:
        """Let go of connections."""
        self._pool.clear()

    def _request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> Any:
        merged = {**self._pool.headers, **(headers or {})}
        try:
            answer = self._pool.request(method, f"{self._url}{path}", headers=merged, **options)
            if answer.status >= 300:
                raise _problem(answer.data, answer.status)
        except HTTPError as cause:
            raise Unreachable(
                f"{self._url} gives no answer: {type(cause).__name__}; does a worker run there?"
            ) from cause
        return answer


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


def _lines(answer: Any) -> Iterator[str]:
    rest = b""
    try:
        for chunk in answer.stream(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
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
