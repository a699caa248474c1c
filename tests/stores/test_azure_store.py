"""The rules of every store against Azurite, which speaks Azure's protocol on loopback, where it is installed.

`npm install -g azurite` brings it. No cloud is asked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from uuid import uuid4

import pytest
from tests.stores.store_rules import StoreRules

from tailrace.stores.object_store import Access, ObjectStore

WITHIN_S = 30.0
# Azurite's published account: it is in its documentation, and opens nothing else.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def running(tool: str, *options: str, port: int) -> Iterator[None]:
    """Run a server until it has listened, or skip where it is not installed."""
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"no {tool} here, its rules are skipped")
    process = subprocess.Popen([found, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_port(port)
        yield
    finally:
        process.terminate()
        process.wait()


def _await_port(port: int) -> None:
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
    pytest.fail(f"nothing listened on port {port} within {WITHIN_S} s")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class TestAzure(StoreRules):
    """`az://`."""

    @pytest.fixture(scope="class")
    @classmethod
    def endpoint(cls) -> Iterator[str]:
        port = free_port()
        options = ("--blobHost", "127.0.0.1", "--blobPort", str(port), "--skipApiVersionCheck")
        with running("azurite-blob", *options, "--inMemoryPersistence", port=port):
            address = f"http://127.0.0.1:{port}/{ACCOUNT}"
            _make_container(address, "models")
            yield address

    @pytest.fixture
    def store(self, endpoint: str) -> ObjectStore:
        return ObjectStore(f"az://models/{uuid4().hex}", Access(endpoint, None, ACCOUNT, ACCOUNT_KEY))


def _make_container(address: str, name: str) -> None:
    """Create a container, signed as Azure's SharedKey wants it."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    lines = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    signed = f"PUT{chr(10) * 12}{lines}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{address}/{name}?restype=container", headers=headers, method="PUT")
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as refused:
        pytest.fail(f"no container could be made: {refused.code} {refused.read()!r}")
