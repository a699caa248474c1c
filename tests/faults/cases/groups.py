"""Groups of members: those that come and go all the time, and those whose offsets are gone."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import APART, Ground, ground, now_ms
from tests.faults.group_offsets import GROUP_SUBSCRIBED_TO_TOPIC, NON_EMPTY_GROUP, delete_group, delete_offsets
from tests.faults.topics import gap_of
from tests.scenarios.harness import InVain

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.errors import LogError
from tailrace.domain.status import Role
from tailrace.streams.log import RecordBatch, SourceSpec

# ── F25 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

BASE = {"score-1": ("score",), "score-2": ("score",), "join-1": ("join",), "join-2": ("join",), "learn": ("learn",)}
PASSING = {"score-3": ("score",), "join-3": ("join",)}
EVENTS_PER_S = 200.0
EVERY_S = 2.0
STEADY_S = 6.0
LEAST_SHARE = 0.3
COMMITTED_S = 10.0
JOINED_S = 30.0
GIVEN = re.compile(r" reads (?!nothing)")
"""In a member's log when its group gave it partitions."""


@dataclass(frozen=True)
class Work:
    """What came in a span: predictions, and examples in blocks, each per second.

    Attributes:
        predictions: How many.
    """

    predicted: float
    learned: float
    predictions: int


@fault(
    "F25", "rebalance storm: members join and leave every 2 s, then each restarts in turn", ci=20, full=100, limit_s=420
)
async def storm(trial: Trial) -> Result:
    """Half of it with dynamic members, half with static ones; all are on one host, under one host name."""
    result = Result()
    for static in (False, True):
        name = "static" if static else "dynamic"
        async with ground(trial.folder / name, trial.seed, teams=BASE) as at:
            for member, roles in (BASE | PASSING).items():
                at.fleet.enlist(member, roles, *([f"instance={member}"] if static else []))
            await _start(at, list(BASE))
            times = (trial.times + 1 - static) // 2
            async with at.load.flowing(EVENTS_PER_S):
                await asyncio.sleep(STEADY_S)
                steady = await _work(at, now_ms() - int(STEADY_S * 750), now_ms())
                began_ms, given = now_ms(), _assignments(at)
                await _come_and_go(at, times)
                during = await _work(at, began_ms, now_ms())
                await at.until(
                    lambda given=given, times=times: _assignments(at) - given >= times,
                    f"{times} changes of members",
                    JOINED_S,
                )
                rounds = _assignments(at) - given
                rolled_ms = now_ms()
                for member in list(at.fleet.running):
                    await at.fleet.stop(member)
                    await at.fleet.start(member)
                    await _has_joined(at, member)
                result.recovered("heal", await at.recovered(now_ms()))
                rolling = await _work(at, rolled_ms, now_ms())
            shares = [during.predicted / steady.predicted, during.learned / steady.learned]
            assert min(shares) >= LEAST_SHARE, f"{name}: {during} in the storm, {steady} before it"
            rolled = [rolling.predicted / steady.predicted, rolling.learned / steady.learned]
            assert min(rolled) >= LEAST_SHARE, f"{name}: {rolling} while all were restarted, {steady} before it"
            await at.check(f"a storm of {times} with {name} members")
            await _nothing_uncommitted(at)
            result.predictions.append(during.predictions)
            result.times += times
            result.notes.append(
                f"{name} members, at {steady.predicted:.0f} predictions/s and {steady.learned:.0f} examples/s before: "
                f"{shares[0]:.0%} and {shares[1]:.0%} of that during the storm, "
                f"{rolled[0]:.0%} and {rolled[1]:.0%} while they were restarted one after the other; partitions were "
                f"given {rounds} times in the storm"
            )
            result.add(await at.finish())
    return result


async def _start(at: Ground, names: Sequence[str]) -> None:
    for name in names:
        await at.fleet.start(name)
    await at.load.piece(60)
    await at.quiet()


async def _come_and_go(at: Ground, times: int) -> None:
    """Have a scorer and a joiner come and go, in turn; one that came goes when it was given partitions, not before."""
    for number in range(times):
        begun_s = time.monotonic()
        name = list(PASSING)[number % 2]
        if name in at.fleet.running:
            await _has_joined(at, name)
            await at.fleet.stop(name)
        else:
            await at.fleet.start(name)
        await asyncio.sleep(max(0.0, begun_s + EVERY_S - time.monotonic()))


async def _has_joined(at: Ground, name: str) -> None:
    """Wait until a member was given partitions."""
    worker = at.fleet.running[name]
    await at.until(lambda: GIVEN.search(worker.said) is not None, f"{name} has joined its group", JOINED_S)


async def _work(at: Ground, since_ms: int, until_ms: int) -> Work:
    predicted = sum(map(len, (await at.predicted_since(since_ms, until_ms)).values()))
    (column,) = await at.topics.read(at.scenario.domain.topics.training)
    learned = sum(
        len(content.examples)
        for record, content in zip(column.records, column.decoded, strict=True)
        if isinstance(content, TrainingBlock) and since_ms < record.timestamp <= until_ms
    )
    seconds = (until_ms - since_ms) / 1000
    return Work(predicted / seconds, learned / seconds, predicted)


