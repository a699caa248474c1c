"""Ordered completion: which offset of a partition may be committed while batches finish in any order.

Pure: no clock, no I/O. Both forms of the log keep one `Completion` per assigned partition. Invariant: the
committable offset never passes a batch that is not completed (rule 3 of `log`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailrace.streams.log import RecordBatch


class Completion:
    """The batches of one partition that were delivered and are not yet part of the committable prefix.

    Attributes:
        position: The offset to deliver next.
        completed: The offset up to which everything is completed; None before anything was.
    """

    __slots__ = ("_delivered", "_done", "_limit", "_uncommitted", "completed", "position")

    def __init__(self, position: int, limit: int) -> None:
        self.position = position
        self.completed: int | None = None
        self._limit = limit
        self._delivered: deque[RecordBatch] = deque()
        self._done: set[RecordBatch] = set()
        self._uncommitted = False

    @property
    def in_flight(self) -> int:
        """Batches that hold back the prefix, or are held back by one before them."""
        return len(self._delivered)

    @property
    def has_room(self) -> bool:
        """Whether one more batch may be delivered (rule 1)."""
        return len(self._delivered) < self._limit

    def begin(self, batch: RecordBatch) -> None:
        """Note that a batch is about to be delivered."""
        self._delivered.append(batch)
        self.position = batch.next_offset

    def complete(self, batch: RecordBatch) -> bool:
        """Note that a batch is completed; return whether the committable offset moved.

        A batch that is not known (delivered before a seek, or completed twice) changes nothing.
        """
        if batch not in self._delivered:
            return False
        self._done.add(batch)
        moved = False
        while self._delivered and self._delivered[0] in self._done:
            front = self._delivered.popleft()
            self._done.discard(front)
            self.completed = front.next_offset
            self._uncommitted = moved = True
        return moved

    def holds(self, batch: RecordBatch) -> bool:
        """Whether a batch holds back the prefix, or is held back by one before it."""
        return batch in self._delivered

    def give_back(self, batch: RecordBatch) -> list[RecordBatch]:
        """Deliver from a batch that `holds` next; return what is forgotten: it, and what was delivered behind it."""
        given: list[RecordBatch] = []
        while not given or given[-1] is not batch:
            given.append(self._delivered.pop())
        self._done.difference_update(given)
        self.position = batch.records[0].offset
        return given

    def seek(self, offset: int) -> None:
        """Deliver from `offset` next; forget what was delivered before."""
        self.position = offset
        self.completed = None
        self._delivered.clear()
        self._done.clear()
        self._uncommitted = False

    def committable(self) -> int | None:
        """Return the offset to commit if it moved since `commit_done`, else None."""
        return self.completed if self._uncommitted else None

    def commit_done(self, offset: int) -> None:
        """Note that `offset` was committed."""
        if self.completed is not None and offset >= self.completed:
            self._uncommitted = False

    def behind(self, end: int) -> int:
        """Return how many offsets lie between what was completed, or where reading began, and `end`."""
        front = self._delivered[0].records[0].offset if self._delivered else self.position
        return max(0, end - front)
