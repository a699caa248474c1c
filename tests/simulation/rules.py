"""The planted bugs: what a simulated loop does wrong when it is told to. The product has none of these switches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from river import compose, imblearn, linear_model, preprocessing, tree
from tests.simulation.bugs import PLANTS

from tailrace.domain.blocks import Corrections, Dropped, Lowest, Vector, XColumns
from tailrace.domain.contract import FeatureContract
from tailrace.domain.join.batch import Batch
from tailrace.domain.records import Features, Value
from tailrace.domain.times import NEVER


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
