"""What the topics of a loop say, by source position: the one reading on which all checks work.

Knows the form of the user's records and which of them are bad; takes nothing from a process. Whatever cannot be read
as what it should be is kept as a stray, for the checks to complain about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import orjson
from tests.faults.topics import Topics, source_of
from tests.faults.workload import CODES, home
from tests.simulation.inputs import Entry, Topic
from tests.simulation.oracle import Expected, Outcome, expect, outcomes_of

from tailrace.domain.blocks import ScoredBlock, TrainingBlock
from tailrace.domain.errors import CodecError
from tailrace.domain.records import Forward, Label
from tailrace.streams.log import Record
from tailrace.wire.dead_letter import DeadLetter, parse

Source: TypeAlias = tuple[int, int]
"""Partition and offset in a topic of the user's."""

Codes: TypeAlias = Mapping[tuple[str, bytes], str]
""""events" or "labels", and a value → the code with which it must be dead-lettered."""

SETTLED = ("joined", "implicit", "dropped")


class Event(NamedTuple):
    """An event that must be accepted."""

    id: str
    time_ms: int
    key: bytes | None


class Row(NamedTuple):
    """A row of `scored`, in the order of its partition."""

    partition: int
    offset: int
    block: ScoredBlock
    row: int


class Answer(NamedTuple):
    """A prediction."""

    record: Record
    plain: Mapping[str, Any]


