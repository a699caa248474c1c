"""A learner that has much to catch up with."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import APART, Ground, ground, now_ms
from tests.faults.memory import Memory
from tests.faults.topics import prediction_source
from tests.faults.workload import STEP_MS, Sent, Workload

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.positions import offset_of
from tailrace.domain.status import Role
from tailrace.wire.avro_codec import decode_status
from tailrace.wire.partitioner import partitions_of

LIVE_RATE = 100  # events a second while the learner catches up
BEFORE_S = 15.0
PIECE = 5_000
AHEAD = 20_000  # events sent and not joined yet: what is measured is the learner's backlog, not that of the others
AT_ONCE_S = 600.0
SLOWER = 2.5  # times, the p99 of a prediction while the learner takes a core, beside
OVERDUE_MS = 5_000
LEAST_MS = 20.0  # below which a p99 of before counts as so much: the machine has two cores for all of it
NEAR = 0.9  # of the records that it lags behind must be told at first
CATCH_UP = 5  # times the live rate
GROWS_MB = 48.0  # of the learner's memory between a quarter of the way and its end


@dataclass
class Bulk(Workload):
    """Events with their labels at once, made fast: nothing in them is hostile."""

    step_ms: int = STEP_MS

    def piece(self, events: int) -> list[Sent]:
        """Return the next events, then their labels."""
        rng, partitions = self.rng, self.partitions
        first = self._number + 1
        self._number += events
        ids = [b"e%d" % number for number in range(first, first + events)]
        sent, labels = [], []
        for number, (name, home) in enumerate(zip(ids, partitions_of(ids, partitions), strict=True)):
            self.now_ms += self.step_ms
            a, b, at_ms = rng.random() - 0.5, rng.random() - 0.5, self.now_ms
            value = b'{"id":"%s","at":%d,"a":%.6f,"b":%.6f}' % (name, at_ms, a, b)
            sent.append(Sent("events", (first + number) % partitions, None, value))
            y = b"true" if a > b else b"false"
            labels.append(Sent("labels", home, name, b'{"id":"%s","at":%d,"y":%s}' % (name, at_ms, y)))
        return [*sent, *labels]


@fault("F24", "a learner that lags by as many examples", ci=200_000, full=1_000_000, limit_s=600, lanes=1)
async def backlog(trial: Trial) -> Result:
    """Its catching up costs the scorer nothing that matters, and itself no memory."""
    result = Result()
    async with ground(trial.folder, trial.seed, teams=APART) as at:
        load = Bulk(at.rng, at.topics.partitions, at.load.workload.now_ms)
        at.load.workload = load
        await at.warm_up()
        begun_ms = now_ms()
        async with at.load.flowing(LIVE_RATE):
            await asyncio.sleep(BEFORE_S)
        await at.quiet()
        before = await _latency(at, begun_ms, now_ms())
        assert await at.fleet.stop("learn") == 0
        learned = await _examples(at)
        load.step_ms = 1
        seconds = await _pile_up(at, learned, trial.times)
        result.notes.append(f"{trial.times:,} examples piled up in {seconds:.0f} s")
        load.step_ms = STEP_MS
        await _catch_up(at, trial.times, learned + trial.times, before, result)
        result.times = trial.times
        await at.check("catching up")
        result.add(await at.finish())
    return result


async def _pile_up(at: Ground, learned: int, count: int) -> float:
    """Send until the log holds so many examples more than were learned; return the seconds."""
    begun_s, sent = time.monotonic(), 0
    while (piled := await _examples(at) - learned) < count:
        if time.monotonic() - begun_s >= AT_ONCE_S:
            raise at.in_vain(f"{piled} of {count} after {AT_ONCE_S} s")
        if sent < count and sent - piled < AHEAD:
            await at.load.piece(PIECE)
            sent += PIECE
        else:
            await asyncio.sleep(0.2)
    return time.monotonic() - begun_s


async def _catch_up(at: Ground, count: int, goal: int, before: Latency, result: Result) -> None:
    """Start the learner under a steady load; look at the scorer, at its memory and at what it says until it is there."""
    await at.topics.refresh()
    newest = at.topics.newest_snapshot()
    assert newest is not None
    lag = at.topics.training.next_offset - offset_of(newest.position)
    async with at.load.flowing(LIVE_RATE):
        begun_ms = now_ms()
        worker = await at.fleet.start("learn")
        memory = Memory(worker.pid)
        told: list[Told] = []
        end_s = time.monotonic() + AT_ONCE_S
        while not told or told[-1].learned < goal or (told[-1].left or 0) > LIVE_RATE:
            at.fleet.complain_of_the_dead()
            if time.monotonic() >= end_s:
                raise at.in_vain(f"still behind by {told[-1:]} after {AT_ONCE_S} s")
            memory.look()
            await asyncio.sleep(0.2)
            told = await _told(at, begun_ms)
        done_ms = told[-1].time_ms
    seconds = (done_ms - begun_ms) / 1_000
    after = await _latency(at, begun_ms, done_ms)
    rate = count / seconds
    result.recovered("caught up", seconds)
    result.predictions.append(sum(map(len, (await at.predicted_since(begun_ms, done_ms)).values())))
    sizes_mb = [each.resident_bytes / 1e6 for each in memory.samples]
    quarter = sizes_mb[len(sizes_mb) // 4]
    result.notes.append(
        f"p99 of a prediction {before.p99_ms:.0f} ms before, of {before.count:,} in {BEFORE_S:.0f} s, {after.p99_ms:.0f} ms "
        f"while it catches up, of {after.count:,} in {seconds:.0f} s; {rate:,.0f} examples/s, the start of the process "
        f"included; memory {quarter:.0f} MB at a quarter of the way, {max(sizes_mb):.0f} MB at most; {lag:,} records "
        f"behind at first, told were {_in_words(told)}"
    )
    lag_is_told(told, lag)
    assert after.p99_ms <= SLOWER * max(before.p99_ms, LEAST_MS), result.notes[-1]
    assert rate >= CATCH_UP * LIVE_RATE, result.notes[-1]
    assert max(sizes_mb) - quarter <= GROWS_MB, result.notes[-1]


async def _examples(at: Ground) -> int:
    await at.topics.read(at.scenario.domain.topics.training)
    return sum(len(each.examples) for each in at.topics.training.decoded if isinstance(each, TrainingBlock))


class Told(NamedTuple):
    """What a learner said of itself.

    Attributes:
        behind: Records of the training log; None: it reads nothing yet, and `reason` says what it does.
        learned: Examples.
    """

    time_ms: int
    behind: int | None
    reason: str
    learned: int

    @property
    def left(self) -> int | None:
        """How many records are left to be folded, as the reason has it, else the lag; None: nothing is told of it."""
        found = _FOLDED.search(self.reason)
        return self.behind if found is None else int(found[2]) - int(found[1])

    @property
    def whole(self) -> int:
        """How many there were to fold, as far as it is told."""
        found = _FOLDED.search(self.reason)
        return (self.behind or 0) if found is None else int(found[2])


_FOLDED = re.compile(r"folded (\d+) of (\d+) records")


def lag_is_told(told: Sequence[Told], lag: int) -> None:
    """What is told begins near the records that it lags behind, and falls; what comes in a heartbeat may be added."""
    words = f"{lag} records behind, told were {_in_words(told)}"
    assert max(each.whole for each in told) >= NEAR * lag, words
    left = [each.left for each in told if each.left is not None]
    falling = left[next(number for number, each in enumerate(left) if each == max(left)) :]
    assert falling[0] > falling[-1], words
    assert all(later <= earlier + LIVE_RATE for earlier, later in pairwise(falling)), words


def _in_words(told: Sequence[Told]) -> str:
    known = [each for each in told if each.reason or each.left is not None]
    return ", ".join(dict.fromkeys(each.reason or f"{each.left} left" for each in known))


async def _told(at: Ground, since_ms: int) -> list[Told]:
    """Return what the learner said since a moment."""
    found = []
    (column,) = await at.topics.read(at.scenario.domain.topics.status)
    for record in reversed(column.records):
        if record.timestamp < since_ms:
            break
        if record.value:
            status = decode_status(record.value)
            for role in (each for each in status.roles if each.role is Role.LEARN):
                lags = [each.lag_records for each in role.partitions if each.lag_records is not None]
                behind = sum(lags) if lags else None
                found.append(Told(record.timestamp, behind, role.reason, status.counters.get("learned", 0)))
    return found[::-1]


class Latency(NamedTuple):
    """How long predictions took.

    Attributes:
        count: Of how many.
    """

    p99_ms: float
    count: int


async def _latency(at: Ground, since_ms: int, until_ms: int) -> Latency:
    """Return the 99th percentile of the time from an event to its prediction, by the times of their records."""
    names = at.scenario.domain.topics
    asked = {
        (partition, record.offset): record.timestamp
        for partition, column in enumerate(await at.topics.read(names.events))
        for record in column.records
        if since_ms <= record.timestamp <= until_ms
    }
    answered = {
        prediction_source(record): record.timestamp
        for column in await at.topics.read(names.predictions)
        for record in column.records
        if record.timestamp >= since_ms
    }
    took = sorted(answered[source] - asked_ms for source, asked_ms in asked.items() if source in answered)
    assert took, "nothing was predicted"
    overdue = [source for source in asked.keys() - answered.keys() if asked[source] < now_ms() - OVERDUE_MS]
    assert not overdue, f"{len(overdue)} events were asked {OVERDUE_MS} ms ago and are not answered"
    return Latency(float(took[int(0.99 * (len(took) - 1))]), len(took))
