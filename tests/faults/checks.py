"""The two checks, from topics and store alone.

(a) What stands in the blocks that count, and in the dead letters, is what the oracle computes from labels and scored
    events; nothing is there twice, and every event is answered or dead-lettered.
(b) The digest of the newest snapshot is that of a bare fold of the log as it was written, made by another process.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import orjson
from tests.faults.processes import Refolder
from tests.faults.topics import Topics, prediction_source
from tests.faults.workload import CODES, home
from tests.simulation.inputs import Entry, Topic
from tests.simulation.oracle import expect, outcomes_of

from tailrace.domain.positions import offset_of
from tailrace.domain.records import Forward, Label
from tailrace.wire.dead_letter import DeadLetter, parse


@dataclass(frozen=True, slots=True)
class Found:
    """What the checks counted.

    Attributes:
        outcomes: Of identities: joined, dropped.
        dead: Labels that count as dead letters, by code.
        forwarded: Labels that came on another partition than their id's.
    """

    events: int
    outcomes: Counter[str]
    dead: Counter[str]
    forwarded: int
    learned: int


def check_a(topics: Topics, on_two: dict[str, set[bool]]) -> Found:
    """Check (a), on topics as of a quiet moment.

    Args:
        on_two: Ids whose labels came on two partitions → their targets; either may have been the first.
    """
    events = _check_events(topics)
    outcomes, dead = _check_outcomes(topics, on_two)
    forwards = {
        (each.label.partition, each.label.offset)
        for column in topics.relabelled
        for each in column.decoded
        if isinstance(each, Forward)
    }
    return Found(events, outcomes, dead, len(forwards), outcomes["joined"])


async def check_b(topics: Topics, refolder: Refolder) -> int:
    """Check (b); return how many examples the snapshot has learned."""
    newest = topics.newest_snapshot()
    if newest is None:
        return 0
    folded = await refolder.fold(offset_of(newest.position))
    assert folded["position"] == newest.position, (
        f"the fold ends at {folded['position']}, the snapshot at {newest.position}"
    )
    assert folded["digest"] == newest.state_digest, f"snapshot {newest.number} is not what the log comes to"
    assert folded["learned"] == newest.counters["learned"]
    return int(str(folded["learned"]))


def _check_events(topics: Topics) -> int:
    names = topics.domain.topics
    good: dict[tuple[int, int], dict[str, Any]] = {}
    bad: dict[tuple[int, int], str] = {}
    for partition, column in enumerate(topics.all_of(names.events)):
        for record in column.records:
            code = CODES.get(("events", record.value or b""))
            if code is None:
                good[partition, record.offset] = orjson.loads(record.value or b"")
            else:
                bad[partition, record.offset] = code
    rows: dict[tuple[int, int], tuple[str, int]] = {}
    for column in topics.scored:
        for block in column.decoded:
            for offset, event_id, time_ms in zip(block.source_offsets, block.ids, block.times_ms, strict=True):
                rows[block.source_partition, int(offset)] = (event_id, int(time_ms))
    assert rows == {at: (event["id"], event["at"]) for at, event in good.items()}, "scored is not what the events are"
    predicted = {
        prediction_source(record): orjson.loads(record.value or b"")["event_id"]
        for column in topics.all_of(names.predictions)
        for record in column.records
    }
    assert predicted == {at: event["id"] for at, event in good.items()}, "an accepted event has no prediction"
    letters = _letters(topics, names.dead_events, names.events)
    assert {at: {letter.rejection.code.value for letter in each} for at, each in letters.items()} == {
        at: {code} for at, code in bad.items()
    }, "the dead letters of events are not those of the bad events"
    return len(good)


def _check_outcomes(topics: Topics, on_two: dict[str, set[bool]]) -> tuple[Counter[str], Counter[str]]:
    names, blocks = topics.domain.topics, topics.blocks()
    labels, bad = _labels(topics)
    scored = [
        Topic(entries=[Entry(r.offset, 0.0, b) for r, b in zip(column.records, column.decoded, strict=True)])
        for column in topics.scored
    ]
    case: Any = SimpleNamespace(
        times=topics.domain.settings.times,
        implicit=topics.domain.settings.implicit_y,
        home=lambda event_id: home(event_id, topics.partitions),
    )
    expected = expect(case, scored, labels, blocks)
    found = outcomes_of(blocks)
    twice = [each for each, times in Counter((o.id, o.time_ms) for o in found).items() if times > 1]
    assert not twice, f"settled more than once: {twice[:5]}"
    _same(
        {(o.id, o.time_ms, o.kind, o.y if o.id not in on_two else None) for o in found},
        {(o.id, o.time_ms, o.kind, o.y if o.id not in on_two else None) for o in expected.outcomes},
        "outcomes",
    )
    for outcome in found:
        if outcome.id in on_two and outcome.kind == "joined":
            assert outcome.y in on_two[outcome.id], f"{outcome.id} was joined with a target that nobody gave"
    counted = {(block.partition, block.owner, block.number) for block in blocks}
    dead: set[tuple[tuple[int, int], str]] = set()
    for at, letters in _letters(topics, names.dead_labels, names.labels).items():
        mine = [letter for letter in letters if letter.block is not None and tuple(letter.block) in counted]
        assert len(mine) < 2, f"label {at} is dead-lettered by {len(mine)} blocks that count"
        dead |= {(at, letter.rejection.code.value) for letter in mine}
    of_two = {
        (partition, entry.offset)
        for partition, topic in enumerate(labels)
        for entry in topic.entries
        if entry.value is not None and entry.value.id in on_two
    }
    _same(
        {each for each in dead if each[0] not in of_two},
        {each for each in expected.dead if each[0] not in of_two} | set(bad.items()),
        "dead letters of labels",
    )
    assert {code for at, code in dead if at in of_two} <= {"conflicting", "late", "orphaned"}
    return Counter(o.kind for o in found), Counter(code for _, code in dead)


def _labels(topics: Topics) -> tuple[list[Topic[Label | None]], dict[tuple[int, int], str]]:
    bad: dict[tuple[int, int], str] = {}
    found: list[Topic[Label | None]] = []
    for partition, column in enumerate(topics.all_of(topics.domain.topics.labels)):
        topic: Topic[Label | None] = Topic()
        for record in column.records:
            code = CODES.get(("labels", record.value or b""))
            label = None
            if code is None:
                raw = orjson.loads(record.value or b"")
                label = Label(raw["id"], raw["at"], float(raw["y"]), partition, record.offset, 0)
            else:
                bad[partition, record.offset] = code
            topic.entries.append(Entry(record.offset, 0.0, label))
        found.append(topic)
    return found, bad


def _letters(topics: Topics, dead: str, source: str) -> dict[tuple[int, int], list[DeadLetter]]:
    """Return the dead letters of a topic by where they came from; each is the record that it was."""
    records = {
        (record.partition, record.offset): record for column in topics.all_of(source) for record in column.records
    }
    found: dict[tuple[int, int], list[DeadLetter]] = {}
    for column in topics.all_of(dead):
        for record in column.records:
            letter = parse(record.headers)
            at = (letter.partition, letter.offset)
            was = records[at]
            assert (was.key, was.value, was.timestamp) == (record.key, record.value, record.timestamp), f"altered: {at}"
            found.setdefault(at, []).append(letter)
    return found


def _same(found: set[Any], expected: set[Any], what: str) -> None:
    if found != expected:
        surplus, missing = sorted(found - expected, key=str), sorted(expected - found, key=str)
        raise AssertionError(
            f"{what}: {len(surplus)} too many {surplus[:6]}, {len(missing)} missing {missing[:6]}, of {len(expected)}"
        )
