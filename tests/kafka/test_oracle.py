"""A hundred thousand events and labels through the whole loop on real Kafka: each outcome is what the oracle says.

Half of it lies in the topics before the loop starts, as after an outage that was longer than the horizon; the other
half comes while it runs. What is compared is read from the topics; the oracle knows only what was sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import make_form
from tests.kafka import workload as made
from tests.kafka.oracle import Expected, Outcome, Place, expect
from tests.kafka.workload import LEAD, PARTITIONS, Kind, Sent, Workload
from tests.log_forms import LogForm
from tests.scenarios.harness import Scenario, running, until

from tailrace.domain.blocks import WITHDRAWN, TrainingBlock
from tailrace.domain.books import Books
from tailrace.domain.records import Claim
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.streams.log import Outgoing, Reader, Record, TopicPartition
from tailrace.wire.avro_codec import decode_training
from tailrace.wire.dead_letter import parse

SEED = 20
QUIET_S = 2.5  # marks go out once a second at most
WITHIN_S = 300.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ended:
    """What the loop left behind.

    Attributes:
        counts: Of all accepted blocks' vectors.
        dead_events, dead_labels: (source partition, offset) → the codes of its letters.
    """

    outcomes: Counter[Outcome]
    counts: Counter[str]
    dead_events: dict[Place, list[str]]
    dead_labels: dict[Place, list[str]]
    predicted: list[Place]
    books: Books
    has_crashed: bool


class Feeder:
    """Sends the workload in its order; once the loop runs, with a bounded lead over the scorer."""

    def __init__(self, scenario: Scenario, reader: Reader) -> None:
        self._scenario = scenario
        self._reader = reader
        self._answerable = [0] * PARTITIONS

    async def send(self, records: list[Sent]) -> None:
        """Send some records; those of a running loop when its lead is small again."""
        if self._scenario.processes:
            await until(self._may_go_on, "the loop keeps up", WITHIN_S)
        topics = {"events": self._scenario.domain.topics.events, "labels": self._scenario.domain.topics.labels}
        lines: dict[TopicPartition, list[Outgoing]] = {}
        for record in records:
            at = TopicPartition(topics[record.kind], record.partition)
            lines.setdefault(at, []).append(Outgoing(record.key, record.value, (), record.arrival_ms))
            self._answerable[record.partition] += record.kind == "events" and record.meant.code is None
        sent = [await self._scenario.user.sink.send(at, outgoing) for at, outgoing in lines.items()]
        for delivery in sent:
            await delivery

    async def _may_go_on(self) -> bool:
        predictions = self._scenario.domain.topics.predictions
        for partition, sent in enumerate(self._answerable):
            answered = (await self._reader.range_of(TopicPartition(predictions, partition))).end
            if sent - answered > LEAD:
                return False
        return True


async def live(form: LogForm, folder: Path, workload: Workload, say: Say) -> Ended:
    """Send everything through one loop, wait until it is quiet, read what it left behind."""
    labels = {"topic": form.topic("labels"), "id": "id", "target": "y", "time": "at", "revision": "version"}
    snapshots = {"every": "1s", "publish": "1s"}
    scenario = await Scenario.make(
        form, folder, partitions=PARTITIONS, idle_after="1h", labels=labels, snapshots=snapshots
    )
    try:
        await keep_what_is_old(scenario)
        groups = list(made.ticks(workload))
        async with running(form.open().reader()) as reader:
            feeder = Feeder(scenario, reader)
            await feed(feeder, groups[: len(groups) // 2], say)
            process = await scenario.start()
            await feed(feeder, groups[len(groups) // 2 :], say)
            await quiet(scenario, reader, say)
        books = await books_of(scenario)
        say("read the topics")
        return Ended(
            *await log_of(scenario),
            await letters_of(scenario, "events"),
            await letters_of(scenario, "labels"),
            [place_of(each["prediction_id"]) for each in await scenario.user.predictions()],
            books,
            process.crashed,
        )
    finally:
        await scenario.close()


async def keep_what_is_old(scenario: Scenario) -> None:
    """Let the inputs keep records whose timestamps are long past."""
    admin = scenario.log.admin()
    for topic in (scenario.domain.topics.events, scenario.domain.topics.labels):
        await admin.alter(topic, {"retention.ms": "-1"})
    await admin.close()


async def feed(feeder: Feeder, groups: list[list[Sent]], say: Say) -> None:
    said_s, whole = time.monotonic(), sum(map(len, groups))
    sent = 0
    for records in groups:
        await feeder.send(records)
        sent += len(records)
        if time.monotonic() - said_s > 5.0:
            said_s = time.monotonic()
            say(f"sent {sent} of {whole} records")
    say(f"sent {whole} records")


async def quiet(scenario: Scenario, reader: Reader, say: Say) -> None:
    """Wait until nothing has been appended to the internal topics for a while."""
    say("wait until all is quiet")
    topics, clock = scenario.domain.topics, asyncio.get_running_loop().time
    last: list[object] = [None, clock()]

    async def is_quiet() -> bool:
        ends = [
            (await reader.range_of(TopicPartition(topic, partition))).end
            for topic, count in ((topics.training, 1), (topics.scored, PARTITIONS), (topics.relabelled, PARTITIONS))
            for partition in range(count)
        ]
        if ends != last[0]:
            last[:] = [ends, clock()]
        return clock() - last[1] > QUIET_S  # type: ignore[operator]

    await until(is_quiet, "the loop is quiet", WITHIN_S)


async def log_of(scenario: Scenario) -> tuple[Counter[Outcome], Counter[str]]:
    """Return rows and counts of the accepted blocks: the owner's by valid claims, each number once and in order."""
    owners: dict[int, str] = {}
    numbers: dict[int, int] = {}
    outcomes: Counter[Outcome] = Counter()
    counts: Counter[str] = Counter()
    for record in await scenario.user.read(scenario.domain.topics.training):
        content = decode_training(record.value or b"")
        if isinstance(content, Claim) and owners.get(content.partition) == content.after:
            owners[content.partition], numbers[content.partition] = content.owner, 0
        elif isinstance(content, TrainingBlock):
            part = content.partition
            if owners.get(part) == content.owner and content.number == numbers[part] + 1:
                numbers[part] += 1
                outcomes.update(rows_of(content))
                counts.update(content.vector.counts)
    return outcomes, counts


