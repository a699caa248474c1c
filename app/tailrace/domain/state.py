"""What the log of a loop comes to, and its plain form: what a snapshot holds besides the models.

Says what there is in a state; how it comes about is the fold's business (`learning`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tailrace.domain.branches import Branch, BranchState
from tailrace.domain.drift import LossDrift, new_adwin
from tailrace.domain.errors import CodecError
from tailrace.domain.evaluation.prequential import Quality
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.pointers import Pointers
from tailrace.domain.positions import Position

LOOP: Final = "loop"
"""Name of the part that holds everything of a state but the branches."""

BRANCHES: Final = "branches"
"""Name of the part that says which branches the other parts are of, and which of them serves; canonical JSON."""


@dataclass(slots=True)
class FoldCounts:
    """What the fold did with the records of the log.

    Attributes:
        blocks, examples, dropped: In accepted blocks.
        joined, implicit, erased: The examples by kind.
        corrected, withdrawn: Corrections in accepted blocks; only a branch whose filter says so learns by them.
        foreign: Examples recorded under another feature contract; not judged.
        fenced_blocks, fenced_rows: Blocks that do not count and the rows of every kind in them.
        claims, fenced_claims: Claims that count, and that do not.
        notices, fenced_notices: Records of the learner (skips, admissions, commands) that count, and that do not.
    """

    blocks: int = 0
    examples: int = 0
    dropped: int = 0
    joined: int = 0
    implicit: int = 0
    erased: int = 0
    corrected: int = 0
    withdrawn: int = 0
    foreign: int = 0
    fenced_blocks: int = 0
    fenced_rows: int = 0
    claims: int = 0
    fenced_claims: int = 0
    notices: int = 0
    fenced_notices: int = 0


@dataclass(slots=True)
class LoopState:
    """Everything that the log before `position` comes to.

    Attributes:
        branches: Lineage → a branch that is held here.
        pointers: Which branches are admitted, and which of them serves.
        outcomes: Outcome of the join → how often, summed over accepted blocks.
        position: Exclusive: everything before it is in the state.
        last_offset: Of the last record that was opened; -1: none.
        last_digest: Its digest, to be compared when the state is restored.
        skipped_positions: The last few examples that the log says some branch cannot learn.
        corrections_end: Exclusive: the last correction lies before it; 0: there is none.
        beside: Lineages that are folded on although the log retires them, as it may before it admits them again; no
            part of the state.
    """

    quality: Quality
    branches: dict[str, BranchState] = field(default_factory=dict)
    pointers: Pointers = field(default_factory=Pointers)
    drift: LossDrift = field(default_factory=LossDrift)
    ownership: OwnershipState = field(default_factory=OwnershipState)
    counts: FoldCounts = field(default_factory=FoldCounts)
    outcomes: dict[str, int] = field(default_factory=dict)
    position: Position = 0
    last_offset: int = -1
    last_digest: str = ""
    skipped_positions: list[Position] = field(default_factory=list)
    corrections_end: Position = 0
    beside: frozenset[str] = frozenset()

    @property
    def champion(self) -> BranchState | None:
        """The branch that serves; None while there is none, or where it is not held here."""
        return self.branches.get(self.pointers.champion)


def skeletons() -> tuple[object, ...]:
    """Return one of each object whose classes the loop's own part may hold."""
    return (new_adwin(),)


def read_directory(parts: Mapping[str, bytes]) -> tuple[str, dict[str, Branch]]:
    """Return what the part BRANCHES says: the lineage of the champion, and the definitions by lineage.

    Raises:
        CodecError: It is missing, or not what this version of Tailrace writes.
    """
    try:
        plain = json.loads(parts[BRANCHES])
        champion, definitions = plain["champion"], plain["definitions"]
        found = {str(lineage): Branch.read(text) for lineage, text in definitions.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise unusable(BRANCHES, repr(error)) from error
    if any(branch.lineage != lineage for lineage, branch in found.items()) or not isinstance(champion, str):
        raise unusable(BRANCHES, "a definition")
    return champion, found


def dump_loop(state: LoopState) -> dict[str, Any]:
    """Return the plain form of everything but the branches, for the codec."""
    owned = state.ownership
    return {
        "log_id": owned.log_id,
        "owners": dict(sorted(owned.owners.items())),
        "numbers": dict(sorted(owned.numbers.items())),
        "counts": asdict(state.counts),
        "outcomes": dict(sorted(state.outcomes.items())),
        "position": state.position,
        "last_offset": state.last_offset,
        "last_digest": state.last_digest,
        "skipped_positions": list(state.skipped_positions),
        "corrections_end": state.corrections_end,
        "pointers": state.pointers.dump(),
        "quality": state.quality.dump(),
        "drift": state.drift.dump(),
    }


def load_loop(plain: Mapping[str, Any]) -> LoopState:
    """Read what `dump_loop` made; no branch is held yet.

    Raises:
        KeyError, TypeError, ValueError: It is something else.
    """
    return LoopState(
        Quality.load(plain["quality"]),
        {},
        Pointers.load(plain["pointers"]),
        LossDrift.load(plain["drift"]),
        OwnershipState(plain["log_id"], plain["owners"], plain["numbers"]),
        FoldCounts(**plain["counts"]),
        plain["outcomes"],
        plain["position"],
        plain["last_offset"],
        plain["last_digest"],
        plain["skipped_positions"],
        plain["corrections_end"],
    )


def unusable(part: str, problem: str) -> CodecError:
    """Return the error of a part of a snapshot that is not what it should be."""
    return CodecError(
        f"the {part} lacks or garbles {problem}; it must hold what this version of Tailrace writes. "
        "Use another snapshot, or fold the log from its start."
    )
