"""Inputs of one simulated loop, made from a seed: hostile in times, ids, order and repetition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, Generic, TypeVar

from tailrace.domain.join import JoinLimits, JoinSpec
from tailrace.domain.records import Label
from tailrace.domain.times import JoinTimes

SPAN_MS = 9_000
"""Event time that one run covers."""

END_ID: Final = 10**6
"""Ids from this number on are of the records that end the inputs."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Entry(Generic[Value]):
    """A record of a fake topic: where it lies and when the broker got it."""

    offset: int
    arrival_ms: float
    value: Value


@dataclass(slots=True)
class Topic(Generic[Value]):
    """One partition of a fake topic. With a generator, its offsets have gaps."""

    gaps: Random | None = None
    entries: list[Entry[Value]] = field(default_factory=list)
    next_offset: int = 0
    _last: int = 0

    def append(self, value: Value, arrival_ms: float = 0.0) -> int:
        """Add a record; return its offset."""
        if self.gaps is not None and self.entries and self.gaps.random() < 0.05:
            self.next_offset += self.gaps.randrange(1, 4)
        offset = self.next_offset
        self.entries.append(Entry(offset, arrival_ms, value))
        self.next_offset = offset + 1
        return offset

    def read(self, start: int, stop: int | None = None) -> Iterator[Entry[Value]]:
        """Yield the records of [start, stop)."""
        for index in range(self.index(start), len(self.entries)):
            entry = self.entries[index]
            if stop is not None and entry.offset >= stop:
                return
            yield entry

    def available(self, start: int, count: int, clock_ms: float) -> list[Entry[Value]]:
        """Return at most `count` records from `start` on that have arrived."""
        found: list[Entry[Value]] = []
        for entry in self.read(start):
            if len(found) == count or entry.arrival_ms > clock_ms:
                break
            found.append(entry)
        return found

    def before(self, offset: int) -> Entry[Value] | None:
        """Return the last record below `offset`."""
        index = self.index(offset)
        return self.entries[index - 1] if index else None

    def index(self, offset: int) -> int:
        """Return how many records lie below `offset`."""
        # Offsets differ little from indexes: gaps are few and small.
        index = min(offset, len(self.entries))
        while index > 0 and self.entries[index - 1].offset >= offset:
            index -= 1
        return index


@dataclass(frozen=True, slots=True)
class InputEvent:
    """An event as its producer sent it."""

    id: str
    time_ms: int


@dataclass(slots=True)
class Case:
    """Everything that a seed decides before anything runs.

    Attributes:
        labels: Per labels partition; None is a record that decoding rejects.
        model: The configured one.
        publish_ms, snapshot_ms: Intervals of the learner.
        acts: How often people do something, at most.
        refold_ms: After how long the learner builds its branch anew with corrections; None: never.
        others: Roles of which there is a process besides scorers, joiners and the learner.
    """

    partitions: int
    times: JoinTimes
    implicit: float | None
    limits: JoinLimits
    idle_after_ms: float
    events: list[Topic[InputEvent]]
    labels: list[Topic[Label | None]]
    model: str
    publish_ms: int
    snapshot_ms: int
    acts: int
    others: tuple[str, ...]
    refold_ms: int | None

    @property
    def ids(self) -> frozenset[str]:
        """Every id of an event or a label, before the inputs end."""
        found = {entry.value.id for topic in self.events for entry in topic.entries}
        found |= {entry.value.id for topic in self.labels for entry in topic.entries if entry.value is not None}
        return frozenset(event_id for event_id in found if int(event_id[1:]) < END_ID)

    def spec(self, partition: int) -> JoinSpec:
        """Return what the join of a partition is told."""
        return JoinSpec(partition, self.partitions, self.times, self.implicit, self.limits)

    def home(self, event_id: str) -> int:
        """Return the partition of an id."""
        return (int(event_id[1:]) * 2654435761 >> 7) % self.partitions


def make_case(seed: int, ids: frozenset[str] | None = None) -> Case:
    """Make the inputs of a seed.

    Args:
        ids: Events and labels of other ids are left out; None: nothing is.
    """
    rng = Random(seed)
    case = _make_settings(rng)
    events: list[list[tuple[float, InputEvent]]] = [[] for _ in case.events]
    labels: list[list[tuple[float, Label | None]]] = [[] for _ in case.labels]
    for number in range(rng.choice([30, 60, 90])):
        _add_id(rng, case, f"e{number}", events, labels)
    _add_strays(rng, labels)
    if rng.random() < 0.4:
        _fall_silent(rng, labels)
    for topic, records in zip(case.events, events, strict=True):
        for arrival_ms, event in sorted(records, key=lambda record: record[0]):
            if ids is None or event.id in ids:
                topic.append(event, arrival_ms)
    for partition, (sent, found) in enumerate(zip(case.labels, labels, strict=True)):
        for arrival_ms, label in sorted(found, key=lambda record: record[0]):
            if ids is None or (label is not None and label.id in ids):
                add_label(sent, partition, label, arrival_ms)
    return case


def add_label(topic: Topic[Label | None], partition: int, label: Label | None, arrival_ms: float) -> None:
    """Append a label, which learns its own position."""
    offset = topic.append(None, arrival_ms)
    if label is not None:
        placed = label._replace(partition=partition, offset=offset, broker_ms=int(arrival_ms))
        topic.entries[-1] = Entry(offset, arrival_ms, placed)


