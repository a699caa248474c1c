"""Sizes of records and of what is read at once.

How large a record may be is the same on both forms of the log, so that what fits one fits the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from tailrace.domain.errors import RecordTooLarge
from tailrace.streams.log import Headers, Outgoing, Record, TopicPartition

Item = TypeVar("Item")

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default of max.message.bytes."""

RECORD_OVERHEAD_BYTES = 512
"""What Kafka's framing of a batch of one record takes at most, headers not counted."""


def check_sizes(partition: TopicPartition, records: Sequence[Outgoing], limit_bytes: int) -> int:
    """Return the size of all records together, about as the log counts it.

    Raises:
        RecordTooLarge: One of them alone is larger than `limit_bytes`, the topic's max.message.bytes, allows.
    """
    allowed = max(0, limit_bytes - RECORD_OVERHEAD_BYTES)
    total = 0
    for key, value, headers, _ in records:
        size_bytes = (len(value) if value is not None else 0) + (len(key) if key is not None else 0)
        if headers:
            size_bytes += headers_bytes(headers)
        if size_bytes > allowed:
            raise RecordTooLarge(
                f"a record of {size_bytes} bytes was to be sent to {partition.topic}; the topic accepts {allowed}. "
                "Make the record smaller or raise max.message.bytes of the topic"
            )
        total += size_bytes + 24
    return total


def headers_bytes(headers: Headers) -> int:
    """Return the size of headers, about as the log counts it."""
    return sum(len(name.encode()) + len(value or b"") + 8 for name, value in headers)


def read_bytes(records: Sequence[Record]) -> int:
    """Return the bytes of the keys and values of records as they were read."""
    return sum(len(record.value or b"") + len(record.key or b"") for record in records)


def pieces(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """Yield a sequence in pieces of at most `most`."""
    for begin in range(0, len(items), most):
        yield items[begin : begin + most]
