"""The story of one event, from the topics alone: what was served, from which state, its label, where it was learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tailrace.domain.contract import TargetContract
from tailrace.domain.positions import Position, parse
from tailrace.domain.records import Features
from tailrace.domain.scoring import score
from tailrace.domain.snapshots import Manifest
from tailrace.inspection.reading import Reading
from tailrace.inspection.rows import RowReader
from tailrace.settings import LoopSettings
from tailrace.wire.partitioner import partitions_of
from tailrace.wire.topics import LoopTopics

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """What the topics say of one event id.

    Attributes:
        scored: Rows of `scored`, in order: what was served, from which features and state. More than one: it was
            redelivered, or the id was used again.
        logged: Rows of the training log that count, in order: joined, implicit, dropped, corrected, withdrawn.
        snapshot: The oldest snapshot that the index still holds and that contains the example.
    """

    id: str
    scored: Sequence[Row]
    logged: Sequence[Row]
    snapshot: Manifest | None

    @property
    def example(self) -> Row | None:
        """The last row of the log from which a model learned; None where there is none."""
        return next((row for row in reversed(self.logged) if row["kind"] in {"joined", "implicit"}), None)


async def story_of(
    reading: Reading, topics: LoopTopics, loop: LoopSettings, event_id: str, manifests: Sequence[Manifest]
) -> Story:
    """Read what became of one event.

    Args:
        manifests: The snapshots of the index.

    Raises:
        LogError: A topic does not exist.
        CodecError: A record is not Tailrace's.
    """
    count = len(await reading.ranges(topics.scored))
    (home,) = partitions_of([event_id.encode("utf-8", "surrogatepass")], count)
    rows = RowReader(reading, topics.loop, loop, shows_values=True, only_id=event_id)
    scored = [row async for row in rows.rows("scored", home, None, None)]
    rows = RowReader(reading, topics.loop, loop, shows_values=True, only_id=event_id)
    logged = [row async for row in rows.rows("training", None, None, None) if row["counts"] is not False]
    story = Story(event_id, scored, logged, None)
    example = story.example
    if example is None:
        return story
    learned: Position = parse(example["position"])
    containing = [manifest for manifest in manifests if manifest.position > learned]
    return Story(event_id, scored, logged, min(containing, key=lambda each: each.position, default=None))


def answered(model: Any, x: Features, target: TargetContract) -> dict[str, Any]:
    """Return what a model answers to one row: `y_pred`, and `proba` where the task has one."""
    served = score(model, [x], target).served
    shown: dict[str, Any] = {"y_pred": target.show(float(served.y_pred[0]))}
    proba = served.proba[0].tolist()
    if len(proba) == 1:
        return shown | {"proba": proba[0]}
    if proba:
        return shown | {"proba": dict(zip(map(str, target.classes), proba, strict=True))}
    return shown
