"""What errors tell beside their message."""

from __future__ import annotations

from tailrace.domain.errors import WaitingRoomError


def test_a_waiting_room_that_another_holds_is_told_from_one_that_is_broken() -> None:
    held, broken = WaitingRoomError("held", is_locked=True), WaitingRoomError("broken", is_damaged=True)

    assert (True, False) == (held.is_locked, broken.is_locked)
    assert (False, True) == (held.is_damaged, broken.is_damaged)
    assert held.retriable
