"""SIGKILL of processes, and SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tests.faults.catalog import Result, Trial, fault
from tests.faults.decisions import Decisions
from tests.faults.ground import APART, PARTITIONS, SETTLED_S, Ground, ground, now_ms
from tests.faults.members import heartbeats
from tests.faults.series import AT_START, OF_A_SNAPSHOT
from tests.faults.table import percentile
from tests.faults.topics import Gap, gap_of, prediction_source
from tests.simulation.oracle import accepted

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.positions import offset_of
from tailrace.domain.snapshots import Kind, Manifest, manifest_of
from tailrace.domain.status import Role
from tailrace.streams import failpoints
from tailrace.streams.log import TopicPartition
from tailrace.wire.avro_codec import decode_manifest

SCORERS = dict.fromkeys(("score-1", "score-2", "score-3"), ("score",))
TIMEOUTS_S = {"2s": 2.0, "10s": 10.0}
DIED_S = 60.0
BACK_S = 60.0
CHECK_EVERY = 5

OF_THE_JOIN = tuple(name for name in failpoints.NAMES if name.startswith("join."))
OF_THE_LEARNER = (*AT_START, "learn.block_folded", *OF_A_SNAPSHOT)


@fault("F01", "kill -9 a scorer, one of three", ci=20, full=200, limit_s=480, lanes=2)
async def scorers(trial: Trial) -> Result:
    """Half of the kills with a session timeout of 2 s, half with 10 s; the others go on meanwhile."""
    result = Result()
    for timeout, timeout_s in TIMEOUTS_S.items():
        teams = SCORERS | {"join": ("join",), "learn": ("learn",)}
        async with ground(trial.folder / timeout, trial.seed, teams=teams, session_timeout=timeout) as at:
            await at.warm_up()
            for number in range(trial.times // 2):
                name = at.rng.choice(list(SCORERS))
                async with at.load.flowing():
                    shares = await shares_of_scorers(at)
                    await asyncio.sleep(at.rng.uniform(0.2, 1.5))
                    killed_ms = now_ms()
                    await at.fleet.kill(name)
                    seconds = await at.recovered_after(killed_ms)
                    result.recovered(timeout, seconds)
                    await at.check_commits(f"kill {number + 1} of a scorer, {name}")
                    during = await at.predicted_since(killed_ms, killed_ms + int(seconds * 1_000))
                    result.predictions.append(sum(map(len, during.values())))
                    # Nobody can know of the death before: the last heartbeat is about a fifth of the session timeout old.
                    early_ms = killed_ms + int(timeout_s * 700)
                    early = await at.predicted_since(killed_ms + int(SETTLED_S * 1_000), early_ms)
                    silent = {partition for partition, times in early.items() if not times}
                    assert silent == shares[name], f"{name} had {shares[name]} of {shares}; silent was {silent}"
                    await at.fleet.start(name)
                result.times += 1
                if result.times % CHECK_EVERY == 0:
                    await at.check(f"kill {number + 1} of a scorer, {name}")
            result.add(await at.finish())
    return result


@fault("F02", "kill -9 the joiner at each of its fail points", ci=3, full=20, limit_s=480, lanes=2)
async def joiner(trial: Trial) -> Result:
    """Every place of the join, as often as the size says; those of its start right after another kill.

    In every third round what waits is kept on disk.
    """
    result = Result()
    for store, times in (("memory", trial.times - trial.times // 3), ("disk", trial.times // 3)):
        async with ground(trial.folder / store, trial.seed, teams=APART, join={"store": store}) as at:
            await at.warm_up()
            for number in range(times):
                await _kill_the_joiner_everywhere(at, result)
                await at.check(f"round {number + 1} of kills of a joiner with its waiting room in {store}")
            result.add(await at.finish())
    result.notes.append(f"places: {', '.join(OF_THE_JOIN)}")
    return result


async def _kill_the_joiner_everywhere(at: Ground, result: Result) -> None:
    for place in at.rng.sample(OF_THE_JOIN, len(OF_THE_JOIN)):
        async with at.load.flowing():
            killed_ms = await kill_at(at, "join", place)
            await at.check_commits(f"a kill at {place}")
            known = await block_owners(at)
            await at.fleet.start("join")
            result.recovered("2s", await first_blocks(at, killed_ms, known))
        result.times += 1


@fault("F03", "kill -9 the learner around a snapshot, at each fail point", ci=3, full=20, limit_s=480, lanes=2)
async def learner(trial: Trial) -> Result:
    """Every place of the learner, as often as the size says; it begins with what the index names, whatever lies there."""
    result, orphans, starts_s = Result(), Orphans(trial.folder / "snapshots"), list[float]()
    async with ground(trial.folder, trial.seed, teams=APART) as at:
        await at.warm_up()
        for number in range(trial.times):
            for place in at.rng.sample(OF_THE_LEARNER, len(OF_THE_LEARNER)):
                async with at.load.flowing():
                    killed_ms = await kill_at(at, "learn", place)
                    await asyncio.sleep(SETTLED_S)
                    before = await snapshots_of(at)
                    orphans.look(place, before)
                    worker = await at.fleet.start("learn")
                    result.recovered("2s", await first_snapshot(at, killed_ms, len(before)))
                began_at, seconds = restored(worker.errors)
                newest = max(before.values(), key=lambda each: each.position)
                assert began_at == offset_of(newest.position), (
                    f"after {place} the learner began at {began_at}, the newest snapshot is at {newest.position}"
                )
                starts_s.append(seconds)
                result.times += 1
            await at.check(f"round {number + 1} of kills of the learner")
        result.add(await at.finish())
    result.notes += [
        f"places: {', '.join(OF_THE_LEARNER)}",
        f"{orphans.whole} files that no index names and {orphans.unfinished} unfinished ones were left, none was loaded",
        f"load of a snapshot and fold of the log's tail: p50 {percentile(starts_s, 0.5):.2f} s, "
        f"at most {max(starts_s):.2f} s",
    ]
    return result


@fault("F04", "kill -9 everything at once, started again in any order", ci=5, full=20, limit_s=300, lanes=2)
async def everything(trial: Trial) -> Result:
    """Two scorers, a joiner and a learner; recovery is to the last of predictions, blocks and a snapshot.

    Before most kills a promotion is asked for: the learner dies before, while or after it takes it.
    """
    result, starts_s, reached_s = Result(), list[float](), list[float]()
    teams = {"score-1": ("score",), "score-2": ("score",), "join": ("join",), "learn": ("learn",)}
    async with ground(trial.folder, trial.seed, teams=teams) as at:
        await at.warm_up()
        decisions = await Decisions.begin(at)
        for number in range(trial.times):
            async with at.load.flowing():
                await asyncio.sleep(at.rng.uniform(0.2, 1.5))
                await decisions.ask()
                if number == 0:
                    await decisions.taken()  # and announced: a learner that is killed may not come to that
                    await asyncio.sleep(1.0)
                for worker in at.fleet.running.values():
                    worker.kill()
                killed_ms = now_ms()
                for name in teams:
                    await at.fleet.kill(name)
                await at.check_commits(f"kill {number + 1} of everything")
                known, before = await block_owners(at), await snapshots_of(at)
                for name in at.rng.sample(list(teams), len(teams)):
                    begun_s = time.monotonic()
                    await at.fleet.start(name)
                    starts_s.append(time.monotonic() - begun_s)
                    await asyncio.sleep(at.rng.uniform(0.0, 0.2))
                back = [
                    at.recovered_after(killed_ms),
                    first_blocks(at, killed_ms, known),
                    first_snapshot(at, killed_ms, len(before)),
                ]
                result.recovered("2s", max([await each for each in back]))
                await decisions.taken()
                reached_s.append(await decisions.reached())
            await at.check(f"kill {number + 1} of everything")
            result.times += 1
        result.add(await at.finish())
    result.notes.append(decisions.seen().in_words)
    result.notes.append(f"every partition was answered by the branch decided on within {max(reached_s):.1f} s")
    result.notes.append(
        f"workers are forked from a process that has imported everything, each within {max(starts_s):.2f} s; one that "
        "is started as a command takes longer by that import"
    )
    return result


@fault("F39", "SIGTERM under load", ci=20, full=20, limit_s=400)
async def orderly_stop(trial: Trial) -> Result:
    """One process with all roles; it ends within 10 s, and the next one reads nothing again."""
    result, stops_s = Result(), list[float]()
    async with ground(trial.folder, trial.seed, session_timeout="10s") as at:
        await at.warm_up()
        for number in range(trial.times):
            async with at.load.flowing():
                await at.recovered(now_ms())
                await asyncio.sleep(at.rng.uniform(0.0, 0.6))
                begun_s = time.monotonic()
                code = await at.fleet.stop("all", within_s=10.0)
                stops_s.append(time.monotonic() - begun_s)
            assert code == 0, f"SIGTERM ended it with {code}"
            gap = await gap_of(at.topics)
            assert gap == Gap(0, 0), f"after stop {number + 1}: {gap}"
            newest, committed = at.topics.newest_snapshot(), await committed_by_the_learner(at)
            assert newest is not None
            assert committed == offset_of(newest.position)
            await at.fleet.start("all")
            await at.quiet()
            again = read_again(at)
            assert not again, f"after stop {number + 1}, read again: {again}"
            result.times += 1
            if result.times % CHECK_EVERY == 0:
                await at.check(f"stop {number + 1}")
        result.add(await at.finish())
    result.notes.append(f"a stop under load took p50 {percentile(stops_s, 0.5):.1f} s, at most {max(stops_s):.1f} s")
    return result


async def kill_at(at: Ground, name: str, place: str) -> int:
    """Let a worker be killed at a place, under load; return when that was seen.

    What comes at a start is reached by a process that succeeds one which was killed at some moment.
    """
    await asyncio.sleep(at.rng.uniform(0.1, 0.4))
    if place in AT_START:
        await at.fleet.kill(name)
        claims = PARTITIONS if name == "join" else 1
        worker = await at.fleet.start(name, (place, str(at.rng.randrange(1, claims + 1))))
    else:
        worker = at.fleet.running[name]
        worker.arm(place, at.rng.randrange(1, 3 if place in OF_A_SNAPSHOT else 6))
    code = await worker.end(DIED_S)
    assert code == -signal.SIGKILL, f"{name} at {place} ended with {code}:\n{worker.tail()}"
    del at.fleet.running[name]
    return now_ms()


async def shares_of_scorers(at: Ground) -> dict[str, set[int]]:
    """Wait until every scorer says that it has partitions, and no two the same; return which."""
    names = {at.fleet.running[name].pid: name for name in SCORERS}
    end_s = time.monotonic() + BACK_S
    while True:
        shares: dict[str, set[int]] = {}
        for beat in await heartbeats(at):
            if beat.pid in names:
                shares[names[beat.pid]] = {
                    each.partition for role in beat.roles if role.role is Role.SCORE for each in role.partitions
                }
        counts = Counter(partition for share in shares.values() for partition in share)
        if len(shares) == len(names) and all(shares.values()) and counts == dict.fromkeys(range(PARTITIONS), 1):
            return shares
        if time.monotonic() >= end_s:
            raise at.in_vain(f"the scorers have {shares}")
        await asyncio.sleep(0.1)


async def block_owners(at: Ground) -> set[str]:
    """Return the owners of all blocks so far."""
    (training,) = await at.topics.read(at.scenario.domain.topics.training)
    return {block.owner for block in training.decoded if isinstance(block, TrainingBlock)}


async def first_blocks(at: Ground, since_ms: int, known: set[str]) -> float:
    """Wait for a block that counts of every partition by an owner who is not known; return the seconds to the last."""

    async def first() -> dict[int, int]:
        (training,) = await at.topics.read(at.scenario.domain.topics.training)
        times = {id(each): record.timestamp for each, record in zip(training.decoded, training.records, strict=True)}
        found: dict[int, int] = {}
        for block in accepted(training.decoded):
            if block.owner not in known:
                found.setdefault(block.partition, times[id(block)])
        return found

    found = await when(first, lambda found: len(found) == PARTITIONS, at, "there is a new block of every partition")
    return (max(found.values()) - since_ms) / 1000


async def first_snapshot(at: Ground, since_ms: int, known: int) -> float:
    """Wait for one snapshot more in the index than were there; return the seconds to it."""
    found = await when(lambda: snapshots_of(at), lambda found: len(found) > known, at, "there is a new snapshot")
    (column,) = at.topics.all_of(at.scenario.domain.topics.snapshots)
    new = sorted(found)[known]
    return (next(record.timestamp for record in column.records if record.offset == new) - since_ms) / 1000


async def snapshots_of(at: Ground) -> dict[int, Manifest]:
    """Return the manifest of every snapshot that the index held at some time, by offset."""
    (column,) = await at.topics.read(at.scenario.domain.topics.snapshots)
    manifests = {
        record.offset: manifest_of(decode_manifest(record.value).content) for record in column.records if record.value
    }
    return {offset: manifest for offset, manifest in manifests.items() if manifest.kind is Kind.SNAPSHOT}


@dataclass
class Orphans:
    """What kills left in the store."""

    store: Path
    unfinished: int = 0
    whole: int = 0
    _seen: set[Path] = field(default_factory=set)

    def look(self, place: str, indexed: Mapping[int, Manifest]) -> None:
        """Note what was left by a kill at a place; there must be something where a file is under way."""
        files = {path for path in self.store.rglob("*") if path.is_file()} - self._seen
        named = {self.store / (manifest.store_path or "") for manifest in indexed.values()}
        unfinished = {path for path in files if path.name.startswith(".writing-")}
        whole = files - unfinished - named
        if place in {"store.half_written", "store.written"}:
            assert len(unfinished) == 1, f"{place} left {unfinished}"
        if place == "learn.snapshot_stored":
            assert len(whole) == 1, f"{place} left {whole}"
        self.unfinished += len(unfinished)
        self.whole += len(whole)
        self._seen |= unfinished | whole


def restored(errors: Path) -> tuple[int, float]:
    """Return the offset at which a learner began to fold, and the seconds from its assignment until it had caught up."""
    lines = [json.loads(line) for line in errors.read_text().splitlines() if line.startswith("{")]
    done = next(line for line in lines if line["event"] == "restored")
    assigned = next(line for line in lines if line["event"].startswith("source of") and "/0" in line["event"])
    took = datetime.fromisoformat(done["ts"]) - datetime.fromisoformat(assigned["ts"])
    return int(done["position"].partition(":")[0]) - done["tail"], took.total_seconds()


async def committed_by_the_learner(at: Ground) -> int:
    """Return the offset of the training log that the learners' group has committed."""
    names = at.scenario.domain
    offsets = await at.topics.reader.group_offsets(f"tailrace.{names.name}.learn")
    return offsets[TopicPartition(names.topics.training, 0)].offset


def read_again(at: Ground) -> dict[str, int]:
    """Return what was written more than once, or in vain; {}: nothing was read again by anyone."""
    names = at.scenario.domain.topics
    predicted = [prediction_source(each) for column in at.topics.all_of(names.predictions) for each in column.records]
    scored = [
        (block.source_partition, offset)
        for column in at.topics.scored
        for block in column.decoded
        for offset in block.source_offsets.tolist()
    ]
    blocks = sum(isinstance(each, TrainingBlock) for each in at.topics.training.decoded)
    surplus = {
        "predictions": len(predicted) - len(set(predicted)),
        "scored": len(scored) - len(set(scored)),
        "blocks": blocks - len(at.topics.blocks()),
    }
    return {name: count for name, count in surplus.items() if count}


T = TypeVar("T")


async def when(ask: Callable[[], Awaitable[T]], done: Callable[[T], bool], at: Ground, what: str) -> T:
    """Ask until the answer is as wanted; return it."""
    end_s = time.monotonic() + BACK_S
    while not done(found := await ask()):
        at.fleet.complain_of_the_dead()
        if time.monotonic() >= end_s:
            raise at.in_vain(f"waited {BACK_S} s in vain until {what}")
        await asyncio.sleep(0.05)
    return found
