"""A store that is down, slow or full: serving and learning go on, two snapshots wait, and it heals by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from tests.scenarios.harness import Scenario, fill_disk, now_ms, pairs, small_disk, until
from tests.stores.s3_server import BUCKET, KEY_ID, SECRET, Proxy, S3Server, proxied, s3_server

from tailrace.domain.snapshots import Kind, Manifest
from tailrace.domain.status import Role, Verdict
from tailrace.inspection.reading import opened
from tailrace.inspection.status import picture_of
from tailrace.main import Process
from tailrace.opening import open_trust
from tailrace.stores import snapshot_file
from tailrace.streams import snapshot_queue
from tailrace.streams.snapshot_index import unsealed


@pytest.fixture(autouse=True)
def _told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_queue, "SLOW_AFTER_MS", 300)


@pytest.fixture
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    with proxied(server) as proxy:
        yield proxy


def in_a_bucket(endpoint: str) -> dict[str, str]:
    access = {"store": f"s3://{BUCKET}/loops", "endpoint": endpoint, "key_id": KEY_ID, "secret": SECRET}
    return {"every": "100ms", "publish": "100ms", **access}


class Flow:
    """Sends pairs, and waits until they are learned."""

    def __init__(self, scenario: Scenario, process: Process) -> None:
        self.scenario = scenario
        self.process = process
        self.sent = 0

    async def learn(self, count: int = 10) -> None:
        before, first = self.scenario.learned(self.process), self.sent
        self.sent += count
        events, labels = pairs(count, now_ms(), first=first)
        await self.scenario.user.events(*events)
        await self.scenario.user.labels(*labels)
        await until(lambda: self.scenario.learned(self.process) == before + count, f"{count} more are learned")

    async def learn_until(self, done: Callable[[], Any], what: str) -> None:
        """Go on learning until something holds."""
        ended = asyncio.get_running_loop().time() + 20.0
        while not done():
            assert asyncio.get_running_loop().time() < ended, f"learned in vain until {what}"
            await self.learn(2)

    @property
    def counts(self) -> dict[str, int]:
        return self.scenario.loop_of(self.process).recorder.counts

    def remark(self) -> str:
        picture = self.scenario.loop_of(self.process).heartbeat.picture()
        return next(role.reason for role in picture.roles if role.role is Role.LEARN)

    async def manifests(self, kind: Kind = Kind.SNAPSHOT) -> list[Manifest]:
        records = await self.scenario.user.read(self.scenario.domain.topics.snapshots)
        trusted = open_trust(self.scenario.settings)
        found = [unsealed(record, trusted) for record in records if record.value is not None]
        return [manifest for manifest in found if manifest.kind is kind]


def assert_chained(manifests: list[Manifest]) -> None:
    """Each names the one before it, by digest, and numbers have no gap."""
    assert list(range(1, len(manifests) + 1)) == [manifest.number for manifest in manifests]
    assert [None, *(manifest.digest for manifest in manifests)][:-1] == [each.previous_digest for each in manifests]
    assert sorted(each.position for each in manifests) == [each.position for each in manifests]


async def test_a_loop_keeps_its_snapshots_in_a_bucket_and_starts_from_them(server, made):
    scenario = await made(snapshots=in_a_bucket(server.endpoint))
    process = await scenario.start()
    flow = Flow(scenario, process)
    await flow.learn(20)
    await scenario.stop(process)

    again = await scenario.start()

    newest = (await flow.manifests())[-1]
    assert newest.store_path in await asyncio.to_thread(server.store("loops").paths)
    assert 20 == scenario.learned(again)
    assert 0 == scenario.loop_of(again).recorder.counts["learned"], "it began with the snapshot, nothing was folded"


@pytest.mark.parametrize("how", ["hang", "cut"])
async def test_while_the_store_does_not_answer_learning_and_serving_go_on_and_it_heals_by_itself(
    server, proxy, made, how
):
    """Defence: the queue between learner and store, and its tries."""
    scenario = await made(snapshots=in_a_bucket(proxy.endpoint))
    flow = Flow(scenario, await scenario.start())
    await flow.learn_until(lambda: flow.counts["snapshots"] >= 2, "snapshots are stored")

    getattr(proxy, how)()
    await flow.learn_until(lambda: flow.counts["snapshots_replaced"] >= 3, "more snapshots come than may wait")
    told, stored = flow.remark(), flow.counts["snapshots"]
    published = flow.counts["publications"]
    await flow.learn_until(lambda: flow.counts["publications"] > published, "publications pass by the store")
    async with opened(scenario.settings) as reading:
        name, loop = next(iter(scenario.settings.loops.items()))
        await until(lambda: _says(reading, name, loop, "2 snapshots wait"), "the status says so")
    proxy.heal()
    await flow.learn_until(lambda: flow.counts["snapshots"] >= stored + 3, "snapshots are stored again")

    assert told.startswith(f"2 snapshots wait: the store s3://{BUCKET}/loops ")
    assert "; learning and serving go on" in told
    assert SECRET not in told
    await until(lambda: flow.remark() == "", "nothing is said any more")
    assert_chained(await flow.manifests())
    answered = {each["event_id"] for each in await scenario.user.predictions()}
    assert {f"e{number}" for number in range(flow.sent)} == answered


async def _says(reading, name, loop, words):
    found = await picture_of(reading, name, loop, now_ms())
    return any(each.verdict is Verdict.WARN and each.reason.startswith(words) for each in found.status.findings)


async def test_a_stop_does_not_wait_for_a_store_that_hangs_and_nothing_is_learned_twice(server, proxy, made):
    """Defence: the bound of the drain."""
    scenario = await made(snapshots=in_a_bucket(proxy.endpoint))
    process = await scenario.start()
    flow = Flow(scenario, process)
    await flow.learn_until(lambda: flow.counts["snapshots"] >= 1, "a snapshot is stored")
    proxy.hang()
    await flow.learn(30)

    async with asyncio.timeout(8.0):
        await scenario.stop(process)
    proxy.heal()
    again = Flow(scenario, await scenario.start())

    await until(lambda: scenario.learned(again.process) == flow.sent, "the tail is folded again")
    assert flow.counts["snapshots_failed"] >= 1
    again.sent = flow.sent
    await again.learn_until(lambda: again.counts["snapshots"] >= 1, "a snapshot is stored")
    assert_chained(await again.manifests())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, which is full soon."""
    with small_disk(tmp_path / "small", "256k") as folder:
        yield folder


