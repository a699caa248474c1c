"""Topics that people change while the loop runs: deleted, expanded, compacted, cut."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import TOGETHER, Ground, ground
from tests.faults.processes import Fleet, Worker
from tests.log_forms import LogForm
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.records import Claim
from tailrace.streams.kafka_client import close_admin, start_or_close
from tailrace.streams.log import Admin, TopicPartition
from tailrace.wire.avro_codec import decode_training
from tailrace.wire.topics import LoopTopics

REFUSED_S = 10.0
ENDED_S = 20.0
JOINED_S = 2.0  # a process that may would have claimed its parts, and joined what is there
WATCHED_S = 3.0  # until a process has looked at its topics for the first time
EVENTS = 40
SAID = ("a topic has changed",)
ENDED = ("a topic is not what it was", "ended: the log cannot be used as it is")  # by the watch, or by a source


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to the topics of one loop.

    Attributes:
        words: What the worker must say, as patterns.
        after: What the next process must say, which is started with the damage done; one of them.
        joins: Whether that process may append blocks to the log: nothing of what the join rests on is gone.
    """

    what: str
    do: Callable[[Admin, LoopTopics], Awaitable[None]]
    words: tuple[str, ...]
    after: tuple[str, ...]
    joins: bool = False


def _anew(purpose: str, *after: str, joins: bool = False) -> Damage:
    async def do(admin: Admin, names: LoopTopics) -> None:
        name = getattr(names, purpose)
        state = (await admin.describe([name]))[name]
        await admin.delete(name)
        await admin.create([state])

    return Damage(f"{purpose} deleted and created anew", do, (purpose, "anew"), after, joins)


def _gone(purpose: str, words: str, *after: str) -> Damage:
    async def do(admin: Admin, names: LoopTopics) -> None:
        await admin.delete(getattr(names, purpose))

    return Damage(f"{purpose} deleted", do, (rf"{purpose} ({words})",), after)


def _more(purpose: str, words: tuple[str, ...]) -> Damage:
    async def do(admin: Admin, names: LoopTopics) -> None:
        await admin.add_partitions(getattr(names, purpose), 3)

    return Damage(f"partitions added to {purpose}", do, words, ("must have" if purpose != "events" else "at least 3",))


DAMAGES = (
    # The join of a log that was made anew begins anew, although learning stays down.
    _anew("training", "its end is gone"),
    _gone("training", "does not exist any more", "waiting for topics"),
    _more("training", ("training has 3 partitions",)),
    _gone("labels", "does not exist any more|did not exist", "as many as", "waiting for topics"),
    _anew("labels", "and was joined up to", "is not in Kafka any more"),
    _more("labels", ("scored has 2 partitions",)),
    _anew("snapshots", '"event":"restored"', joins=True),
    _anew("events", "has no position and begins at the first record", joins=True),
    _more("events", ("predictions has 2 partitions and needs at least 3", "Add partitions")),
    _anew("scored", "and was joined up to", "is not in Kafka any more"),
    _more("scored", ("scored has 3 partitions",)),
)


@dataclass
class Small:
    """A small loop of its own on the brokers of a ground: what is done to it cannot be undone."""

    at: Ground
    scenario: Scenario
    fleet: Fleet
    admin: Admin
    sent: int = 0

    @property
    def names(self) -> LoopTopics:
        """The names of its topics."""
        return self.scenario.domain.topics

    async def learns(self, partition: int | None = None) -> None:
        """Send events and labels; wait until they are answered, and a snapshot is newer."""
        snapshots = TopicPartition(self.names.snapshots, 0)
        before = (await self.at.topics.reader.range_of(snapshots)).end
        events, labels = pairs(EVENTS, now_ms(), first=self.sent)
        self.sent += EVENTS
        await self.scenario.user.events(*events, partition=partition)
        await self.scenario.user.labels(*labels)

        async def done() -> bool:
            answered = {each["event_id"] for each in await self.scenario.user.predictions()}
            held = await self.at.topics.reader.range_of(snapshots)
            return held.end > before and len(answered) == self.sent

        await until(done, f"{self.sent} events are answered and a snapshot is newer")


@asynccontextmanager
async def small(at: Ground, folder: Path) -> AsyncIterator[Small]:
    """Make such a loop, with one worker that has learned something."""
    await asyncio.to_thread(folder.mkdir)
    form = LogForm("kafka", at.scenario.form.address, folder)
    scenario = await Scenario.make(form, folder, horizon="20s", snapshots={"every": "300ms", "publish": "200ms"})
    fleet, admin = Fleet(scenario.config, TOGETHER, at.rng, folder), scenario.log.admin()
    try:
        await fleet.start_all()
        made = Small(at, scenario, fleet, admin)
        await made.learns()
        await asyncio.sleep(WATCHED_S)
        yield made
    finally:
        await admin.close()
        fleet.close()
        await scenario.close()


