"""What a learner asks of a follower in the same process: the state that it has come to."""

from __future__ import annotations

from typing import Protocol

from tailrace.domain.state import LoopState


class Standby(Protocol):
    """May have a state at hand that was folded from this log."""

    async def take(self) -> LoopState | None:
        """Give the state away, at a block's end, and follow no more; None: there is none."""

    def resume(self) -> None:
        """Follow again: nobody learns here any more."""


class NoStandby:
    """Nothing follows in this process."""

    async def take(self) -> LoopState | None:
        """Return None."""
        return None

    def resume(self) -> None:
        """Do nothing."""
