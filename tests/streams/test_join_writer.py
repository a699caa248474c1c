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
from tailrace.domain.join import LabelJoin
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.join_writer import LETTERS_AT_ONCE, JoinParts, JoinTopics, JoinWriter, Keeping
from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.streams.training_log import TrainingLog
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder
from tailrace.wire.dead_letter import parse

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
        )
        source: Any = SimpleNamespace(generation=1, commit=self._commit)
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
