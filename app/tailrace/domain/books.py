"""The books: what came in equals what became of it.

    events   (source positions)  = scored + rejected
    scored   (source positions)  = joined + implicit + dropped + waiting + repeated + stale
    labels   (source positions)  = joined + duplicate + conflicting + corrected + withdrawn
                                   + late + orphaned + waiting + rejected
    examples (in accepted blocks) = learned + skipped + left out + foreign

`live` makes the balances from counters, which count rows; `recompute` from the topics alone, counting source
positions. Each part of a recomputed balance is found on its own, none as the rest of another:
    1. Rows of accepted blocks say what was joined, implicit, dropped, corrected and withdrawn.
    2. Dead letters count once per source position, and those that name a block only if it was accepted.
    3. Outcomes without a record follow from the prefix rules of `join.machine`: repeated, stale, duplicate, and
       withdrawn where no label had said anything.
    4. What waits follows from ids and watermarks: an event until all watermarks have passed its horizon, a label
       until the scored watermark says that no event can come.
A record that none of these explains makes its balance fail, and so does one that two of them explain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from tailrace.domain.blocks import ERASED, JOINED, WITHDRAWN, Corrections, Dropped, Examples, ScoredBlock, TrainingBlock
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import Position, position_of
from tailrace.domain.records import Claim, Code, Forward, Label, LearnerRecord, Mark, Owner
from tailrace.domain.times import NEVER, EventTimeMs, JoinTimes

Source: TypeAlias = tuple[int, int]
"""Partition and offset in a topic of the user's."""

Identity: TypeAlias = tuple[str, EventTimeMs]

EQUATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "events": ("scored", "rejected"),
    "scored": ("joined", "implicit", "dropped", "waiting", "repeated", "stale"),
    "labels": (
        "joined",
        "duplicate",
        "conflicting",
        "corrected",
        "withdrawn",
        "late",
        "orphaned",
        "waiting",
        "rejected",
    ),
    "examples": ("learned", "skipped", "left_out", "foreign"),
}
"""Line of the books → its parts, in the order in which they are shown."""

_END: Final = 1 << 62
"""Past every offset."""

_DECIDED_BY_JOIN: Final = frozenset({Code.CONFLICTING, Code.LATE, Code.ORPHANED})


@dataclass(frozen=True, slots=True)
class Balance:
    """One line of the books.

    Attributes:
        line: What is accounted for; a key of EQUATIONS.
        total: How many there are.
        parts: What became of them → how many.
    """

    line: str
    total: int
    parts: Mapping[str, int]

    @property
    def difference(self) -> int:
        """How many are not explained; negative: how many are explained twice."""
        return self.total - sum(self.parts.values())

    @property
    def holds(self) -> bool:
        """Whether each is explained exactly once, as far as counts can tell."""
        return self.difference == 0

    def __str__(self) -> str:
        parts = " + ".join(f"{count} {part.replace('_', ' ')}" for part, count in self.parts.items())
        return f"{self.total} {self.line} = {parts}" + ("" if self.holds else f", and {self.difference} unexplained")


class Twice(NamedTuple):
    """An identity that was learned more than once, and where."""

    id: str
    time_ms: EventTimeMs
    positions: tuple[Position, ...]


class Letter(NamedTuple):
    """A dead letter.

    Attributes:
        source: The rejected record.
        block: (partition, owner, number) of the block it belongs to; None where the join had no part in it.
    """

    source: Source
    code: Code
    block: tuple[int, Owner, int] | None = None


class LabelRecord(NamedTuple):
    """A record of the labels topic.

    Attributes:
        label: None where it could not be used.
        home: The partition of its id.
    """

    source: Source
    label: Label | None = None
    home: int = 0


class Word(NamedTuple):
    """What one label said of an identity, and a row of the log recorded.

    Attributes:
        source: Of the label.
        y: None: it took back what was said.
    """

    source: Source
    y: float | None
    revision: int


