"""Two snapshots of one loop compared: what was learned between, what changed in the model, and what that comes to.

What it comes to is asked of a probe: the newest examples of the training log, put to both models alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.categories import CategoriesState
from tailrace.domain.errors import SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.models.comparing import Effect, ModelDifference, difference_of, effect_of
from tailrace.domain.models.fused import as_river
from tailrace.domain.positions import show
from tailrace.domain.records import Features
from tailrace.domain.scoring import score
from tailrace.domain.snapshots import Kind, Manifest
from tailrace.inspection.reading import Reading
from tailrace.inspection.snapshots import Shelf
from tailrace.streams.log import Range
from tailrace.wire.avro_codec import decode_training, is_training_block

PROBE_ROWS: Final = 1_000
PROBE_RECORDS: Final = 2_000
"""Of the log, from its end, that are looked through for the rows of the probe."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a snapshot says of its model.

    Attributes:
        categories: What the model knows of open categories.
        drifts: Signals in the state; None: a publication does not hold them.
        last_drift: Position of the last one; None: none.
    """

    model: Any
    categories: CategoriesState
    learned: int
    skipped: int
    drifts: int | None = None
    last_drift: int | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Two snapshots beside each other.

    Attributes:
        effect: None where the log holds no example of this contract.
        failed: Rows of the probe at which one of the models raised.
    """

    before: Manifest
    after: Manifest
    opened: tuple[Opened, Opened]
    difference: ModelDifference
    effect: Effect | None
    failed: int

    def sentences(self) -> Iterator[str]:
        """Yield it for people, what matters most first."""
        one, other = self.opened
        yield (
            f"{self.before.kind} {self.before.number} at {show(self.before.position)} and "
            f"{self.after.kind} {self.after.number} at {show(self.after.position)}"
        )
        yield f"learned: {one.learned:,} examples and {other.learned:,}, {other.learned - one.learned:+,}"
        if one.skipped != other.skipped:
            yield f"skipped, because the model raised: {one.skipped:,} and {other.skipped:,}"
        yield from self._effect_in_words()
        if one.drifts is not None and other.drifts is not None:
            last = "" if other.last_drift is None else f", the last at {show(other.last_drift)}"
            yield f"drift was seen {one.drifts} times and {other.drifts} times{last}"
        yield from self.difference.sentences()

    def _effect_in_words(self) -> Iterator[str]:
        effect = self.effect
        if effect is None:
            yield "the log holds no example of this contract to ask both models about"
            return
        share = effect.differ / effect.rows
        told = (
            f"asked about the newest {effect.rows:,} examples, they differ in {effect.differ:,} answers ({share:.1%})"
        )
        if effect.mean_change is not None:
            told += f"; the mean absolute change is {effect.mean_change:.4g}"
        yield told
        if self.failed:
            yield f"a model raised at {self.failed:,} of them"


def opened_of(fold: Fold, kind: Kind, bodies: Mapping[str, bytes]) -> Opened | None:
    """Open the bodies of a snapshot: the one place here that knows which part is what.

    Returns:
        What it says of the branch that serves; None where this process cannot fold that one, or it is not in it.

    Raises:
        SnapshotRefused: A branch is of another lineage than its part says.
        CodecError: They are not what they should be.
    """
    if kind is Kind.PUBLICATION:
        branch, drifts, last = fold.restore_champion(bodies), None, None
    else:
        state = fold.restore(bodies)
        branch, drifts = state.champion, state.drift.signals
        last = state.drift.last if drifts else None
    return (
        None
        if branch is None
        else Opened(branch.model, branch.categories, branch.learned, branch.skipped, drifts, last)
    )


async def compared(reading: Reading, shelf: Shelf, fold: Fold, training: str, pair: tuple[str, str]) -> Compared:
    """Compare two snapshots of the configured model.

    Args:
        pair: As `Shelf.find` takes them.

    Raises:
        SnapshotRefused: One of them is not there, or one step of its load order refused.
        StoreUnavailable: The store does not give it.
        CodecError: Its bodies, or the log, are not what they should be.
    """
    before, after = (shelf.find(reference, fold.lineage) for reference in pair)
    probe = await _probe(reading, fold, training)
    bodies = [(await shelf.read(entry)).bodies for entry in (before, after)]

    def compare() -> Compared:
        opened = [_opened(fold, entry.manifest, held) for entry, held in zip((before, after), bodies, strict=True)]
        answers = [score(each.model, probe, fold.target, each.categories) for each in opened]
        served = [(each.served.y_pred, each.served.proba) for each in answers]
        return Compared(
            before.manifest,
            after.manifest,
            (opened[0], opened[1]),
            difference_of(as_river(opened[0].model), as_river(opened[1].model)),
            effect_of(served[0], served[1]) if probe else None,
            max(len(each.failed) for each in answers),
        )

    return await asyncio.to_thread(compare)


def _opened(fold: Fold, manifest: Manifest, bodies: Mapping[str, bytes]) -> Opened:
    opened = opened_of(fold, manifest.kind, bodies)
    if opened is None:
        raise SnapshotRefused(
            "lineage", f"{manifest.kind} {manifest.number} holds no serving branch that this process can fold; use the "
            "libraries that it names: `tailrace snapshots show`"
        )  # fmt: skip
    return opened


async def _probe(reading: Reading, fold: Fold, training: str) -> list[Features]:
    ((partition, held),) = (await reading.ranges(training)).items()
    rows: list[Features] = []
    newest = Range(max(held.start, held.end - PROBE_RECORDS), held.end)
    async for record in reading.records(partition, newest):
        if record.value is None or not is_training_block(record.value):
            continue
        block = decode_training(record.value)
        assert isinstance(block, TrainingBlock), "it begins like one"
        if block.contract_id == fold.contract.id and len(block.examples):
            rows += fold.contract.rows(block.examples.x)
            del rows[:-PROBE_ROWS]
    return rows
