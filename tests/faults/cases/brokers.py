"""Brokers that restart, are away, run out of disk, or lose what they had acknowledged."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import urllib.error
import urllib.request
from typing import Any

from tests.faults.brokers import coordinator_of, in_sync, leader_of
from tests.faults.catalog import Result, Size, Trial, fault
from tests.faults.checks import check_all
from tests.faults.disks import NoSmallDisk, SmallDisk, lose_tail
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.memory import Memory
from tests.scenarios.harness import until

from tailrace.domain.positions import offset_of

CHASES_CI, CHASES_FULL = 3, 5
DURING_AT_LEAST = 100
AWAY_S = 4.0  # longer than a broker's session: the others have taken over by then
RESUMED_S = 10.0
MOVED_S = 20.0
# What a process may take more at the end of an outage than at its beginning: the pages of one big allocation.
FLAT_BYTES = 16 << 20
SETTLE_S = 10.0
DISK_MB = 192
ENDED_S = 20.0
OF_A_LOST_TAIL = {"I1", "I2", "I3", "I9"}
"""What is broken by a broker that loses scored rows that it had acknowledged: events without an outcome, examples of rows
that are gone, and commits of them."""
RECOVERED, STAYS_DOWN = '"event":"partition recovered"', "partition stays down, scoring goes on"
_ENDS = ("a topic is not what it was", "ended: the log cannot be used as it is")  # by the watch, or by a source


@fault("F05", "a broker restarts", ci=3, full=20, limit_s=420)
async def restarts(trial: Trial) -> Result:
    """In order and by kill -9: a broker that is alone, then of three the one that leads a partition, and the next one."""
    result = Result()
    async with ground(trial.folder / "one", trial.seed) as at:
        await at.warm_up()
        for number in range(trial.times):
            async with at.load.flowing():
                await asyncio.sleep(at.rng.uniform(0.2, 1.0))
                how = ("kill -9", "in order")[number % 2]
                await _end(at.brokers, how)
                await asyncio.to_thread(at.brokers.start)
                result.recovered("heal", await at.recovered(now_ms()))
            await at.check(f"restart {number + 1} of the broker, {how}")
            result.times += 1
        result.add(await at.finish())
    async with ground(trial.folder / "three", trial.seed, brokers=3) as at:
        await at.warm_up()
        for number in range(CHASES_CI if trial.size is Size.CI else CHASES_FULL):
            names = at.scenario.domain.topics
            topic = (names.predictions, names.training, names.events)[number % 3]
            await _all_in_sync(at)
            leader = await leader_of(at.brokers.bootstrap, topic)
            how = ("kill -9", "in order")[number % 2]
            async with at.load.flowing():
                await _end(_node(at, leader), how)
                began_ms = now_ms()
                result.recovered("heal", await at.recovered(began_ms))
                await asyncio.sleep(AWAY_S)
                during = sum(map(len, (await at.predicted_since(began_ms, now_ms())).values()))
                await asyncio.to_thread(at.brokers.start)
            assert during >= DURING_AT_LEAST, f"{during} predictions while the leader of {topic} was away"
            result.predictions.append(during)
            await at.check(f"the leader of {topic}, broker {leader}, was away, {how}")
            result.times += 1
        result.add(await at.finish())
    return result


@fault("F06", "a broker is away for a while", ci=60, full=600, limit_s=420)
async def away(trial: Trial) -> Result:
    """Under load, then once more with the workers started meanwhile; the number is seconds."""
    result = Result()
    http = free_address()
    async with ground(trial.folder, trial.seed, http=http) as at:
        await at.warm_up()
        worker = at.fleet.running["all"]
        async with at.load.flowing():
            await asyncio.sleep(1.0)
            memory = Memory(worker.pid)
            before = _resident(memory)
            at.brokers.kill()
            await asyncio.sleep(SETTLE_S)
            said = await _unready(http)
            await asyncio.sleep(max(0.0, trial.times - SETTLE_S))
            grown = _resident(memory) - before
            at.fleet.complain_of_the_dead()
            assert grown < FLAT_BYTES, f"the worker grew by {grown} bytes while the broker was away"
            assert "waiting for Kafka" in worker.said, worker.tail()
            await asyncio.to_thread(at.brokers.start)
            await _resumes(at, result)
        await at.check(f"the broker was away for {trial.times} s")
        result.notes.append(f"away for {trial.times} s, the worker grew by {grown / 2**20:.1f} MiB; it said: {said}")

        await at.fleet.kill("all")
        at.brokers.kill()
        worker = await at.fleet.start("all")
        await until(lambda: "waiting for Kafka" in worker.said, "the worker says that it waits")
        assert "has not answered" in await _unready(http)
        async with at.load.flowing():
            await asyncio.to_thread(at.brokers.start)
            await _resumes(at, result)
        await at.check("the worker was started before the broker")
        result.times = 2
        result.add(await at.finish())
    return result


@fault("F07", "a group's coordinator moves", ci=3, full=20, limit_s=420)
async def coordinators(trial: Trial) -> Result:
    """Of three brokers the one is killed that coordinates the group of scorers, of joiners, or of learners."""
    result = Result()
    async with ground(trial.folder, trial.seed, brokers=3) as at:
        await at.warm_up()
        for number in range(trial.times):
            role = ("score", "join", "learn")[number % 3]
            await _all_in_sync(at)
            node = await coordinator_of(at.brokers.bootstrap, f"tailrace.{at.scenario.domain.name}.{role}")
            async with at.load.flowing():
                await asyncio.sleep(at.rng.uniform(0.2, 1.0))
                killed_ms = now_ms()
                _node(at, node).kill()
                result.recovered("heal", await at.recovered_after(killed_ms, within_s=MOVED_S))
                result.recovered("commits", await _commits_go_on(at, killed_ms))
                result.predictions.append(sum(map(len, (await at.predicted_since(killed_ms, now_ms())).values())))
                await asyncio.to_thread(at.brokers.start)
            await at.check(f"broker {node}, which coordinates {role}, was killed")
            result.times += 1
        result.add(await at.finish())
    return result


@fault("F20", "a broker's disk is full", ci=2, full=10, limit_s=300)
async def full_disk(trial: Trial) -> Result:
    """The broker ends by itself; what it acknowledged is answered once there is room and it runs again."""
    result = Result()
    try:
        disk = await asyncio.to_thread(SmallDisk, DISK_MB)
    except NoSmallDisk as why:
        if os.environ.get("TAILRACE_REQUIRE_KAFKA") == "1":
            raise
        result.skipped = str(why)
        return result
    try:
        http = free_address()
        (trial.folder / "kafka").mkdir()
        (trial.folder / "kafka" / "data").symlink_to(disk.path, target_is_directory=True)
        async with ground(trial.folder, trial.seed, http=http) as at:
            await at.warm_up()
            for number in range(trial.times):
                async with at.load.flowing():
                    await asyncio.sleep(at.rng.uniform(0.5, 1.5))
                    await asyncio.to_thread(disk.fill)
                    await until(lambda: not at.brokers.is_running, "the broker ends", 30.0)
                    said = await _unready(http)
                    at.fleet.complain_of_the_dead()
                    await asyncio.to_thread(disk.make_room)
                    await asyncio.to_thread(at.brokers.start)
                    await _resumes(at, result)
                await at.check(f"the disk was full, time {number + 1}")
                result.times += 1
            result.notes.append(f"with the disk full a worker said: {said.strip()}")
            result.add(await at.finish())
    finally:
        disk.close()
    return result


@fault("F21", "a broker without replicas loses the tail of a log", ci=2, full=20, limit_s=300)
async def lost_tail(trial: Trial) -> Result:
    """Of the training log, or of `scored`; new records take the offsets of those that were lost.

    Acknowledged records are lost here, on purpose: that is named by whoever had read them, and what the next process
    makes of it is told.
    """
    result = Result()
    for number in range(trial.times):
        async with ground(trial.folder / f"{number}", trial.seed + number) as at:
            await at.warm_up()
            names, of_training = at.scenario.domain.topics, number % 2 == 0
            topic = names.training if of_training else names.scored
            worker = at.fleet.running.pop("all")
            async with at.load.flowing():
                await asyncio.sleep(at.rng.uniform(1.5, 2.5))
                await at.topics.read(names.snapshots)
                newest = at.topics.newest_snapshot()
                assert newest is not None
                at.brokers.kill()
                partition = 0 if of_training else at.rng.randrange(at.topics.partitions)
                batches, data = at.rng.randrange(1, 6), trial.folder / f"{number}" / "kafka" / "data"
                lost = lose_tail(data, topic, partition, batches)
                while of_training and lost >= offset_of(newest.position):
                    # A snapshot of what is left would be continued, and rightly.
                    lost, batches = lose_tail(data, topic, partition, 1), batches + 1
                await asyncio.to_thread(at.brokers.start)
                back_s = time.monotonic()
                assert await worker.end(ENDED_S) > 0
                seconds = time.monotonic() - back_s
                line = next(line for line in worker.said.splitlines() if any(each in line for each in _ENDS))
                assert topic in line, line
                assert "estore" in line, line
                result.recovered("named", seconds)
                result.notes.append(f"{batches} batches of {topic}, from offset {lost} on: {line}")
                if of_training:
                    await _learning_stays_down(at, result)
                else:
                    await at.fleet.start("all")
                    await _resumes(at, result)
            if not of_training:
                result.notes.append(await _what_is_missing(at))
            result.times += 1
    return result


async def _what_is_missing(at: Ground) -> str:
    """Say what the next process makes of a `scored` that lost its tail: it serves.

    A partition that still ends before what was joined of it stays down, and that is said. One that has grown again by
    then is joined on from where the join was: rows at offsets that it had passed before are not read, the oracle tells
    them.
    """
    (worker,) = at.fleet.running.values()
    await at.until(
        lambda: worker.said.count(RECOVERED) + worker.said.count(STAYS_DOWN) >= at.topics.partitions,
        "every partition is recovered or stays down",
        ENDED_S,
    )
    down = [line for line in worker.said.splitlines() if STAYS_DOWN in line]
    if down:
        assert all("was joined up to offset" in line and "estore the topic" in line for line in down), down
        async with at.load.flowing():
            await at.appended(at.scenario.domain.topics.training, now_ms(), ENDED_S)  # the others go on
        return f"the next process serves, and joins nothing of the partition: {down[0]}"
    await at.load.ending()
    await at.quiet()
    audit = await check_all(at.topics, at.refolder, at.scenario, at.load.workload.on_two)
    found, names = audit.found, [invariant for invariant, _ in sorted(audit.violations.counts.items())]
    assert set(names) <= OF_A_LOST_TAIL, names
    assert not found.twice, f"{found.twice} were learned twice"
    is_said = any(each in worker.said for each in _ENDS) or "truncated" in worker.said
    return (
        f"the next process serves and joins on, {'and says so' if is_said else 'without a word'}: {found.lost} of "
        f"{found.events} events have no outcome, found by {', '.join(names) or 'no invariant'}"
    )


async def _learning_stays_down(at: Ground, result: Result) -> None:
    """The next process serves what was learned, and learns nothing more."""
    await at.topics.read(at.scenario.domain.topics.snapshots)
    before = at.topics.newest_snapshot()
    assert before is not None
    worker = await at.fleet.start("all")
    await _resumes(at, result)
    await until(lambda: "learning stays down, serving goes on" in worker.said, "learning stays down")
    await at.topics.read(at.scenario.domain.topics.snapshots)
    after = at.topics.newest_snapshot()
    assert after is not None
    assert (after.position, after.number) == (before.position, before.number), "a snapshot was taken of another history"


def _resident(memory: Memory) -> int:
    sample = memory.look()
    assert sample is not None, f"process {memory.pid} has ended"
    return sample.resident_bytes


def free_address() -> str:
    """Return an address that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


