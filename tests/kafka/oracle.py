"""What must have become of every event and label, computed from what was sent: the design's words in plain Python.

T is an event's time, H, D, S, C and K the spans of the loop; labels are known and corrected for as long, C. The order in which events of different partitions are
scored is not known; whatever is decided by the scored watermark is decided at both ends of what it can have been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from tests.kafka.workload import (
    AHEAD,
    DISORDER_MS,
    HORIZON_MS,
    PARTITIONS,
    RECALL_MS,
    REUSE_MS,
    SKEW_MS,
    EventIn,
    LabelIn,
    Sent,
    Workload,
    home_of,
)

NEVER = -(1 << 62)
Place = tuple[int, int]
Outcome = tuple[str, int, str, float | None, int]
"""(event id, event time, joined, dropped, corrected or withdrawn, target, revision)."""


@dataclass
class Expected:
    """The answer.

    Attributes:
        dead_events, dead_labels: (source partition, offset) → code.
        counts: Of the outcomes, events and labels apart.
    """

    outcomes: set[Outcome] = field(default_factory=set)
    dead_events: dict[Place, str] = field(default_factory=dict)
    dead_labels: dict[Place, str] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    scored: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    forwarded: int = 0


@dataclass
class _Identity:
    time_ms: int
    y: bool | None = None
    revision: int | None = None


def expect(workload: Workload) -> Expected:
    """Judge every record."""
    expected = Expected()
    identities, scored_to = _accept(workload, expected)
    labels_to = _judge_labels(workload, expected, identities, scored_to)
    for event_id, known in identities.items():
        passed = min(scored_to[home_of(event_id)], labels_to)
        for event in known:
            _end(expected, event_id, event, passed)
    return expected


def _accept(workload: Workload, expected: Expected) -> tuple[dict[str, list[_Identity]], list[int]]:
    sent = workload.of("events")
    homes = [home_of(event.meant.id) if event.meant.code is None else -1 for event in sent]
    highest = [_highest(sent, homes, home) for home in range(PARTITIONS)]
    lowest = [[NEVER] * PARTITIONS for _ in range(PARTITIONS)]
    offsets = [0] * PARTITIONS
    identities: dict[str, list[_Identity]] = {}
    for index, (event, home) in enumerate(zip(sent, homes, strict=True)):
        partition, meant = event.partition, event.meant
        offsets[partition] += 1
        if meant.code is not None:
            expected.events["rejected"] += 1
            expected.dead_events[partition, offsets[partition] - 1] = meant.code
            continue
        expected.events["scored"] += 1
        known = identities.setdefault(meant.id, [])
        low = lowest[partition][home]
        high = max(low, highest[home][min(index + AHEAD, len(sent) - 1)])
        (outcome,) = {_event_outcome(meant, known, watermark) for watermark in (low, high)}
        if outcome == "accepted":
            known.append(_Identity(meant.time_ms))
        else:
            expected.scored[outcome] += 1
        lowest[partition][home] = max(low, meant.time_ms)
    return identities, [times[-1] for times in highest]


def _highest(sent: Sequence[Sent], homes: Sequence[int], home: int) -> list[int]:
    times_ms = (event.meant.time_ms if at == home else NEVER for event, at in zip(sent, homes, strict=True))
    return list(accumulate(times_ms, max))


def _event_outcome(event: EventIn | LabelIn, known: Sequence[_Identity], watermark: int) -> str:
    if watermark > event.time_ms + DISORDER_MS:
        return "stale"
    for other in known:
        if other.time_ms == event.time_ms or other.time_ms <= watermark <= other.time_ms + REUSE_MS:
            return "repeated"
    return "accepted"


def _judge_labels(
    workload: Workload, expected: Expected, identities: dict[str, list[_Identity]], scored_to: Sequence[int]
) -> int:
    """Judge the labels of each partition in order; return the time that all partitions have passed."""
    reached = []
    for partition, records in enumerate(workload.per_partition("labels")):
        watermark = NEVER
        for offset, record in enumerate(records):
            label = record.meant
            assert isinstance(label, LabelIn)
            code = label.code
            if code is None:
                home = home_of(label.id)
                expected.forwarded += home != partition
                outcome = _label_outcome(expected, label, watermark, identities.get(label.id, ()), scored_to[home])
                code = outcome if outcome in ("late", "orphaned", "conflicting") else None
                watermark = max(watermark, label.time_ms)
            else:
                outcome = "rejected"
            expected.labels[outcome] += 1
            if code is not None:
                expected.dead_labels[partition, offset] = code
        reached.append(watermark)
    return min(reached)


def _label_outcome(
    expected: Expected, label: LabelIn, watermark: int, known: Sequence[_Identity], scored_to: int
) -> str:
    last_ms = max(label.time_ms, watermark)
    mine = [
        event
        for event in known
        if event.time_ms - SKEW_MS <= label.time_ms and last_ms <= event.time_ms + HORIZON_MS + RECALL_MS
    ]
    if not mine:
        return "orphaned" if scored_to > label.time_ms + DISORDER_MS + SKEW_MS else "waiting"
    (event,) = mine
    if event.revision is None:
        if label.y is None:
            return "withdrawn"
        if last_ms > event.time_ms + HORIZON_MS:
            return "late"
        expected.scored["joined"] += 1
        outcome = "joined"
    elif label.revision > event.revision:
        outcome = "withdrawn" if label.y is None else "corrected"
    elif label.revision < event.revision or label.y in (event.y, None):
        return "duplicate"
    else:
        return "conflicting"
    event.y, event.revision = label.y, label.revision
    y = None if label.y is None else float(label.y)
    expected.outcomes.add((label.id, event.time_ms, outcome, y, label.revision))
    return outcome


def _end(expected: Expected, event_id: str, event: _Identity, passed: int) -> None:
    if event.revision is not None:
        return
    if passed > event.time_ms + HORIZON_MS:
        expected.scored["dropped"] += 1
        expected.outcomes.add((event_id, event.time_ms, "dropped", None, 0))
    else:
        expected.scored["waiting"] += 1
