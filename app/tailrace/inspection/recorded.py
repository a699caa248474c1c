"""The digests of a loop's states that were recorded: by its snapshots, by what was announced, by its members.

Manifests are signed and the index holds 16 of them. Announcements of snapshots are kept for a month, heartbeats until
the broker compacts them; both may be written by anybody who may write the topics, so they narrow a difference down
and never prove anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from tailrace.domain.errors import CodecError
from tailrace.domain.proof import Digests
from tailrace.domain.snapshots import Manifest
from tailrace.inspection.reading import Reading
from tailrace.streams.announcements import PART_DIGEST, PROVEN
from tailrace.streams.log import Range
from tailrace.wire.avro_codec import ModelEvent, decode_model_event, decode_status
from tailrace.wire.topics import LoopTopics

log = structlog.get_logger(__name__)

MOST: Final = 8_192
"""Records that are remembered; of more, every other one is left out, again and again."""

_HEARTBEATS_READ: Final = 20_000  # from the end of the status topic: more than a broker keeps before it compacts


@dataclass(frozen=True, slots=True)
class Recorded:
    """A digest that somebody recorded.

    Attributes:
        by: In words.
        manifest: Of the snapshot that it is of; None: of an announcement or a heartbeat.
    """

    digests: Digests
    by: str
    manifest: Manifest | None = None


async def recorded(reading: Reading, topics: LoopTopics, manifests: Iterable[Manifest]) -> list[Recorded]:
    """Return what was recorded of the log and lineage of these snapshots, by position.

    Args:
        manifests: Of one lineage, as the index holds them.

    Raises:
        LogError: A topic does not exist.
    """
    signed = [_of_manifest(manifest) for manifest in manifests]
    lines = {(each.digests.lineage, each.digests.log_id) for each in signed}
    others: list[Recorded] = []
    for source in (_announced(reading, topics), _heard(reading, topics)):
        async for each in source:
            if (each.digests.lineage, each.digests.log_id) in lines:
                others.append(each)
                others = others[::2] if len(others) > MOST else others
    distinct = {(each.digests.position, each.by): each for each in others}
    return sorted([*signed, *distinct.values()], key=lambda each: each.digests.position)


async def proven_before(reading: Reading, topics: LoopTopics) -> frozenset[str]:
    """Return the digests of the manifests of the snapshots that were found equal before, as it was announced.

    Numbers would not do: every lineage counts from 1, and so does a log that was written anew. What was announced
    with numbers alone proves nothing.
    """
    found: set[str] = set()
    async for event in _events(reading, topics, "verified"):
        found.update(event.texts.get(PROVEN, "").split(","))
    return frozenset(found - {""})


def _of_manifest(manifest: Manifest) -> Recorded:
    parts = {part.name: part.digest for part in manifest.parts}
    digests = Digests(manifest.lineage, manifest.log_id, manifest.position, parts)
    return Recorded(digests, f"snapshot {manifest.number}", manifest)


async def _announced(reading: Reading, topics: LoopTopics) -> AsyncIterator[Recorded]:
    async for event in _events(reading, topics, "snapshot"):
        texts = event.texts
        parts = {key.removeprefix(PART_DIGEST): text for key, text in texts.items() if key.startswith(PART_DIGEST)}
        digests = Digests(texts.get("lineage", ""), texts.get("log_id", ""), event.position, parts)
        yield Recorded(digests, f"the announcement of snapshot {event.numbers.get('number', 0):.0f}")


async def _events(reading: Reading, topics: LoopTopics, kind: str) -> AsyncIterator[ModelEvent]:
    for partition, held in (await reading.ranges(topics.model_events)).items():
        async for record in reading.records(partition, held):
            try:
                event = decode_model_event(record.value or b"")
            except CodecError as problem:
                log.warning("model event passed over", offset=record.offset, why=str(problem))
                continue
            if event.kind == kind:
                yield event


async def _heard(reading: Reading, topics: LoopTopics) -> AsyncIterator[Recorded]:
    for partition, held in (await reading.ranges(topics.status)).items():
        part = Range(max(held.start, held.end - _HEARTBEATS_READ), held.end)
        async for record in reading.records(partition, part):
            try:
                if record.value is None:
                    continue
                status = decode_status(record.value)
            except CodecError as problem:
                log.warning("heartbeat passed over", offset=record.offset, why=str(problem))
                continue
            for digests in status.digests:
                yield Recorded(digests, status.member)
