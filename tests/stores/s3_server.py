"""An S3 server on loopback (moto's), and proxies in front of it that delay, hang and cut."""

from __future__ import annotations

import logging
import select
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from moto.server import ThreadedMotoServer

from tailrace.stores.object_store import Access, ObjectStore

BUCKET = "bucket"
KEY_ID, SECRET = "key-id", "a secret that nobody may read"


@dataclass(frozen=True)
class S3Server:
    """A running server with one empty bucket."""

    endpoint: str

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.endpoint.removeprefix("http://").split(":")
        return host, int(port)

    def reset(self) -> None:
        """Forget everything but one empty bucket."""
        for method, path in (("POST", "moto-api/reset"), ("PUT", BUCKET)):
            urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{path}", b"", method=method)).close()

    def store(self, prefix: str = "", *, deadline_s: float = 10.0, endpoint: str | None = None) -> ObjectStore:
        access = Access(endpoint or self.endpoint, "us-east-1", KEY_ID, SECRET)
        return ObjectStore(f"s3://{BUCKET}{prefix and '/' + prefix}", access, deadline_s=deadline_s)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        running = S3Server("http://{}:{}".format(*server.get_host_and_port()))
        running.reset()
        yield running
    finally:
        server.stop()


class Proxy:
    """Forwards TCP to one address until it is told to hang or to cut.

    While it hangs nothing passes; what hung is dropped afterwards, so that no request arrives when nobody waits for it.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._flows = threading.Event()
        self._flows.set()
        self._cuts = False
        self._ends = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def hang(self) -> None:
        self._flows.clear()

    def cut(self) -> None:
        self._cuts = True
        self._flows.set()

    def heal(self) -> None:
        self._cuts = False
        self._flows.set()

    def close(self) -> None:
        self._ends = True
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while not self._ends:
            with suppress(TimeoutError):
                thread = threading.Thread(target=self._forward, args=(self._listener.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as server:
            while not self._ends:
                readable, _, _ = select.select([client, server], [], [], 0.05)
                for side in readable:
                    if not self._flows.is_set():
                        self._flows.wait()
                        return
                    chunk = b"" if self._cuts else side.recv(65_536)
                    if not chunk:
                        return
                    (server if side is client else client).sendall(chunk)


@contextmanager
def proxied(server: S3Server) -> Iterator[Proxy]:
    """Run a proxy in front of a server."""
    proxy = Proxy(server.address)
    try:
        yield proxy
    finally:
        proxy.close()
