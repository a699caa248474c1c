"""What every form of the snapshot store promises: subclass `StoreRules` and give it a `store` fixture."""

from __future__ import annotations

import pytest

from tailrace.domain.errors import SnapshotRefused
from tailrace.stores.snapshot_store import SnapshotStore

PATH = "phishing/a1b2/7-0f.tailrace"

BAD_PATHS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside",
    "a/../../outside",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "a/.writing-1",
    "a\\b",
    "a b",
    "a\0b",
    "a\nb",
    "ä",
    "a" * 129,
    "/".join(["a" * 100] * 3),
]


class StoreRules:
    """The rules, one test each."""

    def test_a_content_comes_back_as_it_was_put(self, store: SnapshotStore):
        store.put(PATH, b"content")

        assert b"content" == store.get(PATH, 7)

    def test_an_empty_content_is_a_content(self, store: SnapshotStore):
        store.put(PATH, b"")

        assert b"" == store.get(PATH, 0)

    def test_a_second_put_replaces_the_first(self, store: SnapshotStore):
        store.put(PATH, b"first and longer")
        store.put(PATH, b"second")

        assert b"second" == store.get(PATH, 100)
        assert [PATH] == store.paths()

    def test_a_content_that_is_not_there_is_refused_by_name(self, store: SnapshotStore):
        with pytest.raises(SnapshotRefused) as refused:
            store.get(PATH, 100)

        assert "missing" == refused.value.reason

    def test_a_content_larger_than_asked_for_is_not_read(self, store: SnapshotStore):
        store.put(PATH, b"x" * 101)

        with pytest.raises(SnapshotRefused, match="101 bytes, allowed are 100") as refused:
            store.get(PATH, 100)

        assert "too_large" == refused.value.reason

    def test_a_deleted_content_is_gone_and_deleting_it_again_is_fine(self, store: SnapshotStore):
        store.put(PATH, b"content")

        store.delete(PATH)
        store.delete(PATH)

        assert [] == store.paths()

    def test_contents_are_listed_below_a_folder(self, store: SnapshotStore):
        for path in ("b/2", "a/c/1", "a/0"):
            store.put(path, b"content")

        assert ["a/0", "a/c/1", "b/2"] == store.paths()
        assert ["a/0", "a/c/1"] == store.paths("a")
        assert [] == store.paths("none")

    def test_an_empty_store_lists_nothing(self, store: SnapshotStore):
        assert [] == store.paths()

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_a_path_that_could_lead_elsewhere_is_refused(self, store: SnapshotStore, path: str):
        with pytest.raises(ValueError, match="not a path of a store"):
            store.put(path, b"content")
        with pytest.raises(ValueError, match="not a path of a store"):
            store.get(path, 100)
        with pytest.raises(ValueError, match="not a path of a store"):
            store.delete(path)
