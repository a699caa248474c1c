"""Processes that come back: stopped beyond the session timeout, succeeded, continued."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections import Counter
from pathlib import Path

from tests.faults.catalog import Result, Trial, fault
from tests.faults.decisions import Decisions
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.members import fenced, heartbeats, judged, member_of, owners
from tests.faults.processes import Worker
from tests.faults.topics import prediction_source
from tests.faults.worker import FOLDS_WRONGLY
from tests.scenarios.harness import InVain

from tailrace.domain.proof import Digests, differing
from tailrace.domain.records import LEARNER, Claim
from tailrace.domain.status import MemberStatus, RoleState

PAIRS = {f"{role}-{number}": (role,) for role in ("score", "join", "learn") for number in (1, 2)}
BEFORE_THE_INDEX = "learn.snapshot_stored"
PLACES = {
    "join": ("join.side_acknowledged", "join.block_acknowledged", ""),
    "learn": (BEFORE_THE_INDEX, "", "learn.block_folded"),
    "score": ("score.predictions_acknowledged", "score.scored_acknowledged", ""),
}
"""Where a process is stopped, by role and in turn: in the middle of what it may then finish too late; "": at a moment."""

STOPPED_S = 20.0
SUCCEEDED_S = 30.0


@fault("F26", "a process is stopped, succeeded, and comes back", ci=9, full=100, limit_s=420)
async def zombies(trial: Trial) -> Result:
    """A joiner, a learner and a scorer in turn, each of two; while a learner stands still a promotion is asked for."""
    result, late, states, again = Result(), Counter[str](), 0, 0
    async with ground(trial.folder, trial.seed, teams=PAIRS) as at:
        await at.warm_up()
        decisions = await Decisions.begin(at)
        for number in range(trial.times):
            role = ("join", "learn", "score")[number % 3]
            place = PLACES[role][number // 3 % 3]
            name = await _with_work(at, role)
            zombie, before = at.fleet.running[name], sum(1 for _ in fenced(at.topics))
            predicted = _second_predictions(at)
            async with at.load.flowing(100.0):
                await asyncio.sleep(at.rng.uniform(0.2, 1.0))
                stopped_ms = await _stop(zombie, place, at.rng.randrange(1, 4))
                if role == "learn":
                    await decisions.ask()
                seconds = await _succeeded(at, role, name, stopped_ms)
                result.recovered("stopped", seconds)
                if role == "learn":
                    await decisions.taken()
                await asyncio.sleep(at.rng.uniform(0.0, 1.0))
                continued_ms = now_ms()
                zombie.signal(signal.SIGCONT)
                await asyncio.sleep(at.rng.uniform(1.0, 2.0))
            await at.check(f"{name}, stopped at {place or 'a moment'}, came back")
            late[role] += sum(1 for _ in fenced(at.topics)) - before
            if role == "learn":
                states += _late_states(at, stopped_ms, continued_ms, must_be=place == BEFORE_THE_INDEX)
            elif role == "score":
                again += _second_predictions(at) - predicted
            result.times += 1
        result.add(await at.finish())
        seen = decisions.seen()
    assert late["join"], "no record of a joiner that came back was too late: nothing had to be fenced"
    assert again, "a scorer was stopped behind its predictions, and no event has a second one"
    result.notes += [
        f"records that a process which came back, or one that it raced with, appended too late, fenced by every "
        f"reader: {late['join']} after stops of a joiner, {late['learn']} of a learner, {late['score']} of a scorer",
        f"{states} states of stopped learners came to the index too late, each equal to the successor's or behind it; "
        f"{again} events were predicted a second time",
        seen.in_words,
    ]
    return result


def _late_states(at: Ground, stopped_ms: int, continued_ms: int, *, must_be: bool) -> int:
    """Return how many states the stopped learner had drafted before its stop and sent to the index after it.

    Nobody may be brought back by one: the newest in the index is the successor's, or the same state.
    """
    late = [
        manifest
        for record, manifest in at.topics.manifests()
        if record.timestamp >= continued_ms and manifest.created_at_ms <= stopped_ms
    ]
    newest = at.topics.newest_snapshot()
    assert newest is not None
    for each in late:
        is_same = (each.position, each.state_digest) == (newest.position, newest.state_digest)
        assert each.position < newest.position or is_same, f"{each.kind} {each.number} beats its successor's"
    assert late or not must_be, "a learner was stopped before it sent a manifest, and sent none when it came back"
    return len(late)


def _second_predictions(at: Ground) -> int:
    """Return how many predictions are of an event that has an earlier one."""
    columns = at.topics.all_of(at.scenario.domain.topics.predictions)
    sources = [prediction_source(record) for column in columns for record in column.records]
    return len(sources) - len(set(sources))


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
        if time.monotonic() >= end_s:
            raise InVain(f"{place} was not reached within {STOPPED_S} s:\n{worker.tail()}")
        await asyncio.sleep(0.01)
    return now_ms()


async def _succeeded(at: Ground, role: str, name: str, stopped_ms: int) -> float:
    """Wait until others do all of the work; return how long it took them."""
    if role == "score":
        return await at.recovered_after(stopped_ms, within_s=SUCCEEDED_S)
    end_s, owned_ms = time.monotonic() + SUCCEEDED_S, stopped_ms
    while left := [part for part, owner in (await owners(at)).items() if owner == name]:
        if time.monotonic() >= end_s:
            raise at.in_vain(f"{SUCCEEDED_S} s after {name} was stopped it owns {left}")
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
        if time.monotonic() >= end_s:
            raise at.in_vain(f"{SUCCEEDED_S} s after {name} was stopped nothing is joined")
        await asyncio.sleep(0.05)
        await at.topics.read(at.scenario.domain.topics.training)


# ── F27 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

TWO = {"score": ("score",), "join": ("join",), "learn-1": ("learn",), "learn-2": ("learn",)}
EQUAL_POSITIONS = 3
COMPARED_S = 40.0
SNAPSHOTS_EVERY_S = 10
SIGNALLED_S = SNAPSHOTS_EVERY_S
WRONG_AFTER_BLOCKS = 40


@fault("F27", "two processes learn one loop at once", ci=3, full=15, limit_s=300)
async def two_learners(trial: Trial) -> Result:
    """In one group one of them waits; in two groups both fold, and tell when they come to different states.

    Nobody can configure another group: two deployments of one loop name have one group, and one owner. The other group
    is forced on the second learner here.
    """
    result = Result()
    for number in range(trial.times):
        folder, seed = trial.folder / str(number), trial.seed + number
        await (_in_one_group, _in_two_groups, _one_is_wrong)[number % 3](folder, seed, result)
        result.times += 1
    return result


async def _in_one_group(folder: Path, seed: int, result: Result) -> None:
    async with ground(folder, seed, teams=TWO) as at:
        await at.warm_up()
        async with at.load.flowing():
            await asyncio.sleep(3.0)
        await at.check("two learners of one group")
        last = {beat.pid: beat for beat in await heartbeats(at)}
        states = sorted(str(last[at.fleet.running[name].pid].roles[0].state) for name in ("learn-1", "learn-2"))
        assert states == [RoleState.RUNNING, RoleState.WAITING], states
        result.add(await at.finish())


async def _in_two_groups(folder: Path, seed: int, result: Result) -> None:
    async with ground(folder, seed, teams=TWO) as at:
        at.fleet.options["learn-2"] = ("groups=second",)
        await at.warm_up()
        async with at.load.flowing():
            equal = await _compared(at)
        await at.check("two learners of two groups")
        assert not await _signals(at), "equal states were told to differ"
        async with at.load.flowing():
            killed_ms = now_ms()
            await at.fleet.kill("learn-1")
            await at.appended(at.scenario.domain.topics.snapshots, killed_ms)
        await at.check("the second learner alone")
        result.add(await at.finish())
        result.notes.append(f"two learners at once: equal digests at all {equal} positions that both told")


async def _one_is_wrong(folder: Path, seed: int, result: Result) -> None:
    every = {"every": f"{SNAPSHOTS_EVERY_S}s", "publish": "500ms"}
    async with ground(folder, seed, teams=TWO, snapshots=every) as at:
        await at.fleet.start("score")
        await at.fleet.start("join")
        await at.fleet.start("learn-1")
        await at.load.piece(60)
        await at.quiet()
        at.fleet.options["learn-2"] = ("groups=second", f"wrong={WRONG_AFTER_BLOCKS}")
        wrong = await at.fleet.start("learn-2")
        end_s = time.monotonic() + COMPARED_S
        async with at.load.flowing():
            while not (signals := await _signals(at)):
                if time.monotonic() >= end_s:
                    raise at.in_vain(f"no difference was told within {COMPARED_S} s")
                await asyncio.sleep(0.1)
            await asyncio.sleep(3.0)
        signals = await _signals(at)
        assert any(not is_equal for _, _, is_equal in _pairs(await heartbeats(at))), "no digests differ"
        wrong_ms = re.search(rf"{FOLDS_WRONGLY} (\d+)", wrong.said)
        assert wrong_ms is not None, wrong.tail()
        late_s = (signals[0] - int(wrong_ms[1])) / 1000
        assert 0 <= late_s <= SIGNALLED_S, f"told {late_s} s after the first block that was folded wrongly"
        result.notes.append(f"a learner that folds wrongly was told {late_s:.1f} s after the first block of that kind")


async def _compared(at: Ground) -> int:
    """Wait until both learners have told digests at some equal positions; return at how many. They must be equal."""
    end_s = time.monotonic() + COMPARED_S
    while True:
        pairs = _pairs(await heartbeats(at))
        unequal = [position for position, _, is_equal in pairs if not is_equal]
        assert not unequal, f"digests differ at {unequal}"
        if len(pairs) >= EQUAL_POSITIONS:
            return len(pairs)
        if time.monotonic() >= end_s:
            raise at.in_vain(f"only {len(pairs)} equal positions within {COMPARED_S} s")
        await asyncio.sleep(0.2)


def _pairs(beats: list[MemberStatus]) -> list[tuple[int, int, bool]]:
    """Return each position that two members told: position, when the second did, whether all parts are equal."""
    told: dict[int, dict[str, Digests]] = {}
    found = {}
    for beat in beats:
        for digests in beat.digests:
            others = [each for name, each in told.setdefault(digests.position, {}).items() if name != beat.member]
            if others and beat.member not in told[digests.position]:
                equal = all(not differing(each.parts, digests.parts) for each in others)
                found[digests.position] = (digests.position, beat.time_ms, equal)
            told[digests.position][beat.member] = digests
    return list(found.values())


async def _signals(at: Ground) -> list[int]:
    """Return when a divergence was announced."""
    (column,) = await at.topics.read(at.scenario.domain.topics.model_events)
    return [each.at_ms for each in column.decoded if each.kind == "divergence"]