class Folded(NamedTuple):
    """How far a state has come, by its own counters."""

    position: Position
    learned: int
    skipped: int
    foreign: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Topics:
    """What the topics of a loop hold; each part is read once.

    Attributes:
        partitions: Of `scored`, `labels` and `relabelled`.
        events: Every record of the events topic.
        scored: (partition, block), in the order of each partition.
        labels: Every record of the labels topic, in the order of each partition.
        relabelled: (partition, record), in the order of each partition.
        log: (offset, record) of the training log from its start.
        event_letters, label_letters: Dead letters of the two inputs.
    """

    partitions: int
    events: Iterable[Source]
    scored: Iterable[tuple[int, ScoredBlock]]
    labels: Iterable[LabelRecord]
    relabelled: Iterable[tuple[int, Forward | Mark]]
    log: Iterable[tuple[int, TrainingBlock | Claim | LearnerRecord]]
    event_letters: Iterable[Letter] = ()
    label_letters: Iterable[Letter] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """What is accounted for, where topics no longer hold their beginning.

    Attributes:
        events_from: Events partition → first offset that counts.
        after_ms: A scored row or label counts when the watermark just before it is past this time.
    """

    events_from: Mapping[int, int] = field(default_factory=dict)
    after_ms: EventTimeMs = NEVER - 1

    @staticmethod
    def after(first_times_ms: Iterable[EventTimeMs], times: JoinTimes) -> EventTimeMs:
        """Return `after_ms` for the first event times still held by those partitions whose beginning is gone.

        Past it no outcome depends on what is gone.
        """
        return max((first + times.reuse_ms for first in first_times_ms), default=NEVER - 1)


@dataclass(frozen=True, slots=True)
class Books:
    """The books as recomputed.

    Attributes:
        redelivered: Rows of `scored` beyond the first of each source position.
        learned_twice: Empty in a sound log.
    """

    balances: tuple[Balance, ...]
    redelivered: int
    learned_twice: tuple[Twice, ...]

    @property
    def holds(self) -> bool:
        """Whether every balance holds and no identity was learned twice."""
        return not self.learned_twice and all(balance.holds for balance in self.balances)


def live(counters: Mapping[str, Mapping[str, int]]) -> tuple[Balance, ...]:
    """Return the balances of counters.

    Args:
        counters: Line → its total under the line's own name, and its parts; lines that are missing are left out.
    """
    return tuple(
        Balance(line, counters[line].get(line, 0), {part: counters[line].get(part, 0) for part in parts})
        for line, parts in EQUATIONS.items()
        if line in counters
    )


def recompute(topics: Topics, times: JoinTimes, state: Folded | None = None, counted: Range | None = None) -> Books:
    """Make the books from the topics alone.

    Args:
        state: Of the newest snapshot; None leaves the line of the examples out.
    """
    counted = counted or Range()
    log = _Log(topics.log)
    scored = _Scored(topics, times, counted)
    labels = _Labels(topics, scored, log, counted)
    balances = [
        _events(topics, scored, counted),
        Balance("scored", scored.counted, _in_order("scored", scored.outcomes(log, labels.heard(topics)))),
        Balance("labels", labels.counted, _in_order("labels", labels.outcomes)),
    ]
    if state is not None:
        parts = {name: getattr(state, name) for name in EQUATIONS["examples"]}
        balances.append(Balance("examples", log.examples_before(state.position), parts))
    return Books(tuple(balances), scored.redelivered, log.learned_twice())


