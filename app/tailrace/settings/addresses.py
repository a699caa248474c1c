"""The texts in a configuration that name something outside: the log, the store, the HTTP address, a topic.

Each type's function returns the checked text in one form, paths made absolute, or raises ValueError. Nothing is opened.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, ValidationInfo

LOG_ALLOWED: Final = '"kafka://HOST:PORT[,HOST:PORT…]" or "embedded:FOLDER"'
STORE_ALLOWED: Final = '"file:FOLDER", "s3://BUCKET/PREFIX", "gs://BUCKET/PREFIX" or "az://CONTAINER/PREFIX"'
ENDPOINT_ALLOWED: Final = '"http://HOST:PORT" or "https://HOST:PORT", with a path where the server has one'
HTTP_ALLOWED: Final = '"HOST:PORT", or "" for no HTTP at all'
TOPIC_ALLOWED: Final = "a topic name: 1 to 240 letters, digits, dots, underscores and dashes"

OBJECT_SCHEMES: Final = ("s3", "gs", "az")
"""Of the stores that are no folder."""

_MOST_PREFIX_CHARS: Final = 512
_HOST_PORT: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}", re.ASCII)
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9_.-]{0,127})*", re.ASCII)
_ENDPOINT: Final = re.compile(r"https?://(?P<authority>[^/?#@\s]+)(/[A-Za-z0-9._-]+)*", re.ASCII)
_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,240}")  # Kafka takes 249; ".dlq" and the like are appended to some


def parse_host_port(text: str) -> tuple[str, int]:
    """Split "host:port" or "[::1]:port".

    Raises:
        ValueError: It is neither, or the port is above 65535.
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError("not HOST:PORT")
    return match["host"].strip("[]"), int(match["port"])


def free_port(host: str, port: int) -> int | None:
    """Return the port if it can be listened on now, and some free one for 0; None if it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError):
        return None


def absolute(text: object, info: ValidationInfo) -> Path:
    """Return a path; a relative one is relative to the folder of the configuration file."""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError("not a path")
    folder: Path = (info.context or {}).get("folder") or Path.cwd()
    return Path(folder, Path(text).expanduser() if text.startswith("~/") else text)


def _log(text: object, info: ValidationInfo) -> str:
    if not isinstance(text, str):
        raise ValueError("not text")
    scheme, _, rest = text.partition(":")
    if scheme == "embedded":
        return f"embedded:{absolute(rest, info)}"
    if scheme != "kafka" or not rest.startswith("//"):
        raise ValueError("no known form")
    servers = [server.strip() for server in rest.removeprefix("//").split(",")]
    for server in servers:
        if not parse_host_port(server)[1]:
            raise ValueError("port 0")
    return "kafka://" + ",".join(servers)


def _store(text: object, info: ValidationInfo) -> str:
    scheme, _, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if scheme == "file":
        return f"file:{absolute(rest.removeprefix('//'), info)}"
    if scheme not in OBJECT_SCHEMES or not rest.startswith("//"):
        raise ValueError("no known form")
    bucket, slash, prefix = rest.removeprefix("//").rstrip("/").partition("/")
    if not _BUCKET.fullmatch(bucket) or not _PREFIX.fullmatch(slash + prefix) or len(prefix) > _MOST_PREFIX_CHARS:
        raise ValueError("no bucket and prefix")
    return f"{scheme}://{bucket}{slash}{prefix}"


def _endpoint(text: object) -> str:
    if not isinstance(text, str) or (match := _ENDPOINT.fullmatch(text.rstrip("/"))) is None:
        raise ValueError("not an address of HTTP")
    authority = match["authority"]
    if ":" in authority.rpartition("]")[2]:
        parse_host_port(authority)
    return text.rstrip("/")


def _http(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError("not text")
    if text:
        parse_host_port(text)
    return text


def _topic(text: object) -> str:
    if not isinstance(text, str) or not _TOPIC.fullmatch(text) or text in {".", ".."}:
        raise ValueError("not a topic name")
    return text


LogAddress: TypeAlias = Annotated[str, BeforeValidator(_log)]
StoreAddress: TypeAlias = Annotated[str, BeforeValidator(_store)]
EndpointAddress: TypeAlias = Annotated[str, BeforeValidator(_endpoint)]
HttpAddress: TypeAlias = Annotated[str, BeforeValidator(_http)]
TopicName: TypeAlias = Annotated[str, BeforeValidator(_topic)]
FilePath: TypeAlias = Annotated[Path, BeforeValidator(absolute)]
