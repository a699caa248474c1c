"""Dead letters sent back to the topic they came from, or given up; each at most once, as the loop's own group notes.

Steps, for a few letters at a time, numbered as the code repeats them:
    1. The group's position is read again: somebody else may be at work.
    2. The records are sent, byte for byte, to their topic and partition, with the number of the attempt.
    3. When all are acknowledged, the position is committed.
A process that dies between 2 and 3 sends those few again the next time: at least once, as everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tailrace.domain.errors import LogError
from tailrace.inspection.letters import Found, letters_of
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Commit, Delivery, Outgoing, Range, Sink, TopicPartition
from tailrace.wire.dead_letter import DeadLetter
from tailrace.wire.letter_progress import LetterProgress
from tailrace.wire.topics import DLQ_SUFFIX, dlq_of

AT_ONCE: Final = 50
"""Letters between two commits."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant.

    Attributes:
        limit: So many at most, from the beginning of each partition.
        code: Only with this code.
        since_ms: Only records of this Kafka time or later.
        attempts: Records that were sent back so often stay where they are; None: they are to be given up.
    """

    limit: int
    code: str | None = None
    since_ms: int | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A dead letter that is meant.

    Attributes:
        why_not: Why it stays where it is; "" where it does not.
    """

    found: Found
    why_not: str = ""


@dataclass
class PartitionPlan:
    """What would be done with the letters of one partition.

    Attributes:
        seen: What was committed when they were looked at; None: nothing.
        progress: The same, with letters of other loops and what retention took away.
    """

    partition: TopicPartition
    seen: LetterProgress | None
    progress: LetterProgress
    chosen: list[Chosen] = field(default_factory=list)

    @property
    def going(self) -> list[Found]:
        """The letters that do not stay."""
        return [each.found for each in self.chosen if not each.why_not]

    def progress_after(self, letters: Sequence[Found]) -> LetterProgress:
        """Return the progress once these are dealt with too."""
        progress = self.progress
        for found in letters:
            progress = progress.with_done(found.record.offset, found.record.offset + 1)
        return progress


@dataclass
class Plan:
    """What would be done.

    Attributes:
        more: Whether others that are meant wait behind the limit.
    """

    loop: str
    partitions: list[PartitionPlan] = field(default_factory=list)
    more: bool = False

    @property
    def chosen(self) -> list[Chosen]:
        """All letters that are meant."""
        return [each for partition in self.partitions for each in partition.chosen]


def group_of(loop: str) -> str:
    """Return the consumer group whose committed offsets say which dead letters of a loop are dealt with."""
    return f"tailrace.{loop}.dlq"


async def progress_of(reading: Reading, loop: str) -> Mapping[TopicPartition, LetterProgress]:
    """Return what is done of each partition of dead letters; nothing of a partition that is not named."""
    committed = await reading.committed(group_of(loop))
    return {partition: LetterProgress.parse(*commit) for partition, commit in committed.items()}


async def plan(reading: Reading, loop: str, topics: Sequence[str], choice: Choice) -> Plan:
    """Find the dead letters that are meant and wait.

    Raises:
        LogError: A topic does not exist.
    """
    known, planned, room = await progress_of(reading, loop), Plan(loop), choice.limit
    for topic in topics:
        inputs = await reading.reader.partitions(topic.removesuffix(DLQ_SUFFIX))
        for partition, held in (await reading.ranges(topic)).items():
            seen = known.get(partition)
            # What retention has taken away waits no more.
            progress = (seen or LetterProgress()).with_done(0, held.start)
            mine = PartitionPlan(partition, seen, progress)
            planned.partitions.append(mine)
            start = min(progress.position, held.end)
            async for found in letters_of(reading, partition, Range(start, held.end)):
                offset = found.record.offset
                if mine.progress.is_done(offset):
                    continue
                if found.letter is None or found.letter.connector != f"tailrace.{loop}":
                    mine.progress = mine.progress.with_done(offset, offset + 1)
                elif _is_meant(found, found.letter, choice):
                    why_not = "" if choice.attempts is None else _why_not(found, found.letter, choice.attempts, inputs)
                    if room == 0 or (why_not and len(mine.chosen) >= choice.limit):
                        planned.more = True
                        break
                    room -= not why_not
                    mine.chosen.append(Chosen(found, why_not))
    return planned


