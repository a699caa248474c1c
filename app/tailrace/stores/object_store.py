"""`s3://`, `gs://` and `az://`: snapshots in a bucket of an object store, or in a container of Azure's.

Every call ends within its deadline, whatever the server does: a hanging store costs one thread for so long and no
longer. What `put` returned from was read back and compared, since a store may lose what it has acknowledged. A content
is sent in one request, so that it is there whole or not at all, and no half of an upload is left to be paid for.

Of a failure only its kind, HTTP status and the store's error code are told: addresses of requests may carry secrets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import obstore
from obstore import exceptions as causes
from obstore.store import AzureStore, GCSStore, S3Store

from tailrace.domain.errors import SettingsError, SnapshotRefused, StoreUnavailable
from tailrace.stores.snapshot_store import SnapshotStore, is_path, names_of

_Client: TypeAlias = S3Store | GCSStore | AzureStore

DEADLINE_S: Final = 30.0
"""How long one call may take, beside the time that its bytes need at SLOWEST_BYTES_PER_S."""

SLOWEST_BYTES_PER_S: Final = 1 << 20
"""A store that moves fewer bytes a second counts as one that does not answer."""

_REQUEST_WITHIN: Final = "1h"  # the client's own limit, out of the way: the deadline above is the one that counts
_CONNECT_WITHIN: Final = "5s"
_TRIES_AGAIN: Final = 1  # within a call; whoever uploads has a patience and a backoff of its own


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an object store, beside the usual AWS_*, GOOGLE_* and AZURE_* variables, which it wins over.

    Attributes:
        endpoint: `http[s]://HOST[:PORT][/PATH]` of a server that speaks the same protocol; None: the provider's own.
        region: Of S3; None: by the environment, else us-east-1.
        key_id, secret: The access key of S3, or the name and the key of an Azure storage account.
        key_file: A Google service account's JSON file.
    """

    endpoint: str | None = None
    region: str | None = None
    key_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    key_file: Path | None = None


class ObjectStore(SnapshotStore):
    """`SCHEME://BUCKET[/PREFIX]`: everything lies below the prefix, and nothing else there is looked at.

    Args:
        address: Of that form.
        deadline_s: See DEADLINE_S.

    Raises:
        SettingsError: The access cannot be right: no account, a key that is none, a file that is not there.
    """

    def __init__(self, address: str, access: Access | None = None, *, deadline_s: float = DEADLINE_S) -> None:
        scheme, _, rest = address.partition("://")
        bucket, _, prefix = rest.partition("/")
        self._address = address
        self._deadline_s = deadline_s
        self._top = f"{prefix}/" if prefix else ""
        try:
            self._client = _CLIENTS[scheme](bucket, access or Access())
        except causes.BaseError as cause:
            problem = f"snapshots.store: {address} cannot be used: {_refusal_of(scheme, cause)}"
            raise SettingsError([problem]) from None

    @property
    def address(self) -> str:
        return self._address

    def put(self, path: str, content: bytes) -> None:
        names_of(path)
        with self._failures(path, is_put=True):
            asyncio.run(self._put(path, content))
        try:
            found = self.get(path, len(content))
        except SnapshotRefused as refused:
            raise self._lost(path, f"refused when read back ({refused.reason})") from refused
        if found != content:
            raise self._lost(path, "not the same when read back")

    def get(self, path: str, max_bytes: int) -> bytes:
        names_of(path)
        with self._failures(path):
            return asyncio.run(self._get(path, max_bytes))

    def paths(self, folder: str = "") -> list[str]:
        below = self._top + ("/".join(names_of(folder)) if folder else "")
        with self._failures(folder or ".", is_put=True):
            keys = asyncio.run(self._list(below.removesuffix("/")))
        return sorted(
            path for key in keys if key.startswith(self._top) and is_path(path := key.removeprefix(self._top))
        )

    def delete(self, path: str) -> None:
        names_of(path)
        try:
            with self._failures(path):
                asyncio.run(self._delete(path))
        except SnapshotRefused as refused:
            if refused.reason != "missing":
                raise

    # Each call runs on an event loop of its own, in the thread of its caller: cancelling ends the request at once,
    # where a thread that waits in the client could only be abandoned.

    async def _put(self, path: str, content: bytes) -> None:
        async with self._patience(len(content)):
            await obstore.put_async(self._client, self._top + path, content, use_multipart=False)

    async def _get(self, path: str, max_bytes: int) -> bytes:
        async with self._patience():
            answer = await obstore.get_async(self._client, self._top + path)
        size = answer.meta["size"]
        if size > max_bytes:
            raise SnapshotRefused("too_large", f"{path} has {size} bytes, allowed are {max_bytes}; it is ignored")
        content = bytearray()
        async with self._patience(size):
            async for chunk in answer.stream():
                content += chunk
                if len(content) > max_bytes:
                    raise SnapshotRefused("too_large", f"{path} has more bytes than it said, {size}; it is ignored")
        return bytes(content)

    async def _list(self, below: str) -> list[str]:
        async with self._patience():
            return [meta["path"] async for page in obstore.list(self._client, below or None) for meta in page]

    async def _delete(self, path: str) -> None:
        async with self._patience():
            await obstore.delete_async(self._client, self._top + path)

    def _patience(self, size_bytes: int = 0) -> asyncio.Timeout:
        return asyncio.timeout(self._deadline_s + size_bytes / SLOWEST_BYTES_PER_S)

    @contextmanager
    def _failures(self, path: str, *, is_put: bool = False) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise self._unavailable(path, f"no answer within {self._deadline_s:g} s") from None
        except (OSError, causes.BaseError) as cause:
            text = str(cause)
            is_missing = isinstance(cause, causes.NotFoundError | FileNotFoundError)
            if is_missing and not is_put and not any(code in text for code in _NO_BUCKET):
                raise SnapshotRefused("missing", f"{path} is not in {self._address}") from None
            raise self._unavailable(path, _kind_of(cause, text)) from None

    def _lost(self, path: str, how: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{path} was acknowledged by {self._address} and is {how}; it does not count as stored and is sent again. "
            "Look whether another program writes below this prefix"
        )

    def _unavailable(self, path: str, why: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{path} cannot be read or written: {why}; look whether {self._address} is reachable, and at the "
            "credentials and rights of this process"
        )


