"""Events and labels of a hard day, made from a seed: a hundred thousand of each, in the order in which they are sent.

Event time runs evenly over `SPAN_MS`. Records come about when their times say: events within seconds, labels within
their delay. What becomes of an event depends on its partition and on events that are sent long before it, so that
no reading order within `AHEAD` changes it; the oracle checks that.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

from aiokafka.partitioner import murmur2

MINUTE_MS = 60_000
HORIZON_MS = 60 * MINUTE_MS
DISORDER_MS = HORIZON_MS
SKEW_MS = MINUTE_MS
RECALL_MS = HORIZON_MS
REUSE_MS = HORIZON_MS + RECALL_MS + DISORDER_MS + SKEW_MS

BASE_MS = 1_700_000_000_000
SPAN_MS = 8 * 60 * MINUTE_MS
PARTITIONS = 4

EVENTS = 100_000
LEAD = 1_500
"""Events of one partition that may have been sent and not yet been answered."""
TICK = 500
"""Records that are sent at once."""
AHEAD = int(1.2 * PARTITIONS * (LEAD + TICK))
"""Events that may be scored before one that was sent earlier."""

Kind = Literal["events", "labels"]


class EventIn(NamedTuple):
    """An event as its producer meant it; `code` is set where it cannot be used."""

    id: str
    time_ms: int
    code: str | None = None


class LabelIn(NamedTuple):
    """A label as its producer meant it; `code` is set where it cannot be used, `y` is None where it withdraws."""

    id: str
    time_ms: int
    y: bool | None
    revision: int = 0
    code: str | None = None


class Sent(NamedTuple):
    """One record: when it is sent, where, and what it means."""

    arrival_ms: int
    number: int
    kind: Kind
    partition: int
    key: bytes | None
    value: bytes | None
    meant: EventIn | LabelIn


BAD_EVENTS: tuple[tuple[bytes | None, str], ...] = (
    (None, "empty_value"),
    (b"{", "not_json"),
    (b"[1]", "not_an_object"),
    (b'{"at": 1700000000000, "a": 1, "b": 2}', "id_missing"),
    (b'{"id": 1.5, "at": 1700000000000, "a": 1, "b": 2}', "id_invalid"),
    (b'{"id": "p", "a": 1, "b": 2}', "time_missing"),
    (b'{"id": "p", "at": "soon", "a": 1, "b": 2}', "time_invalid"),
    (b'{"id": "p", "at": 200000000000000, "a": 1, "b": 2}', "time_ahead"),
    (b'{"id": "p", "at": 1700000000000, "a": 1}', "feature_missing"),
    (b'{"id": "p", "at": 1700000000000, "a": 1, "b": "2"}', "feature_type"),
)
BAD_LABELS: tuple[tuple[bytes | None, str], ...] = (
    (None, "empty_value"),
    (b"yes", "not_json"),
    (b'"p"', "not_an_object"),
    (b'{"id": null, "at": 1700000000000, "y": true}', "id_missing"),
    (b'{"id": "", "at": 1700000000000, "y": true}', "id_invalid"),
    (b'{"id": "p", "y": true}', "time_missing"),
    (b'{"id": "p", "at": -5, "y": true}', "time_invalid"),
    (b'{"id": "p", "at": 200000000000000, "y": true}', "time_ahead"),
    (b'{"id": "p", "at": 1700000000000}', "target_missing"),
    (b'{"id": "p", "at": 1700000000000, "y": 1}', "target_invalid"),
    (b'{"id": "p", "at": 1700000000000, "y": true, "version": -1}', "revision_invalid"),
)


@dataclass
class Workload:
    """The records of both topics in the order in which they are sent."""

    sent: list[Sent]

    def of(self, kind: Kind) -> list[Sent]:
        """Return the records of one topic."""
        return [each for each in self.sent if each.kind == kind]

    def per_partition(self, kind: Kind) -> list[list[Sent]]:
        """Return the records of one topic by partition; the place in a list is the offset."""
        found: list[list[Sent]] = [[] for _ in range(PARTITIONS)]
        for each in self.sent:
            if each.kind == kind:
                found[each.partition].append(each)
        return found


def home_of(event_id: str) -> int:
    """Return the partition of an id, by aiokafka's own murmur2."""
    return int(murmur2(event_id.encode()) & 0x7FFFFFFF) % PARTITIONS


