"""What everyone may read of a loop: its topics, what its groups have committed, its newest snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from tests.simulation.oracle import accepted

from tailrace.domain.blocks import TrainingBlock, Vector
from tailrace.domain.errors import CodecError, SnapshotRefused
from tailrace.domain.positions import offset_of
from tailrace.domain.records import Mark
from tailrace.domain.snapshots import Kind, Manifest, manifest_of
from tailrace.main import LoopDomain
from tailrace.streams.log import Reader, Record, TopicPartition
from tailrace.wire.avro_codec import (
    decode_manifest,
    decode_model_event,
    decode_relabelled,
    decode_scored,
    decode_status,
    decode_training,
)


@dataclass
class Column:
    """One partition as it has been read so far."""

    next_offset: int = 0
    records: list[Record] = field(default_factory=list)
    decoded: list[Any] = field(default_factory=list)


@dataclass
class Topics:
    """A reader's copy of the topics of a loop, as of the last `refresh`; topics only grow, so only what is new is read.

    Attributes:
        committed: What the groups had committed then, by role.
        planted: Offsets in the index of snapshots at which a test has put a forgery; nobody may believe those.
    """

    reader: Reader
    domain: LoopDomain
    partitions: int
    committed: dict[str, Mapping[TopicPartition, int]] = field(default_factory=dict)
    planted: set[int] = field(default_factory=set)
    _columns: dict[str, list[Column]] = field(default_factory=dict)

    async def refresh(self) -> None:
        """Read what is new in every topic, and what the groups have committed."""
        names = self.domain.topics
        await self.refresh_committed()
        # First, so that everything that its blocks say was acknowledged before them is read after it.
        await self.read(names.training)
        for topic in (names.events, names.labels, names.predictions, names.dead_events, names.dead_labels):
            await self.read(topic)
        for topic in (names.scored, names.relabelled, names.snapshots):
            await self.read(topic)

    async def refresh_rest(self) -> None:
        """Read what is new in the topics from which nothing is decided."""
        names = self.domain.topics
        for topic in (names.status, names.model_events, names.commands):
            await self.read(topic)

    async def refresh_committed(self) -> None:
        """Read what the groups have committed."""
        for role in ("score", "join", "learn"):
            offsets = await self.reader.group_offsets(f"tailrace.{self.domain.name}.{role}")
            self.committed[role] = {partition: commit.offset for partition, commit in offsets.items()}

    async def read(self, topic: str) -> list[Column]:
        """Read what is new in one topic; return its partitions, decoded as far as a record of it can be."""
        decode = self._decoder(topic)
        if topic not in self._columns:
            self._columns[topic] = [Column() for _ in range(await self.reader.partitions(topic))]
        for partition, column in enumerate(self._columns[topic]):
            at = TopicPartition(topic, partition)
            end = (await self.reader.range_of(at)).end
            if column.next_offset < end:
                async for batch in self.reader.read(at, column.next_offset, end):
                    for record in batch:
                        column.records.append(record)
                        column.decoded.append(decode(record.value or b"") if decode is not None else None)
                        column.next_offset = record.offset + 1  # reading may fail here, and is begun again
                column.next_offset = end
        return self._columns[topic]

    def _decoder(self, topic: str) -> Callable[[bytes], Any] | None:
        names = self.domain.topics
        decoders: dict[str, Callable[[bytes], Any]] = {
            names.training: decode_training,
            names.scored: decode_scored,
            names.relabelled: decode_relabelled,
            names.predictions: orjson.loads,
            names.snapshots: _manifest,
            names.model_events: decode_model_event,
            names.status: lambda value: decode_status(value) if value else None,
        }
        return decoders.get(topic)

    def all_of(self, topic: str) -> list[Column]:
        """Return the partitions of a topic."""
        return self._columns[topic]

    @property
    def scored(self) -> list[Column]:
        """`scored`, decoded."""
        return self.all_of(self.domain.topics.scored)

    @property
    def relabelled(self) -> list[Column]:
        """`relabelled`, decoded."""
        return self.all_of(self.domain.topics.relabelled)

    @property
    def training(self) -> Column:
        """The training log, decoded."""
        return self.all_of(self.domain.topics.training)[0]

    def blocks(self) -> list[TrainingBlock]:
        """Return the blocks that count."""
        return list(accepted(self.training.decoded))

    def vectors(self) -> dict[int, Vector]:
        """Return the vector of the last block that counts, by partition."""
        return {block.partition: block.vector for block in self.blocks()}

    def newest_snapshot(self) -> Manifest | None:
        """Return the manifest of the newest snapshot in the index."""
        snapshots = [each for _, each in self.manifests() if each.kind is Kind.SNAPSHOT]
        return max(snapshots, key=lambda each: (each.position, each.number), default=None)

    def manifests(self) -> list[tuple[Record, Manifest]]:
        """Return every manifest that the index held at some time, with its record; what a test has planted is left out."""
        (column,) = self.all_of(self.domain.topics.snapshots)
        return [
            (record, manifest)
            for record, manifest in zip(column.records, column.decoded, strict=True)
            if manifest is not None and record.offset not in self.planted
        ]


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
    await topics.refresh()
    names, done = topics.domain.topics, topics.committed["score"]
    sources: set[tuple[int, int]] = set()
    for column in topics.scored:
        for block in column.decoded:
            sources |= {(block.source_partition, offset) for offset in block.source_offsets.tolist()}
    for column in topics.all_of(names.predictions):
        sources |= {prediction_source(record) for record in column.records}
    scored = sum(offset >= done.get(TopicPartition(names.events, partition), 0) for partition, offset in sources)
    done, joined = topics.committed["join"], 0
    for partition, vector in topics.vectors().items():
        reached = {
            names.scored: offset_of(vector.scored_next),
            names.labels: vector.labels_next,
            names.relabelled: vector.relabelled_next,
        }
        joined += any(done.get(TopicPartition(topic, partition), 0) < at for topic, at in reached.items())
    return Gap(scored, joined)


def prediction_source(record: Record) -> tuple[int, int]:
    """Return partition and offset of the event that a prediction answers."""
    _, partition, offset = orjson.loads(record.value or b"")["prediction_id"].rsplit("/", 2)
    return int(partition), int(offset)


def source_of(prediction_id: object, events: str) -> tuple[int, int] | None:
    """Return partition and offset of the event that a prediction id names; None: it is not the id of any."""
    topic, _, place = str(prediction_id).partition("/")
    partition, _, offset = place.partition("/")
    if topic != events or not partition.isdecimal() or not offset.isdecimal():
        return None
    found = int(partition), int(offset)
    return found if prediction_id == f"{events}/{found[0]}/{found[1]}" else None


def _manifest(value: bytes) -> Manifest | None:
    """Read a manifest without asking who signed it; None where there is none."""
    if not value:
        return None
    try:
        sealed = decode_manifest(value)
        return replace(manifest_of(sealed.content), inline=sealed.inline)
    except (CodecError, SnapshotRefused):
        return None


async def why_not_quiet(topics: Topics, ends: Mapping[TopicPartition, int]) -> str:
    """Return what is still to be done, by the topics alone; "" when everything that was sent has come through.

    Args:
        ends: Of the events and labels partitions, as their producer knows them.
    """
    names = topics.domain.topics
    await topics.refresh_committed()
    for at, end in ends.items():
        done = topics.committed["score"].get(at, 0)
        if at.topic == names.events and done < end:
            return f"events {at.partition} is scored to {done} of {end}"
    await topics.refresh()
    vectors, relabelled = topics.vectors(), topics.relabelled
    for partition in range(topics.partitions):
        ends_at = [topics.scored[partition], topics.all_of(names.labels)[partition], relabelled[partition]]
        want = [column.next_offset for column in ends_at]
        vector = vectors.get(partition)
        if vector is None:
            if any(want):
                return f"partition {partition} has no block"
            continue
        have = [offset_of(vector.scored_next), vector.labels_next, vector.relabelled_next]
        if have != want:
            return f"partition {partition} is joined to {have} of {want}"
        for other in range(topics.partitions):
            if other != partition and not _has_marked(relabelled[other], partition, vector):
                return f"partition {partition} has not told {other} that its labels came to {vector.labels_next}"
    newest, log_end = topics.newest_snapshot(), topics.training.next_offset
    reached = offset_of(newest.position) if newest is not None else 0
    return "" if reached == log_end else f"the newest snapshot is at {reached} of {log_end}"


def _has_marked(column: Column, partition: int, vector: Vector) -> bool:
    if vector.labels_next == 0:
        return True
    return any(
        isinstance(each, Mark)
        and each.partition == partition
        and each.next_offset >= vector.labels_next
        and each.watermark_ms >= vector.labels_watermark_ms
        for each in column.decoded
    )
