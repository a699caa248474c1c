"""Models that raise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import Ground, ground, now_ms
from tests.faults.workload import CODES, Sent, Workload, home

from tailrace.domain.positions import offset_of, row_of, show
from tailrace.domain.records import Skip
from tailrace.domain.status import Role, RoleState
from tailrace.wire.avro_codec import decode_status

MODELS = '''
"""A linear model that raises at chosen events: from 1000 on, `a` says what, and whether it learns or is asked."""

import asyncio

from river import linear_model, stats


def fail():
    raise ValueError


def panic():
    stats.RollingQuantile(0.5, 3).update(float("nan"))  # River's compiled part: a PanicException, which is no Exception


def ask_for_too_much():
    bytearray(1 << 62)


def go_too_deep():
    go_too_deep()


def cancel():
    raise asyncio.CancelledError


RAISES = [fail, panic, ask_for_too_much, go_too_deep, cancel]


def meet(a, base):
    if base <= a < base + len(RAISES):
        RAISES[int(a) - base]()


class Raising(linear_model.LogisticRegression):
    def learn_one(self, x, y):
        super().learn_one(x, y)  # half of it is done when it raises; a state that was kept would show it
        meet(x["a"], 1_000)

    def predict_proba_one(self, x):
        meet(x["a"], 2_000)
        return super().predict_proba_one(x)


def build():
    return Raising()
'''
RAISED = ("ValueError", "PanicException", "MemoryError", "RecursionError", "CancelledError")
LEARNING, ASKED = 1_000, 2_000
OFTEN = 3  # of one kind within minutes; at the next one learning stays down
ENDED_S = 5.0
RATE = 60  # events a second
TEAMS = {"all": ("score", "join", "learn"), "beside": ("score",)}


@dataclass
class Raising(Workload):
    """A workload with events at which the model raises.

    Attributes:
        learned_at: Ids at which it raises while it learns → what.
        asked_at: Ids at which it raises while it is asked.
    """

    learned_at: dict[str, str] = field(default_factory=dict)
    asked_at: set[str] = field(default_factory=set)
    _next: list[Sent] = field(default_factory=list)

    def poison(self, kind: int, base: int) -> None:
        """Put one such event into the next piece, with its label."""
        name = next(self._names())
        event = Sent(
            "events",
            self.rng.randrange(self.partitions),
            None,
            b'{"id":"%s","at":%d,"a":%d,"b":0.5}' % (name.encode(), self.now_ms, base + kind),
        )
        if base == LEARNING:
            self.learned_at[name] = RAISED[kind]
        else:
            self.asked_at.add(name)
            CODES["events", event.value] = "model_failed"
        self._next += [event, self._label(name, self.now_ms, home(name, self.partitions), y=True)]

    def piece(self, events: int) -> list[Sent]:
        """Return the next events and labels, with what was asked for."""
        sent, self._next = [*super().piece(events), *self._next], []
        return sent


@fault("F16", "a model raises: Exception, panic, memory, recursion, cancellation", ci=14, full=300, limit_s=240)
async def raising(trial: Trial) -> Result:
    """Each kind while it learns and while it is asked, in rounds; then one of them once too often."""
    result = Result()
    (trial.folder / "raising_models.py").write_text(MODELS)
    model = {"model": "raising_models:build", "experimental": True}
    async with ground(trial.folder, trial.seed, teams=TEAMS, champion=model) as at:
        load = Raising(at.rng, at.topics.partitions, at.load.workload.now_ms)
        at.load.workload = load
        await at.warm_up()
        kinds = [(kind, base) for kind in range(len(RAISED)) for base in (LEARNING, ASKED)]
        for number in range(max(1, (trial.times - OFTEN - 1) // len(kinds))):
            if number and number % OFTEN == 0:
                await _again(at)
            at.rng.shuffle(kinds)
            await _raise(at, load, result, kinds)
            await at.check(f"round {number + 1}")
        await _once_too_often(at, load, result)
        await at.check("one too often")
        result.add(await at.finish())
        _check_skips(at, load)
    return result


async def _again(at: Ground) -> None:
    """Replace the process that learns: a new one may restore as often again."""
    assert await at.fleet.stop("all") == 0
    await at.fleet.start("all")


async def _raise(at: Ground, load: Raising, result: Result, kinds: Sequence[tuple[int, int]]) -> None:
    """Let the model raise, one event after the other; each is skipped or a dead letter, and predictions go on."""
    async with at.load.flowing(RATE):
        for kind, base in kinds:
            raised_ms = now_ms()
            load.poison(kind, base)
            if base == LEARNING:
                await _until(at, lambda: len(_skips(at)) == len(load.learned_at), "it is skipped")
                result.recovered("skipped", (_skips_ms(at)[-1] - raised_ms) / 1_000)
                result.recovered("snapshot", await at.appended(at.scenario.domain.topics.snapshots, _skips_ms(at)[-1]))
            else:
                await _until(at, lambda: _failed(at) == load.asked_at, "it is a dead letter")
                result.recovered("dead letter", (now_ms() - raised_ms) / 1_000)
            await at.recovered(now_ms())
            result.predictions.append(sum(map(len, (await at.predicted_since(raised_ms)).values())))
            assert result.predictions[-1] > 0
            result.times += 1
    at.fleet.complain_of_the_dead()


async def _once_too_often(at: Ground, load: Raising, result: Result) -> None:
    """Learning stays down and says so, serving goes on; a new process skips the example and goes on."""
    kind = at.rng.randrange(len(RAISED))
    await _again(at)
    await _raise(at, load, result, [(kind, LEARNING)] * OFTEN)
    async with at.load.flowing(RATE):
        raised_ms = now_ms()
        load.poison(kind, LEARNING)
        words = f"the model raised {RAISED[kind]} again after {OFTEN} restarts"
        seconds = await _learner_says(at, raised_ms, words, ENDED_S)
        result.notes.append(f"one too often: learning was down and told of within {seconds:.1f} s, serving went on")
        result.recovered("serving, learning down", await at.recovered(now_ms()))
        at.fleet.complain_of_the_dead()
        assert len(_skips(at)) == len(load.learned_at) - 1
        assert await at.fleet.stop("all") == 0
        begun_ms = now_ms()
        await at.fleet.start("all")
        await _until(at, lambda: len(_skips(at)) == len(load.learned_at), "the new process has skipped it")
        result.recovered("restart", (now_ms() - begun_ms) / 1_000)
    result.times += 1


async def _learner_says(at: Ground, since_ms: int, words: str, within_s: float) -> float:
    """Wait until a heartbeat says that the learner is down for a reason; return the seconds."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        for column in await at.topics.read(at.scenario.domain.topics.status):
            for record in column.records:
                if record.timestamp < since_ms or not record.value:
                    continue
                for role in decode_status(record.value).roles:
                    if role.role is Role.LEARN and role.state is RoleState.FAILED:
                        assert role.reason.startswith(words), role.reason
                        return (record.timestamp - since_ms) / 1_000
        await asyncio.sleep(0.05)
    raise at.in_vain(f"no heartbeat says {words!r}")


