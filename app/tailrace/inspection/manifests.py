"""The newest snapshot that the index knows, of whatever lineage: no model has to be built to ask.

Only what a trusted key has signed is looked at; what was refused is told once for each reason.
"""

from __future__ import annotations

from collections import Counter

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
    ((partition, held),) = (await reading.ranges(topics.snapshots)).items()
    newest: Manifest | None = None
    trusted, refused = open_trust(reading.settings), Counter[str]()
    async for record in reading.records(partition, held):
        if record.value is None:
            continue
        try:
            manifest = unsealed(record, trusted)
        except (CodecError, SnapshotRefused) as problem:
            reason = getattr(problem, "reason", "manifest")
            refused[reason] += 1
            if refused[reason] == 1:
                log.warning("index record refused", topic=record.topic, offset=record.offset, why=str(problem))
            continue
        is_asked_for = manifest.kind is Kind.SNAPSHOT and log_id in {None, manifest.log_id}
        if is_asked_for and (not_above is None or manifest.position <= not_above):
            newest = manifest if newest is None or manifest.position >= newest.position else newest
    for reason, count in refused.items():
        if count > 1:
            log.warning("index records refused", topic=topics.snapshots, reason=reason, count=count)
    return newest
