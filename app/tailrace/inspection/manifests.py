"""The newest snapshot that the index knows, of whatever lineage: no model has to be built to ask.

Only what a trusted key has signed is looked at; what was refused is told once for each reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import structlog

from tailrace.domain.errors import CodecError, SnapshotRefused
from tailrace.domain.positions import Position
from tailrace.domain.snapshots import Kind, Manifest
from tailrace.inspection.reading import Reading
from tailrace.opening import open_trust
from tailrace.streams.snapshot_index import unsealed
from tailrace.wire.topics import LoopTopics

log = structlog.get_logger(__name__)


async def newest_snapshot(
    reading: Reading, topics: LoopTopics, *, log_id: str | None = None, not_above: Position | None = None
) -> Manifest | None:
    """Return the manifest of the snapshot with the highest position; None when there is none.

    Args:
        log_id: Only of this log.
        not_above: Only up to this position.

    Raises:
        LogError: The topic does not exist.
    """
    newest: Manifest | None = None
    async for _, manifest in _counted(reading, topics):
        if manifest is None or log_id not in {None, manifest.log_id}:
            continue
        if not_above is None or manifest.position <= not_above:
            newest = manifest if newest is None or manifest.position >= newest.position else newest
    return newest


async def snapshots_of(reading: Reading, topics: LoopTopics) -> list[Manifest]:
    """Return the snapshots that the index still names and whose signature counts, in the order of the index.

    Raises:
        LogError: The topic does not exist.
    """
    found: dict[bytes, Manifest] = {}
    async for slot, manifest in _counted(reading, topics):
        found.pop(slot, None)
        if manifest is not None:
            found[slot] = manifest
    return list(found.values())


async def _counted(reading: Reading, topics: LoopTopics) -> AsyncIterator[tuple[bytes, Manifest | None]]:
    """Yield slot and manifest of the snapshots that a trusted key has signed; None where a slot was emptied."""
    ((partition, held),) = (await reading.ranges(topics.snapshots)).items()
    trusted, refused = open_trust(reading.settings), Counter[str]()
    async for record in reading.records(partition, held):
        slot = record.key or b""
        if record.value is None:
            yield slot, None
            continue
        try:
            manifest = unsealed(record, trusted)
        except (CodecError, SnapshotRefused) as problem:
            reason = getattr(problem, "reason", "manifest")
            refused[reason] += 1
            if refused[reason] == 1:
                log.warning("index record refused", topic=record.topic, offset=record.offset, why=str(problem))
            continue
        if manifest.kind is Kind.SNAPSHOT:
            yield slot, manifest
    for reason, count in refused.items():
        if count > 1:
            log.warning("index records refused", topic=topics.snapshots, reason=reason, count=count)
