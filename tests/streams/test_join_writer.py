"""What the join writes beside its blocks, and how much of it at once."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from tests.builders import make_join_spec, make_label, make_scored_block
from tests.streams.log_tools import running

from tailrace.domain.blocks import Vector
from tailrace.domain.errors import RecordTooLarge
from tailrace.domain.join import LabelJoin
from tailrace.streams import join_writer
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.join_writer import LETTERS_AT_ONCE, JoinParts, JoinTopics, JoinWriter, Keeping
from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.streams.training_log import TrainingLog
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder
from tailrace.wire.avro_codec import decode_relabelled
from tailrace.wire.dead_letter import parse

WAIT_S = 20.0
ORPHANS = 20_000


class Ground:
    """A joiner of the first of some partitions, whose log and group take everything unless told otherwise."""

    def __init__(self, form: Any, reader: Any, sink: Any, partitions: int) -> None:
        self.form, self.reader, self.sink = form, reader, sink
        self.partitions = partitions
        self.commits: list[Any] = []

    async def made(self) -> JoinWriter:
        """Create the topics and return the writer of a join that has read nothing."""
        names = ("labels", "scored", "relabelled")
        topics = JoinTopics(*[await self.form.create(name, self.partitions) for name in names])
        training, self.letters = await self.form.create("training"), await self.form.create("labels.dlq")
        self.topics = topics
        recorder = Recorder(Instruments(), "loop")
        spec = make_join_spec(partitions=self.partitions)
        letters = {"topic": self.letters, "partitions": 1, "loop": "loop", "member": "member"}
        parts = JoinParts(
            topics=topics,
            spec=lambda _partition, _partitions: spec,
            contract_id="contract",
            labels=None,  # type: ignore[arg-type]  # decoding is none of the writer's business
            training=TrainingLog(self.reader, self.sink, training),
            sink=self.sink,
            reader=self.reader,
            dead_letters=DeadLetters(self.sink, recorder, **letters),
            recorder=recorder,
            report=None,  # type: ignore[arg-type]
            new_owner=lambda: "owner",
            clock_ms=lambda: 0,
            idle_after_ms=0,
            keeping=Keeping(),
            group="group",
        )
        source: Any = SimpleNamespace(generation=1, commit=self._commit, passed=lambda _partition, position: position)
        return JoinWriter(parts, source, 1, spec, LabelJoin(spec), "owner", "log", deque(), Vector())

    async def _commit(self, commits: Any) -> bool:
        self.commits.append(commits)
        return True

    async def held(self, topic: str, partition: int = 0) -> list[Any]:
        """Return the records of a partition."""
        place = TopicPartition(topic, partition)
        held = await self.reader.range_of(place)
        return [record async for batch in self.reader.read(place, *held) for record in batch]


@pytest.fixture
async def ground(embedded_form):
    """Three partitions."""
    async with running(embedded_form.open().sink("joiner")) as sink, running(embedded_form.open().reader()) as reader:
        yield Ground(embedded_form, reader, sink, partitions=3)


async def test_letters_of_many_orphans_are_sent_in_pieces_and_let_others_have_their_turn(ground, monkeypatch):
    """Fails when one event far ahead in time makes one parcel of every early label, encoded in one go."""
    writer = await ground.made()
    labels = TopicPartition(ground.topics.labels, 0)
    await (await ground.sink.send(labels, [Outgoing(None, b"%d" % offset) for offset in range(ORPHANS)]))
    for offset in range(ORPHANS):  # times fall while offsets rise: no order of the letters is the order of both
        writer.join.on_label(make_label(f"orphan-{offset}", time_ms=ORPHANS - offset, offset=offset), home=0)
    writer.join.on_scored(0, make_scored_block(("ahead", 10 * ORPHANS)))
    sent, read, turns = [], [], 0
    send, read_again = ground.sink.send, ground.reader.read

    async def counted(partition, records):
        sent.append((partition.topic, len(records), turns))
        return await send(partition, records)

    def noted(partition, start, end):
        read.append((start, end))
        return read_again(partition, start, end)

    async def somebody_else():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(ground.sink, "send", counted)
    monkeypatch.setattr(ground.reader, "read", noted)
    other = asyncio.create_task(somebody_else())
    await writer.write()
    other.cancel()

    *letters, block = sent
    assert block[0] == writer.parts.training.partition.topic, "the block follows after all letters"
    assert {ground.letters} == {topic for topic, _, _ in letters}
    assert max(count for _, count, _ in letters) <= LETTERS_AT_ONCE
    assert len({turns for _, _, turns in letters}) == len(letters)
    assert sum(end - start for start, end in read) == ORPHANS, "no record is read again twice"
    monkeypatch.undo()
    found = [(parse(each.headers), each.value) for each in await ground.held(ground.letters)]
    assert [(offset, b"%d" % offset) for offset in range(ORPHANS)] == [(each.offset, value) for each, value in found]


class Marks:
    """What is sent to `relabelled`, where one partition acknowledges nothing until it is told to."""

    def __init__(self, ground: Ground, monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
        self.by_partition: dict[int, list[int]] = {}
        self.pending: list[asyncio.Future[Any]] = []
        self._send, self._ground, self._silent = ground.sink.send, ground, silent
        monkeypatch.setattr(ground.sink, "send", self.send)
        monkeypatch.setattr(join_writer, "mark_every_s", lambda *_args, **_named: 0.0)

    async def send(self, partition: TopicPartition, records: Any) -> Any:
        if partition.topic != self._ground.topics.relabelled:
            return await self._send(partition, records)
        marks = [decode_relabelled(record.value).next_offset for record in records]
        self.by_partition.setdefault(partition.partition, []).extend(marks)
        if partition.partition != self._silent:
            return await self._send(partition, records)
        self.pending.append(asyncio.get_running_loop().create_future())
        return self.pending[-1]


async def rounds(writer: JoinWriter, offsets: Any) -> None:
    """Pass one label in each round, write, and commit."""
    async with asyncio.timeout(WAIT_S):
        for offset in offsets:
            writer.join.on_rejected_label(offset)
            await writer.write()
            await writer.commit_if_due(at_once=True)


async def test_a_partition_that_takes_no_mark_holds_up_nobody_and_gets_the_newest_one_once_it_does(ground, monkeypatch):
    writer = await ground.made()
    marks = Marks(ground, monkeypatch, silent=1)

    await rounds(writer, range(4))

    assert len(ground.commits) == 4
    assert len(await ground.held(writer.parts.training.partition.topic)) == 4
    assert marks.by_partition == {1: [1], 2: [1, 2, 3, 4]}
    marks.pending[0].set_result([0])
    await writer.commit_if_due()
    assert marks.by_partition == {1: [1, 4], 2: [1, 2, 3, 4]}
    marks.pending[1].set_result([1])
    await writer.commit_if_due()
    await writer.commit_if_due()
    assert marks.by_partition == {1: [1, 4], 2: [1, 2, 3, 4]}, "nothing is told twice"


async def test_marks_to_one_that_takes_them_again_come_no_more_often_than_to_others(ground, monkeypatch):
    writer = await ground.made()
    marks = Marks(ground, monkeypatch, silent=1)
    await rounds(writer, range(2))
    monkeypatch.setattr(join_writer, "mark_every_s", lambda *_args, **_named: 3_600.0)

    marks.pending[0].set_result([0])
    await writer.commit_if_due()

    assert marks.by_partition == {1: [1], 2: [1, 2]}


async def test_a_mark_that_cannot_be_sent_at_all_ends_the_join_and_not_in_silence(ground, monkeypatch):
    writer = await ground.made()
    marks = Marks(ground, monkeypatch, silent=1)
    await rounds(writer, range(1))

    marks.pending[0].set_exception(RecordTooLarge("the topic takes no record of this size"))

    with pytest.raises(RecordTooLarge):
        await writer.commit_if_due()