@dataclass
class _Maker:
    rng: Random
    made: list[Sent] = field(default_factory=list)

    def event(self, event_id: str, time_ms: int, arrival_ms: int, partition: int) -> None:
        a, b = self.rng.uniform(-1, 1), self.rng.uniform(-1, 1)
        shown = event_id if event_id.isdigit() else f'"{event_id}"'
        value = f'{{"id": {shown}, "at": {time_ms}, "a": {a!r}, "b": {b!r}}}'.encode()
        self._add("events", partition, None, value, EventIn(event_id, time_ms), arrival_ms=arrival_ms)

    def label(self, meant: LabelIn, arrival_ms: int, partition: int) -> None:
        shown = meant.id if meant.id.isdigit() else f'"{meant.id}"'
        version = f', "version": {meant.revision}' if meant.revision else ""
        value = f'{{"id": {shown}, "at": {meant.time_ms}, "y": {json.dumps(meant.y)}{version}}}'.encode()
        self._add("labels", partition, meant.id.encode(), value, meant, arrival_ms=arrival_ms)

    def bad(self, kind: Kind, number: int) -> None:
        arrival_ms = BASE_MS + self.rng.randrange(SPAN_MS)
        cases = BAD_EVENTS if kind == "events" else BAD_LABELS
        value, code = cases[number % len(cases)]
        meant = EventIn("", 0, code) if kind == "events" else LabelIn("", 0, y=False, code=code)
        self._add(kind, self.rng.randrange(PARTITIONS), b"p", value, meant, arrival_ms=arrival_ms)

    def _add(
        self,
        kind: Kind,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        meant: EventIn | LabelIn,
        *,
        arrival_ms: int,
    ) -> None:
        self.made.append(Sent(arrival_ms, len(self.made), kind, partition, key, value, meant))


