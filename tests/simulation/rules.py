"""The planted bugs: what a simulated loop does wrong when it is told to. The product has none of these switches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from river import compose, imblearn, linear_model, preprocessing

from tailrace.domain.blocks import Corrections, Dropped, Lowest, Vector, XColumns
from tailrace.domain.contract import FeatureContract
from tailrace.domain.join import LabelJoin, recovery
from tailrace.domain.join.batch import Batch
from tailrace.domain.join.memory import WAITING, Identity
from tailrace.domain.join.state import JoinState
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Code, Features, Label, Value
from tailrace.domain.times import NEVER, EventTimeMs

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

    def family(self) -> tuple[Any, ...]:
        """Return the classes that models hold while they learn, for the codec."""
        return ()

    def build_model(self) -> Any:
        """Return a model that has learned nothing."""
        model: Any = linear_model.LogisticRegression()
        if self.is_planted("unseeded_generator"):
            model = imblearn.RandomUnderSampler(model, desired_dist={False: 0.5, True: 0.5})
        return compose.Pipeline(preprocessing.StandardScaler(), model)


class ShuffledContract:
    """A contract whose rows have their features in an order that differs between processes."""

    def __init__(self, contract: FeatureContract, rng: Random) -> None:
        self.id = contract.id
        self._contract = contract
        self.names = list(contract.names)
        rng.shuffle(self.names)

    def rows(self, x: XColumns) -> list[Features]:
        """Return the rows, out of order."""
        return [{name: row[name] for name in self.names if name in row} for row in self._contract.rows(x)]

    def values(self, x: XColumns) -> list[list[Value]]:
        """Return the values of complete rows, in the order of `names`."""
        return [list(row.values()) for row in self.rows(x)]


@contextmanager
def planted(plant: str | None) -> Iterator[Rules]:
    """Put a bug in place of the domain's rule for as long as the context lasts."""
    swapped: dict[str, tuple[Any, str, Any]] = {
        "no_claim_check": (OwnershipState, "accept", _accept_any_owner),
        "block_sent_twice": (OwnershipState, "accept", _accept_any_number),
        "expiry_without_marks": (JoinState, "heard", lambda state: state.labels_watermark),
        "forgotten_correction": (recovery, "_read_corrections", lambda _state, _corrections: None),
        "older_revision": (LabelJoin, "_judge_again", _judge_whatever_its_revision),
        "implicit_not_now": (LabelJoin, "_judge", _judge_without_implicit_now),
    }
    if plant not in swapped:
        yield Rules(plant)
        return
    owner, name, wrong = swapped[plant]
    right = getattr(owner, name)
    setattr(owner, name, wrong)
    try:
        yield Rules(plant)
    finally:
        setattr(owner, name, right)


def _accept_any_owner(state: OwnershipState, partition: int, owner: str, number: int) -> bool:
    return partition in state.owners


def _accept_any_number(state: OwnershipState, partition: int, owner: str, number: int) -> bool:
    return state.owners.get(partition) == owner


_JUDGE = LabelJoin._judge
_JUDGE_AGAIN = LabelJoin._judge_again


def _judge_whatever_its_revision(join: LabelJoin, identity: Identity, label: Label, watermark_ms: EventTimeMs) -> None:
    newer = label._replace(revision=max(label.revision, identity.revision + 1))
    _JUDGE_AGAIN(join, identity, newer if label.revision < identity.revision else label, watermark_ms)


def _judge_without_implicit_now(join: LabelJoin, identity: Identity, label: Label, watermark_ms: EventTimeMs) -> None:
    reached = max(label.time_ms, watermark_ms)
    if label.y is not None and identity.state == WAITING and reached > identity.time_ms + join.spec.times.horizon_ms:
        join._bury(label, Code.LATE)
    else:
        _JUDGE(join, identity, label, watermark_ms)


def _without_watermarks(vector: Vector) -> Vector:
    scored_low, labels_low = vector.scored_low.position, vector.labels_low.position
    return replace(vector, scored_low=Lowest(scored_low, NEVER), labels_low=Lowest(labels_low, NEVER))
