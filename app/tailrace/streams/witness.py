"""Notices that a partition no longer holds what was read of it: a record that is known is read again after a silence.

A log loses its tail when a broker without replicas loses its disk's last writes, or when a topic is deleted and created
anew. New records then take the offsets of those that were lost, and a reader that only counts offsets goes on as if
nothing had been. A broker that fails is away for longer than a second; so whoever has heard nothing of a partition for
a second reads the last record that it knows once more before it reads on. (KIP-320 has brokers say so; aiokafka does
not ask them.)

Pure: the source gives records and times. Invariant: after a silence no record is delivered before the one in front of
it was found to be the one that was delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tailrace.domain.errors import ForeignLogError

if TYPE_CHECKING:
    from tailrace.streams.log import Record, TopicPartition

SILENCE_S: Final = 1.0


@dataclass(slots=True)
class _Known:
    """The last record of a partition that was delivered.

    Attributes:
        seen_s: When it, or something newer, was last found where it should be.
        is_asked: It is being read again.
    """

    offset: int
    mark: tuple[int, int, int]
    seen_s: float
    is_asked: bool = False


class Witnesses:
    """The last record of each partition."""

    def __init__(self) -> None:
        self._known: dict[TopicPartition, _Known] = {}

    def asks(self, partition: TopicPartition, position: int, now_s: float) -> int | None:
        """Return the offset to read again before the record at `position`; None: read on."""
        known = self._known.get(partition)
        if known is None or known.is_asked or now_s - known.seen_s < SILENCE_S:
            return None
        if known.offset + 1 != position:
            del self._known[partition]  # Another member was here meanwhile.
            return None
        known.is_asked = True
        return known.offset

    def check(self, partition: TopicPartition, records: Sequence[Record], now_s: float) -> Sequence[Record]:
        """Take what was read; return it without the record that was only read again.

        Raises:
            ForeignLogError: Another record lies where the known one was.
        """
        known = self._known.get(partition)
        if known is not None and known.is_asked and records[0].offset <= known.offset:
            if records[0].offset < known.offset or _mark(records[0]) != known.mark:
                raise ForeignLogError(gone(partition, known.offset))
            records = records[1:]
            known.is_asked, known.seen_s = False, now_s
        if records:
            self._known[partition] = _Known(records[-1].offset, _mark(records[-1]), now_s)
        return records

    def is_only_asked(self, partition: TopicPartition, records: Sequence[Record]) -> bool:
        """Return whether what was read is no more than the record that is read again."""
        return len(records) == 1 and self.is_asked(partition, records[0].offset)

    def is_asked(self, partition: TopicPartition, offset: int) -> bool:
        """Return whether this offset is only read again."""
        known = self._known.get(partition)
        return known is not None and known.is_asked and known.offset == offset

    def forget(self, partition: TopicPartition) -> None:
        """Ask for nothing until the next record."""
        self._known.pop(partition, None)

    def lost_sight(self, partition: TopicPartition) -> None:
        """Ask again before reading on: what was asked for is not read any more."""
        known = self._known.get(partition)
        if known is not None:
            known.is_asked, known.seen_s = False, float("-inf")


def gone(partition: TopicPartition, offset: int) -> str:
    """Say that a record that was read is not there any more."""
    return (
        f"offset {offset} of {partition.topic}/{partition.partition} does not hold the record that was read there: the "
        "topic was truncated, or created anew, and records that were acknowledged are gone. Nothing is read on. "
        "Restore the topic, or start the loop anew under another name"
    )


def _mark(record: Record) -> tuple[int, int, int]:
    return record.timestamp, hash(record.key), hash(record.value)