def _in_order(line: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {part: counts.get(part, 0) for part in EQUATIONS[line]}


def _events(topics: Topics, scored: _Scored, counted: Range) -> Balance:
    rejected = {letter.source for letter in topics.event_letters}
    outcomes: Counter[str] = Counter()
    total = 0
    for source in topics.events:
        if source[1] < counted.events_from.get(source[0], 0):
            continue
        total += 1
        # Of two attempts one may have failed at a model that the other found repaired: what was served counts.
        if source in scored.by_source:
            outcomes["scored"] += 1
        elif source in rejected:
            outcomes["rejected"] += 1
    return Balance("events", total, _in_order("events", outcomes))


class _Log:
    """What the accepted records of the training log say."""

    def __init__(self, records: Iterable[tuple[int, TrainingBlock | Claim | LearnerRecord]]) -> None:
        self.blocks: set[tuple[int, Owner, int]] = set()
        self.settled: dict[Source, Counter[str]] = {}
        self.by_label: dict[Source, Counter[str]] = {}
        self.words: dict[tuple[int, Identity], list[Word]] = {}
        self.erased: set[Source] = set()  # of events; their rows have no id, and say nothing
        self.idle_moves: dict[int, dict[int, EventTimeMs]] = {}
        self._positions: dict[Identity, list[Position]] = {}
        ownership = OwnershipState()
        for offset, record in records:
            if isinstance(record, Claim):
                ownership.claim(record)
            elif isinstance(record, TrainingBlock) and ownership.accept(record.partition, record.owner, record.number):
                self._read(offset, record)

    def examples_before(self, position: Position) -> int:
        """Return how many examples of accepted blocks lie before a position."""
        return sum(at < position for positions in self._positions.values() for at in positions)

    def learned_twice(self) -> tuple[Twice, ...]:
        """Return the identities of which there is more than one example."""
        twice = ((identity, at) for identity, at in self._positions.items() if len(at) > 1)
        return tuple(Twice(*identity, tuple(at)) for identity, at in twice if identity[0])  # an erased row has no id

    def _read(self, offset: int, block: TrainingBlock) -> None:
        self.blocks.add((block.partition, block.owner, block.number))
        moves = self.idle_moves.setdefault(block.partition, {})
        for at, time_ms in block.vector.idle_moves:
            moves[at] = max(time_ms, moves.get(at, NEVER))
        examples, dropped, corrections = block.examples, block.dropped, block.corrections
        rows = zip(_identities(examples), examples.kinds.tolist(), _sources(examples), _words(examples), strict=True)
        for row, (identity, kind, source, word) in enumerate(rows):
            self._positions.setdefault(identity, []).append(position_of(offset, row))
            is_joined = kind == JOINED or (kind == ERASED and word.source[1] >= 0)
            self._settle(source, "joined" if is_joined else "implicit")
            if kind == ERASED:
                self.erased.add(source)
            if is_joined:
                self._hear(block.partition, identity, "joined", word)
        for source in _sources(dropped):
            self._settle(source, "dropped")
        said = zip(_identities(corrections), corrections.kinds.tolist(), _words(corrections), strict=True)
        for identity, kind, word in said:
            if kind == WITHDRAWN:
                self._hear(block.partition, identity, "withdrawn", word._replace(y=None))
            else:
                self._hear(block.partition, identity, "corrected", word)

    def _hear(self, partition: int, identity: Identity, outcome: str, word: Word) -> None:
        self.by_label.setdefault(word.source, Counter())[outcome] += 1
        self.words.setdefault((partition, identity), []).append(word)

    def _settle(self, source: Source, outcome: str) -> None:
        self.settled.setdefault(source, Counter())[outcome] += 1


class _Scored:
    """The rows of `scored` by the prefix rules: which identities there are, what is repeated and stale."""

    def __init__(self, topics: Topics, times: JoinTimes, counted: Range) -> None:
        self.times = times
        self.watermarks = [NEVER] * topics.partitions
        self.redelivered = 0
        self.by_source: dict[Source, str] = {}
        self._identities: dict[tuple[int, str], list[EventTimeMs]] = {}
        self._accepted: dict[Source, tuple[int, EventTimeMs]] = {}
        self._sources: dict[tuple[int, Identity], Source] = {}
        self._counted: set[Source] = set()
        for partition, block in topics.scored:
            sources = [(block.source_partition, offset) for offset in block.source_offsets.tolist()]
            for event_id, time_ms, source in zip(block.ids, block.times_ms.tolist(), sources, strict=True):
                before = self.watermarks[partition]
                self.watermarks[partition] = max(before, time_ms)
                if before > counted.after_ms:
                    self._counted.add(source)
                self._take(source, partition, event_id, time_ms, before)

    @property
    def counted(self) -> int:
        """How many source positions are accounted for."""
        return len(self._counted)

    def find(self, partition: int, label: Label, watermark_ms: EventTimeMs) -> Identity | None:
        """Return the identity that a label belongs to."""
        times, reached = self.times, max(label.time_ms, watermark_ms)
        for time_ms in self._identities.get((partition, label.id), ()):
            in_reach = reached <= time_ms + times.horizon_ms + times.recall_ms
            if in_reach and label.time_ms >= time_ms - times.skew_ms:
                return label.id, time_ms
        return None

    def source_of(self, partition: int, identity: Identity) -> Source:
        """Return where the event of an identity, as `find` returns it, came from."""
        return self._sources[partition, identity]

    def is_orphan(self, partition: int, label: Label) -> bool:
        """Whether no event that a label belongs to can come any more."""
        return self.watermarks[partition] > label.time_ms + self.times.disorder_ms + self.times.skew_ms

    def outcomes(self, log: _Log, heard: list[EventTimeMs]) -> Counter[str]:
        """Return what became of the counted source positions.

        Args:
            heard: Per partition, the time that every labels partition is known there to have passed.
        """
        found: Counter[str] = Counter()
        for source in self._counted:
            settled = log.settled.get(source, Counter())
            found.update(settled)
            if source not in self._accepted:
                found[self.by_source[source]] += 1
            elif not settled:
                partition, time_ms = self._accepted[source]
                passed = min(self.watermarks[partition], heard[partition])
                found["waiting"] += passed <= time_ms + self.times.horizon_ms
        return found

    def _take(self, source: Source, partition: int, event_id: str, time_ms: EventTimeMs, before: EventTimeMs) -> None:
        known = self._identities.setdefault((partition, event_id), [])
        again = source in self.by_source
        self.redelivered += again
        if before > time_ms + self.times.disorder_ms:
            outcome = "stale"
        elif any(t == time_ms or t <= before <= t + self.times.reuse_ms for t in known):
            outcome = "repeated"
        else:
            outcome = "accepted"
            known.append(time_ms)
            self._accepted[source] = (partition, time_ms)
            self._sources[partition, (event_id, time_ms)] = source
        if not again or outcome == "accepted":
            self.by_source[source] = outcome


class _Labels:
    """The records of `labels`: by rows and dead letters, else by the prefix rules."""

    def __init__(self, topics: Topics, scored: _Scored, log: _Log, counted: Range) -> None:
        self.counted = 0
        self.outcomes: Counter[str] = Counter()
        self._scored, self._log = scored, log
        self._letters = _letters(topics.label_letters, log)
        self._watermarks = [NEVER] * topics.partitions
        self._moves = [sorted(log.idle_moves.get(q, {}).items(), reverse=True) for q in range(topics.partitions)]
        for record in topics.labels:
            partition, offset = record.source
            watermark_ms = self._watermark_at(partition, offset)
            if watermark_ms > counted.after_ms:
                self.counted += 1
                self.outcomes.update(self._outcomes(record, watermark_ms))
            if record.label is not None:
                self._watermarks[partition] = max(watermark_ms, record.label.time_ms)

    def heard(self, topics: Topics) -> list[EventTimeMs]:
        """Return, per partition, its own labels watermark or what marks told of another, whichever is least."""
        told = [[NEVER] * topics.partitions for _ in range(topics.partitions)]
        for partition, record in topics.relabelled:
            if isinstance(record, Mark):
                told[partition][record.partition] = max(told[partition][record.partition], record.watermark_ms)
        for partition, row in enumerate(told):
            row[partition] = self._watermark_at(partition, _END)
        return [min(row) for row in told]

    def _watermark_at(self, partition: int, offset: int) -> EventTimeMs:
        moves = self._moves[partition]
        while moves and moves[-1][0] <= offset:
            self._watermarks[partition] = max(self._watermarks[partition], moves.pop()[1])
        return self._watermarks[partition]

    def _outcomes(self, record: LabelRecord, watermark_ms: EventTimeMs) -> Counter[str]:
        letter = self._letters.get(record.source)
        found = Counter(self._log.by_label.get(record.source, ()))
        if letter is not None:
            found[letter.value if letter in _DECIDED_BY_JOIN else "rejected"] += 1
        elif not found and record.label is not None:
            found[self._unrecorded(record.label, record.home, watermark_ms)] += 1
        return found

    def _unrecorded(self, label: Label, home: int, watermark_ms: EventTimeMs) -> str:
        identity = self._scored.find(home, label, watermark_ms)
        if identity is None:
            return "unexplained" if self._scored.is_orphan(home, label) else "waiting"
        if self._scored.source_of(home, identity) in self._log.erased:
            return "duplicate"  # Anything else that was said again has a row or a dead letter, erased or not.
        times = self._scored.times
        last_ms = identity[1] + times.horizon_ms + times.corrections_ms
        takes_corrections = times.corrections_ms > 0 and max(label.time_ms, watermark_ms) <= last_ms
        return self._said_before(label, self._log.words.get((home, identity), ()), takes_corrections=takes_corrections)

    def _said_before(self, label: Label, words: Sequence[Word], *, takes_corrections: bool) -> str:
        """Tell a duplicate from a withdrawal of nothing, by what labels had said of the identity before this one."""
        before = [word for word in words if word.source[0] == label.partition and word.source[1] < label.offset]
        # In which order labels of two partitions were read nobody wrote down: any word of another may have been first.
        in_force = before[-1:] + [word for word in words if word.source[0] != label.partition]
        has_row = takes_corrections and all(label.revision > word.revision for word in in_force)
        if not has_row and any(self._is_duplicate(label, word) for word in in_force):
            return "duplicate"
        return "withdrawn" if label.y is None and not before else "unexplained"

    def _is_duplicate(self, label: Label, word: Word) -> bool:
        step = label.revision - word.revision if self._scored.times.corrections_ms else 0
        return label.y == word.y or step < 0 or (label.y is None and step == 0)


def _identities(rows: Examples | Corrections) -> Iterable[Identity]:
    return zip(rows.ids, rows.times_ms.tolist(), strict=True)


def _words(rows: Examples | Corrections) -> Iterable[Word]:
    sources = zip(rows.label_partitions.tolist(), rows.label_offsets.tolist(), strict=True)
    return map(Word, sources, rows.y.tolist(), rows.revisions.tolist())


def _sources(rows: Examples | Dropped) -> Iterable[Source]:
    return zip(rows.source_partitions.tolist(), rows.source_offsets.tolist(), strict=True)


def _letters(letters: Iterable[Letter], log: _Log) -> dict[Source, Code]:
    return {letter.source: letter.code for letter in letters if letter.block is None or letter.block in log.blocks}