@dataclass
class Ledger:
    """The topics as of their last refresh; each part is made when it is first asked for.

    Attributes:
        strays: Records that are not what their topic should hold: invariant, and words.
    """

    topics: Topics
    on_two: Mapping[str, set[bool]]
    codes: Codes = field(default_factory=lambda: CODES)
    strays: list[tuple[str, str]] = field(default_factory=list)

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _events(self) -> tuple[dict[Source, Event], dict[Source, str]]:
        fields, good, bad = self.topics.domain.settings.events, {}, {}
        for record in _records(self.topics, self.topics.domain.topics.events):
            at, code = (record.partition, record.offset), self.codes.get(("events", record.value or b""))
            if code is None:
                raw = orjson.loads(record.value or b"")
                good[at] = Event(str(raw[fields.id]), _time_of(raw, fields.time, record), record.key)
            else:
                bad[at] = code
        return good, bad

    @property
    def events(self) -> dict[Source, Event]:
        """The events that must be accepted."""
        return self._events[0]

    @property
    def bad_events(self) -> dict[Source, str]:
        """The others → their code."""
        return self._events[1]

    @cached_property
    def rows(self) -> dict[Source, list[Row]]:
        """The rows of `scored`, the first one of each source first: those of one source stand in one partition."""
        found: dict[Source, list[Row]] = {}
        for row in self.each_row():
            source = row.block.source_partition, int(row.block.source_offsets[row.row])
            found.setdefault(source, []).append(row)
        return found

    def each_row(self) -> Iterator[Row]:
        """Yield every row of `scored`, in the order of each partition."""
        for partition, column in enumerate(self.topics.scored):
            for record, block in zip(column.records, column.decoded, strict=True):
                for row in range(len(block.ids)):
                    yield Row(partition, record.offset, block, row)

    @cached_property
    def answers(self) -> dict[Source, list[Answer]]:
        """The predictions of each event."""
        found: dict[Source, list[Answer]] = {}
        topic = self.topics.domain.topics
        for column in self.topics.all_of(topic.predictions):
            for record, plain in zip(column.records, column.decoded, strict=True):
                source = source_of(plain.get("prediction_id"), topic.events)
                if source is None:
                    name = f"prediction {record.partition}:{record.offset}"
                    self.strays.append(("I1", f"{name} has the id {plain.get('prediction_id')!r}"))
                else:
                    found.setdefault(source, []).append(Answer(record, plain))
        return found

    @cached_property
    def event_letters(self) -> dict[Source, list[DeadLetter]]:
        """The dead letters of events."""
        return self._letters(self.topics.domain.topics.dead_events, self.topics.domain.topics.events)

    # ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _labels(self) -> tuple[list[Topic[Label | None]], dict[Source, str]]:
        fields, bad = self.topics.domain.settings.labels, {}
        found: list[Topic[Label | None]] = []
        for partition, column in enumerate(self.topics.all_of(self.topics.domain.topics.labels)):
            topic: Topic[Label | None] = Topic()
            for record in column.records:
                code, label = self.codes.get(("labels", record.value or b"")), None
                if code is None:
                    raw = orjson.loads(record.value or b"")
                    y, place = raw[fields.target], (partition, record.offset, record.timestamp)
                    revision = raw.get(fields.revision, 0) if fields.revision else 0
                    time_ms = _time_of(raw, fields.time, record)
                    label = Label(str(raw[fields.id]), time_ms, None if y is None else float(y), *place, revision)
                else:
                    bad[partition, record.offset] = code
                topic.entries.append(Entry(record.offset, 0.0, label))
            found.append(topic)
        return found, bad

    @property
    def labels(self) -> list[Topic[Label | None]]:
        """The labels by partition; None where one is bad."""
        return self._labels[0]

    def label_of(self, source: Source) -> Label:
        """Return the label at a position; there must be a good one."""
        return self._label_at[source]

    @cached_property
    def _label_at(self) -> dict[Source, Label]:
        entries = ((p, entry) for p, topic in enumerate(self.labels) for entry in topic.entries)
        return {(p, entry.offset): entry.value for p, entry in entries if entry.value is not None}

    @property
    def bad_labels(self) -> dict[Source, str]:
        """The bad ones → their code."""
        return self._labels[1]

    @cached_property
    def labels_of_two(self) -> set[Source]:
        """The labels of ids whose labels came on two partitions: which was read first nobody can know."""
        return {
            (partition, entry.offset)
            for partition, topic in enumerate(self.labels)
            for entry in topic.entries
            if entry.value is not None and entry.value.id in self.on_two
        }

    @cached_property
    def forwards(self) -> set[Source]:
        """The labels that were forwarded."""
        return {
            (each.label.partition, each.label.offset)
            for column in self.topics.relabelled
            for each in column.decoded
            if isinstance(each, Forward)
        }

    @cached_property
    def label_letters(self) -> dict[Source, list[DeadLetter]]:
        """The dead letters of labels that count: those whose block counts."""
        names = self.topics.domain.topics
        counted = {(block.partition, block.owner, block.number) for block in self.blocks}
        found = self._letters(names.dead_labels, names.labels)
        mine = {at: [each for each in letters if each.block in counted] for at, letters in found.items()}
        return {at: letters for at, letters in mine.items() if letters}

    # ── the log ─────────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def blocks(self) -> list[TrainingBlock]:
        """The blocks that count."""
        return self.topics.blocks()

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Their rows."""
        return outcomes_of(self.blocks)

    @cached_property
    def expected(self) -> Expected:
        """What the oracle computes from labels and scored events."""
        scored = [
            Topic(entries=[Entry(r.offset, 0.0, b) for r, b in zip(column.records, column.decoded, strict=True)])
            for column in self.topics.scored
        ]
        case: Any = SimpleNamespace(
            times=self.topics.domain.settings.times,
            implicit=self.topics.domain.settings.implicit_y,
            home=lambda event_id: home(event_id, self.topics.partitions),
        )
        return expect(case, scored, self.labels, self.blocks)

    def _letters(self, dead: str, source: str) -> dict[Source, list[DeadLetter]]:
        """Return the dead letters of a topic by where they came from; one that is not the record it was is a stray."""
        records = {(record.partition, record.offset): record for record in _records(self.topics, source)}
        found: dict[Source, list[DeadLetter]] = {}
        for record in _records(self.topics, dead):
            name = f"{dead} {record.partition}:{record.offset}"
            try:
                letter = parse(record.headers)
            except CodecError as problem:
                self.strays.append(("I2", f"{name} is no dead letter: {problem}"))
                continue
            at = (letter.partition, letter.offset)
            was = records.get(at)
            if was is None:
                self.strays.append(("I2", f"{name} is of {source} {show(at)}, which is not there"))
                continue
            if letter.is_whole and (was.key, was.value, was.timestamp) != (record.key, record.value, record.timestamp):
                self.strays.append(("I2", f"{name} is not the record {source} {show(at)} as it was"))
            found.setdefault(at, []).append(letter)
        return found


def show(source: Source) -> str:
    """Return `partition:offset`."""
    return f"{source[0]}:{source[1]}"


def _records(topics: Topics, topic: str) -> Iterator[Record]:
    for column in topics.all_of(topic):
        yield from column.records


def _time_of(raw: Mapping[str, Any], name: str | None, record: Record) -> int:
    return int(raw[name]) if name is not None and name in raw else record.timestamp
