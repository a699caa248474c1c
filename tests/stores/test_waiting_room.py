"""The waiting room on disk answers as the one in memory, whatever is written when."""

from __future__ import annotations

import pytest
from tests.builders import make_join_spec, make_label, make_limits, make_scored_block, make_times
from tests.stores.two_joins import TwoJoins

from tailrace.domain.join import LabelJoin
from tailrace.domain.join.memory import JOINED
from tailrace.domain.join.state import JoinState
from tailrace.stores.shelf import Shelf, new_cache
from tailrace.stores.waiting_room import _STEP, HEAVY, DiskRoom


class Kept:
    """A join on disk whose every block is committed at once."""

    def __init__(self, folder):
        self.room = DiskRoom(Shelf(folder, new_cache()), 0)
        times = make_times(horizon_ms=10_000, disorder_ms=10_000, skew_ms=0, recall_ms=0)
        spec = make_join_spec(times=times, limits=make_limits(max_rows=100))
        self.join = LabelJoin(spec, JoinState.empty(spec, self.room, self.room.early))
        self.blocks = 0

    def fill(self, count, begin_ms):
        for first in range(0, count, 50):
            rows = [(f"{begin_ms}-{number}", begin_ms) for number in range(first, first + 50)]
            self.join.on_scored(self.blocks, make_scored_block(*rows))
            self.write_if(self.room.is_heavy)

    def write_if(self, is_due):
        if is_due:
            self.blocks += 1
            self.join.take()
            self.join.acknowledged(self.blocks)
            self.room.acknowledged("log", self.blocks, "owner", self.blocks, "")
            assert self.room.write()


def held(room):
    """Return how many things of any kind the room holds in memory."""
    fresh = sum(len(each._fresh) for each in room.shelf._ranges)
    return len(room._known) + len(room._changed) + len(room.shelf._overlay) + len(room.shelf._open) + fresh


@pytest.mark.parametrize("seed", range(40))
def test_disk_and_memory_write_the_same_blocks_after_any_restart(seed, tmp_path):
    """Every batch is equal to the byte, every vector to the last move; the disk is made again from where it stood.

    Fails when an identity, an early label or a watermark is lost, doubled or kept past its time in either form.
    """
    joins = TwoJoins(seed, tmp_path)

    for _ in range(400):
        joins.step()

    assert joins.restarts > 0
    assert len(joins.log) > 10


def test_what_is_in_memory_does_not_grow_with_what_waits(tmp_path):
    """Fails when what is on disk is not let go of."""
    kept = Kept(tmp_path)

    kept.fill(20_000, 1_000)

    assert kept.join.waiting == 20_000
    assert held(kept.room) < 20 * HEAVY
    kept.room.close()


def forget(kept, keep):
    """Let time pass until only so many are remembered; return the most that one block forgot."""
    kept.fill(keep, 60_000)
    kept.join.on_label(make_label("60000-0", time_ms=60_000, y=1.0, offset=1), home=0)
    most = 0
    for _ in range(500):
        before = kept.join.remembered
        if not kept.join.expire() and before == keep:
            return most
        kept.write_if(True)
        most = max(most, before - kept.join.remembered)
    raise AssertionError(f"{kept.join.remembered} are remembered still")


def test_what_is_forgotten_leaves_nothing_on_the_disk(tmp_path):
    """Fails when a key of a forgotten identity stays behind in any range."""
    kept = Kept(tmp_path)
    kept.fill(3_000, 1_000)
    kept.join.on_label(make_label("1000-7", time_ms=1_000, y=1.0, offset=0), home=0)

    forget(kept, 50)

    by_time, arrived, rows = (
        each.first(each.start, each.stop, 100) for each in (kept.room._by_time, kept.room._arrived, kept.room._rows)
    )
    assert (50, 49, 1) == (len(by_time), len(arrived), len(rows))
    assert 50 == len(kept.room.shelf.scan(b"i", b"j", 100))
    kept.room.close()


def test_forgetting_is_bounded(tmp_path):
    """Fails when a watermark that jumps makes one block forget everything, while scoring waits."""
    kept = Kept(tmp_path)
    kept.fill(5_000, 1_000)

    most = forget(kept, 50)

    assert 0 < most <= 2 * HEAVY
    kept.room.close()


def test_a_room_that_was_left_half_made_stands_as_of_nothing(tmp_path):
    """Fails when pieces of a room that is made again are taken for a whole one after a crash."""
    kept = Kept(tmp_path)
    kept.fill(2 * HEAVY, 1_000)
    kept.write_if(True)
    kept.room.close()
    again = Kept(tmp_path)
    was = again.room.standing
    again.room.remake()
    for number in range(_STEP):
        again.room.add_settled(f"row-{number}", 1_000, 5, JOINED)
    again.room.close()

    left = DiskRoom(Shelf(tmp_path, new_cache()), 0)

    assert was is not None
    assert left.standing is None
    assert not left.is_empty
    left.close()


def test_a_room_that_is_brought_forward_a_little_stands_where_it_stood_until_it_is_whole(tmp_path):
    """Fails when a crash while a room is brought forward costs more than what came since."""
    kept = Kept(tmp_path)
    kept.fill(2 * HEAVY, 1_000)
    kept.write_if(True)
    kept.room.close()
    again = Kept(tmp_path)
    again.room.remake()
    for number in range(2 * HEAVY):
        again.room.add_settled(f"row-{number}", 1_000, 5, JOINED)
    again.room.close()

    left = DiskRoom(Shelf(tmp_path, new_cache()), 0)

    assert again.room.standing == left.standing is not None
    assert 2 * HEAVY == left.count
    assert left.newest("row-7") is None
    left.close()