@fault("F29", "a topic is deleted, expanded, compacted or cut", ci=15, full=60, limit_s=540)
async def topics(trial: Trial) -> Result:
    """What breaks a promise ends the worker within 10 s, with the reason; what does not is said, and all goes on."""
    result = Result()
    async with ground(trial.folder, trial.seed) as at:
        await at.warm_up()
        await _compacted(at, result)
        result.add(await at.finish())
        result.notes.append("events, lost and twice are those of the loop whose topics were compacted, 2 times of all")
        await at.fleet.stop("all")
        while result.times < trial.times:
            damage = (*DAMAGES, None, None)[(result.times - 2) % (len(DAMAGES) + 2)]
            async with small(at, trial.folder / f"loop-{result.times}") as loop:
                try:
                    if damage is not None:
                        await _damaged(loop, damage, result)
                    elif result.times % 2:
                        await _expanded(loop, result)
                    else:
                        await _cut(loop, result)
                except AssertionError as failure:
                    failure.add_note(f"after {damage}")
                    raise
            result.times += 1
    return result


async def _compacted(at: Ground, result: Result) -> None:
    """Compaction is refused, by the next process too, until it is switched off."""
    names, admin = at.scenario.domain.topics, at.scenario.log.admin()
    for topic in (names.training, names.scored):
        async with at.load.flowing():
            await asyncio.sleep(WATCHED_S)
            worker = at.fleet.running.pop("all")
            await admin.alter(topic, {"cleanup.policy": "compact"})
            await _says(worker, ENDED, f"{topic}: cleanup.policy is compact and must be delete", result)
            assert await worker.end(ENDED_S) > 0
            await at.fleet.start("all")
            assert await at.fleet.running.pop("all").end(ENDED_S) > 0, "a start with a compacted topic is refused"
            await admin.alter(topic, {"cleanup.policy": "delete"})
            await at.fleet.start("all")
        await at.check(f"{topic} was compacted for a while")
        result.times += 1
    await admin.close()


async def _damaged(loop: Small, damage: Damage, result: Result) -> None:
    worker = loop.fleet.running.pop("all")
    await damage.do(loop.admin, loop.names)
    for words in damage.words:
        await _says(worker, ENDED, words, result)
    assert await worker.end(ENDED_S) > 0
    before = await _appended(loop)
    again = await loop.fleet.start("all")
    await until(
        lambda: any(each in _log(again) for each in damage.after), f"the next process says {' or '.join(damage.after)}"
    )
    await asyncio.sleep(JOINED_S)
    claims, blocks = (now - then for now, then in zip(await _appended(loop), before, strict=True))
    assert damage.joins or not blocks, (
        f"{damage.what}: a process that refuses has appended {blocks} blocks\n{_log(again)}"
    )
    if claims or blocks:
        result.notes.append(f"{damage.what}: the next process appended {claims} claims and {blocks} blocks")


async def _appended(loop: Small) -> tuple[int, int]:
    """Return how many claims and blocks the training log holds; none where there is no log."""
    if not await loop.admin.describe([loop.names.training]):
        return 0, 0
    contents = [decode_training(record.value or b"") for record in await loop.scenario.user.read(loop.names.training)]
    return sum(isinstance(each, Claim) for each in contents), sum(isinstance(each, TrainingBlock) for each in contents)


async def _expanded(loop: Small, result: Result) -> None:
    """Events get a partition after the predictions have one."""
    names, worker = loop.names, loop.fleet.running["all"]
    await loop.admin.add_partitions(names.predictions, 3)
    await loop.admin.add_partitions(names.events, 3)
    await _says(worker, SAID, f"{names.events} has 3 partitions and had 2", result)
    await loop.learns(partition=2)
    loop.fleet.complain_of_the_dead()


async def _cut(loop: Small, result: Result) -> None:
    """The training log keeps less, and loses its beginning."""
    names, worker = loop.names, loop.fleet.running["all"]
    await loop.admin.alter(names.training, {"retention.ms": str(7 * 24 * 3_600_000)})
    await _says(worker, SAID, f"{names.training}: retention.ms is", result)
    await _delete_records(loop.at, names.training, 3)
    await _says(worker, SAID, f"{names.training} begins at offset 3", result)
    await loop.learns()
    await loop.fleet.kill("all")
    await loop.fleet.start("all")
    await loop.learns()


async def _says(worker: Worker, events: Sequence[str], words: str, result: Result) -> None:
    """Wait until a worker says something, as a pattern has it, in one line."""
    began_s = time.monotonic()
    await until(
        lambda: any(
            re.search(words, line) and any(event in line for event in events) for line in _log(worker).splitlines()
        ),
        f"{worker.errors} says {words}",
        REFUSED_S,
    )
    result.recovered("named", time.monotonic() - began_s)


def _log(worker: Worker) -> str:
    return worker.errors.read_text() if worker.errors.exists() else ""


async def _delete_records(at: Ground, topic: str, before: int) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=at.brokers.bootstrap)
    await start_or_close(client)
    try:
        await client.delete_records({KafkaPartition(topic, 0): RecordsToDelete(before_offset=before)})
    finally:
        await close_admin(client)
