"""The books of a loop, recomputed from its topics at one consistent cut, also while workers run.

The cut, numbered as the code repeats it:
    1. The training log is read up to its present end; everything else follows from what its blocks say.
    2. The last accepted block of each partition says how far `scored`, labels and `relabelled` count.
    3. Labels count up to the first that was forwarded and that its own partition had not read by then.
    4. Events count up to what the score group had committed before anything else was read.
Where a topic has lost its beginning, counting starts where nothing depends any more on what is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from tailrace.domain.blocks import ScoredBlock, Served, TrainingBlock, Vector, XColumns
from tailrace.domain.books import EQUATIONS, Books, Folded, LabelRecord, Letter, Source, Topics, recompute
from tailrace.domain.books import Range as Counted
from tailrace.domain.errors import CodecError, ForeignLogError
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import offset_of, position_of, row_of
from tailrace.domain.records import Claim, Forward, Label, LearnerRecord, Mark, Rejection
from tailrace.domain.status import Role
from tailrace.domain.times import GREATEST_TIME_MS, EventTimeMs
from tailrace.inspection.manifests import newest_snapshot
from tailrace.inspection.reading import Reading
from tailrace.inspection.status import group_of
from tailrace.opening import label_decoder, topics_of
from tailrace.settings import LoopSettings
from tailrace.streams.log import Commit, Range, TopicPartition
from tailrace.wire.avro_codec import decode_relabelled, decode_scored, decode_training
from tailrace.wire.dead_letter import parse
from tailrace.wire.partitioner import partitions_of


@dataclass(frozen=True, slots=True)
class Stretch:
    """What of one partition was accounted for.

    Attributes:
        start, end: Offsets; the end is exclusive.
        held_end: Where the partition ended; what lies between the ends is not done yet.
    """

    topic: str
    partition: int
    start: int
    end: int
    held_end: int


@dataclass(frozen=True, slots=True)
class Account:
    """The books and what they are about.

    Attributes:
        counted_after_ms: Scored rows and labels count once the watermark has passed this; None: from the beginning.
        notes: What could not be looked at, and why.
    """

    books: Books
    stretches: tuple[Stretch, ...]
    counted_after_ms: EventTimeMs | None
    notes: tuple[str, ...] = ()


async def account_of(reading: Reading, name: str, loop: LoopSettings) -> Account:
    """Make the books of one loop.

    Raises:
        LogError: A topic does not exist.
        ForeignLogError: The training log has lost its beginning, or a block is of another log.
        CodecError: An internal topic holds what is not Tailrace's.
    """
    return await _Bookkeeper(reading, name, loop).account()


@dataclass
class _Bookkeeper:
    reading: Reading
    name: str
    loop: LoopSettings
    notes: list[str] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    vectors: dict[int, Vector] = field(default_factory=dict)
    first_times_ms: list[EventTimeMs] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.topics = topics_of(self.name, self.loop)

    async def account(self) -> Account:
        done = {at: commit.offset for at, commit in (await self._score_commits()).items()}  # 4
        events = await self.reading.ranges(self.topics.events)
        records, ownership, log_end = await self._log()  # 1
        scored = await self._scored()
        relabelled = await self._relabelled()
        labels = await self._labels(relabelled)
        event_letters = await self._letters(self.topics.dead_events, is_of_labels=False)
        label_letters = await self._letters(self.topics.dead_labels, is_of_labels=True)
        state = await self._newest_state(ownership.log_id, log_end)
        starts = self._events_from(scored, event_letters, len(events))
        after_ms = Counted.after(self.first_times_ms, self.loop.times)
        counted = Counted(starts, after_ms)
        joined = recompute(
            Topics(
                partitions=len(scored),
                events=(),
                scored=self._cut(scored),
                labels=labels,
                relabelled=relabelled,
                log=records,
                label_letters=label_letters,
            ),
            self.loop.times,
            state,
            counted,
        )
        served = recompute(
            Topics(
                partitions=len(scored),
                events=await self._events(events, done, starts),
                scored=[(at, each) for at, blocks in scored.items() for _, each in blocks],
                labels=(),
                relabelled=(),
                log=(),
                event_letters=event_letters,
            ),
            self.loop.times,
        )
        balances = (served.balances[0], *joined.balances[1:])
        books = Books(balances, served.redelivered, joined.learned_twice)
        is_whole = not self.first_times_ms
        return Account(books, tuple(self.stretches), None if is_whole else after_ms, tuple(self.notes))

    # ── topics ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _score_commits(self) -> Mapping[TopicPartition, Commit]:
        return await self.reading.committed(group_of(self.name, Role.SCORE))

    async def _log(self) -> tuple[list[tuple[int, TrainingBlock | Claim | LearnerRecord]], OwnershipState, int]:
        ((partition, held),) = (await self.reading.ranges(self.topics.training)).items()
        if held.start > 0:
            raise ForeignLogError(
                f"{partition.topic} begins at offset {held.start}; the books need it from 0, since what was learned "
                "before is not known any more. Keep this topic without limit, or begin a loop with another name"
            )
        found: list[tuple[int, TrainingBlock | Claim | LearnerRecord]] = []
        ownership = OwnershipState()
        async for record in self.reading.records(partition, held):
            content = decode_training(_value(record.topic, record.offset, record.value))
            if isinstance(content, Claim):
                ownership.claim(content)
            elif isinstance(content, TrainingBlock):
                if ownership.accept(content.partition, content.owner, content.number):
                    self.vectors[content.partition] = content.vector
                content = _without_x(content)
            found.append((record.offset, content))
        self._note_stretch(partition, held, held.end)
        return found, ownership, held.end

    async def _scored(self) -> dict[int, list[tuple[int, ScoredBlock]]]:
        found: dict[int, list[tuple[int, ScoredBlock]]] = {}
        for partition, held in (await self.reading.ranges(self.topics.scored)).items():
            blocks = found[partition.partition] = []
            async for record in self.reading.records(partition, held):
                block = decode_scored(_value(record.topic, record.offset, record.value))
                blocks.append((record.offset, replace(block, x=_NO_X, served=_NOT_SERVED)))
            if held.start > 0:
                self.first_times_ms.append(int(blocks[0][1].times_ms[0]) if blocks else GREATEST_TIME_MS)
            vector = self.vectors.get(partition.partition)
            self._note_stretch(partition, held, held.start if vector is None else offset_of(vector.scored_next))
        return found

    def _cut(self, scored: Mapping[int, Sequence[tuple[int, ScoredBlock]]]) -> Iterable[tuple[int, ScoredBlock]]:
        for partition, blocks in scored.items():  # 2
            vector = self.vectors.get(partition)
            end = 0 if vector is None else vector.scored_next
            for offset, block in blocks:
                if offset < offset_of(end):
                    yield partition, block
                elif offset == offset_of(end) and row_of(end):
                    yield partition, _first_rows(block, row_of(end))

    async def _relabelled(self) -> list[tuple[int, Forward | Mark]]:
        found: list[tuple[int, Forward | Mark]] = []
        for partition, held in (await self.reading.ranges(self.topics.relabelled)).items():
            vector = self.vectors.get(partition.partition)
            end = held.start if vector is None else max(held.start, min(held.end, vector.relabelled_next))  # 2
            async for record in self.reading.records(partition, Range(held.start, end)):
                content = decode_relabelled(_value(record.topic, record.offset, record.value))
                found.append((partition.partition, content))
            self._note_stretch(partition, held, end)
        return found

    async def _labels(self, relabelled: Iterable[tuple[int, Forward | Mark]]) -> list[LabelRecord]:
        arrived = {(one.label.partition, one.label.offset) for _, one in relabelled if isinstance(one, Forward)}
        found: list[LabelRecord] = []
        held_by = await self.reading.ranges(self.topics.labels)
        for partition, held in held_by.items():
            vector = self.vectors.get(partition.partition)
            end = held.start if vector is None else max(held.start, min(held.end, vector.labels_next))  # 2
            of_partition = await self._decoded(partition, Range(held.start, end), len(held_by))
            for index, each in enumerate(of_partition):
                if each.label is not None and each.home != partition.partition and each.source not in arrived:
                    of_partition, end = of_partition[:index], each.source[1]  # 3
                    break
            if held.start > 0:
                self.first_times_ms += [each.label.time_ms for each in of_partition if each.label is not None][:1]
            found += of_partition
            self._note_stretch(partition, held, end)
        return found

    async def _decoded(self, partition: TopicPartition, held: Range, partitions: int) -> list[LabelRecord]:
        decoder, found = label_decoder(self.loop), []
        if held.start >= held.end:
            return []
        async for batch in self.reading.reader.read(partition, *held):
            labels = decoder.decode_batch(batch)
            ids = [label.id.encode() for label in labels if isinstance(label, Label)]
            homes = iter(partitions_of(ids, partitions))
            for record, label in zip(batch, labels, strict=True):
                source = (record.partition, record.offset)
                found.append(
                    LabelRecord(source) if isinstance(label, Rejection) else LabelRecord(source, label, next(homes))
                )
        return found

    async def _letters(self, topic: str, *, is_of_labels: bool) -> list[Letter]:
        found: list[Letter] = []
        foreign = 0
        for partition, held in (await self.reading.ranges(topic)).items():
            records = [record async for record in self.reading.records(partition, held)]
            if held.start > 0 and is_of_labels:
                # Letters of earlier labels are gone; a letter has its label's Kafka time.
                self.first_times_ms.append(records[0].timestamp if records else GREATEST_TIME_MS)
            for record in records:
                try:
                    letter = parse(record.headers)
                except CodecError:
                    foreign += 1
                    continue
                if letter.connector == f"tailrace.{self.name}":
                    source = (letter.partition, letter.offset)
                    found.append(Letter(source, letter.rejection.code, letter.block))
            self._note_stretch(partition, held, held.end)
        if foreign:
            self.notes.append(f"{topic}: {foreign} records are no dead letters of Tailrace and were passed over")
        return found

    async def _newest_state(self, log_id: str, log_end: int) -> Folded | None:
        manifest = await newest_snapshot(self.reading, self.topics, log_id=log_id, not_above=position_of(log_end))
        if manifest is None:
            self.notes.append("no snapshot of this log yet: what was learned of its examples cannot be looked up")
            return None
        counters = manifest.counters
        parts = {name: counters.get(name, 0) for name in EQUATIONS["examples"]}
        return Folded(position=manifest.position, **parts)

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _events_from(
        self, scored: Mapping[int, Sequence[tuple[int, ScoredBlock]]], letters: Sequence[Letter], partitions: int
    ) -> dict[int, int]:
        """Return, per events partition, where to begin because what became of earlier ones is gone."""
        gone = {(one.topic, one.partition) for one in self.stretches if one.start > 0}
        letter_partitions = sum(one.topic == self.topics.dead_events for one in self.stretches)
        starts: dict[int, int] = {}
        for partition, blocks in scored.items():
            if (self.topics.scored, partition) in gone:
                sources = [(block.source_partition, int(block.source_offsets[0])) for _, block in blocks]
                _raise_to_first(starts, sources, range(partitions))
        for partition in range(letter_partitions):
            if (self.topics.dead_events, partition) in gone:
                theirs = range(partition, partitions, letter_partitions)
                _raise_to_first(starts, [letter.source for letter in letters if letter.source[0] in theirs], theirs)
        return starts

    async def _events(
        self, events: Mapping[TopicPartition, Range], done: Mapping[TopicPartition, int], starts: Mapping[int, int]
    ) -> list[Source]:
        found: list[Source] = []
        for partition, held in events.items():
            start = min(held.end, max(held.start, starts.get(partition.partition, 0)))
            end = max(start, min(held.end, done.get(partition, held.start)))  # 4
            # Offsets have gaps, such as the markers of transactions: records are counted, not offsets.
            records = self.reading.records(partition, Range(start, end))
            found += [(partition.partition, record.offset) async for record in records]
            self.stretches.insert(partition.partition, Stretch(*partition, start, end, held.end))
        return found

    def _note_stretch(self, partition: TopicPartition, held: Range, end: int) -> None:
        self.stretches.append(Stretch(*partition, held.start, end, held.end))


def _raise_to_first(starts: dict[int, int], sources: Iterable[Source], partitions: Iterable[int]) -> None:
    """Begin each partition no earlier than at its first source that is still known; without one count nothing of it."""
    firsts: dict[int, int] = {}
    for partition, offset in sources:
        firsts.setdefault(partition, offset)
    for partition in partitions:
        starts[partition] = max(starts.get(partition, 0), firsts.get(partition, _PAST_ALL))


def _value(topic: str, offset: int, value: bytes | None) -> bytes:
    if value is None:
        raise CodecError(
            f"offset {offset} of {topic} has no value; only Tailrace may write there. Find out who wrote it"
        )
    return value


def _without_x(block: TrainingBlock) -> TrainingBlock:
    examples = replace(block.examples, x=_NO_X, served=_NOT_SERVED)
    return replace(block, examples=examples)


def _first_rows(block: ScoredBlock, count: int) -> ScoredBlock:
    return replace(
        block,
        ids=block.ids[:count],
        times_ms=block.times_ms[:count],
        source_offsets=block.source_offsets[:count],
    )


_PAST_ALL: Final = 1 << 62
_NOTHING: Final = np.empty((0, 0))
_NO_X: Final = XColumns(_NOTHING, np.empty((0, 0), dtype=np.int64), [])
_NOT_SERVED: Final = Served(np.empty(0), _NOTHING)
