"""The planted bugs: what a simulated loop does wrong when it is told to. The product has none of these switches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from river import compose, imblearn, linear_model, preprocessing, tree

from tailrace.domain.blocks import Corrections, Dropped, Lowest, Vector, XColumns
from tailrace.domain.contract import FeatureContract
from tailrace.domain.join.batch import Batch
from tailrace.domain.records import Features, Value
from tailrace.domain.times import NEVER

PLANTS: Final[dict[str, str]] = {
    "commit_first": "a scorer commits its positions before what it produced for them is acknowledged",
    "no_claim_check": "blocks are accepted whoever owns the partition",
    "block_sent_twice": "a block's number is not checked, so a block that is sent twice counts twice",
    "dead_letter_after_block": "dead letters and forwards are sent after the block whose vector passes them",
    "expiry_without_marks": "a wait ends without regard to the labels watermarks of other partitions",
    "dropped_not_a_row": "a dropped event leaves no row in the log",
    "lost_correction": "a corrected or withdrawn target leaves no row in the log",
    "forgotten_correction": "recovery takes no notice of corrections",
    "older_revision": "a label of an older revision takes effect",
    "implicit_not_now": "a late first word on an event that still waits for its implicit target is late",
    "low_without_watermarks": "the vector's lowest positions come without the watermarks just before them",
    "label_by_wall_clock": "a label is judged by the clock of the process that reads it",
    "key_order": "features come to the model in the order of one process's hashes",
    "unseeded_generator": "the model holds a generator that nobody seeded",
    "claim_without_commit": "a claim is appended without a successful commit just before it",
    "labels_after_refused_idle": "labels are read on after an idle move whose commit was refused",
    "unverified_snapshots": "no signature of a snapshot is verified",
    "unverified_commands": "no signature of a command is verified",
    "served_below": "a server takes whatever state the index names last",
    "early_index_record": "a snapshot is in the index before its file is in the store",
    "half_applied_learn": "an example at which the model raised stays half-learned",
    "forgotten_skip": "recovery takes no notice of examples that the log says to skip",
    "untold_skip": "an admission does not tell at which examples the model raised last",
    "retired_for_good": "a branch that was retired cannot be warmed again",
    "corrections_to_come": "a filter may count corrections that are not in the log yet",
    "stale_epoch": "a command takes effect whatever epoch it was made for",
    "dropped_example_learned": "a repaired branch learns what its filter leaves out",
    "forgotten_ids": "after a restart nobody knows the ids that a filter leaves out",
    "correction_not_applied": "a branch that counts corrections learns the targets of before",
    "unsorted_set": "a set in a state is written in the order of its hash table",
    "unsorted_branches": "branches are written in the order in which a process came to hold them",
    "memory_management": "a tree watches how much memory its objects take",
}


@dataclass(frozen=True, slots=True)
class Rules:
    """How the simulated agents behave: rightly, or with one planted bug."""

    plant: str | None = None

    def is_planted(self, plant: str) -> bool:
        """Whether this is the bug that was planted."""
        assert plant in PLANTS
        return self.plant == plant

    def written(self, batch: Batch) -> Batch:
        """Return the batch as the joiner writes it."""
        if self.is_planted("dropped_not_a_row"):
            none = batch.dropped
            return replace(
                batch,
                dropped=Dropped([], none.times_ms[:0], none.source_partitions[:0], none.source_offsets[:0]),
            )
        if self.is_planted("lost_correction"):
            return replace(batch, corrections=Corrections.none())
        if self.is_planted("low_without_watermarks"):
            return replace(batch, vector=_without_watermarks(batch.vector))
        return batch

    def contract(self, contract: FeatureContract, rng: Random) -> Any:
        """Return the contract as one process reads it."""
        return ShuffledContract(contract, rng) if self.is_planted("key_order") else contract

    def build_model(self) -> Any:
        """Return a model that has learned nothing."""
        model: Any = linear_model.LogisticRegression()
        if self.is_planted("unseeded_generator"):
            model = imblearn.RandomUnderSampler(model, desired_dist={False: 0.5, True: 0.5})
        elif self.is_planted("unsorted_set"):
            model = Remembering()
        elif self.is_planted("memory_management"):
            return tree.HoeffdingTreeClassifier(
                grace_period=5, delta=0.9, tau=0.9, max_size=0.02, memory_estimate_period=5, leaf_prediction="mc"
            )
        return compose.Pipeline(preprocessing.StandardScaler(), model)


class Remembering(linear_model.LogisticRegression):
    """A model whose state holds a set."""

    def __init__(self) -> None:
        super().__init__()
        self.met: set[str] = set()

    def learn_one(self, x: Any, y: Any) -> None:  # type: ignore[override]
        """Remember roughly what was met, and forget some of it."""
        found = str(round(sum(x.values()), 1))
        self.met ^= {found}
        super().learn_one(x, y)


class ShuffledContract:
    """A contract whose rows have their features in an order that differs between processes."""

    def __init__(self, contract: FeatureContract, rng: Random) -> None:
        self.id = contract.id
        self._contract = contract
        self.names = list(contract.names)
        self.open_categories = contract.open_categories
        rng.shuffle(self.names)

    def rows(self, x: XColumns) -> list[Features]:
        """Return the rows, out of order."""
        return [{name: row[name] for name in self.names if name in row} for row in self._contract.rows(x)]

    def values(self, x: XColumns) -> list[list[Value]]:
        """Return the values of complete rows, in the order of `names`."""
        return [list(row.values()) for row in self.rows(x)]


def _without_watermarks(vector: Vector) -> Vector:
    scored_low, labels_low = vector.scored_low.position, vector.labels_low.position
    return replace(vector, scored_low=Lowest(scored_low, NEVER), labels_low=Lowest(labels_low, NEVER))
