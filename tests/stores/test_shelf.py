"""A folder of RocksDB: sets of changes, ranges in order, locks."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from rocksdict import Rdict

from tailrace.domain.errors import WaitingRoomError
from tailrace.stores.shelf import Shelf, new_cache
from tailrace.stores.waiting_folders import WaitingFolders
from tailrace.stores.waiting_room import DiskRoom

CHANGES_AND_DEATH = """
import os, signal, sys
from pathlib import Path
from tailrace.stores.shelf import Shelf, new_cache
shelf = Shelf(Path(sys.argv[1]), new_cache())
for number in range(50):
    for key in range(200):
        shelf.put(b"a%03d" % key, b"%d" % number)
    shelf.seal()
    shelf.write()
    if number == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
"""

META = (
    b'{"format": 1, "waiting": 0, "count": 0, "begins": %b, "headings": %d, "block": '
    b'{"log_id": "x", "offset": 1, "owner": "x", "number": 1, "vector": "", "hint": ""}}'
)


@pytest.fixture
def shelf(tmp_path):
    made = Shelf(tmp_path / "room", new_cache())
    yield made
    made.close()


def write(shelf):
    shelf.seal()
    assert shelf.write()


def test_a_killed_process_leaves_whole_sets(tmp_path):
    """Fails when a set is not one write batch."""
    ended = subprocess.run(
        [sys.executable, "-c", CHANGES_AND_DEATH, tmp_path / "room", "17"], check=False, env=os.environ
    )
    shelf = Shelf(tmp_path / "room", new_cache())

    found = shelf.get([b"a%03d" % key for key in range(200)])

    assert -signal.SIGKILL == ended.returncode
    assert {b"17"} == set(found)
    shelf.close()


def test_a_set_reaches_the_disk_when_it_is_written_and_not_before(shelf):
    shelf.put(b"a1", b"first")
    shelf.seal()
    shelf.put(b"a1", b"second")

    before = shelf.get([b"a1"])
    shelf.write()
    after = shelf.get([b"a1"])

    assert ([None], [b"first"]) == (before, after)
    assert b"second" == shelf.waits_at(b"a1")


def test_a_range_shows_what_is_on_disk_and_what_is_not_yet_in_one_order(shelf):
    numbers = shelf.range(b"n")
    for key in (b"n1", b"n3", b"n5"):
        numbers.add(key, b"old")
    write(shelf)
    numbers.add(b"n4", b"new")
    numbers.add(b"n2", b"new")
    shelf.put(b"n3", None)
    shelf.put(b"n5", b"changed")

    found = numbers.first(b"n", b"o", 10)

    assert [(b"n1", b"old"), (b"n2", b"new"), (b"n4", b"new"), (b"n5", b"changed")] == found
    assert found[:2] == numbers.first(b"n", b"o", 2)
    assert found[1:3] == numbers.first(b"n2", b"n5", 10)


def test_a_range_does_not_change_when_it_is_written(shelf):
    numbers = shelf.range(b"n")
    for key in (b"n2", b"n1"):
        numbers.add(key, b"x")
    before = numbers.first(b"n", b"o", 10)

    write(shelf)

    assert before == numbers.first(b"n", b"o", 10)


def test_a_folder_has_one_owner(shelf):
    with pytest.raises(WaitingRoomError) as refused:
        Shelf(shelf.folder, new_cache())

    assert refused.value.is_locked


def test_a_file_in_the_place_of_the_folder_is_no_lock(tmp_path):
    (tmp_path / "room").write_text("")

    with pytest.raises(WaitingRoomError) as refused:
        Shelf(tmp_path / "room", new_cache())

    assert not refused.value.is_locked


def test_a_folder_that_is_held_is_passed_over_and_cleared_later(tmp_path):
    folders = WaitingFolders(tmp_path)
    first = folders.open(0)
    second = folders.open(0)
    places = first.shelf.folder.name, second.shelf.folder.name
    first.close()
    second.close()

    third = folders.open(0)

    assert ("0", "0.2") == places
    assert "0" == third.shelf.folder.name
    assert ["0"] == [path.name for path in tmp_path.iterdir()]
    third.close()


def left_behind(folder):
    """Leave a room behind that holds something."""
    shelf = Shelf(folder, new_cache())
    shelf.put(b"n1", b"kept")
    write(shelf)
    shelf.close()


@contextmanager
def file_handles(count):
    """Let this process open so many files more, and no further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as probe:
        next_one = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", range(8))
