"""Processes that come back: stopped beyond the session timeout, succeeded, continued."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.members import fenced, judged, member_of, owners
from tests.faults.processes import Worker

from tailrace.domain.records import LEARNER, Claim

PAIRS = {f"{role}-{number}": (role,) for role in ("score", "join", "learn") for number in (1, 2)}
PLACES = {
    "join": ("join.side_acknowledged", "join.block_acknowledged", ""),
    "learn": ("learn.snapshot_stored", "", "learn.block_folded"),
    "score": ("score.predictions_acknowledged", "score.scored_acknowledged", ""),
}
"""Where a process is stopped, by role and in turn: in the middle of what it may then finish too late; "": at a moment."""

STOPPED_S = 20.0
SUCCEEDED_S = 30.0


@fault("F26", "a process is stopped, succeeded, and comes back", ci=5, full=100, limit_s=420)
async def zombies(trial: Trial) -> Result:
    """A joiner, a learner and a scorer in turn, each of two."""
    result, late = Result(), Counter[str]()
    async with ground(trial.folder, trial.seed, teams=PAIRS) as at:
        await at.warm_up()
        for number in range(trial.times):
            role = ("join", "learn", "score")[number % 3]
            place = PLACES[role][number // 3 % 3]
            name = await _with_work(at, role)
            zombie, before = at.fleet.running[name], sum(1 for _ in fenced(at.topics))
            async with at.load.flowing(100.0):
                await asyncio.sleep(at.rng.uniform(0.2, 1.5))
                stopped_ms = await _stop(zombie, place, at.rng.randrange(1, 4))
                seconds = await _succeeded(at, role, name, stopped_ms)
                result.recovered("2s", seconds)
                await asyncio.sleep(at.rng.uniform(0.0, 2.0))
                zombie.signal(signal.SIGCONT)
                await asyncio.sleep(at.rng.uniform(1.0, 3.0))
            await at.check(f"{name}, stopped at {place or 'a moment'}, came back")
            late[role] += sum(1 for _ in fenced(at.topics)) - before
            _snapshots_agree(at)
            result.times += 1
        result.add(await at.finish())
    result.notes.append(
        f"records that a process which came back, or one that it raced with, appended too late, fenced by every "
        f"reader: {late['join']} after stops of a joiner, {late['learn']} of a learner, {late['score']} of a scorer"
    )
    return result


async def _with_work(at: Ground, role: str) -> str:
    """Return the name of a worker that has something to own."""
    if role == "score":
        return at.rng.choice([name for name, roles in PAIRS.items() if roles == ("score",)])
    theirs = await owners(at)
    names = {name for part, name in theirs.items() if (part == LEARNER) == (role == "learn")}
    assert names, f"nobody owns what a {role}er owns: {theirs}"
    return at.rng.choice(sorted(names))


async def _stop(worker: Worker, place: str, count: int) -> int:
    """Stop a worker at a place, or now; return when."""
    if not place:
        worker.signal(signal.SIGSTOP)
    else:
        worker.arm(place, -count)
    end_s = time.monotonic() + STOPPED_S
    while not worker.is_stopped:
        assert time.monotonic() < end_s, f"{place} was not reached within {STOPPED_S} s:\n{worker.tail()}"
        await asyncio.sleep(0.01)
    return now_ms()


async def _succeeded(at: Ground, role: str, name: str, stopped_ms: int) -> float:
    """Wait until others do all of the work; return how long it took them."""
    if role == "score":
        return await at.recovered(stopped_ms, within_s=SUCCEEDED_S)
    end_s, owned_ms = time.monotonic() + SUCCEEDED_S, stopped_ms
    while left := [part for part, owner in (await owners(at)).items() if owner == name]:
        assert time.monotonic() < end_s, f"{SUCCEEDED_S} s after {name} was stopped it owns {left}\n{at.tails()}"
        await asyncio.sleep(0.05)
    records, owned = judged(at.topics)
    if role == "learn":
        claims = [each.time_ms for each in records if each.part == LEARNER and isinstance(each.record, Claim)]
        owned_ms = max(owned_ms, claims[-1])
        waited_s = await at.appended(at.scenario.domain.topics.snapshots, owned_ms, SUCCEEDED_S)
        return (owned_ms - stopped_ms) / 1000 + waited_s
    while True:
        records, owned = judged(at.topics)
        first: dict[int, int] = {}
        for each in records:
            is_new = each.time_ms > stopped_ms and each.counts and not isinstance(each.record, Claim)
            if is_new and member_of(each.owner) == member_of(owned.owners[each.part]):
                first.setdefault(each.part, each.time_ms)
        if set(range(at.topics.partitions)) <= first.keys():
            return (max(first.values()) - stopped_ms) / 1000
        assert time.monotonic() < end_s, f"{SUCCEEDED_S} s after {name} was stopped nothing is joined\n{at.tails()}"
        await asyncio.sleep(0.05)
        await at.topics.read(at.scenario.domain.topics.training)


def _snapshots_agree(at: Ground) -> None:
    """Snapshots at one position are equal, whoever took them."""
    digests: dict[int, set[str]] = {}
    for manifest in at.topics.snapshots():
        digests.setdefault(manifest.position, set()).add(manifest.state_digest)
    differing = [position for position, found in digests.items() if len(found) > 1]
    assert not differing, f"snapshots differ at {differing}"
