"""The small disk fills up and has room again; a log loses whole batches."""

from __future__ import annotations

import os
import struct

import pytest
from tests.faults.disks import NoSmallDisk, SmallDisk, lose_tail


def test_a_small_disk_takes_nothing_more_when_it_is_full_and_something_when_there_is_room_again():
    try:
        disk = SmallDisk(4)
    except NoSmallDisk as why:
        if os.environ.get("TAILRACE_REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(str(why))
    try:
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.path / "more").write_bytes(b"x")
        disk.make_room()
        (disk.path / "more").write_bytes(b"x" * (1 << 20))
    finally:
        disk.close()
    assert not disk.path.exists()


def test_a_small_disk_without_inodes_opens_nothing_new_until_there_is_room_again():
    try:
        disk = SmallDisk(4, inodes=50)
    except NoSmallDisk as why:
        if os.environ.get("TAILRACE_REQUIRE_KAFKA") == "1":
            raise
        pytest.skip(str(why))
    try:
        disk.fill_inodes()
        with pytest.raises(OSError, match="No space left"):
            (disk.path / "more").touch()
        disk.make_room()
        (disk.path / "more").touch()
    finally:
        disk.close()


def test_the_tail_that_is_lost_begins_at_a_batch(tmp_path):
    folder = tmp_path / "topic-0"
    folder.mkdir()
    batches = [struct.pack(">qi", first, 10) + bytes(10) for first in (0, 3, 7, 8)]
    (folder / "00000000000000000000.log").write_bytes(b"".join(batches))

    assert lose_tail(tmp_path, "topic", 0, 2) == 7
    assert (folder / "00000000000000000000.log").read_bytes() == b"".join(batches[:2])