async def test_a_full_disk_costs_snapshots_and_heals_when_there_is_space(full_disk, made):
    """Defence: the queue and its tries; and no half-written file stays."""
    scenario = await made(snapshots={"every": "100ms", "publish": "100ms", "store": f"file:{full_disk}/snapshots"})
    flow = Flow(scenario, await scenario.start())
    await flow.learn_until(lambda: flow.counts["snapshots"] >= 1, "a snapshot is stored")

    fill_disk(full_disk / "ballast")
    await flow.learn_until(lambda: flow.counts["snapshot_retries"] >= 1 and flow.remark(), "the disk is full")
    told, stored = flow.remark(), flow.counts["snapshots"]
    (full_disk / "ballast").unlink()
    await flow.learn_until(lambda: flow.counts["snapshots"] > stored + 1, "snapshots are stored again")

    assert "No space left on device" in told
    assert "learning and serving go on" in told
    assert_chained(await flow.manifests())
    assert [] == list(full_disk.rglob(".writing-*"))


HOLDING = """
from river import base


class Holding(base.Classifier):
    # Between two numbers of examples it holds what has no place in a state.

    learned: int = 0
    held: object = None

    def learn_one(self, x, y):
        self.learned += 1
        self.held = (lambda: None) if 20 <= self.learned < 1_000 else None

    def predict_proba_one(self, x):
        return {False: 0.5, True: 0.5}


def build():
    return Holding()
"""


async def test_a_state_that_cannot_be_encoded_is_told_and_learning_and_serving_go_on(made, tmp_path):
    """Defence: the remark about what could not be taken. The same for a state beyond the codec's caps."""
    (tmp_path / "holding_models.py").write_text(HOLDING)
    scenario = await made(
        champion={"model": "holding_models:build", "experimental": True},
        snapshots={"every": "100ms", "publish": "100ms"},
    )
    process = await scenario.start()
    flow = Flow(scenario, process)
    await flow.learn_until(lambda: flow.counts["snapshots"] and flow.counts["publications"], "both are stored")

    await flow.learn(40)
    await flow.learn_until(lambda: flow.counts["snapshots_failed"] >= 3, "it is tried again and again")
    told, stored = flow.remark(), flow.counts["snapshots"]
    async with opened(scenario.settings) as reading:
        name, loop = next(iter(scenario.settings.loops.items()))
        await until(lambda: _says(reading, name, loop, "no snapshots and publications could"), "the status says so")
    await flow.learn(1_000)
    await flow.learn_until(lambda: flow.counts["snapshots"] > stored + 1, "it has let go, and snapshots are stored")

    assert "could be taken since " in told
    assert "each interval tries again; learning and serving go on (the state holds " in told
    await until(lambda: flow.remark() == "", "nothing is said any more")
    lines = generate_latest(process.instruments.registry).decode().splitlines()
    failed = [line for line in lines if line.startswith("tailrace_snapshots_total") and 'outcome="failed"' in line]
    assert {"publication", "snapshot"} == {kind for kind in ("publication", "snapshot") if f'"{kind}"' in str(failed)}
    answered = {each["event_id"] for each in await scenario.user.predictions()}
    assert {f"e{number}" for number in range(flow.sent)} == answered