def make(seed: int, events: int = EVENTS) -> Workload:
    """Make the inputs of a seed: `events` records of events, and somewhat more labels."""
    maker = _Maker(Random(seed))
    rng, made = maker.rng, maker
    bad, again, reused, stale, stray = (round(events * share) for share in (0.005, 0.02, 0.002, 0.002, 0.002))
    ids = events - bad - again - reused - stale
    fates = _Fates(rng, ids)
    last_ms = SPAN_MS * (ids - 1) // ids
    repeated = set(rng.sample(range(ids), again))
    early_ids = int(ids * (1 - (REUSE_MS + 90 * MINUTE_MS) / SPAN_MS))
    used_again = set(rng.sample(range(early_ids), reused))
    for number in range(ids):
        time_ms = BASE_MS + SPAN_MS * number // ids
        event_id = str(number) if number % 10 == 0 else f"e{number}"
        partition, arrival_ms = rng.randrange(PARTITIONS), time_ms + rng.randrange(20_000)
        made.event(event_id, time_ms, arrival_ms, partition)
        _labels_of(made, fates, number, EventIn(event_id, time_ms), arrival_ms)
        if number in repeated:
            later_ms = rng.randrange(1_000, 5 * MINUTE_MS)
            other_ms = rng.choice([0, later_ms])
            made.event(event_id, time_ms + other_ms, arrival_ms + later_ms, partition)
        if number in used_again:
            again_ms = time_ms + REUSE_MS + rng.randrange(55 * MINUTE_MS, 85 * MINUTE_MS)
            made.event(event_id, again_ms, again_ms + rng.randrange(20_000), partition)
            _label(
                made,
                event_id,
                again_ms,
                again_ms + rng.randrange(40 * MINUTE_MS),
                wrong=number in fates.wrong_partition,
            )
    for number in range(stale):
        arrival_ms = BASE_MS + rng.randrange(SPAN_MS // 2, last_ms)
        time_ms = arrival_ms - DISORDER_MS - rng.randrange(20, 100) * MINUTE_MS
        made.event(f"s{number}", time_ms, arrival_ms, rng.randrange(PARTITIONS))
        if number % 2:
            _label(made, f"s{number}", time_ms, arrival_ms, wrong=False)
    for number in range(stray):
        time_ms = BASE_MS + rng.randrange(SPAN_MS)
        _label(made, f"x{number}", time_ms, time_ms + rng.randrange(MINUTE_MS), wrong=number % 3 == 0)
    for number in range(bad):
        made.bad("events", number)
        made.bad("labels", number)
    return Workload(sorted(made.made))


class _Fates:
    """What is to happen to the labels of which ids."""

    def __init__(self, rng: Random, ids: int) -> None:
        order = list(range(ids))
        rng.shuffle(order)
        one = ids // 100
        self.missing, self.late, self.before = (set(order[i * one : (i + 1) * one]) for i in range(3))
        self.duplicated, self.conflicting, self.wrong_partition, self.corrected = (
            set(rng.sample(range(ids), share * one)) for share in (5, 1, 5, 3)
        )


def _labels_of(made: _Maker, fates: _Fates, number: int, event: EventIn, arrival_ms: int) -> None:
    event_id, time_ms, _ = event
    rng, wrong = made.rng, number in fates.wrong_partition
    if number in fates.missing:
        return
    if number in fates.late:
        sent_ms = time_ms + HORIZON_MS + rng.randrange(MINUTE_MS, 50 * MINUTE_MS)
        # Late by its own time, or by the watermark that stands before it.
        label_ms = sent_ms if number % 2 else time_ms + rng.randrange(HORIZON_MS)
    elif number in fates.before:
        sent_ms = arrival_ms - rng.randrange(1_000, 40_000)
        label_ms = time_ms - rng.randrange(SKEW_MS)
    else:
        delay_ms = rng.randrange(40 * MINUTE_MS)
        sent_ms = arrival_ms + delay_ms
        label_ms = time_ms + rng.randrange(delay_ms + 1)
    y = rng.random() < 0.5
    _label(made, event_id, label_ms, sent_ms, wrong=wrong, y=y)
    if number in fates.duplicated:
        later_ms = rng.randrange(60 * MINUTE_MS)
        _label(made, event_id, label_ms + rng.choice([0, later_ms]), sent_ms + later_ms, wrong=wrong, y=y)
    if number in fates.conflicting:
        later_ms = rng.randrange(30 * MINUTE_MS)
        _label(made, event_id, label_ms + later_ms, sent_ms + later_ms, wrong=wrong, y=not y)
    if number in fates.corrected:
        for revision in rng.sample(range(4), rng.choice([1, 2, 3])):
            later_ms = rng.randrange(80 * MINUTE_MS)
            meant = LabelIn(event_id, label_ms + later_ms, rng.choice([y, not y, None]), revision)
            made.label(meant, sent_ms + later_ms, _partition_of(event_id, wrong=wrong))


def _label(made: _Maker, event_id: str, label_ms: int, sent_ms: int, *, wrong: bool, y: bool | None = None) -> None:
    value = made.rng.random() < 0.5 if y is None else y
    made.label(LabelIn(event_id, label_ms, value), sent_ms, _partition_of(event_id, wrong=wrong))


def _partition_of(event_id: str, *, wrong: bool) -> int:
    return zlib.crc32(event_id.encode()) % PARTITIONS if wrong else home_of(event_id)


def ticks(workload: Workload) -> Iterator[list[Sent]]:
    """Yield the records in small groups."""
    for start in range(0, len(workload.sent), TICK):
        yield workload.sent[start : start + TICK]
