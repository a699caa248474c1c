"""Branches: one model's line of states.

A loop has one branch, its champion. The lineage names everything that must be equal for two folds to be equal; a
body that was folded under another lineage is never continued.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tailrace.domain.errors import SnapshotRefused

CHAMPION: Final = "champion"


@dataclass(slots=True)
class BranchState:
    """A model and how much of the log it holds.

    Attributes:
        model: A River model; changed in place by the fold and by nothing else.
        lineage: Names everything that the fold of this model depends on besides the log.
        learned: Examples that the model learned.
        skipped: Examples that were left out because the model raised at them.
    """

    model: Any
    lineage: str
    learned: int = 0
    skipped: int = 0

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec; the model in it is the live one."""
        return {"lineage": self.lineage, "learned": self.learned, "skipped": self.skipped, "model": self.model}

    @classmethod
    def load(cls, plain: Mapping[str, Any], lineage: str) -> BranchState:
        """Make a branch from its plain form.

        Raises:
            SnapshotRefused: The body was folded under another lineage than `lineage`.
        """
        if plain["lineage"] != lineage:
            raise SnapshotRefused(
                "lineage",
                f"the body is of lineage {plain['lineage']}, this loop folds {lineage}; model, contract or library "
                "versions differ. Restore the configuration that it was folded with, or fold the log from its start.",
            )
        return cls(plain["model"], plain["lineage"], plain["learned"], plain["skipped"])
