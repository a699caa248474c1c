"""Faults of the network between workers and the broker; the user and the checks go past them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.memory import memory_of
from tests.faults.proxy import (
    Delay,
    DropResponses,
    Fault,
    HalfOpen,
    Healthy,
    Loss,
    OneWay,
    Proxy,
    Refuse,
    Reset,
)
from tests.scenarios.api_ground import free_address

from tailrace.streams.sizes import DEFAULT_MAX_MESSAGE_BYTES

PRODUCE, FETCH, OFFSET_COMMIT, FIND_COORDINATOR, HEARTBEAT = 0, 1, 8, 10, 12

RENEWALS = re.compile(r"^tailrace_producer_renewals_total(?:\{[^}]*\})? (\S+)", re.MULTILINE)
ENDS = "ended: the log cannot be used as it is"

EVENTS_PER_S = 60.0
REBUILT_S = 30.0
"""From the end of a fault until what was sent in vain is sent again, by a new producer or the old one."""

RESUMED_S = 10.0
"""From the end of a fault that ends the connections, or only slows them, until everything is predicted again."""

RESUMED_UNTOLD_S = 25.0
"""The same where nobody tells that connections are dead.

One that was opened at the last moment is given up after one request, 8 s; the group has dropped its members then, which
wait up to 5 s for what is in flight; who takes over may ask once more on a connection of before, another 8 s.
"""

REFUSING_BYTES = 2_000
FEWEST_BYTES = 100
"""Less than any prediction takes."""

ENDED_S = 20.0
COUNTED_S = 10.0
PIECE_EVENTS = 400

GROWTH_MB = 48.0
"""What a worker may grow during one fault: what it holds while nothing is acknowledged, and fragments."""


@dataclass(frozen=True)
class Trouble:
    """One thing that happens to the network.

    Attributes:
        shortest_s: It lasts at least so long; `longest_s` likewise.
        cuts: The connections that stand are reset when it begins.
        tells: Connections end, or go on after it.
        serves: Predictions go on while it lasts.
        silences: Nothing reaches the broker while it lasts, so that there are no predictions.
    """

    name: str
    fault: Fault
    shortest_s: float
    longest_s: float
    cuts: bool = False
    tells: bool = True
    serves: bool = False
    silences: bool = False


LOST_ANSWERS = (
    Trouble("no answers to Produce", DropResponses({PRODUCE}), 1.0, 12.0),
    Trouble("no answers to Produce, connections end", DropResponses({PRODUCE}, close=True), 1.0, 8.0),
    Trouble("half of the answers to Produce are lost", DropResponses({PRODUCE}, share=0.5, close=True), 3.0, 8.0),
)
LOST_CONTROL = (
    Trouble("no answers to OffsetCommit", DropResponses({OFFSET_COMMIT}), 3.0, 12.0),
    Trouble("no answers to Fetch", DropResponses({FETCH}), 1.0, 12.0),
    Trouble("no answers to FindCoordinator and Heartbeat", DropResponses({FIND_COORDINATOR, HEARTBEAT}), 3.0, 12.0),
    Trouble("no answers to Fetch, connections end", DropResponses({FETCH}, close=True), 1.0, 8.0),
)
PATHS = (
    Trouble("half-open", HalfOpen(), 2.0, 14.0, tells=False, silences=True),
    Trouble("nothing reaches the broker", OneWay("to_broker"), 2.0, 14.0, tells=False, silences=True),
    Trouble("nothing comes back", OneWay("to_client"), 2.0, 14.0, tells=False),
    Trouble("answers take 5 s", Delay(2.5), 30.0, 30.0, serves=True),
    Trouble("30 % loss", Loss(0.3), 10.0, 15.0, serves=True),
    Trouble("refused", Refuse(), 2.0, 8.0, cuts=True, silences=True),
    Trouble("reset", Reset(), 2.0, 8.0, silences=True),
)


async def undergo(at: Ground, trouble: Trouble, result: Result, within_s: float) -> None:
    """Let something happen to the network under load, wait until everything goes on, and check."""
    proxy, lasts_s = proxy_of(at), at.rng.uniform(trouble.shortest_s, trouble.longest_s)
    async with memory_of(at.fleet) as memory, at.load.flowing(EVENTS_PER_S):
        await asyncio.sleep(at.rng.uniform(0.3, 1.0))
        began_ms, dropped = now_ms(), proxy.dropped_responses
        proxy.fault = trouble.fault
        if trouble.cuts:
            await proxy.cut()
        await asyncio.sleep(lasts_s)
        healed_ms, proxy.fault = now_ms(), Healthy()
        seconds = await resumed(at, healed_ms, within_s)
    during = sum(map(len, (await at.predicted_since(began_ms, healed_ms)).values()))
    await at.check(f"{trouble.name} for {lasts_s:.1f} s")
    if isinstance(trouble.fault, DropResponses):
        assert proxy.dropped_responses > dropped, f"{trouble.name}: nothing was lost in {lasts_s:.1f} s"
    if trouble.silences:
        # What was on its way to the broker when it began is written in the first half.
        late = await at.predicted_since((began_ms + healed_ms) // 2, healed_ms)
        assert not any(late.values()), f"{trouble.name}: predictions came through it: {late}"
    if trouble.serves:
        assert during, f"{trouble.name}: nothing was predicted in {lasts_s:.1f} s"
        result.predictions.append(during)
    assert memory.grown_mb < GROWTH_MB, f"{trouble.name}: a worker grew by {memory.grown_mb:.0f} MB"
    result.times += 1
    result.recovered("heal", seconds)
    result.notes.append(
        f"{trouble.name} for {lasts_s:.1f} s: {during} predictions meanwhile, all goes on {seconds:.1f} s after it, "
        f"memory grew by {memory.grown_mb:.0f} MB"
    )


async def resumed(at: Ground, healed_ms: int, within_s: float) -> float:
    """Wait until every partition is predicted and something is learned; return the seconds to the last of them."""
    predicted_s = await at.recovered(healed_ms, within_s=within_s)
    return max(predicted_s, await at.appended(at.scenario.domain.topics.training, healed_ms, within_s))


async def refuse_records(at: Ground, result: Result) -> None:
    """Lower what the topic of predictions takes below a batch of them, under load, and raise it again.

    Batches behind the refused one are out of sequence then.
    """
    topic, admin = at.scenario.domain.topics.predictions, at.scenario.log.admin()
    allowed = (await admin.describe([topic]))[topic].settings.get("max.message.bytes", str(DEFAULT_MAX_MESSAGE_BYTES))
    before = await renewals(at)
    async with memory_of(at.fleet) as memory, at.load.flowing(EVENTS_PER_S):
        refused = refusals(at)
        await admin.alter(topic, {"max.message.bytes": str(REFUSING_BYTES)})
        await at.load.piece(PIECE_EVENTS)
        await at.until(lambda: refusals(at) > refused, "a batch is refused", REBUILT_S)
        lowered_ms = now_ms()
        in_smaller_s = await resumed(at, lowered_ms, REBUILT_S)
        await admin.alter(topic, {"max.message.bytes": allowed})
        raised_ms = now_ms()
        seconds = await resumed(at, raised_ms, REBUILT_S)
    await admin.close()
    await at.check("batches that were refused as too large")
    rebuilt = await more_renewals(at, before)
    assert memory.grown_mb < GROWTH_MB, f"a worker grew by {memory.grown_mb:.0f} MB"
    result.times += 1
    result.recovered("heal", seconds)
    result.notes.append(
        f"batches refused as too large: sent in smaller ones {in_smaller_s:.1f} s after the refusal, by a new producer "
        f"({rebuilt} were made)"
    )


async def refuse_one_record(at: Ground, result: Result) -> None:
    """Lower what the topic of predictions takes below one of them, under load, and raise it again.

    Nothing smaller can be sent, and no prediction may be left out: the process ends and says why, the next one does so
    too, and what was not answered is answered when somebody has raised the limit.
    """
    topic, admin = at.scenario.domain.topics.predictions, at.scenario.log.admin()
    allowed = (await admin.describe([topic]))[topic].settings.get("max.message.bytes", str(DEFAULT_MAX_MESSAGE_BYTES))
    (name,) = at.fleet.running
    async with at.load.flowing(EVENTS_PER_S):
        await asyncio.sleep(1.0)
        await admin.alter(topic, {"max.message.bytes": str(FEWEST_BYTES)})
        said: list[str] = []
        for is_next in (False, True):
            if is_next:
                await at.fleet.start(name)
            worker = at.fleet.running.pop(name)
            code = await worker.end(ENDED_S)
            assert code > 0, f"a process whose predictions are all too large ended with {code}:\n{worker.tail()}"
            why = next((json.loads(each)["why"] for each in worker.said.splitlines() if ENDS in each), "")
            assert topic in why, f"it does not name {topic}:\n{worker.tail()}"
            said.append(why)
        await admin.alter(topic, {"max.message.bytes": allowed})
        raised_ms = now_ms()
        await at.fleet.start(name)
        seconds = await resumed(at, raised_ms, REBUILT_S)
    await admin.close()
    assert "raise max.message.bytes" in said[1], said
    await at.check("a topic that takes no prediction at all")
    result.times += 1
    result.recovered("heal", seconds)
    result.notes.append(
        f"no prediction fits its topic: the process ends and says: {said[0]}; so does the next one: {said[1]}"
    )


async def renewals(at: Ground) -> int:
    """Return how many producers the worker has given up, as its /metrics tell it."""
    pages = await at.pages()
    return round(sum(float(each) for page in pages.values() for each in RENEWALS.findall(page)))


async def more_renewals(at: Ground, before: int) -> int:
    """Wait until /metrics, which are told with the heartbeats, know of producers that were made anew; return how many."""
    end_s = time.monotonic() + COUNTED_S
    while (now := await renewals(at)) <= before:
        if time.monotonic() >= end_s:
            raise at.in_vain(f"{COUNTED_S} s after a batch was refused no producer was made anew")
        await asyncio.sleep(0.2)
    return now - before


def refusals(at: Ground) -> int:
    """Return how often workers said that a batch was too large."""
    return sum(log.read_text().count("MessageSizeTooLargeError") for log in at.fleet.logs)


def proxy_of(at: Ground) -> Proxy:
    """Return the proxy of a ground that has one."""
    assert at.proxy is not None
    return at.proxy


@fault("F08", "answers are lost between broker and workers, or batches and records refused", ci=5, full=25, limit_s=420)
async def lost_answers(trial: Trial) -> Result:
    """By turns: of Produce with and without an end of the connection, of something else, a refused batch, or record."""
    result = Result()
    async with ground(trial.folder, trial.seed, proxied=True, http=free_address()) as at:
        await at.warm_up()
        kept, ended = LOST_ANSWERS[0], at.rng.choice(LOST_ANSWERS[1:])
        for number in range(trial.times):
            if number % 5 == 3:
                await refuse_records(at, result)
                continue
            if number % 5 == 4:
                await refuse_one_record(at, result)
                continue
            trouble = (kept, ended, LOST_CONTROL[(trial.seed + number // 5) % len(LOST_CONTROL)])[number % 5]
            await undergo(at, trouble, result, REBUILT_S)
        result.add(await at.finish())
    return result


@fault("F09", "half-open and one-way connections, delays, losses, refusals, resets", ci=7, full=35, limit_s=600)
async def paths(trial: Trial) -> Result:
    """Each in turn, in an order that the seed decides."""
    result = Result()
    async with ground(trial.folder, trial.seed, proxied=True, session_timeout="10s") as at:
        await at.warm_up()
        deck: list[Trouble] = []
        for _ in range(trial.times):
            if not deck:
                deck = at.rng.sample(PATHS, len(PATHS))
            trouble = deck.pop()
            await undergo(at, trouble, result, RESUMED_S if trouble.tells else RESUMED_UNTOLD_S)
        result.add(await at.finish())
    return result