async def _until(at: Ground, done: Callable[[], Any], what: str, within_s: float = 60.0) -> None:
    end_s = time.monotonic() + within_s
    names = at.scenario.domain.topics
    while True:
        for topic in (names.training, names.dead_events):
            await at.topics.read(topic)
        if done():
            return
        at.fleet.complain_of_the_dead()
        if time.monotonic() >= end_s:
            raise at.in_vain(f"waited {within_s} s in vain until {what}")
        await asyncio.sleep(0.05)


def _skips(at: Ground) -> list[Skip]:
    return [each for each in at.topics.training.decoded if isinstance(each, Skip)]


def _skips_ms(at: Ground) -> list[int]:
    column = at.topics.training
    both = zip(column.records, column.decoded, strict=True)
    return [record.timestamp for record, each in both if isinstance(each, Skip)]


def _failed(at: Ground) -> set[str]:
    letters = [
        record for column in at.topics.all_of(at.scenario.domain.topics.dead_events) for record in column.records
    ]
    values = {value for (_, value), code in CODES.items() if code == "model_failed"}
    return {_id_in(record.value or b"") for record in letters if record.value in values}


def _id_in(value: bytes) -> str:
    return value.split(b'"')[3].decode()


def _check_skips(at: Ground, load: Raising) -> None:
    """Exactly the examples at which the model raises while it learns are skipped, once; the rest is learned."""
    found = {}
    for skip in _skips(at):
        block = at.topics.training.decoded[offset_of(skip.position)]
        event_id = block.examples.ids[row_of(skip.position)]
        assert event_id not in found, f"{event_id} at {show(skip.position)} is skipped twice"
        found[event_id] = skip.error
    assert found == load.learned_at, f"skipped are {found}, the model raised at {load.learned_at}"
    newest = at.topics.newest_snapshot()
    assert newest is not None
    examples = sum(len(block.examples) for block in at.topics.blocks())
    counted = newest.counters["learned"], newest.counters["skipped"]
    assert counted == (examples - len(found), len(found)), f"{counted} of {examples} examples"
