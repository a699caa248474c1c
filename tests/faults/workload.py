"""What a user sends in a series, made from a seed: hostile in order, repetition, partitions, times and contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heappop, heappush
from itertools import cycle
from random import Random
from typing import NamedTuple

import orjson
from aiokafka.partitioner import murmur2

from tailrace.streams.log import Headers

HORIZON_MS = 20_000
DISORDER_MS = 10_000
SKEW_MS = 2_000
STEP_MS = 40  # between two events, on average


class Sent(NamedTuple):
    """One record to send."""

    topic: str  # "events" or "labels"
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int | None = None


BAD_EVENTS = (
    ("not_json", b"{"),
    ("not_an_object", b"[1]"),
    ("id_missing", b'{"at": 1, "a": 1, "b": 1}'),
    ("feature_missing", b'{"id": "p", "at": 1, "a": 1}'),
    ("feature_type", b'{"id": "p", "at": 1, "a": 1, "b": "x"}'),
    ("time_invalid", b'{"id": "p", "at": "noon", "a": 1, "b": 1}'),
)
BAD_LABELS = (
    ("not_json", b"y"),
    ("id_missing", b'{"at": 1, "y": true}'),
    ("target_missing", b'{"id": "p", "at": 1}'),
    ("target_invalid", b'{"id": "p", "at": 1, "y": "maybe"}'),
)
CODES = (
    {("events", value): code for code, value in BAD_EVENTS}
    | {("labels", value): code for code, value in BAD_LABELS}
    | {("events", b""): "empty_value", ("labels", b""): "empty_value"}
)
"""Topic and value, b"" for a tombstone → the code with which it must be dead-lettered."""


@lru_cache(maxsize=1 << 17)
def home(event_id: str, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner gives an id."""
    return int((murmur2(event_id.encode()) & 0x7FFFFFFF) % partitions)


@dataclass
class Workload:
    """Events and labels without end.

    Attributes:
        on_two: Ids whose labels came on two partitions → their targets; either may be the first that is read.
        step_ms: Between two events, on average; a long load takes small ones, or it is ahead of the clock in the end.
    """

    rng: Random
    partitions: int
    now_ms: int
    step_ms: int = STEP_MS
    on_two: dict[str, set[bool]] = field(default_factory=dict)
    _number: int = 0
    _due: list[tuple[int, int, Sent]] = field(default_factory=list)
    _recent: list[str] = field(default_factory=list)
    # In turn: as many bad ones as there are kinds are one of each.
    _bad_events: Iterator[tuple[str, bytes]] = field(default_factory=lambda: cycle(BAD_EVENTS))
    _bad_labels: Iterator[tuple[str, bytes]] = field(default_factory=lambda: cycle(BAD_LABELS))

    def piece(self, events: int) -> list[Sent]:
        """Return the next events, and the labels that came due, in the order in which to send them."""
        sent = [record for _ in range(events) for record in self._event()]
        due = []
        while self._due and self._due[0][0] <= self.now_ms:
            due.append(heappop(self._due)[2])
        self._shuffle_nearby(due)
        # Labels first: most belong to earlier pieces, those of this one come early.
        return [*due, *sent] if self.rng.random() < 0.5 else [*sent, *due]

    def ending(self) -> list[Sent]:
        """Return every label that is still due, then records that move all watermarks past every horizon."""
        left = [heappop(self._due)[2] for _ in range(len(self._due))]
        self.now_ms += 4 * HORIZON_MS
        closing: list[Sent] = []
        for partition in range(self.partitions):
            event_id = next(name for name in self._names() if home(name, self.partitions) == partition)
            closing.append(self._as_event(event_id, self.now_ms, partition))
            closing.append(self._label(event_id, self.now_ms, partition, y=True))
        return [*left, *closing]

    def _event(self) -> Iterator[Sent]:
        rng = self.rng
        self.now_ms += rng.randrange(0, 2 * self.step_ms + 1)
        luck = rng.random()
        if luck < 0.01:
            yield Sent("events", rng.randrange(self.partitions), None, next(self._bad_events)[1])
        elif luck < 0.02:
            yield Sent("labels", rng.randrange(self.partitions), b"p", next(self._bad_labels)[1])
        elif luck < 0.04 and self._recent:
            # An id again: at another time, which makes it repeated, as long as its first event is known.
            yield self._as_event(rng.choice(self._recent), self.now_ms - rng.randrange(0, 3_000))
        elif luck < 0.05:
            name = next(self._names())
            self._later(rng.randrange(0, 3_000), self._label(name, self.now_ms, home(name, self.partitions), y=True))
        else:
            name, time_ms = next(self._names()), self.now_ms - int(rng.expovariate(1 / 400))
            self._recent = [*self._recent[-200:], name]
            yield self._as_event(name, time_ms)
            self._labels(name, time_ms)

    def _labels(self, name: str, time_ms: int) -> None:
        rng, at, y = self.rng, home(name, self.partitions), self.rng.random() < 0.6
        luck = rng.random()
        if luck < 0.05:
            return
        delay_ms = HORIZON_MS + rng.randrange(1, 5_000) if luck < 0.08 else int(rng.expovariate(1 / 2_000))
        if luck > 0.97:
            delay_ms = -rng.randrange(0, SKEW_MS)
        if rng.random() < 0.07:
            at = (at + rng.randrange(1, self.partitions)) % self.partitions
        self._later(delay_ms, self._label(name, time_ms + delay_ms, at, y=y))
        luck = rng.random()
        if luck < 0.07:
            again_ms = delay_ms + rng.randrange(0, 4_000)
            self._later(again_ms, self._label(name, time_ms + again_ms, at, y=y ^ (luck < 0.02)))
        elif luck < 0.085:
            other_y = y ^ (rng.random() < 0.5)
            self.on_two[name] = {y, other_y}
            elsewhere = (at + rng.randrange(1, self.partitions)) % self.partitions
            self._later(delay_ms, self._label(name, time_ms + delay_ms, elsewhere, y=other_y))

    def _later(self, delay_ms: int, label: Sent) -> None:
        heappush(self._due, (self.now_ms + delay_ms, self._number, label))
        self._number += 1

    def _names(self) -> Iterator[str]:
        while True:
            self._number += 1
            yield f"e{self._number}"

    def _as_event(self, name: str, time_ms: int, partition: int | None = None) -> Sent:
        rng = self.rng
        event = {"id": name, "at": time_ms, "a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        at = rng.randrange(self.partitions) if partition is None else partition
        return Sent("events", at, name.encode() if rng.random() < 0.5 else None, orjson.dumps(event))

    def _label(self, name: str, time_ms: int, partition: int, *, y: bool | None, **more: int) -> Sent:
        label = {"id": name, "at": time_ms, "y": y, **more}
        return Sent("labels", partition, name.encode(), orjson.dumps(label))

    def _shuffle_nearby(self, records: list[Sent]) -> None:
        for index in range(len(records)):
            other = min(len(records) - 1, index + self.rng.randrange(0, 6))
            records[index], records[other] = records[other], records[index]
