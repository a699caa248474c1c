"""What has to be done to the topics of a loop: create, change, or refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailrace.streams.log import Admin, TopicState
from tailrace.wire.topics import TopicSpec


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """The difference between the topics that a loop needs and those that exist."""

    creations: Sequence[TopicState] = ()
    refusals: Sequence[str] = ()


def plan(
    specs: Sequence[TopicSpec], found: Mapping[str, TopicState], *, brokers: int, replication: int | None = None
) -> TopicPlan:
    """Compare."""
    counts = {name: state.partitions for name, state in found.items()}
    copies = replication or min(3, brokers)
    creations = []
    for spec in specs:
        if spec.name not in found:
            count = spec.partitions.count or counts.get(spec.partitions.of or "", 1)
            counts[spec.name] = count
            settings = {each.name: each.value for each in spec.settings if each.name != "min.insync.replicas" or copies > 2}
            creations.append(TopicState(spec.name, count, copies, settings))
    return TopicPlan(creations)


async def apply(admin: Admin, found: TopicPlan) -> None:
    """Carry it out."""
    await admin.create(found.creations)
