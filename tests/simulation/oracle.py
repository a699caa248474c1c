"""What must come of a run, computed from its inputs alone, and the counting rule of the log written a second time.

Knows nothing of interleaving, batches, crashes or recovery. Reads `scored` and `labels`, and of the log only the
recorded idle moves, which are the one decision that a clock takes part in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from tests.simulation.inputs import Case, Topic

from tailrace.domain.blocks import WITHDRAWN, Corrections, ScoredBlock, TrainingBlock
from tailrace.domain.records import Claim, Label
from tailrace.domain.times import NEVER

Place: TypeAlias = tuple[int, int]
"""Partition and offset of a label."""


class Outcome(NamedTuple):
    """A row of one identity: kind, id, time, target, its label with revision and source, and what was served from."""

    kind: str
    id: str
    time_ms: int
    y: float | None = None
    label: Place | None = None
    revision: int = 0
    source: str = ""
    served: tuple[float, ...] = ()


@dataclass(slots=True)
class Expected:
    """The answer of the oracle.

    Attributes:
        labels: Label → its outcome.
        in_force: Identity → the target that counts in the end; None: it is withdrawn.
    """

    outcomes: set[Outcome] = field(default_factory=set)
    labels: dict[Place, str] = field(default_factory=dict)
    dead: set[tuple[Place, str]] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    in_force: dict[tuple[str, int], float | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Seen:
    """One accepted event.

    Attributes:
        has_example: It is joined or implicit.
        y, revision: What counts of it, once a label has spoken; before that the revision is None.
    """

    time_ms: int
    served: tuple[float, ...]
    has_example: bool = False
    y: float | None = None
    revision: int | None = None


def accepted(log: Iterable[object]) -> Iterator[TrainingBlock]:
    """Yield the blocks that count: of the owner by valid claims, each number once and in order.

    The first claim names the log; where several begin it at once, those that named it otherwise do not count.
    """
    log_id: str | None = None
    owners: dict[int, str] = {}
    numbers: dict[int, int] = {}
    for record in log:
        if isinstance(record, Claim):
            if owners.get(record.partition) == record.after and log_id in (None, record.log_id):
                log_id = record.log_id
                owners[record.partition], numbers[record.partition] = record.owner, 0
        elif isinstance(record, TrainingBlock):
            part = record.partition
            if owners.get(part) == record.owner and record.number == numbers[part] + 1:
                numbers[part] = record.number
                yield record


def outcomes_of(blocks: Iterable[TrainingBlock]) -> list[Outcome]:
    """Return the rows of blocks, in order."""
    found: list[Outcome] = []
    for block in blocks:
        rows = block.examples
        for n, event_id in enumerate(rows.ids):
            kind = "implicit" if rows.kinds[n] else "joined"
            place = (int(rows.label_partitions[n]), int(rows.label_offsets[n])) if kind == "joined" else None
            served = (*rows.x.numbers[n].tolist(), *rows.served.proba[n].tolist())
            word = (float(rows.y[n]), place, int(rows.revisions[n]), rows.sources[n])
            found.append(Outcome(kind, event_id, int(rows.times_ms[n]), *word, served))
        for event_id, time_ms in zip(block.dropped.ids, block.dropped.times_ms.tolist(), strict=True):
            found.append(Outcome("dropped", event_id, time_ms))
        found += _corrections_of(block.corrections)
    return found


def _corrections_of(rows: Corrections) -> Iterator[Outcome]:
    for n, event_id in enumerate(rows.ids):
        place = (int(rows.label_partitions[n]), int(rows.label_offsets[n]))
        kind, y = ("withdrawn", None) if rows.kinds[n] == WITHDRAWN else ("corrected", float(rows.y[n]))
        yield Outcome(kind, event_id, int(rows.times_ms[n]), y, place, int(rows.revisions[n]), rows.sources[n])


def in_force(outcomes: Iterable[Outcome]) -> dict[tuple[str, int], float | None]:
    """Return what rows come to when they are applied in the order of the log.

    Raises:
        LookupError: A correction comes before the example that it is about.
    """
    found: dict[tuple[str, int], float | None] = {}
    for row in outcomes:
        identity = row.id, row.time_ms
        if row.kind in ("corrected", "withdrawn") and identity not in found:
            raise LookupError(row)
        if row.kind != "dropped":
            found[identity] = row.y
    return found


def expect(
    case: Case,
    scored: Sequence[Topic[ScoredBlock]],
    labels: Sequence[Topic[Label | None]],
    blocks: Sequence[TrainingBlock],
) -> Expected:
    """Return what must have come of these inputs."""
    expected = Expected()
    by_id, heard = _labels_by_id(labels, blocks)
    for partition, topic in enumerate(scored):
        events, watermark = _accepted_events(case, topic, expected.counts)
        mine = {event_id for event_id in by_id if case.home(event_id) == partition}
        for event_id in sorted(events.keys() | mine):
            seen = events.get(event_id, [])
            for label, before in by_id.get(event_id, ()):
                _judge(case, expected, seen, (label, before), watermark)
            _wait_over(case, expected, event_id, seen, min(watermark, heard))
    return expected


def _labels_by_id(
    labels: Sequence[Topic[Label | None]], blocks: Sequence[TrainingBlock]
) -> tuple[dict[str, list[tuple[Label, int]]], int]:
    by_id: dict[str, list[tuple[Label, int]]] = {}
    heard = []
    for partition, topic in enumerate(labels):
        moves = sorted({move for block in blocks if block.partition == partition for move in block.vector.idle_moves})
        watermark = NEVER
        for entry in topic.entries:
            while moves and moves[0][0] <= entry.offset:
                watermark = max(watermark, moves.pop(0)[1])
            label = entry.value
            if label is not None:
                by_id.setdefault(label.id, []).append((label, watermark))
                watermark = max(watermark, label.time_ms)
        heard.append(max([watermark, *(moved_to for _, moved_to in moves)]))
    return by_id, min(heard)


def _accepted_events(case: Case, topic: Topic[ScoredBlock], counts: Counter[str]) -> tuple[dict[str, list[_Seen]], int]:
    watermark = NEVER
    events: dict[str, list[_Seen]] = {}
    for entry in topic.entries:
        block = entry.value
        for row, (event_id, time_ms) in enumerate(zip(block.ids, block.times_ms.tolist(), strict=True)):
            same_id = events.get(event_id, [])
            if watermark > time_ms + case.times.disorder_ms:
                counts["stale"] += 1
            elif any(watermark <= e.time_ms + case.times.reuse_ms or e.time_ms == time_ms for e in same_id):
                counts["repeated"] += 1
            else:
                served = (*block.x.numbers[row].tolist(), *block.served.proba[row].tolist())
                events.setdefault(event_id, []).append(_Seen(time_ms, served))
            watermark = max(watermark, time_ms)
    return events, watermark


def _judge(case: Case, expected: Expected, seen: list[_Seen], read: tuple[Label, int], watermark: int) -> None:
    label, before = read
    times, place = case.times, (label.partition, label.offset)
    last_ms = max(label.time_ms, before)
    event = next(
        (
            e
            for e in seen
            if e.time_ms - times.skew_ms <= label.time_ms and last_ms <= e.time_ms + times.horizon_ms + times.recall_ms
        ),
        None,
    )
    if event is None:
        is_orphan = watermark > label.time_ms + times.disorder_ms + times.skew_ms
        outcome = "orphaned" if is_orphan else "early"
    elif event.revision is None:
        outcome = _first_word(case, expected, event, label, last_ms)
    else:
        outcome = _further_word(case, event, label, last_ms)
    expected.counts[outcome] += 1
    expected.labels[place] = outcome
    if outcome in ("orphaned", "late", "conflicting"):
        expected.dead.add((place, outcome))
    if (
        event is not None
        and outcome in ("joined", "corrected", "withdrawn")
        and not _is_nothing_to_withdraw(event, label)
    ):
        event.y, event.revision, event.has_example = label.y, label.revision, True
        served = event.served if outcome == "joined" else ()
        word = (label.y, place, label.revision, label.source)
        expected.outcomes.add(Outcome(outcome, label.id, event.time_ms, *word, served))
        expected.in_force[label.id, event.time_ms] = label.y


def _is_nothing_to_withdraw(event: _Seen, label: Label) -> bool:
    return event.revision is None and label.y is None


def _first_word(case: Case, expected: Expected, event: _Seen, label: Label, last_ms: int) -> str:
    times, end_ms = case.times, event.time_ms + case.times.horizon_ms
    if label.y is None:
        return "withdrawn"
    if last_ms <= end_ms:
        return "joined"
    if case.implicit is None or times.corrections_ms == 0 or last_ms > end_ms + times.corrections_ms:
        return "late"
    _add_implicit(case, expected, label.id, event)
    return "corrected"


def _further_word(case: Case, event: _Seen, label: Label, last_ms: int) -> str:
    times, known = case.times, event.revision
    assert known is not None
    step = label.revision - known if times.corrections_ms else 0
    if step > 0 and last_ms <= event.time_ms + times.horizon_ms + times.corrections_ms:
        return "withdrawn" if label.y is None else "corrected"
    if label.y == event.y or step < 0 or (label.y is None and step == 0):
        return "duplicate"
    return "late" if step > 0 else "conflicting"


def _wait_over(case: Case, expected: Expected, event_id: str, seen: list[_Seen], passed: int) -> None:
    for event in seen:
        if event.has_example:
            continue
        if passed <= event.time_ms + case.times.horizon_ms:
            expected.counts["waiting"] += 1
        elif case.implicit is None:
            expected.counts["dropped"] += 1
            expected.outcomes.add(Outcome("dropped", event_id, event.time_ms))
        else:
            _add_implicit(case, expected, event_id, event)


def _add_implicit(case: Case, expected: Expected, event_id: str, event: _Seen) -> None:
    event.has_example = True
    expected.counts["implicit"] += 1
    expected.outcomes.add(Outcome("implicit", event_id, event.time_ms, case.implicit, served=event.served))
    expected.in_force[event_id, event.time_ms] = case.implicit
