"""Reading on from an offset for as long as somebody wants to, and the heartbeats of others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from tailrace.domain.errors import CodecError
from tailrace.domain.status import MemberStatus
from tailrace.streams.log import Reader, Record, TopicPartition
from tailrace.wire.avro_codec import decode_status

log = structlog.get_logger(__name__)


@asynccontextmanager
async def following(
    reader: Reader, partition: TopicPartition, start: int
) -> AsyncIterator[AsyncIterator[Sequence[Record]]]:
    """Read on from an offset; what it is read with is let go at the end, whoever leaves in the middle."""
    batches = reader.follow(partition, start)
    try:
        yield batches
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


def heartbeats_of_others(records: Sequence[Record], member: str) -> list[MemberStatus]:
    """Return what processes but `member` tell; what cannot be read is said and passed over."""
    found = []
    for record in records:
        if record.value is None or record.key == member.encode():
            continue
        try:
            found.append(decode_status(record.value))
        except CodecError as problem:
            log.warning("heartbeat passed over", why=str(problem))
    return found
