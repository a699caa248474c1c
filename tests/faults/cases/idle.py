"""What is idle: labels that never come, a loop without any traffic, one partition of several, a joiner that lags."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.members import owners
from tests.faults.memory import cpu_s, memory_of
from tests.faults.workload import HORIZON_MS
from tests.scenarios.harness import until

from tailrace.domain.records import LEARNER

PIECES = 12
PIECE_EVENTS = 60

IDLE_AFTER_S = 8
EXPIRED_S = 30.0
STILL_S = 32.0
ANSWERED_S = 1.5
CPU_SHARE = 0.15
"""Of one core, for a process with all roles: three members that fetch twenty times a second, heartbeats, timers."""

GROWTH_MB = 48.0
APART_S = 12.0
"""Below the session timeout, so that the group does not move the partitions of a joiner that stands still."""


async def send(at: Ground, pieces: int, *, without: tuple[str, int | None]) -> None:
    """Send what a workload makes, but nothing to one topic, or to one partition of it.

    Args:
        without: "events" or "labels", and a partition; None: all of them.
    """
    topic, partition = without
    for _ in range(pieces):
        await at.load.send(
            [
                record
                for record in at.load.workload.piece(PIECE_EVENTS)
                if record.topic != topic or partition not in (None, record.partition)
            ]
        )
        await asyncio.sleep(0.1)


async def dropped_by(at: Ground, partitions: set[int]) -> int:
    """Wait until every one of some partitions has dropped events whose labels did not come; return how many all have."""
    end_s = time.monotonic() + EXPIRED_S
    while True:
        await at.topics.refresh()
        counts = dict.fromkeys(range(at.topics.partitions), 0)
        for block in at.topics.blocks():
            counts[block.partition] += len(block.dropped.ids)
        if all(counts[partition] for partition in partitions):
            return sum(counts.values())
        if time.monotonic() >= end_s:
            raise at.in_vain(f"after {EXPIRED_S} s only these have dropped events: {counts}")
        await asyncio.sleep(0.2)


def takeovers(at: Ground) -> int:
    """Return how often a member was given partitions, as the workers log it."""
    return sum(log.read_text().count('"source of ') for log in at.fleet.logs)


@fault("IDLE-1", "no labels at all", ci=1, full=10, limit_s=180)
async def no_labels(trial: Trial) -> Result:
    """Events expire once the labels partitions have been quiet for `idle_after`, and not before."""
    result = Result()
    for number in range(trial.times):
        folder = trial.folder / str(number)
        async with (
            ground(folder, trial.seed + number, idle_after=f"{IDLE_AFTER_S}s") as at,
            memory_of(at.fleet) as memory,
        ):
            await at.fleet.start_all()
            began_s = time.monotonic()
            await send(at, PIECES, without=("labels", None))
            found = await at.check("events without labels")
            if time.monotonic() - began_s >= IDLE_AFTER_S:
                raise at.in_vain(f"it took more than {IDLE_AFTER_S} s to send and check: whether it waits was not seen")
            assert not found.outcomes["dropped"], "events expired although a label might still have come"
            dropped = await dropped_by(at, set(range(at.topics.partitions)))
            await at.check("quiet labels partitions were moved")
            result.add(await at.finish())
            assert memory.grown_mb < GROWTH_MB, f"a worker grew by {memory.grown_mb:.0f} MB"
            result.times += 1
            result.notes.append(f"{dropped} events expired without any label, memory grew by {memory.grown_mb:.0f} MB")
    return result


@fault("IDLE-2", "nothing is sent for half a minute", ci=1, full=5, limit_s=240)
async def nothing_at_all(trial: Trial) -> Result:
    """No CPU is burnt, the groups stay as they are, and the first event afterwards is answered at once."""
    result = Result()
    async with ground(trial.folder, trial.seed) as at:
        await at.warm_up()
        for _ in range(trial.times):
            pids = [worker.pid for worker in at.fleet.running.values()]
            given, spent_s, began_s = takeovers(at), sum(map(cpu_s, pids)), time.monotonic()
            await asyncio.sleep(STILL_S)
            share = (sum(map(cpu_s, pids)) - spent_s) / (time.monotonic() - began_s) / len(pids)
            assert takeovers(at) == given, f"a group moved its partitions while nothing happened\n{at.tails()}"
            asked_ms = now_ms()
            await at.load.piece(PIECE_EVENTS)
            seconds = await at.recovered(asked_ms, within_s=ANSWERED_S)
            assert share < CPU_SHARE, f"an idle process took {share:.0%} of a core"
            await at.check(f"{STILL_S:.0f} s without any traffic")
            result.times += 1
            result.notes.append(f"an idle process takes {share:.1%} of a core; answered {seconds:.2f} s after idleness")
        result.add(await at.finish())
    return result


@fault("IDLE-3", "one partition of four is idle", ci=2, full=10, limit_s=240)
async def one_partition(trial: Trial) -> Result:
    """By turns of labels and of events: the others go on, and what waits in the idle one comes to its end."""
    result = Result()
    async with ground(trial.folder, trial.seed, idle_after="2s") as at, memory_of(at.fleet) as memory:
        await at.warm_up()
        for number in range(trial.times):
            topic, partition = ("labels", "events")[number % 2], at.rng.randrange(at.topics.partitions)
            before_ms = now_ms()
            await send(at, PIECES, without=(topic, partition))
            others = set(range(at.topics.partitions)) - ({partition} if topic == "events" else set())
            await at.recovered(before_ms, others)
            await at.check(f"{topic} {partition} was idle")
            dropped = await dropped_by(at, set(range(at.topics.partitions)))
            result.times += 1
            result.notes.append(f"{topic} {partition} idle: {dropped} events have expired so far")
        assert memory.grown_mb < GROWTH_MB, f"a worker grew by {memory.grown_mb:.0f} MB"
        result.add(await at.finish())
    return result


def spread_s(at: Ground) -> float:
    """Return how far apart the partitions' labels watermarks lie, by their last blocks."""
    watermarks = [vector.labels_watermark_ms for vector in at.topics.vectors().values()]
    return (max(watermarks) - min(watermarks)) / 1_000


