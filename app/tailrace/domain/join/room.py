"""What the join asks of the place where its identities are kept: in memory, or on disk.

Which form it is changes no outcome and no vector. Nothing here or there decides one; `machine` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tailrace.domain.blocks import Lowest, Vector
from tailrace.domain.join.memory import Identity
from tailrace.domain.times import EventTimeMs


class WaitingRoom(Protocol):
    """Identities by id, by arrival, by time, and by when they were settled.

    An identity is changed through the room only, and only between two calls of `seal` that the caller paces: what a
    call returned is not kept across them.

    Attributes:
        waiting: How many wait for their label.
        count: How many are remembered, waiting ones included.
    """

    waiting: int
    count: int

    def newest(self, event_id: str, /) -> Identity | None:
        """Return the newest identity of an id; older ones hang on it."""

    def find(self, event_id: str, time_ms: EventTimeMs) -> Identity | None:
        """Return a remembered identity."""

    def add(self, identity: Identity) -> None:
        """Keep an event that begins to wait, as the newest of its id. Positions rise."""

    def add_settled(
        self, event_id: str, time_ms: EventTimeMs, row_at: int, state: int, y: float = 0.0, revision: int = 0
    ) -> None:
        """Remember what its row in the training log says of an identity; the first row of one identity rules."""

    def settle(self, identity: Identity, state: int, y: float, revision: int, row_at: int) -> None:
        """Give a waiting identity its outcome and let go of its block. `row_at` never falls."""

    def correct(self, identity: Identity, y: float | None, revision: int) -> None:
        """Take what a later label says of a settled identity."""

    def lowest(self, end: Lowest) -> Lowest:
        """Return the lowest position that still waits, `end` if none does."""

    def before(self, time_ms: EventTimeMs) -> Iterator[Identity]:
        """Yield those of an earlier time that wait, by time and id.

        An identity that is yielded must be settled before the next is asked for.
        """

    def forget(self, time_ms: EventTimeMs) -> None:
        """Forget settled identities of an earlier time, all of them or the oldest; the rest the next time."""

    def oldest_row(self, end: int) -> int:
        """Return a log offset before which no remembered identity has its row, `end` if there is none."""

    def seal(self, vector: Vector) -> None:
        """Take note that everything up to now belongs to the block that carries this vector."""
