"""The store in a folder: the rules of every store, and what only a folder can get wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.stores.store_rules import PATH, StoreRules

from tailrace.domain.errors import SnapshotRefused, StoreUnavailable
from tailrace.stores.snapshot_store import DirectoryStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


class TestDirectoryStore(StoreRules):
    """The rules of every store."""


def test_the_address_names_the_folder(store: DirectoryStore, root: Path):
    assert f"file:{root}" == store.address


def test_files_and_folders_are_for_their_owner_alone(store: DirectoryStore, root: Path):
    before = os.umask(0)
    try:
        store.put(PATH, b"content")
    finally:
        os.umask(before)

    assert 0o600 == stat.S_IMODE((root / PATH).stat().st_mode)
    assert 0o700 == stat.S_IMODE((root / "phishing").stat().st_mode)


def test_a_link_is_not_followed_when_reading(store: DirectoryStore, root: Path, tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"secret")
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(SnapshotRefused) as refused:
        store.get("link", 100)

    assert "not_a_file" == refused.value.reason
    assert [] == store.paths()


def test_a_link_to_a_folder_is_not_followed(store: DirectoryStore, root: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / "phishing").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreUnavailable):
        store.put("phishing/1", b"content")
    with pytest.raises(SnapshotRefused, match="no plain file"):
        store.get("phishing/1", 100)

    assert [] == list((tmp_path / "elsewhere").iterdir())


def test_a_link_is_replaced_when_writing_and_its_target_stays(store: DirectoryStore, root: Path, tmp_path: Path):
    (tmp_path / "target").write_bytes(b"target")
    root.mkdir()
    (root / "name").symlink_to(tmp_path / "target")

    store.put("name", b"content")

    assert b"content" == store.get("name", 100)
    assert b"target" == (tmp_path / "target").read_bytes()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(store: DirectoryStore, root: Path, kind: str):
    root.mkdir()
    if kind == "folder":
        (root / "name").mkdir()
    else:
        os.mkfifo(root / "name")

    with pytest.raises(SnapshotRefused) as refused:
        store.get("name", 100)

    assert "not_a_file" == refused.value.reason


def test_a_put_that_fails_leaves_the_former_content_and_no_rest(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
):
    store.put(PATH, b"former")

    def no_space(_file: int, _content: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(StoreUnavailable, match="No space left"):
        store.put(PATH, b"new")
    monkeypatch.undo()

    assert b"former" == store.get(PATH, 100)
    assert ["7-0f.tailrace"] == os.listdir((root / PATH).parent)


def test_a_rename_that_never_happens_leaves_the_former_content(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch):
    store.put(PATH, b"former")

    def interrupted(*_names: str, **_folders: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.put(PATH, b"new")
    monkeypatch.undo()

    assert b"former" == store.get(PATH, 100)


def test_content_and_folder_are_synced_before_put_returns(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch):
    acts: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(file: int) -> None:
        acts.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        fsync(file)

    def noted_rename(*names: str, **folders: int) -> None:
        acts.append("rename")
        rename(*names, **folders)

    store.put("name", b"first")
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    store.put("name", b"second")

    assert ["file", "rename", "folder"] == acts


def test_the_steps_of_a_put_are_told_while_nobody_finds_the_file_yet(root: Path):
    told: list[tuple[str, int, list[str]]] = []

    def on_step(name: str) -> None:
        (temporary,) = (entry for entry in root.iterdir() if entry.name != "name")
        told.append((name, temporary.stat().st_size, store.paths()))

    store = DirectoryStore(root, on_step=on_step)
    store.put("name", b"content!")

    assert [("store.half_written", 4, []), ("store.written", 8, [])] == told
    assert b"content!" == store.get("name", 100)


def test_what_a_killed_process_left_is_not_listed_and_removed_after_an_hour(store: DirectoryStore, root: Path):
    root.mkdir()
    old, young = root / ".writing-old", root / ".writing-young"
    for rest in (old, young):
        rest.write_bytes(b"half")
    os.utime(old, (1, 1))

    listed = store.paths()
    store.put("name", b"content")

    assert [] == listed
    assert not old.exists()
    assert young.exists()


def test_the_root_is_synced_into_its_folder_when_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[int] = []
    fsync = os.fsync

    def noted_fsync(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    DirectoryStore(tmp_path / "new" / "root").put("name", b"content")

    assert {tmp_path.stat().st_ino, (tmp_path / "new").stat().st_ino} <= set(synced)


def test_a_half_written_file_that_vanishes_while_another_is_put_is_no_failure(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
):
    root.mkdir()
    (root / ".writing-other").write_bytes(b"half")
    scandir = os.scandir

    @contextmanager
    def scanned(folder: int) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            found = list(entries)
        (root / ".writing-other").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scanned)
    store.put("name", b"content")
    monkeypatch.undo()

    assert b"content" == store.get("name", 100)


def test_a_folder_that_cannot_be_written_says_what_to_check(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    store = DirectoryStore(tmp_path / "file" / "below")

    with pytest.raises(StoreUnavailable, match="check the space and permissions"):
        store.put("name", b"content")
