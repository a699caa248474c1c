"""The feeder on an embedded log: what it sends, and what it still sends when it is told to end."""

import asyncio
from pathlib import Path

import orjson

from tailrace.demo.feeder import Feeder, Rhythm
from tailrace.demo.script import Script
from tailrace.streams.embedded_log import EmbeddedLog
from tailrace.streams.log import TopicPartition, TopicState
from tailrace.wire.partitioner import partitions_of
from tailrace.wire.topics import LoopTopics

TOPICS = LoopTopics("phishing", "pages", "verdicts")
PARTITIONS = 2
HORIZON_S = 10.0


class Enough(asyncio.Event):
    """Is set once so many events were sent."""

    def __init__(self, feeder: Feeder, events: int) -> None:
        super().__init__()
        self._feeder, self._events = feeder, events

    def is_set(self) -> bool:
        return self._feeder.events >= self._events


async def feed(folder: Path, *, events: int = 60):
    """Let the feeder send; return it and the values of both topics by partition."""
    log = EmbeddedLog(folder)
    await log.admin().create([TopicState(name, PARTITIONS, 1) for name in (TOPICS.events, TOPICS.labels)])
    async with log.sink("feeder") as sink, log.reader() as reader:
        feeder = Feeder(
            sink,
            TOPICS,
            partitions=PARTITIONS,
            script=Script(1, horizon_s=HORIZON_S),
            rhythm=Rhythm(2_000.0, 60.0, 5.0),
            now_ms=lambda: 1_700_000_000_000,
        )
        await feeder.run(Enough(feeder, events))
        found: dict[str, dict[int, list[dict[str, object]]]] = {}
        for name in (TOPICS.events, TOPICS.labels):
            for number in range(PARTITIONS):
                partition = TopicPartition(name, number)
                read = reader.read(partition, *await reader.range_of(partition))
                found.setdefault(name, {})[number] = [
                    orjson.loads(each.value) async for batch in read for each in batch
                ]
    return feeder, found


async def test_what_it_says_it_sent_is_in_the_topics(tmp_path: Path):
    feeder, found = await feed(tmp_path)

    assert feeder.events == sum(map(len, found["pages"].values())) >= 60
    assert feeder.labels == sum(map(len, found["verdicts"].values()))


async def test_labels_lie_where_their_ids_belong(tmp_path: Path):
    _, found = await feed(tmp_path)

    for number, labels in found["verdicts"].items():
        ids = [str(label["page_id"]).encode() for label in labels]
        assert [number] * len(ids) == partitions_of(ids, PARTITIONS)


async def test_labels_on_their_way_are_sent_at_the_end_and_late_ones_are_not(tmp_path: Path):
    feeder, found = await feed(tmp_path, events=300)

    script = Script(1, horizon_s=HORIZON_S)
    scenes = [script.next(has_drifted=False) for _ in feeder.truth]
    in_time = {each.page_id for each in scenes if each.verdicts and each.verdicts[0].delay_s < HORIZON_S}
    sent = {str(label["page_id"]) for labels in found["verdicts"].values() for label in labels}
    assert in_time == sent
    assert in_time < {each.page_id for each in scenes if each.verdicts}


async def test_it_remembers_what_the_pages_were(tmp_path: Path):
    feeder, found = await feed(tmp_path)

    ids = {str(event["page_id"]) for events in found["pages"].values() for event in events}
    assert ids == set(feeder.truth)