async def test_no_memory_for_a_snapshot_is_told_and_tried_again(made, monkeypatch):
    """Defence: it ended the process. Nothing of the state is harmed, only bytes of it could not be made."""
    scenario = await made(snapshots={"every": "100ms", "publish": "100ms"})
    flow = Flow(scenario, await scenario.start())
    pack = snapshot_file.pack

    def starved(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr(snapshot_file, "pack", starved)
    await flow.learn_until(lambda: flow.counts["snapshots_failed"] >= 2, "it is tried again")
    told, stored = flow.remark(), flow.counts["snapshots"]
    monkeypatch.setattr(snapshot_file, "pack", pack)
    await flow.learn_until(lambda: flow.counts["snapshots"] > stored, "a snapshot is stored")

    assert "this process got no memory for it" in told
    await until(lambda: flow.remark() == "", "nothing is said any more")


# Starting while the store does not answer


@pytest.fixture
def all_in_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing travel in the index alone, as with models of megabytes."""
    monkeypatch.setattr(snapshot_file, "MAX_INLINE_BYTES", 0)


async def ran_before(scenario: Scenario) -> int:
    """Run a loop until it has learned and stored something, and stop it; return how much it has learned."""
    process = await scenario.start()
    flow = Flow(scenario, process)
    await flow.learn_until(lambda: flow.counts["snapshots"] and flow.counts["publications"], "both are stored")
    await scenario.stop(process)
    return flow.sent


def refusals(process: Process) -> float:
    """Return how many snapshots were not loaded because the store gave no answer."""
    lines = generate_latest(process.instruments.registry).decode().splitlines()
    told = [line for line in lines if line.startswith("tailrace_snapshots_refused_total") and 'reason="store"' in line]
    return sum(float(line.split()[-1]) for line in told)


async def test_a_scorer_that_starts_without_its_store_serves_and_takes_up_the_kept_state_when_it_answers(
    server, proxy, all_in_the_store, made
):
    """Defence: what a store did not give is asked for again."""
    scenario = await made(snapshots=in_a_bucket(proxy.endpoint))
    await ran_before(scenario)
    proxy.cut()

    scorer = await scenario.start([Role.SCORE])
    models = scenario.loop_of(scorer).models
    before = models.current().position
    await until(lambda: refusals(scorer) >= 2, "it was asked for at the start and once more")
    proxy.heal()

    await until(lambda: models.current().position > before, "the kept state serves")
    assert 0 == before


async def test_a_learner_that_starts_without_its_store_folds_the_log_from_its_beginning(
    server, proxy, all_in_the_store, made
):
    scenario = await made(snapshots=in_a_bucket(proxy.endpoint))
    learned = await ran_before(scenario)
    proxy.cut()

    process = await scenario.start()

    await until(lambda: scenario.learned(process) == learned, "all of it is folded")
    proxy.heal()


async def test_a_learner_whose_log_has_lost_its_beginning_waits_for_its_store(server, proxy, all_in_the_store, made):
    """Defence: a store that gives no answer is no reason to stay down."""
    scenario = await made(snapshots=in_a_bucket(proxy.endpoint))
    learned = await ran_before(scenario)
    with sqlite3.connect(scenario.form.folder / "log.sqlite3") as log:
        (topic,) = log.execute("select id from topics where name = ?", (scenario.domain.topics.training,)).fetchone()
        log.execute(f"delete from r{topic}_0 where offset < 4")
    log.close()
    proxy.cut()

    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    name = scenario.domain.name
    await until(lambda: name in process.loops and Role.LEARN in process.loops[name].reports, "it is composed")
    report = process.loops[name].reports[Role.LEARN]
    await until(lambda: report.reason.endswith("it is asked again"), "it says that it waits")
    proxy.heal()

    await until(lambda: scenario.learned(process) == learned, "it goes on from the snapshot")
