"""Dead letters: which there are, and one of them as it came."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tailrace.domain.errors import CodecError, LogError
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Range, Record, TopicPartition
from tailrace.wire.dead_letter import DeadLetter, parse


@dataclass(frozen=True, slots=True)
class Found:
    """A record of a dead-letter topic.

    Attributes:
        letter: What its headers say; None where another program wrote it.
    """

    record: Record
    letter: DeadLetter | None


async def newest_letters(reading: Reading, topics: Sequence[str], limit: int, code: str | None = None) -> list[Found]:
    """Return the newest dead letters of some topics, oldest first.

    Args:
        code: Only those with this code.

    Raises:
        LogError: A topic does not exist.
    """
    found: list[Found] = []
    for topic in topics:
        for partition, held in (await reading.ranges(topic)).items():
            # With a code the newest ones may lie anywhere; without one they lie at the end.
            start = held.start if code else max(held.start, held.end - limit)
            kept: deque[Found] = deque(maxlen=limit)
            async for each in letters_of(reading, partition, Range(start, held.end)):
                if code is None or (each.letter is not None and each.letter.rejection.code == code):
                    kept.append(each)
            found += kept
    return sorted(found, key=lambda each: each.record.timestamp)[-limit:]


async def letter_at(reading: Reading, topic: str, number: int, offset: int) -> Found:
    """Return one dead letter.

    Raises:
        LogError: There is none.
    """
    partition = TopicPartition(topic, number)
    held = await reading.reader.range_of(partition)
    if held.start <= offset < held.end:
        found = [each async for each in letters_of(reading, partition, Range(offset, offset + 1))]
        if found:
            return found[0]
    raise LogError(
        f"{partition.topic}/{partition.partition} holds offsets {held.start} to {held.end}, exclusive; found {offset}. "
        "`tailrace dlq list` names those that are there"
    )


async def letters_of(reading: Reading, partition: TopicPartition, held: Range) -> AsyncIterator[Found]:
    """Yield the records of a range of a dead-letter topic, in order."""
    async for record in reading.records(partition, held):
        try:
            yield Found(record, parse(record.headers))
        except CodecError:
            yield Found(record, None)
