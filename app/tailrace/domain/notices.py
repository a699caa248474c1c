"""Notices: what the fold of a stretch of the log must know before it reads it.

An example may be skipped by a record that stands after it, a filter names ids by a digest whose list stands in the
record that admits the branch, and a corrected target stands after the example that it corrects. A first pass over
the log gathers these; they are no state, and whoever makes that pass finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from tailrace.domain.blocks import ERASED, WITHDRAWN, Examples, Floats, TrainingBlock
from tailrace.domain.branches import Filter, hash_of_id
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.pointers import Pointers
from tailrace.domain.positions import Position, position_of
from tailrace.domain.records import LEARNER, Admit, Claim, Command, LearnerRecord, Skip
from tailrace.domain.times import EventTimeMs

LogRecord: TypeAlias = TrainingBlock | Claim | LearnerRecord

Identity: TypeAlias = tuple[str, EventTimeMs]
"""An event: its id at its time."""


class Correction(NamedTuple):
    """What a later label said of an example.

    Attributes:
        position: Of its block in the log.
        y: The corrected target; None: the label was withdrawn.
        source: Of the later label.
    """

    position: Position
    y: float | None
    source: str


CorrectionsByEvent: TypeAlias = dict[Identity, tuple[Correction, ...]]
"""Event → its corrections, in the order of the log."""


class Logged(NamedTuple):
    """A record of the training log, decoded.

    Attributes:
        digest: SHA-256 of the message's bytes, in hexadecimal.
    """

    offset: int
    record: LogRecord
    digest: str


@dataclass(slots=True)
class BranchNotices:
    """What the fold of one branch must know.

    Attributes:
        skips: Positions of examples that its model cannot learn.
        ids: Hashes of the event ids that its filter leaves out.
    """

    skips: set[Position] = field(default_factory=set)
    ids: frozenset[str] = frozenset()


@dataclass(slots=True)
class Notices:
    """What the fold of a stretch of the log must know.

    Attributes:
        branches: Lineage → what concerns that branch alone.
        admitted: Lineage → text of the definition, of every branch that a record here admits.
        corrections: Read only by branches whose filter says up to where corrections count, and complete up to the
            greatest such position.
        last_admitted: Lineage → offset of the last record here that admits it.
    """

    branches: dict[str, BranchNotices] = field(default_factory=dict)
    admitted: dict[str, str] = field(default_factory=dict)
    corrections: CorrectionsByEvent = field(default_factory=dict)
    last_admitted: dict[str, int] = field(default_factory=dict)

    def of(self, lineage: str) -> BranchNotices:
        """Return what concerns one branch."""
        return self.branches.get(lineage, _NOTHING)

    def skip(self, lineage: str, position: Position) -> None:
        """Note that a branch cannot learn an example."""
        self.branches.setdefault(lineage, BranchNotices()).skips.add(position)

    def merge(self, other: Notices) -> None:
        """Add what another pass found."""
        for lineage, theirs in other.branches.items():
            mine = self.branches.setdefault(lineage, BranchNotices())
            mine.skips |= theirs.skips
            mine.ids |= theirs.ids
        self.admitted |= other.admitted
        for lineage, offset in other.last_admitted.items():
            self.last_admitted[lineage] = max(offset, self.last_admitted.get(lineage, offset))
        self.know(other.corrections)

    def know(self, corrections: Mapping[Identity, tuple[Correction, ...]]) -> None:
        """Add what is known of corrections up to some position; of each event what reaches further stays."""
        for identity, theirs in corrections.items():
            if len(theirs) > len(self.corrections.get(identity, ())):
                self.corrections[identity] = theirs


_NOTHING: Final = BranchNotices()
_NONE: Final = frozenset[int]()


def read_notices(records: Iterable[Logged], ownership: OwnershipState) -> Notices:
    """Return what the learner's accepted records say: the first pass over a tail of the log.

    Args:
        records: The tail in order; training blocks in it may be left out.
        ownership: As of the tail's beginning; not changed.
    """
    owned = copy_of(ownership)
    found = Notices()
    for offset, record, _ in records:
        if isinstance(record, Claim):
            owned.claim(record)
        elif not isinstance(record, TrainingBlock) and owned.accept(LEARNER, record.owner, record.number):
            _note(found, record, offset)
    return found


def read_pointers(records: Iterable[Logged], ownership: OwnershipState, pointers: Pointers) -> None:
    """Bring pointers up to date with a tail of the log, as the fold does it, without folding anything.

    Args:
        records: The tail in order; training blocks in it may be left out.
        ownership, pointers: As of the tail's beginning; changed in place.
    """
    for offset, record, _ in records:
        if isinstance(record, Claim):
            ownership.claim(record)
        elif not isinstance(record, TrainingBlock) and ownership.accept(LEARNER, record.owner, record.number):
            if isinstance(record, Admit):
                pointers.admit(position_of(offset), record)
            elif isinstance(record, Command):
                pointers.command(position_of(offset), record)


class CorrectedTargets:
    """Gathers the accepted corrections before a position, by event.

    Feed it the log in order, from its first record.

    Attributes:
        found: Event → its corrections so far.
    """

    def __init__(self, end: Position) -> None:
        self.found: CorrectionsByEvent = {}
        self._end = end
        self._owned = OwnershipState()

    def read(self, offset: int, record: LogRecord) -> None:
        """Take the next record into account; from the end position on it changes nothing."""
        if position_of(offset) >= self._end:
            return
        if isinstance(record, Claim):
            self._owned.claim(record)
        elif isinstance(record, TrainingBlock) and self._owned.accept(record.partition, record.owner, record.number):
            rows = record.corrections
            columns = rows.ids, rows.times_ms.tolist(), rows.kinds.tolist(), rows.y.tolist(), rows.sources
            for event_id, time_ms, kind, y, source in zip(*columns, strict=True):
                said = Correction(position_of(offset), None if kind == WITHDRAWN else y, source)
                self.found[event_id, time_ms] = (*self.found.get((event_id, time_ms), ()), said)


def copy_of(ownership: OwnershipState) -> OwnershipState:
    """Return an ownership of one's own, as of the same position."""
    return replace(ownership, owners=dict(ownership.owners), numbers=dict(ownership.numbers))


