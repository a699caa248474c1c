"""Who owns what, by the log and the heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.faults.ground import Ground
from tests.faults.topics import Topics

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import LEARNER, Claim, Owner
from tailrace.domain.status import MemberStatus
from tailrace.wire.avro_codec import decode_status


class Counted(NamedTuple):
    """A record of the training log that has an owner, and whether it counts.

    Attributes:
        part: A partition, or LEARNER.
    """

    part: int
    owner: Owner
    record: object
    time_ms: int
    counts: bool


def judged(topics: Topics) -> tuple[list[Counted], OwnershipState]:
    """Return the records of the log as it has been read, each judged by those before it, and who owns what now."""
    owned, found = OwnershipState(), []
    for record, content in zip(topics.training.records, topics.training.decoded, strict=True):
        if isinstance(content, Claim):
            part, counts = content.partition, owned.claim(content)
        else:
            part = content.partition if isinstance(content, TrainingBlock) else LEARNER
            counts = owned.accept(part, content.owner, content.number)
        found.append(Counted(part, content.owner, content, record.timestamp, counts))
    return found, owned


async def heartbeats(at: Ground) -> list[MemberStatus]:
    """Return every heartbeat, in their order."""
    (column,) = await at.topics.read(at.scenario.domain.topics.status)
    return [decode_status(record.value) for record in column.records if record.value]


async def owners(at: Ground) -> dict[int, str]:
    """Return the name of the worker that owns each part of the log; what a worker that has ended owns is left out."""
    await at.topics.read(at.scenario.domain.topics.training)
    _, owned = judged(at.topics)
    pids = {beat.member: beat.pid for beat in await heartbeats(at)}
    names = {worker.pid: name for name, worker in at.fleet.running.items()}
    found = {part: names.get(pids.get(member_of(owner)) or 0) for part, owner in owned.owners.items()}
    return {part: name for part, name in found.items() if name is not None}


def member_of(owner: Owner) -> str:
    """Return the member whose name an owner's begins with."""
    return owner.rpartition("-")[0]


def fenced(topics: Topics) -> Iterator[Counted]:
    """Return what does not count."""
    return (each for each in judged(topics)[0] if not each.counts)