async def _end(broker: Any, how: str) -> None:
    await asyncio.to_thread(broker.kill if how == "kill -9" else broker.stop)


def _node(at: Ground, node: int) -> Any:
    (found,) = [broker for broker in at.brokers.brokers if broker.node_id == node]
    return found


async def _all_in_sync(at: Ground) -> None:
    """Wait until every replica is in sync: before that a second broker may not go."""
    names = at.scenario.domain.topics
    topics = (names.events, names.labels, names.predictions, names.scored, names.relabelled, names.training)

    async def synced() -> bool:
        for topic in (*topics, names.snapshots, names.status, "__consumer_offsets"):
            if any(len(nodes) < 3 for nodes in (await in_sync(at.brokers.bootstrap, topic)).values()):
                return False
        return True

    await until(synced, "all replicas are in sync", 60.0)


async def _resumes(at: Ground, result: Result) -> None:
    """Wait for predictions of every partition, at most as long as they may take after the broker's return."""
    result.recovered("heal", await at.recovered(now_ms(), within_s=RESUMED_S))


async def _commits_go_on(at: Ground, killed_ms: int) -> float:
    """Wait until every group has committed more than now; return the seconds since the kill."""
    await at.topics.refresh_committed()
    before = {role: dict(offsets) for role, offsets in at.topics.committed.items()}

    async def rose() -> bool:
        await at.topics.refresh_committed()
        return all(
            any(offset > before[role].get(partition, 0) for partition, offset in offsets.items())
            for role, offsets in at.topics.committed.items()
        )

    await until(rose, "scorers, joiners and learners commit again", MOVED_S - (now_ms() - killed_ms) / 1_000)
    return (now_ms() - killed_ms) / 1_000


async def _unready(address: str) -> str:
    """Wait until a worker says on /readyz that it is not ready; return its words."""
    said = ""

    async def unready() -> bool:
        nonlocal said
        status, said = await asyncio.to_thread(_readyz, address)
        return status == 503

    await until(unready, f"/readyz says that Kafka is away; it says {said}", 20.0)
    return said


def _readyz(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError as error:
        return 0, str(error)
