"""Pointers: which branches of a loop are admitted and which of them serves, decided by the log alone.

A branch is admitted by a record of the learner; the first one that is becomes the champion. From then on people's
commands move the pointer. Each command names the epoch that it was made for, and every command that takes effect
begins the next epoch: a command that comes twice, late, or against another one finds another epoch and changes
nothing. What was decided, refusals included, is kept with its reason.

Invariant: there is at most one champion, it is admitted, and every reader of the log knows the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tailrace.domain.branches import Branch
from tailrace.domain.errors import CodecError
from tailrace.domain.positions import Position
from tailrace.domain.records import Admit, Command, CommandKind

DECISIONS_KEPT: Final = 64
"""Decisions that a state remembers, the last ones; the log holds them all."""

MAX_ADMITTED: Final = 16
"""Branches that may be admitted at one time: each is folded with every example."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one record that asked for something.

    Attributes:
        kind: "admit", "promote" or "retire".
        branch: Its lineage.
        by, why: Who asked, and their reason in words.
        refusal: Why nothing was changed, in words; "" when it took effect.
        epoch: In force after it.
    """

    position: Position
    kind: str
    branch: str
    by: str
    why: str
    refusal: str
    epoch: int


@dataclass(slots=True)
class Pointers:
    """Admitted branches and the champion, as of a position of the log.

    Attributes:
        champion: Lineage of the branch that serves; "" before the first is admitted.
        epoch: Rises with every command that takes effect.
        admitted: Lineage → text of the definition (`Branch.text`), in the order of admission.
        commands_next: Offset in the commands topic; those before it stand in the log already.
        decisions: The last few.
    """

    champion: str = ""
    epoch: int = 0
    admitted: dict[str, str] = field(default_factory=dict)
    commands_next: int = 0
    decisions: list[Decision] = field(default_factory=list)

    def admit(self, position: Position, record: Admit) -> Decision:
        """Take an accepted record of the learner into account."""
        refusal = self._refusal_of_admit(position, record)
        if not refusal:
            self.admitted[record.branch] = record.definition
            self.champion = self.champion or record.branch
        return self._decided(position, "admit", record.branch, record.by, record.why, refusal)

    def command(self, position: Position, record: Command) -> Decision:
        """Take an accepted command into account; it changes something only in the epoch that it was made for."""
        self.commands_next = max(self.commands_next, record.source_offset + 1)
        refusal = self._refusal_of_command(record)
        if not refusal:
            self.epoch += 1
            if record.kind is CommandKind.PROMOTE:
                self.champion = record.branch
            else:
                del self.admitted[record.branch]
        return self._decided(position, record.kind.value, record.branch, record.by, record.why, refusal)

    def dump(self) -> dict[str, Any]:
        """Return the plain form."""
        return {
            "champion": self.champion,
            "epoch": self.epoch,
            "admitted": dict(self.admitted),
            "commands_next": self.commands_next,
            "decisions": [asdict(decision) for decision in self.decisions],
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Pointers:
        """Read what `dump` made."""
        decisions = [Decision(**decision) for decision in plain["decisions"]]
        return cls(plain["champion"], plain["epoch"], plain["admitted"], plain["commands_next"], decisions)

    def _refusal_of_admit(self, position: Position, record: Admit) -> str:
        if record.branch in self.admitted:
            return "it is admitted already"
        if len(self.admitted) >= MAX_ADMITTED:
            return f"{MAX_ADMITTED} branches are admitted, which is the most; retire one first"
        try:
            branch = Branch.read(record.definition)
        except CodecError as problem:
            return str(problem)
        if branch.lineage != record.branch:
            return "its definition is that of another branch"
        if branch.filter.reaches_to > position:
            return "its filter speaks of what is not in the log yet; build it again, up to the log's end"
        return ""

    def _refusal_of_command(self, record: Command) -> str:
        if record.expected_epoch != self.epoch:
            return f"it was made for epoch {record.expected_epoch}, this is epoch {self.epoch}; look again, then repeat"
        if record.branch not in self.admitted:
            return "the branch is not admitted; only admitted branches can be promoted or retired"
        if record.branch == self.champion:
            is_promotion = record.kind is CommandKind.PROMOTE
            return "it serves already" if is_promotion else "it serves; promote another branch first"
        return ""

    def _decided(self, position: Position, kind: str, branch: str, by: str, why: str, refusal: str) -> Decision:
        decision = Decision(position, kind, branch, by, why, refusal, self.epoch)
        self.decisions = [*self.decisions, decision][-DECISIONS_KEPT:]
        return decision