async def replay(reading: Reading, planned: Plan, per_second: float) -> int:
    """Send back what can be, at most `per_second` a second; return how many.

    Raises:
        LogError: Somebody else moves the position, or it has no room for more stretches.
        RecordTooLarge: The input topic has become too small for a record; those before it were sent.
    """
    sent = 0
    portions = list(_few_at_a_time(planned))
    if not portions:
        return 0
    await _check_alone(reading, planned.loop, *portions[0])  # no producer is opened in vain
    begun = asyncio.get_running_loop().time()
    async with reading.sink() as sink:
        for partition, letters in portions:
            await _check_alone(reading, planned.loop, partition, letters)  # 1
            await _send_back(sink, letters)  # 2
            await _note_done(reading, planned.loop, partition, letters)  # 3
            sent += len(letters)
            await asyncio.sleep(max(0.0, begun + sent / per_second - asyncio.get_running_loop().time()))
    return sent


async def discard(reading: Reading, planned: Plan) -> int:
    """Give the chosen letters up: they stay in their topic, and wait no more; return how many.

    Raises:
        LogError: Somebody else moves the position, or it has no room for more stretches.
    """
    count = 0
    for partition, letters in _few_at_a_time(planned):
        await _check_alone(reading, planned.loop, partition, letters)
        await _note_done(reading, planned.loop, partition, letters)
        count += len(letters)
    return count


def _is_meant(found: Found, letter: DeadLetter, choice: Choice) -> bool:
    if choice.code is not None and letter.rejection.code != choice.code:
        return False
    return choice.since_ms is None or found.record.timestamp >= choice.since_ms


def _why_not(found: Found, letter: DeadLetter, attempts: int, inputs: int) -> str:
    if not letter.is_whole:
        return "key and value were too large for the dead-letter topic and are not in it"
    if dlq_of(letter.topic) != found.record.topic:
        return f"its headers name the topic {letter.topic}, whose dead letters these are not"
    if letter.partition >= inputs:
        return f"{letter.topic} has no partition {letter.partition} any more"
    if letter.attempt >= attempts:
        return f"it was sent back {letter.attempt} times; allowed are {attempts}, see --attempts"
    return ""


def _few_at_a_time(planned: Plan) -> Iterator[tuple[PartitionPlan, list[Found]]]:
    for partition in planned.partitions:
        letters = partition.going
        for first in range(0, len(letters), AT_ONCE):
            yield partition, letters[first : first + AT_ONCE]


async def _send_back(sink: Sink, letters: Sequence[Found]) -> None:
    deliveries: list[Delivery] = []
    try:
        for record, letter in ((found.record, found.letter) for found in letters):
            assert letter is not None, "only letters of the loop are meant"
            again = Outgoing(record.key, record.value, letter.headers_again, record.timestamp)
            deliveries.append(await sink.send(TopicPartition(letter.topic, letter.partition), [again]))
    finally:
        for delivery in deliveries:
            await delivery


async def _check_alone(reading: Reading, loop: str, partition: PartitionPlan, letters: Sequence[Found]) -> None:
    """See that nobody else is at work, and that what is about to be done can be noted."""
    if (await progress_of(reading, loop)).get(partition.partition) != partition.seen:
        raise LogError(f"{group_of(loop)} was moved meanwhile; another replay or discard is at work: wait for its end")
    if partition.progress_after(letters).is_too_long:
        raise LogError(
            f"{group_of(loop)} cannot name more single letters of {partition.partition.topic}/"
            f"{partition.partition.partition}; replay or discard the oldest ones without --code and --since first"
        )


async def _note_done(reading: Reading, loop: str, partition: PartitionPlan, letters: Sequence[Found]) -> None:
    done = partition.progress = partition.progress_after(letters)
    await reading.admin.commit(group_of(loop), {partition.partition: Commit(done.position, done.text)})
    partition.seen = done