def rows_of(block: TrainingBlock) -> list[Outcome]:
    rows, dropped, said = block.examples, block.dropped, block.corrections
    assert not rows.kinds.any(), "nothing is implicit here"
    joined = zip(rows.ids, rows.times_ms.tolist(), rows.y.tolist(), rows.revisions.tolist(), strict=True)
    again = zip(said.ids, said.times_ms.tolist(), said.y.tolist(), said.revisions.tolist(), strict=True)
    return [
        *((event_id, time_ms, "joined", y, revision) for event_id, time_ms, y, revision in joined),
        *(
            (event_id, time_ms, "dropped", None, 0)
            for event_id, time_ms in zip(dropped.ids, dropped.times_ms.tolist(), strict=True)
        ),
        *(
            (event_id, time_ms, *(("withdrawn", None) if kind == WITHDRAWN else ("corrected", y)), revision)
            for kind, (event_id, time_ms, y, revision) in zip(said.kinds.tolist(), again, strict=True)
        ),
    ]


async def letters_of(scenario: Scenario, kind: Kind) -> dict[Place, list[str]]:
    topics = scenario.domain.topics
    found: dict[Place, list[str]] = {}
    records: list[Record] = await scenario.user.read(topics.dead_events if kind == "events" else topics.dead_labels)
    for letter in (parse(record.headers) for record in records):
        found.setdefault((letter.partition, letter.offset), []).append(letter.rejection.code.value)
    return found


async def books_of(scenario: Scenario) -> Books:
    """Return the books once a snapshot of the last example is in them."""
    name, loop = next(iter(scenario.settings.loops.items()))
    async with running(scenario.log.reader()) as reader:
        return (await account_of(Reading(scenario.settings, scenario.log, reader), name, loop)).books


def place_of(prediction_id: str) -> Place:
    _, partition, offset = prediction_id.rsplit("/", 2)
    return int(partition), int(offset)


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Expected, Ended]:
    """What the oracle expects, and what the loop did."""
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    begun = time.monotonic()

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"  oracle on Kafka, {time.monotonic() - begun:3.0f} s: {line}", flush=True)

    folder = tmp_path_factory.mktemp("oracle")
    workload = made.make(SEED)
    expected = expect(workload)
    found = asyncio.run(live(make_form(request, folder, "kafka"), folder, workload, say))
    say("done")
    return expected, found


def test_the_set_of_outcomes_is_the_oracles(ended: tuple[Expected, Ended]) -> None:
    expected, found = ended

    assert set() == expected.outcomes ^ set(found.outcomes)
    assert {1} == set(found.outcomes.values())


def test_every_outcome_is_counted_as_often_as_the_oracle_says(ended: tuple[Expected, Ended]) -> None:
    expected, found = ended

    of_events = ("joined", "dropped", "repeated", "stale")
    of_labels = ("joined", "duplicate", "conflicting", "corrected", "withdrawn", "late", "orphaned")
    for of_oracle, counted in ((expected.scored, of_events), (expected.labels, of_labels)):
        assert {name: of_oracle[name] for name in counted} == {name: found.counts[name] for name in counted}
    assert [expected.forwarded] * 2 == [found.counts["forwarded"], found.counts["received"]]
    assert [0, 0] == [found.counts["implicit"], found.counts["redelivered"]]


def test_there_is_one_dead_letter_for_each_record_that_the_oracle_names(ended: tuple[Expected, Ended]) -> None:
    expected, found = ended

    assert {place: [code] for place, code in expected.dead_events.items()} == found.dead_events
    assert {place: [code] for place, code in expected.dead_labels.items()} == found.dead_labels


def test_every_event_that_can_be_used_is_answered_once(ended: tuple[Expected, Ended]) -> None:
    expected, found = ended

    assert expected.events["scored"] == len(found.predicted) == len(set(found.predicted))
    assert expected.dead_events.keys().isdisjoint(found.predicted)


def test_the_books_hold_and_say_what_the_oracle_says(ended: tuple[Expected, Ended]) -> None:
    expected, found = ended

    lines = {balance.line: dict(balance.parts) for balance in found.books.balances}
    assert found.books.holds, [str(balance) for balance in found.books.balances]
    for line in ("events", "scored", "labels"):
        of_oracle: Counter[str] = getattr(expected, line)
        assert {name: of_oracle[name] for name in lines[line]} == lines[line]
    assert lines["examples"]["learned"] == expected.scored["joined"]


def test_no_role_restarts(ended: tuple[Expected, Ended]) -> None:
    _, found = ended

    assert not found.has_crashed