def _s3(bucket: str, access: Access) -> _Client:
    given = {
        "endpoint": access.endpoint,
        "region": access.region,
        "access_key_id": access.key_id,
        "secret_access_key": access.secret,
    }
    return S3Store(bucket, **_given(given), **_options(access))


def _gs(bucket: str, access: Access) -> _Client:
    file = None if access.key_file is None else str(access.key_file)
    return GCSStore(bucket, **_given({"base_url": access.endpoint, "service_account_path": file}), **_options(access))


def _az(container: str, access: Access) -> _Client:
    given = {"endpoint": access.endpoint, "account_name": access.key_id, "account_key": access.secret}
    return AzureStore(container, **_given(given), **_options(access))


_CLIENTS: Final = {"s3": _s3, "gs": _gs, "az": _az}

_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _options(access: Access) -> dict[str, Any]:
    is_plain = access.endpoint is not None and access.endpoint.startswith("http://")
    client = {"timeout": _REQUEST_WITHIN, "connect_timeout": _CONNECT_WITHIN}
    return {
        "client_options": client | ({"allow_http": True} if is_plain else {}),
        "retry_config": {"max_retries": _TRIES_AGAIN},
    }


def _kind_of(cause: BaseException, text: str) -> str:
    status, code = _STATUS.search(text), _CODE.search(text)
    told = [f"HTTP status {status[1]}" if status else "", code[1] if code else ""]
    if not any(told):
        return "the server cannot be reached" if "HTTP error" in text else f"the client says {type(cause).__name__}"
    return ", ".join(part for part in told if part)


def _refusal_of(scheme: str, cause: BaseException) -> str:
    text = str(cause)
    if "Account must be specified" in text:
        return "no account; name it as [snapshots] key_id or in AZURE_STORAGE_ACCOUNT_NAME"
    if "Invalid Access Key" in text:
        return (
            "the key of the account is no base64; copy it whole, into a file that TAILRACE_SNAPSHOTS__SECRET_FILE names"
        )
    if "service account file" in text:
        return "the service account's file cannot be read, or is none; look at [snapshots] key_file"
    return f"the client of {scheme}:// refuses its settings ({type(cause).__name__}); look at [snapshots]"
