"""The learner's rules written a second time: which of its records count, who serves, and what each branch comes to.

Knows nothing of restores, snapshots, warming or terms; reads the log from its first record, one branch at a time, and
learns what is left of the examples as if the others had never been there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.simulation.branching import breaks, build, codec_of
from tests.simulation.inputs import Entry
from tests.simulation.rules import Rules
from tests.simulation.world import CONTRACT, TARGET

from tailrace.domain.blocks import WITHDRAWN, TrainingBlock
from tailrace.domain.branches import Branch, BranchState, hash_of_id
from tailrace.domain.models.digest import digest_of
from tailrace.domain.notices import LogRecord
from tailrace.domain.positions import Position, position_of
from tailrace.domain.records import LEARNER, Admit, Claim, Command, CommandKind, Features, Skip

Counted = tuple[int, TrainingBlock | Admit | Command | Skip]
"""Offset and record."""


def counting(log: Iterable[Entry[LogRecord]]) -> Iterator[Counted]:
    """Yield what counts, of joiners and learners alike: of the owner by valid claims, each number once, in order."""
    owners: dict[int, str] = {}
    numbers: dict[int, int] = {}
    for entry in log:
        record = entry.value
        if isinstance(record, Claim):
            if owners.get(record.partition) == record.after:
                owners[record.partition], numbers[record.partition] = record.owner, 0
            continue
        part = record.partition if isinstance(record, TrainingBlock) else LEARNER
        if owners.get(part) == record.owner and record.number == numbers[part] + 1:
            numbers[part] = record.number
            yield entry.offset, record


MOST_ADMITTED: Final = 16


class Reign(NamedTuple):
    """Who serves from a position on."""

    start: Position
    champion: str
    epoch: int


@dataclass(slots=True)
class Rule:
    """The history of a loop's branches.

    Attributes:
        reigns: In order of their positions; epochs rise by one.
        admitted: Now.
        definitions: Lineage → definition, of every branch that was ever admitted.
        skips: Lineage → positions that the log says its model cannot learn.
        ids: Lineage → hashes of the ids that its filter leaves out.
        skipped_again: Skips of what the log had said to skip before.
    """

    reigns: list[Reign] = field(default_factory=lambda: [Reign(0, "", 0)])
    admitted: set[str] = field(default_factory=set)
    definitions: dict[str, Branch] = field(default_factory=dict)
    skips: dict[str, set[Position]] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)
    skipped_again: int = 0

    def read(self, counted: Iterable[Counted]) -> None:
        """Take what counts into account, in order."""
        for offset, record in counted:
            if isinstance(record, Skip):
                known = self.skips.setdefault(record.branch, set())
                self.skipped_again += record.position in known
                known.add(record.position)
            elif isinstance(record, Admit):
                self._admit(offset, record)
            elif isinstance(record, Command):
                self._command(offset, record)

    def at(self, position: Position) -> Reign:
        """Return who serves in a state that ends at a position."""
        return next(reign for reign in reversed(self.reigns) if reign.start <= position)

    def _admit(self, offset: int, record: Admit) -> None:
        self.skips.setdefault(record.branch, set()).update(record.skips)
        self.ids.setdefault(record.branch, set()).update(record.ids)
        branch = Branch.read(record.definition)
        too_early = max(branch.filter.corrected_to, branch.filter.ids_to) > position_of(offset)
        if branch.lineage != record.branch or record.branch in self.admitted or too_early:
            return
        if len(self.admitted) == MOST_ADMITTED:
            return
        self.admitted.add(record.branch)
        self.definitions[record.branch] = branch
        now = self.reigns[-1]
        if not now.champion:
            self.reigns.append(Reign(position_of(offset + 1), record.branch, now.epoch))

    def _command(self, offset: int, record: Command) -> None:
        now = self.reigns[-1]
        usable = record.branch in self.admitted and record.branch != now.champion
        if record.expected_epoch != now.epoch or not usable:
            return
        champion = record.branch if record.kind is CommandKind.PROMOTE else now.champion
        if record.kind is CommandKind.RETIRE:
            self.admitted.remove(record.branch)
        self.reigns.append(Reign(position_of(offset + 1), champion, now.epoch + 1))


class Example(NamedTuple):
    """A row that a branch may learn."""

    position: Position
    identity: tuple[str, int]
    source: str
    x: Features
    y: float


@dataclass(slots=True)
class Past:
    """What counts in a log, by rows.

    Attributes:
        ends: Positions just after each record of the log, with the examples in it.
        corrections: Block's position, identity, source, target in force from there on; None: withdrawn.
    """

    ends: list[tuple[Position, list[Example]]]
    corrections: list[tuple[Position, tuple[str, int], str, float | None]]

    @classmethod
    def of(cls, log: Iterable[Entry[LogRecord]], counted: Iterable[Counted]) -> Past:
        """Read a log."""
        blocks = {offset: record for offset, record in counted if isinstance(record, TrainingBlock)}
        ends, corrections = [], []
        for entry in log:
            block = blocks.get(entry.offset)
            ends.append((position_of(entry.offset + 1), [] if block is None else _examples(entry.offset, block)))
            if block is None:
                continue
            rows = block.corrections
            for n, event_id in enumerate(rows.ids):
                y = None if rows.kinds[n] == WITHDRAWN else float(rows.y[n])
                corrections.append((position_of(entry.offset), (event_id, int(rows.times_ms[n])), rows.sources[n], y))
        return cls(ends, corrections)

    def corrected(self, end: Position, dropped: Container[str]) -> dict[tuple[str, int], float | None]:
        """Return the targets that corrections before a position come to, without those of dropped sources."""
        return {identity: y for at, identity, source, y in self.corrections if at < end and source not in dropped}


def _examples(offset: int, block: TrainingBlock) -> list[Example]:
    rows = block.examples
    if not len(rows):
        return []
    return [
        Example(position_of(offset, n), (rows.ids[n], int(rows.times_ms[n])), rows.sources[n], x, float(rows.y[n]))
        for n, x in enumerate(CONTRACT.rows(rows.x))
    ]


@dataclass(slots=True)
class Line:
    """One branch alone, folded from the log.

    Attributes:
        bodies, models: Position → digest of the branch, of its model alone, where they were asked for.
        unexplained: Positions that the log says are skipped and at which the model does not raise.
        broken_at: Where the model raises and the log says nothing of it: nobody gets beyond.
    """

    bodies: dict[Position, str] = field(default_factory=dict)
    models: dict[Position, str] = field(default_factory=dict)
    unexplained: set[Position] = field(default_factory=set)
    broken_at: Position | None = None


def line_of(branch: Branch, past: Past, rule: Rule, rules: Rules, asked: set[Position]) -> Line:
    """Fold one branch, and note what it is at the positions that were asked for."""
    lineage, codec, line = branch.lineage, codec_of(branch.model, rules), Line()
    state = BranchState(build(branch.model, rules), lineage, branch.start)
    skips, ids = rule.skips.get(lineage, set()), rule.ids.get(lineage, set())
    targets = past.corrected(branch.filter.corrected_to, branch.filter.sources)
    for end, examples in past.ends:
        for example in examples:
            fate = _fate(branch, example, targets, ids)
            if fate is None:
                state.left_out += 1
            elif branch.model == "fragile" and breaks(example.x):
                if example.position not in skips:
                    line.broken_at = example.position
                    return line
                state.skipped += 1
            else:
                line.unexplained |= skips & {example.position}
                state.model.learn_one(dict(example.x), TARGET.river(fate))
                state.learned += 1
        state.position = max(end, branch.start)
        if end in asked:
            line.bodies[end] = digest_of(codec.encode(state.dump()))
            line.models[end] = digest_of(codec.encode(state.model))
    return line


def _fate(
    branch: Branch, example: Example, targets: dict[tuple[str, int], float | None], ids: set[str]
) -> float | None:
    """Return the target with which a branch learns an example; None: it does not."""
    if example.position < branch.start:
        return None
    drop, y = branch.filter, example.y
    if example.position < drop.corrected_to and example.identity in targets:
        corrected = targets[example.identity]
        if corrected is None:
            return None
        y = corrected
    if drop.ids and example.position < drop.ids_to and hash_of_id(example.identity[0]) in ids:
        return None
    is_bounded = bool(drop.start) or drop.end is not None
    inside = drop.start <= example.position and (drop.end is None or example.position < drop.end)
    is_named = example.source in drop.sources if drop.sources else is_bounded
    return None if inside and is_named else y