def counting(corrections: tuple[Correction, ...], drop: Filter) -> Correction | None:
    """Return the correction that counts: the last one before the filter's position, of no source that it drops."""
    for said in reversed(corrections):
        if said.position < drop.corrected_to and said.source not in drop.sources:
            return said
    return None


class Lessons(NamedTuple):
    """What one branch learns of some examples.

    Attributes:
        y: Targets, corrected where they were.
        skipped, left_out: Rows that are not learned, because the model cannot or the filter says so.
    """

    y: Floats
    skipped: frozenset[int]
    left_out: frozenset[int]

    @property
    def is_whole(self) -> bool:
        """Whether every row is learned."""
        return not self.skipped and not self.left_out


def lessons_of(
    examples: Examples,
    first: Position,
    drop: Filter,
    notices: BranchNotices,
    corrections: Mapping[Identity, tuple[Correction, ...]],
) -> Lessons:
    """Return what a branch learns of the examples at positions from `first` on."""
    last = first + len(examples)
    skipped = frozenset(position - first for position in notices.skips if first <= position < last)
    y, withdrawn = _corrected(examples, min(len(examples), max(0, drop.corrected_to - first)), drop, corrections)
    left_out = withdrawn | dropped_rows(examples, first, drop, notices) | erased_rows(examples)
    return Lessons(y, skipped - left_out, left_out)


def dropped_rows(examples: Examples, first: Position, drop: Filter, notices: BranchNotices) -> frozenset[int]:
    """Return the rows, of examples at positions from `first` on, that a filter leaves out by source, id or place."""
    if not drop.drops:
        return _NONE
    rows = range(len(examples))
    return frozenset(row for row in rows if _is_left_out(examples, row, first + row, drop, notices))


def erased_rows(examples: Examples) -> frozenset[int]:
    """Return the rows of which nothing is left but that they were there."""
    found = np.flatnonzero(examples.kinds == ERASED)
    return frozenset(found.tolist()) if len(found) else _NONE


def _note(found: Notices, record: LearnerRecord, offset: int) -> None:
    if isinstance(record, Skip):
        if record.position < position_of(offset):
            found.skip(record.branch, record.position)
    elif isinstance(record, Admit):
        found.admitted.setdefault(record.branch, record.definition)
        found.last_admitted[record.branch] = offset
        mine = found.branches.setdefault(record.branch, BranchNotices())
        mine.skips |= {position for position in record.skips if position < position_of(offset)}
        mine.ids |= frozenset(record.ids)


def _corrected(
    examples: Examples, rows: int, drop: Filter, corrections: Mapping[Identity, tuple[Correction, ...]]
) -> tuple[Floats, frozenset[int]]:
    """Return the targets with the first `rows` of them corrected, and which of these were withdrawn."""
    if not rows or not corrections:
        return examples.y, _NONE
    y, withdrawn = examples.y, set[int]()
    for row, identity in enumerate(zip(examples.ids[:rows], examples.times_ms[:rows].tolist(), strict=True)):
        said = counting(corrections.get(identity, ()), drop)
        if said is None:
            continue
        if said.y is None:
            withdrawn.add(row)
        else:
            y = np.array(examples.y) if y is examples.y else y
            y[row] = said.y
    return y, frozenset(withdrawn)


def _is_left_out(examples: Examples, row: int, position: Position, drop: Filter, notices: BranchNotices) -> bool:
    return drop.leaves_out(position, examples.sources[row], lambda: hash_of_id(examples.ids[row]) in notices.ids)
