"""How long a disk that takes no waiting room is left alone."""

from __future__ import annotations

from tailrace.streams.partition_join import pause_after


def test_pauses_grow_to_half_a_minute_and_stay_there_however_long_the_disk_is_full():
    """Fails when the pause is a power of two: a night of a full disk would end the process."""
    assert [pause_after(lost) for lost in (3, 4, 5, 6, 7, 8, 5_000)] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