def test_without_file_handles_a_room_is_neither_deleted_nor_taken_for_held(tmp_path, count):
    """Defence: what RocksDB says, not where a word stands in it. It says this in many ways, of many files."""
    folders = WaitingFolders(tmp_path / "LOCK")  # whose path says nothing either
    left_behind(tmp_path / "LOCK" / "0")

    with file_handles(count), pytest.raises(WaitingRoomError, match="Too many open files") as refused:
        folders.open(0)
    again = folders.open(0)

    assert (False, False) == (refused.value.is_locked, refused.value.is_damaged)
    assert [b"kept"] == again.shelf.get([b"n1"])
    again.close()


@pytest.mark.parametrize(
    ("said", "is_locked", "is_damaged"),
    [
        ("IO error: While lock file: /w/0/LOCK: Resource temporarily unavailable", True, False),
        ("IO error: lock hold by current process, acquire time 1 acquiring thread 2: /w/0/LOCK", True, False),
        ("IO error: While open a file for random read: /LOCK/0/000009.sst: Permission denied", False, False),
        ("IO error: No space left on device: While appending to file: /w/0/MANIFEST-000013", False, False),
        (
            "Invalid argument: Found options incompatible: IO error: While open a file: Too many open files",
            False,
            False,
        ),
        ("what a later version may say", False, False),
        ("Invalid argument: Column families not opened: x", False, True),
        ("IO error: No such file or directory: While opening a file: /w/0/MANIFEST-000015", False, True),
        ("Corruption: CURRENT file does not end with newline", False, True),
        ("Corruption: Corruption: IO error: No such file or directory: While open: /w/0/000009.sst", False, True),
    ],
)
def test_a_folder_is_made_anew_only_where_what_it_holds_is_damaged(tmp_path, monkeypatch, said, is_locked, is_damaged):
    """Defence: the beginning of what RocksDB says."""
    left_behind(tmp_path / "0")
    told = [said]

    def opens(*arguments):
        if told:
            raise Exception(told.pop())  # noqa: TRY002 - as rocksdict does
        return Rdict(*arguments)

    monkeypatch.setattr("tailrace.stores.shelf.Rdict", opens)

    with pytest.raises(WaitingRoomError) as refused:
        Shelf(tmp_path / "0", new_cache())
    if not is_locked:
        told.append(said)
        with nullcontext() if is_damaged else pytest.raises(WaitingRoomError):
            WaitingFolders(tmp_path).open(0).close()
    room = WaitingFolders(tmp_path).open(0)

    assert (is_locked, is_damaged) == (refused.value.is_locked, refused.value.is_damaged)
    assert [None if is_damaged else b"kept"] == room.shelf.get([b"n1"])
    room.close()


@pytest.mark.parametrize(
    "meta",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "block": {"log_id": "x"}}',
        b'{"format": 1, "block": null}',
        META % (b'["zz", "", "", ""]', 0),
        META % (b'["", "", "", ""]', 1),
        b"\xff",
    ],
)
def test_a_room_that_says_of_itself_what_is_not_ours_is_damaged_and_let_go_of(tmp_path, meta):
    """Defence: whatever reading it raises is told as damage; the folder is free, and made anew."""
    shelf = Shelf(tmp_path / "0", new_cache())
    shelf.put(b"m", meta)
    write(shelf)
    shelf.close()

    with pytest.raises(WaitingRoomError, match="could not be read") as refused:
        DiskRoom(Shelf(tmp_path / "0", new_cache()), 0)
    room = WaitingFolders(tmp_path).open(0)

    assert (False, True) == (refused.value.is_locked, refused.value.is_damaged)
    assert room.is_empty
    assert ["0"] == [path.name for path in tmp_path.iterdir()]
    room.close()


def test_former_owners_cannot_hold_folders_without_end(tmp_path):
    folders = WaitingFolders(tmp_path)
    held = [folders.open(0) for _ in range(4)]

    with pytest.raises(WaitingRoomError) as refused:
        folders.open(0)

    assert refused.value.is_locked
    for room in held:
        room.close()


def test_folders_are_their_owners_alone(shelf):
    assert 0o700 == shelf.folder.stat().st_mode & 0o777
