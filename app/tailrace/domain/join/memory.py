"""What the join keeps in memory: identities, early labels, forwards that may come again.

Every structure answers in amortised O(log n) or better. Queues are cleaned lazily: what is done is marked where
it lies and leaves when it comes to the front. Nothing here decides an outcome; `machine` does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise

from tailrace.domain.blocks import Lowest, ScoredBlock, Vector
from tailrace.domain.positions import Position
from tailrace.domain.records import Label
from tailrace.domain.times import EventTimeMs

WAITING = 0
JOINED = 1
IMPLICIT = 2
DROPPED = 3


@dataclass(slots=True, eq=False)
class Identity:
    """One accepted event: its id at its time.

    Attributes:
        position, watermark_ms: Of its row in `scored`, and the scored watermark just before it.
        older: An earlier identity of the same id that is still remembered.
        block, row: Where its features and predictions are, while it waits.
        y, revision: What counts of a joined or corrected identity; y is None once it is withdrawn.
        row_at: Its row in the training log does not lie before this offset.
        remembered: False once it is forgotten.
    """

    id: str
    time_ms: EventTimeMs
    position: Position
    watermark_ms: EventTimeMs
    older: Identity | None
    block: ScoredBlock | None
    row: int
    state: int = WAITING
    y: float | None = 0.0
    revision: int = 0
    row_at: int = 0
    remembered: bool = True

    def correct(self, y: float | None, revision: int) -> None:
        """Take what a later label says, or that it takes back what was said: from now on the label has spoken."""
        self.state, self.y, self.revision = JOINED, y, revision


class Identities:
    """The waiting room in memory: identities by id, by arrival, by time, and by when they were settled."""

    def __init__(self) -> None:
        self._by_id: dict[str, Identity] = {}
        self.newest = self._by_id.get  # asked once for every event and label: no call of ours in between
        self._arrived: deque[Identity] = deque()
        self._by_time: list[tuple[EventTimeMs, str, Identity]] = []
        self._passed: deque[tuple[EventTimeMs, str, Identity]] = deque()
        self._settled: deque[Identity] = deque()
        self.waiting = 0
        self.count = 0

    def find(self, event_id: str, time_ms: EventTimeMs) -> Identity | None:
        """Return a remembered identity."""
        return _at(self.newest(event_id), time_ms)

    def add(self, identity: Identity) -> None:
        """Keep an event that begins to wait, as the newest of its id. Positions rise."""
        self._by_id[identity.id] = identity
        self._arrived.append(identity)
        heappush(self._by_time, (identity.time_ms, identity.id, identity))
        self.count += 1
        self.waiting += 1

    def add_settled(
        self, event_id: str, time_ms: EventTimeMs, row_at: int, state: int, y: float = 0.0, revision: int = 0
    ) -> None:
        """Remember what its row in the training log says of an identity; the first row of one identity rules."""
        newest = self.newest(event_id)
        known = _at(newest, time_ms)
        if known is not None:
            if known.state == WAITING:
                self.settle(known, state, y, revision, row_at)
            return
        identity = Identity(event_id, time_ms, 0, 0, newest, None, 0, state, y, revision, row_at)
        self._by_id[event_id] = identity
        heappush(self._by_time, (time_ms, event_id, identity))
        self._settled.append(identity)
        self.count += 1

    def settle(self, identity: Identity, state: int, y: float, revision: int, row_at: int) -> None:
        """Give a waiting identity its outcome and let go of its block. `row_at` never falls."""
        identity.state = state
        identity.y = y
        identity.revision = revision
        identity.row_at = row_at
        identity.block = None
        self._settled.append(identity)
        self.waiting -= 1

    def correct(self, identity: Identity, y: float | None, revision: int) -> None:
        """Take what a later label says of a settled identity."""
        identity.correct(y, revision)

    def lowest(self, end: Lowest) -> Lowest:
        """Return the lowest position that still waits, `end` if none does."""
        arrived = self._arrived
        while arrived and arrived[0].state != WAITING:
            arrived.popleft()
        return Lowest(arrived[0].position, arrived[0].watermark_ms) if arrived else end

    def before(self, time_ms: EventTimeMs) -> Iterator[Identity]:
        """Take identities of an earlier time out of the order of time; yield those that wait, by time and id.

        An identity that is yielded must be settled before the next is asked for.
        """
        by_time = self._by_time
        while by_time and by_time[0][0] < time_ms:
            if by_time[0][2].state == WAITING:
                yield by_time[0][2]
            self._passed.append(heappop(by_time))

    def forget(self, time_ms: EventTimeMs) -> None:
        """Forget settled identities of an earlier time."""
        by_time, passed = self._by_time, self._passed
        while by_time and by_time[0][0] < time_ms and by_time[0][2].state != WAITING:
            passed.append(heappop(by_time))
        while passed and passed[0][0] < time_ms:
            _, event_id, identity = passed.popleft()
            identity.remembered = False
            self.count -= 1
            self._unlink(event_id, identity)

    def _unlink(self, event_id: str, identity: Identity) -> None:
        newest = self._by_id[event_id]
        if newest is not identity:
            while newest.older is not identity:
                assert newest.older is not None
                newest = newest.older
            newest.older = identity.older
        elif identity.older is not None:
            self._by_id[event_id] = identity.older
        else:
            del self._by_id[event_id]

    def oldest_row(self, end: int) -> int:
        """Return a log offset before which no remembered identity has its row, `end` if there is none."""
        settled = self._settled
        while settled and not settled[0].remembered:
            settled.popleft()
        return settled[0].row_at if settled else end

    def seal(self, vector: Vector) -> None:
        """Need nothing more: what is in memory goes with the process."""


def _at(newest: Identity | None, time_ms: EventTimeMs) -> Identity | None:
    while newest is not None and newest.time_ms != time_ms:
        newest = newest.older
    return newest


@dataclass(slots=True, eq=False)
class EarlyLabel:
    """A label that waits for its event.

    Attributes:
        watermark_ms: Of its own labels partition, just before it.
        is_waiting: False once it was judged or orphaned.
    """

    label: Label
    watermark_ms: EventTimeMs
    is_waiting: bool = True


class EarlyLabels:
    """Early labels by id in reading order, by time, and those of the own partition by offset."""

    def __init__(self) -> None:
        self.by_id: dict[str, list[EarlyLabel]] = {}
        self._by_time: list[tuple[EventTimeMs, int, EarlyLabel]] = []
        self._own: deque[EarlyLabel] = deque()
        self._added = 0
        self.count = 0

    def add(self, early: EarlyLabel, opened: OpenForward | None) -> None:
        """Keep a label: one of the own partition, added in the order of their offsets, or a forward's."""
        self.by_id.setdefault(early.label.id, []).append(early)
        self._added += 1
        heappush(self._by_time, (early.label.time_ms, self._added, early))
        if opened is None:
            self._own.append(early)
        else:
            opened.early = early
        self.count += 1

    def remove(self, early: EarlyLabel) -> None:
        """Take out one label."""
        early.is_waiting = False
        self.count -= 1
        same_id = self.by_id[early.label.id]
        same_id.remove(early)
        if not same_id:
            del self.by_id[early.label.id]

    def all(self) -> list[EarlyLabel]:
        """Return those that wait."""
        return [early for same_id in self.by_id.values() for early in same_id]

    def before(self, time_ms: EventTimeMs) -> Iterator[Label]:
        """Take out and yield the labels of an earlier time."""
        by_time = self._by_time
        while by_time and by_time[0][0] < time_ms:
            early = heappop(by_time)[2]
            if early.is_waiting:
                self.remove(early)
                yield early.label

    def lowest(self, end: Lowest) -> Lowest:
        """Return the lowest own offset that still waits, `end` if none does."""
        own = self._own
        while own and not own[0].is_waiting:
            own.popleft()
        return Lowest(own[0].label.offset, own[0].watermark_ms) if own else end

    def moves_needed(self, moves: Sequence[tuple[int, EventTimeMs]]) -> Iterator[tuple[int, EventTimeMs]]:
        """Yield of idle moves the last one before each own label that waits, and the newest, which others may follow.

        It is enough that a label that waits gets its very watermark when it is read again. Any other one was judged: by
        a lower watermark its identity is found all the same, and what was orphaned stays so.
        """
        self._own = deque(early for early in self._own if early.is_waiting)
        offsets = [early.label.offset for early in self._own]
        for move, after in pairwise(moves):
            if bisect_left(offsets, move[0]) < bisect_left(offsets, after[0]):
                yield move
        yield moves[-1]


