"""The branches that a process goes on without, although they are admitted and its libraries can fold them.

One that cannot be brought up to the others may not cost them their learning. It stays held back until whoever folds
begins anew, and stays admitted: what it lacks may come back.
"""

from __future__ import annotations

from tailrace.domain.branches import Branch
from tailrace.domain.learning import Fold
from tailrace.domain.state import LoopState


class HeldBack:
    """Branches that are held back, each with its reason."""

    def __init__(self) -> None:
        self._whys: dict[str, str] = {}  # by lineage

    def add(self, lineage: str, why: str) -> None:
        """Go on without a branch; `why` is a sentence for people."""
        self._whys[lineage] = why

    def discard(self, lineage: str) -> None:
        """Say that a branch is held after all."""
        self._whys.pop(lineage, None)

    def why(self, lineage: str) -> str:
        """Return why a branch is held back; "" where it is not."""
        return self._whys.get(lineage, "")

    def missing(self, fold: Fold, state: LoopState) -> list[Branch]:
        """Return the admitted branches that are to be held and are not."""
        return [branch for branch in fold.missing(state) if branch.lineage not in self._whys]

    def leave_out(self, state: LoopState) -> None:
        """Let a restored state hold no branch that is held back."""
        state.branches = {lineage: held for lineage, held in state.branches.items() if lineage not in self._whys}

    def remark(self, state: LoopState | None) -> str:
        """Say which admitted branches are not folded; "" when all are."""
        admitted = {} if state is None else state.pointers.admitted
        return "; ".join(in_words(lineage, why) for lineage, why in self._whys.items() if lineage in admitted)


def in_words(lineage: str, why: str) -> str:
    """Return that a branch is held back, and what to do, as a sentence."""
    name = lineage[:12]
    return (
        f"branch {name} is admitted and not folded here: {why}; restart this process once that is mended, or "
        f"`tailrace branches retire {name}`"
    )