async def _nothing_uncommitted(at: Ground) -> None:
    """What is done is committed a moment later: commits are not stuck."""
    end_s = time.monotonic() + COMMITTED_S
    while (gap := await gap_of(at.topics)).scored or gap.joined:
        if time.monotonic() >= end_s:
            raise at.in_vain(f"{COMMITTED_S} s after all was quiet, {gap} are not committed")
        await asyncio.sleep(0.2)


def _assignments(at: Ground) -> int:
    """Return how often the groups of scorers and joiners gave partitions to their first members, which stay throughout."""
    staying = [path for path in at.fleet.logs if path.stem.endswith(("score-1", "join-1"))]
    return sum(len(GIVEN.findall(path.read_text())) for path in staying)


# ── F30 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

LONG_EVENTS = 1_500
"""40 ms apart: twice what horizon and disorder remember."""
DELETED_S = 20.0
REFUSED_S = 10.0


@fault("F30", "offsets of groups deleted", ci=4, full=20, limit_s=420)
async def deleted_offsets(trial: Trial) -> Result:
    """All groups, or one; of members that run, what Kafka allows; the group as a whole, or what it has committed."""
    result = Result()
    async with ground(trial.folder, trial.seed, teams=APART) as at:
        await at.warm_up(LONG_EVENTS)
        for number in range(trial.times):
            roles = (("score", "join", "learn"), ("join",), ("score",), ("learn",))[number % 4]
            await _kafka_keeps_what_is_in_use(at)
            async with at.load.flowing():
                await asyncio.sleep(at.rng.uniform(0.3, 1.5))
                for role in roles:
                    await (at.fleet.kill if at.rng.random() < 0.5 else at.fleet.stop)(role)
                for role in roles:
                    await _delete(at, role, whole=number // 2 % 2 == 0)
                began_ms = now_ms()
                for role in roles:
                    await at.fleet.start(role)
                seconds = [await at.recovered(began_ms)] if "score" in roles else []
                if "join" in roles:
                    seconds.append(await at.appended(at.scenario.domain.topics.training, began_ms))
                if "learn" in roles:
                    seconds.append(await at.appended(at.scenario.domain.topics.snapshots, began_ms))
                result.recovered("heal", max(seconds))
            await at.check(f"the offsets of {', '.join(roles)} were deleted")
            await _nothing_uncommitted(at)
            result.times += 1
        again = _scored_again(at)
        assert again >= LONG_EVENTS // 2, f"only {again} events were scored again: were any offsets deleted?"
        result.add(await at.finish())
        await _refuses_without_earliest(at)
    result.notes.append(
        f"{again} events were scored again, none of them was settled twice; Kafka keeps what groups "
        "with members have committed; the second reset is an option of a source that no worker uses: a source that may "
        "not begin at the earliest record refuses, and names the group"
    )
    return result


async def _kafka_keeps_what_is_in_use(at: Ground) -> None:
    domain, bootstrap = at.scenario.domain, at.brokers.bootstrap
    group = domain.group(Role.SCORE)
    kept = await delete_group(bootstrap, group)
    assert kept == NON_EMPTY_GROUP, f"a group with members: {kept or 'deleted'}"
    kept = await delete_offsets(bootstrap, group, domain.topics.events, range(at.topics.partitions))
    assert kept == GROUP_SUBSCRIBED_TO_TOPIC, f"offsets of a group with members: {kept or 'deleted'}"


async def _delete(at: Ground, role: str, *, whole: bool) -> None:
    """Delete a group, or its offsets; one that was killed has members until its session is over."""
    names, bootstrap = at.scenario.domain.topics, at.brokers.bootstrap
    group = at.scenario.domain.group(Role(role))
    topics = {
        "score": [names.events],
        "join": [names.scored, names.labels, names.relabelled],
        "learn": [names.training],
    }
    end_s = time.monotonic() + DELETED_S
    while True:
        if whole:
            kept = [await delete_group(bootstrap, group)]
        else:
            kept = [
                await delete_offsets(bootstrap, group, topic, range(await at.topics.reader.partitions(topic)))
                for topic in topics[role]
            ]
        if not any(kept):
            break
        if time.monotonic() >= end_s:
            raise InVain(f"{group} is not deleted: {kept}")
        await asyncio.sleep(0.2)
    left = await at.topics.reader.group_offsets(group)
    assert not left, f"{group} was deleted and has {left}"


def _scored_again(at: Ground) -> int:
    rows = Counter(
        (block.source_partition, int(offset))
        for column in at.topics.scored
        for block in column.decoded
        for offset in block.source_offsets
    )
    return rows.total() - len(rows)


async def _refuses_without_earliest(at: Ground) -> None:
    """The other reset: a source that may not begin at the earliest record does not begin at all, and says why."""
    names, group = at.scenario.domain.topics, at.scenario.domain.group(Role.SCORE)
    await at.fleet.stop("score")
    await _delete(at, "score", whole=True)

    async def take(batch: RecordBatch) -> None:
        raise AssertionError(f"{len(batch.records)} records were delivered")

    source = at.scenario.log.source(SourceSpec(group, (names.events,), from_earliest=False), take)
    await source.start()
    end_s = time.monotonic() + REFUSED_S
    while not source.crashed:
        if time.monotonic() >= end_s:
            raise at.in_vain(f"not refused within {REFUSED_S} s")
        await asyncio.sleep(0.05)
    await source.stop()
    reason = str(source.crash_reason)
    assert isinstance(source.crash_reason, LogError), source.crash_reason
    assert group in reason, reason
    assert "restore the group's offsets" in reason, reason