@dataclass(slots=True, eq=False)
class OpenForward:
    """A forward that was taken and may be sent again, or that still waits as early.

    Attributes:
        offset: In `relabelled`.
        covered: What the marks before it covered.
        is_open: No mark has covered it yet.
    """

    offset: int
    covered: Mapping[int, int]
    is_open: bool = True
    early: EarlyLabel | None = None

    @property
    def is_done(self) -> bool:
        """Whether recovery does not need to read it again."""
        return not self.is_open and (self.early is None or not self.early.is_waiting)


@dataclass(slots=True)
class Forwards:
    """Which forwards were taken already.

    Attributes:
        covered: Per other labels partition, the greatest `next_offset` of its marks. Replaced, never changed.
    """

    covered: Mapping[int, int]
    _open: dict[tuple[int, int], OpenForward] = field(default_factory=dict)
    _by_source: dict[int, list[int]] = field(default_factory=dict)
    _arrived: deque[OpenForward] = field(default_factory=deque)

    def take(self, offset: int, label: Label) -> OpenForward | None:
        """Return an entry for a forward that comes for the first time, None for one that came before."""
        source = (label.partition, label.offset)
        if label.offset < self.covered.get(label.partition, 0) or source in self._open:
            return None
        opened = OpenForward(offset, self.covered)
        self._open[source] = opened
        heappush(self._by_source.setdefault(label.partition, []), label.offset)
        self._arrived.append(opened)
        return opened

    def cover(self, partition: int, next_offset: int) -> None:
        """Take a mark: forwards of that partition below `next_offset` will be known by it alone."""
        if next_offset <= self.covered.get(partition, 0):
            return
        self.covered = {**self.covered, partition: next_offset}
        offsets = self._by_source.get(partition, [])
        while offsets and offsets[0] < next_offset:
            self._open.pop((partition, heappop(offsets))).is_open = False

    def lowest(self, end: int) -> tuple[int, Mapping[int, int]]:
        """Return the lowest offset that recovery must read, with what was covered before it."""
        arrived = self._arrived
        while arrived and arrived[0].is_done:
            arrived.popleft()
        return (arrived[0].offset, arrived[0].covered) if arrived else (end, self.covered)
