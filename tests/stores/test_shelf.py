"""A folder of RocksDB: sets of changes, ranges in order, locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tailrace.domain.errors import WaitingRoomError
from tailrace.stores.shelf import Shelf, new_cache
from tailrace.stores.waiting_folders import WaitingFolders

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