async def both_join(at: Ground) -> bool:
    """Return whether two workers own partitions; the group may have begun with one."""
    return len({name for part, name in (await owners(at)).items() if part != LEARNER}) == 2


@fault("IDLE-4", "two joiners far apart", ci=2, full=20, limit_s=300)
async def joiners_apart(trial: Trial) -> Result:
    """By turns one stands still and goes on, or is killed and comes back: it catches up, and nothing is lost by it."""
    result = Result()
    teams = {"score": ("score",), "join-1": ("join",), "join-2": ("join",), "learn": ("learn",)}
    async with ground(trial.folder, trial.seed, teams=teams, session_timeout="20s") as at:
        await at.warm_up()
        await until(lambda: both_join(at), "both joiners have partitions")
        for number in range(trial.times):
            name, is_killed = at.rng.choice(["join-1", "join-2"]), number % 2 == 1
            async with memory_of(at.fleet) as memory, at.load.flowing():
                await asyncio.sleep(1.0)
                if is_killed:
                    await at.fleet.kill(name)
                else:
                    at.fleet.running[name].signal(signal.SIGSTOP)
                await asyncio.sleep(APART_S)
                await at.topics.read(at.scenario.domain.topics.training)
                apart_s = spread_s(at)
                if is_killed:
                    await at.fleet.start(name)
                else:
                    at.fleet.running[name].signal(signal.SIGCONT)
                back_s = time.monotonic()
            await at.check(f"{name} {'was killed' if is_killed else 'stood still'}")
            caught_up_s = time.monotonic() - back_s
            assert apart_s > HORIZON_MS / 1_000, f"the joiners were only {apart_s:.0f} s apart"
            assert memory.grown_mb < GROWTH_MB, f"a worker grew by {memory.grown_mb:.0f} MB"
            result.times += 1
            result.notes.append(
                f"watermarks were {apart_s:.0f} s apart, with a horizon of {HORIZON_MS // 1_000} s; "
                f"all caught up {caught_up_s:.0f} s later"
            )
        result.add(await at.finish())
    return result
