"""The branches of a loop and the decisions about them, as rows for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tailrace.domain.branches import Branch, differences, renewed
from tailrace.domain.pointers import Decision
from tailrace.domain.positions import Position, offset_of
from tailrace.inspection.lineup import Lineup
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Range

SHORT: Final = 12
"""Digits of a lineage that people read and type."""


@dataclass(frozen=True, slots=True)
class BranchRow:
    """One admitted branch.

    Attributes:
        learned, left_out: Examples, as of the newest snapshot; None: it holds nothing of this branch that can be read
            here.
        admitted_at: None: longer ago than decisions are remembered.
        note: In words: what it leaves out, why it cannot be folded here, what it costs.
    """

    lineage: str
    model: str
    is_serving: bool
    learned: int | None
    left_out: int | None
    admitted_at: Position | None
    is_foldable: bool
    note: str


@dataclass(frozen=True, slots=True)
class Story:
    """One decision about a branch.

    Attributes:
        at_ms: The broker's time of the record that asked; None: the log does not hold it any more.
    """

    decision: Decision
    at_ms: int | None

    def in_words(self) -> str:
        """Return one sentence."""
        decision, name = self.decision, f"branch {self.decision.branch[:SHORT]}"
        who = decision.by or "somebody"
        done = {"admit": "admitted", "promote": "promoted", "retire": "retired"}[decision.kind]
        why = f", because: {decision.why}" if decision.why else ""
        if decision.refusal:
            return f"{who} wanted {name} {done}{why}; refused: {decision.refusal}"
        after = {"promote": "; it serves from here on", "retire": "; it is not folded any more"}
        return f"{who} {done} {name}{why}{after.get(decision.kind, '')}"


def branch_rows(lineup: Lineup, foldable: Iterable[str], configured: Branch) -> list[BranchRow]:
    """Return the admitted branches, in the order of admission.

    Args:
        foldable: Lineages of those that this process can fold.
        configured: The model of the configuration here, to say what differs.
    """
    here, mine = frozenset(foldable), renewed(configured, lineup.champion)
    admissions = {
        decision.branch: decision.position
        for decision in lineup.pointers.decisions
        if decision.kind == "admit" and not decision.refusal
    }
    rows = []
    for lineage, branch in lineup.branches().items():
        held, is_serving = lineup.held.get(lineage), lineage == lineup.pointers.champion
        rows.append(
            BranchRow(
                lineage,
                branch.model,
                is_serving,
                None if held is None else held.learned,
                None if held is None else held.left_out,
                admissions.get(lineage),
                lineage in here,
                _note(branch, mine, is_serving=is_serving, is_foldable=lineage in here),
            )
        )
    return rows


def _note(branch: Branch, mine: Branch, *, is_serving: bool, is_foldable: bool) -> str:
    said = ["compiled" if branch.is_compiled else "", branch.filter.in_words()]
    if not is_foldable:
        said.append(f"cannot be folded here: {'; '.join(differences(branch, mine)) or 'its model cannot be built'}")
    if not is_serving:
        said.append("kept to go back to: it learns every example as the one that serves does, until it is retired")
    return "; ".join(each for each in said if each)


async def stories_of(reading: Reading, lineup: Lineup) -> list[Story]:
    """Return the decisions that the log's state remembers, oldest first, with their times."""
    held = await lineup.training.range()
    found = []
    for decision in lineup.pointers.decisions:
        offset = offset_of(decision.position)
        at = Range(max(offset, held.start), min(offset + 1, held.end))
        record = await reading.first_record(lineup.training.partition, at)
        found.append(Story(decision, None if record is None else record.timestamp))
    return found
