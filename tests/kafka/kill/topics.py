"""What everyone may read of a loop: its topics, what its groups have committed, its newest snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.oracle import accepted

from tailrace.domain.blocks import ScoredBlock, TrainingBlock, Vector
from tailrace.domain.positions import offset_of
from tailrace.domain.records import Forward, Mark
from tailrace.domain.snapshots import Kind, Manifest
from tailrace.main import LoopDomain
from tailrace.streams.log import Reader, Record, TopicPartition
from tailrace.wire.avro_codec import decode_manifest, decode_relabelled, decode_scored, decode_training


@dataclass
class Column:
    """One partition as it has been read so far."""

    next_offset: int = 0
    records: list[Record] = field(default_factory=list)
    decoded: list[Any] = field(default_factory=list)


@dataclass
class Topics:
    """A reader's copy of the topics of a loop; topics only grow, so only what is new is read."""

    reader: Reader
    domain: LoopDomain
    partitions: int
    _columns: dict[TopicPartition, Column] = field(default_factory=dict)

    async def read(self, topic: str, partition: int, decode: Callable[[bytes], Any] | None = None) -> Column:
        """Return a partition up to its present end."""
        at = TopicPartition(topic, partition)
        column = self._columns.setdefault(at, Column())
        held = await self.reader.range_of(at)
        if column.next_offset < held.end:
            async for batch in self.reader.read(at, column.next_offset, held.end):
                for record in batch:
                    column.records.append(record)
                    column.decoded.append(decode(record.value or b"") if decode is not None else None)
            column.next_offset = held.end
        return column

    async def all_of(self, topic: str, decode: Callable[[bytes], Any] | None = None) -> list[Column]:
        """Return every partition of a topic."""
        return [await self.read(topic, n, decode) for n in range(await self.reader.partitions(topic))]

    async def scored(self) -> list[Column]:
        """Return `scored`, decoded."""
        return await self.all_of(self.domain.topics.scored, decode_scored)

    async def training(self) -> Column:
        """Return the training log, decoded."""
        return await self.read(self.domain.topics.training, 0, decode_training)

    async def relabelled(self) -> list[Column]:
        """Return `relabelled`, decoded."""
        return await self.all_of(self.domain.topics.relabelled, decode_relabelled)

    async def committed(self, role: str) -> Mapping[TopicPartition, int]:
        """Return the offsets that the group of a role has committed."""
        offsets = await self.reader.group_offsets(f"tailrace.{self.domain.name}.{role}")
        return {partition: commit.offset for partition, commit in offsets.items()}

    async def newest_snapshot(self) -> Manifest | None:
        """Return the manifest of the newest snapshot in the index."""
        column = await self.read(self.domain.topics.snapshots, 0)
        manifests = [decode_manifest(record.value) for record in column.records if record.value is not None]
        snapshots = [each for each in manifests if each.kind is Kind.SNAPSHOT]
        return max(snapshots, key=lambda each: (each.position, each.number), default=None)

    async def blocks(self) -> list[TrainingBlock]:
        """Return the blocks that count."""
        return list(accepted((await self.training()).decoded))

    async def vectors(self) -> dict[int, Vector]:
        """Return the vector of the last block that counts, by partition."""
        return {block.partition: block.vector for block in await self.blocks()}


@dataclass(frozen=True, slots=True)
class Gap:
    """What lay in the log and was not committed when a process was killed.

    Attributes:
        scored: Events whose predictions or scored rows are acknowledged beyond the commit.
        joined: Partitions whose last block that counts is beyond the commit.
    """

    scored: int
    joined: int


async def gap_of(topics: Topics) -> Gap:
    """Compare the committed offsets with the log."""
    names, committed = topics.domain.topics, await topics.committed("score")
    scored = 0
    for column in await topics.scored():
        for block in column.decoded:
            done = committed.get(TopicPartition(names.events, block.source_partition), 0)
            scored += int((block.source_offsets >= done).sum())
    committed = await topics.committed("join")
    joined = 0
    for partition, vector in (await topics.vectors()).items():
        reached = {
            names.scored: offset_of(vector.scored_next),
            names.labels: vector.labels_next,
            names.relabelled: vector.relabelled_next,
        }
        joined += any(committed.get(TopicPartition(topic, partition), 0) < at for topic, at in reached.items())
    predicted = 0
    committed = await topics.committed("score")
    for number, column in enumerate(await topics.all_of(names.predictions)):
        done = committed.get(TopicPartition(names.events, number), 0)
        predicted += sum(_source_offset(record) >= done for record in column.records)
    return Gap(max(scored, predicted), joined)


def _source_offset(record: Record) -> int:
    import orjson

    return int(orjson.loads(record.value or b"")["prediction_id"].rpartition("/")[2])


async def why_not_quiet(topics: Topics, ends: Mapping[TopicPartition, int]) -> str:
    """Return what is still to be done, by the topics alone; "" when everything that was sent has come through.

    Args:
        ends: Of the events and labels partitions, as their producer knows them.
    """
    names = topics.domain.topics
    committed = await topics.committed("score")
    for at, end in ends.items():
        if at.topic == names.events and committed.get(at, 0) < end:
            return f"events {at.partition} is scored to {committed.get(at, 0)} of {end}"
    vectors = await topics.vectors()
    relabelled = await topics.relabelled()
    for partition in range(topics.partitions):
        vector = vectors.get(partition)
        if vector is None:
            return f"partition {partition} has no block"
        scored = await topics.read(names.scored, partition, decode_scored)
        want = scored.next_offset, ends.get(TopicPartition(names.labels, partition), 0), relabelled[partition].next_offset
        have = offset_of(vector.scored_next), vector.labels_next, vector.relabelled_next
        if have != want:
            return f"partition {partition} is joined to {have} of {want}"
        for other in range(topics.partitions):
            if other != partition and not _has_marked(relabelled[other], partition, vector):
                return f"partition {partition} has not told {other} that its labels came to {vector.labels_next}"
    newest, log_end = await topics.newest_snapshot(), (await topics.training()).next_offset
    reached = offset_of(newest.position) if newest is not None else 0
    return "" if reached == log_end else f"the newest snapshot is at {reached} of {log_end}"


def _has_marked(column: Column, partition: int, vector: Vector) -> bool:
    if vector.labels_next == 0:
        return True
    marks: list[Mark] = [each for each in column.decoded if isinstance(each, Mark) and each.partition == partition]
    return any(
        each.next_offset >= vector.labels_next and each.watermark_ms >= vector.labels_watermark_ms for each in marks
    )


__all__ = ["Column", "Forward", "Gap", "ScoredBlock", "Topics", "gap_of", "why_not_quiet"]