def _make_settings(rng: Random) -> Case:
    partitions = rng.choice([1, 2, 2, 3])
    corrections_ms = rng.choice([0, 300, 800])
    times = JoinTimes(
        horizon_ms=600,
        disorder_ms=rng.choice([50, 200]),
        skew_ms=rng.choice([0, 50, 150]),
        recall_ms=max(corrections_ms, rng.choice([0, 0, 600])),
        corrections_ms=corrections_ms,
    )
    max_waiting = rng.choice([1_000_000, 1_000_000, 8])
    limits = JoinLimits(rng.choice([1, 2, 4, 50]), rng.choice([1, 400_000, 400_000]), max_waiting)
    return Case(
        partitions=partitions,
        times=times,
        implicit=rng.choice([None, None, 0.0]),
        limits=limits,
        idle_after_ms=400.0,
        events=[Topic() for _ in range(rng.choice([1, 2]))],
        labels=[Topic(gaps=Random(rng.random())) for _ in range(partitions)],
        model=rng.choice(["plain", "plain", "fragile"]),
        publish_ms=rng.choice([50, 150]),
        snapshot_ms=rng.choice([100, 400]),
        acts=(acts := rng.choice([0, 3, 6, 10])),
        others=tuple(role for role in ("serve", "watch", "vandal") if rng.random() < 0.5) + ("people",) * bool(acts),
        refold_ms=rng.choice([None, None, 300]),
    )


def _add_id(
    rng: Random,
    case: Case,
    event_id: str,
    events: list[list[tuple[float, InputEvent]]],
    labels: list[list[tuple[float, Label | None]]],
) -> None:
    times_ms = [rng.randrange(SPAN_MS)]
    if rng.random() < 0.25:  # the same id again
        reuse_ms = case.times.reuse_ms
        times_ms.append(times_ms[0] + rng.choice([0, 1, 10, 500, 1_000, reuse_ms, reuse_ms + 1, reuse_ms + 400, 3_000]))
    source = rng.randrange(len(case.events))
    # One producer per id, so the labels of an id are all on one partition; not always the right one.
    partition = case.home(event_id) if rng.random() < 0.8 else rng.randrange(case.partitions)
    disorder_ms = case.times.disorder_ms
    for time_ms in times_ms:
        late_ms = rng.choice([0, 0, rng.uniform(0, disorder_ms), rng.uniform(0, disorder_ms), 2 * disorder_ms])
        for sent_again in range(2 if rng.random() < 0.15 else 1):
            arrival_ms = time_ms + late_ms + sent_again * rng.uniform(0, 1_500)
            events[source].append((arrival_ms, InputEvent(event_id, time_ms)))
        if rng.random() < 0.85:
            labels[partition] += _labels_of(rng, case, event_id, time_ms)


def _labels_of(rng: Random, case: Case, event_id: str, time_ms: int) -> Iterator[tuple[float, Label | None]]:
    horizon_ms, skew_ms, recall_ms = case.times.horizon_ms, case.times.skew_ms, case.times.recall_ms
    delay_ms = rng.choice(
        [
            rng.randrange(horizon_ms + 1),
            rng.randrange(horizon_ms + 1),
            horizon_ms,
            rng.randint(-skew_ms, 0),
            -skew_ms - rng.randrange(400),
            horizon_ms + rng.randrange(recall_ms + 400),
        ]
    )
    y: float | None = float(rng.randrange(2))
    revision, label_ms = rng.choice([0, 0, 1]), time_ms + delay_ms
    for _ in range(1 + (rng.random() < 0.3) + (rng.random() < 0.15) + 3 * (rng.random() < 0.1)):
        arrival_ms = label_ms + rng.choice([0, 0, rng.uniform(0, 300), rng.uniform(0, 1_200)])
        yield arrival_ms, Label(event_id, label_ms, y, 0, 0, 0, revision, rng.choice(["", "desk", "users"]))
        label_ms += rng.randrange(600)
        y = float(rng.randrange(2)) if y is None else rng.choice([y, 1.0 - y, 1.0 - y, None])
        revision = max(0, revision + rng.choice([-1, 0, 0, 1, 1]) if y is not None else revision + 1)


def _add_strays(rng: Random, labels: list[list[tuple[float, Label | None]]]) -> None:
    for _ in range(5):  # labels of events that never come, and records that are no labels
        time_ms = rng.randrange(SPAN_MS)
        label = Label(f"e{1_000 + rng.randrange(50)}", time_ms, 1.0, 0, 0, 0)
        labels[rng.randrange(len(labels))].append((float(time_ms), label))
        labels[rng.randrange(len(labels))].append((float(rng.randrange(SPAN_MS)), None))


def _fall_silent(rng: Random, labels: list[list[tuple[float, Label | None]]]) -> None:
    quiet, begin_ms = rng.randrange(len(labels)), rng.uniform(1_000, 4_000)
    end_ms = begin_ms + 2_000
    labels[quiet] = [
        (end_ms + (arrival_ms - begin_ms) / 10 if begin_ms < arrival_ms < end_ms else arrival_ms, label)
        for arrival_ms, label in labels[quiet]
    ]
