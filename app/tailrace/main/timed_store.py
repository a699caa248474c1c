"""A store of snapshots that says how long it took to answer; an answer is also that there is no such content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from tailrace.domain.errors import StoreUnavailable
from tailrace.stores.snapshot_store import SnapshotStore


class TimedStore(SnapshotStore):
    """Passes everything on.

    Args:
        told: Called with the operation (put, get, list, delete), "ok" or "failed", and seconds; from any thread.
    """

    def __init__(self, store: SnapshotStore, told: Callable[[str, str, float], None]) -> None:
        self._store, self._told = store, told

    @property
    def address(self) -> str:
        return self._store.address

    def put(self, path: str, content: bytes) -> None:
        with self._timed("put"):
            self._store.put(path, content)

    def get(self, path: str, max_bytes: int) -> bytes:
        with self._timed("get"):
            return self._store.get(path, max_bytes)

    def paths(self, folder: str = "") -> list[str]:
        with self._timed("list"):
            return self._store.paths(folder)

    def delete(self, path: str) -> None:
        with self._timed("delete"):
            self._store.delete(path)

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        begun_s, outcome = perf_counter(), "ok"
        try:
            yield
        except (OSError, StoreUnavailable):
            outcome = "failed"
            raise
        finally:
            self._told(operation, outcome, perf_counter() - begun_s)
