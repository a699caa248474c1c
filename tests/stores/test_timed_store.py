"""Every question to the store is timed, whatever it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.domain.errors import SnapshotRefused, StoreUnavailable
from tailrace.main.timed_store import TimedStore
from tailrace.stores.snapshot_store import DirectoryStore


class Down(DirectoryStore):
    """Gives no answer."""

    def get(self, path: str, max_bytes: int) -> bytes:
        raise StoreUnavailable(f"{path} of {max_bytes} bytes: no answer")


def test_what_is_asked_is_passed_on_and_told(tmp_path: Path):
    told: list[tuple[str, str]] = []
    store = TimedStore(DirectoryStore(tmp_path), lambda operation, outcome, _seconds: told.append((operation, outcome)))

    store.put("a/b", b"content")
    assert (b"content", ["a/b"]) == (store.get("a/b", 100), store.paths("a"))
    store.delete("a/b")
    assert store.address == f"file:{tmp_path}"

    assert [("put", "ok"), ("get", "ok"), ("list", "ok"), ("delete", "ok")] == told


def test_that_there_is_no_such_content_is_an_answer_and_silence_is_a_failure(tmp_path: Path):
    told: list[tuple[str, str]] = []
    note = lambda operation, outcome, _seconds: told.append((operation, outcome))  # noqa: E731

    with pytest.raises(SnapshotRefused):
        TimedStore(DirectoryStore(tmp_path), note).get("a/b", 100)
    with pytest.raises(StoreUnavailable):
        TimedStore(Down(tmp_path), note).get("a/b", 100)

    assert [("get", "ok"), ("get", "failed")] == told
