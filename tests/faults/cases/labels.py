"""Labels that come often, late, early, in any order, and again with another word; joiners are killed meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson
from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import Ground, ground
from tests.faults.workload import DISORDER_MS, SKEW_MS, Sent, Workload, home
from tests.simulation.oracle import in_force, outcomes_of

from tailrace.wire.dead_letter import parse

JOINERS = {"join-1": ("join",), "join-2": ("join",), "rest": ("score", "learn")}
PIECE_EVENTS = 24
KILLS = 3
LATE_HORIZON_MS = 6_000
MOST_REVISIONS = 5
MOST_COPIES = 50
GROWTH = 2.0
"""Bytes of the log per event when each label comes 25 times, at most, by those when it comes once."""


@dataclass
class Told(Workload):
    """A workload whose labels are told apart: of these events everything that is said is known.

    Attributes:
        told: Id → what must become of its label, where one word says it.
    """

    told: dict[str, str] = field(default_factory=dict)

    def rest(self) -> list[Sent]:
        """Return what was made and is still to be sent, whatever its time."""
        return []

    def _only_once(self) -> None:
        """Keep the id of the event that was just made from coming again with another time."""
        self._recent = self._recent[:-1]

    def _at(self, due_ms: int, label: Sent) -> None:
        self._later(due_ms - self.now_ms, label)

    def _as_event(self, name: str, time_ms: int, partition: int | None = None) -> Sent:
        # Partitions are read abreast by Kafka's timestamps, and time runs faster here than the broker's clock.
        return super()._as_event(name, time_ms, partition)._replace(timestamp_ms=time_ms)


@asynccontextmanager
async def joiners(
    trial: Trial, workload: Callable[[Random, int, int], Workload], **changes: Any
) -> AsyncIterator[Ground]:
    """Start a loop with two joiners, warm."""
    async with ground(trial.folder, trial.seed, teams=JOINERS, workload=workload, **changes) as at:
        await at.warm_up()
        yield at


async def send_with_kills(at: Ground, result: Result, done: Callable[[], int], *, times: int) -> None:
    """Send pieces until something has been done often enough; kill a joiner a few times in between."""
    kills = [times * (number + 1) // (KILLS + 1) for number in range(KILLS)]
    while done() < times:
        await at.load.piece(PIECE_EVENTS)
        if kills and done() >= kills[0]:
            kills.pop(0)
            name = at.rng.choice(["join-1", "join-2"])
            await at.fleet.kill(name)
            await at.load.piece(PIECE_EVENTS)
            await at.fleet.start(name)
            await at.check(f"a kill of {name} after {done()} of {times}")
    assert not kills, "nobody was killed"
    result.times = done()


def label_codes(at: Ground) -> dict[str, set[str]]:
    """Return the codes of dead letters of labels by event id."""
    found: dict[str, set[str]] = {}
    for column in at.topics.all_of(at.scenario.domain.topics.dead_labels):
        for record in column.records:
            found.setdefault((record.key or b"").decode(), set()).add(parse(record.headers).rejection.code.value)
    return found


def told_outcomes(at: Ground, ids: Mapping[str, str]) -> dict[str, str]:
    """Return what became of each label, from the log and the dead letters."""
    joined = {each.id for each in outcomes_of(at.topics.blocks()) if each.kind == "joined"}
    codes = label_codes(at)
    return {each: "joined" if each in joined else "+".join(sorted(codes.get(each, {"nothing"}))) for each in ids}


# ── F10 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Repeated(Workload):
    """Each label up to `most` times, on one partition or on several.

    Attributes:
        repeated: Events of which that was done.
        labels: How many labels that made.
    """

    most: int = 1
    repeated: int = 0
    labels: int = 0

    def _labels(self, name: str, time_ms: int) -> None:
        rng, at, y = self.rng, home(name, self.partitions), self.rng.random() < 0.6
        places = set()
        copies = rng.randint(1, self.most)
        for _ in range(copies):
            place = at if rng.random() < 0.7 else rng.randrange(self.partitions)
            delay_ms = rng.randrange(0, 3_000)
            self._later(delay_ms, self._label(name, time_ms + delay_ms, place, y=y))
            places.add(place)
        if len(places) > 1:
            self.on_two[name] = {y}
        self.repeated += copies > 1
        self.labels += copies


@fault("F10", "duplicate labels, each up to 50 times", ci=200, full=4_000, limit_s=300)
async def duplicate(trial: Trial) -> Result:
    """Once each, for comparison; then 1 to 50 times each, while joiners are killed."""
    result = Result()
    async with joiners(trial, Repeated) as at:
        load = at.load.workload
        assert isinstance(load, Repeated)
        once = await growth_of(at, trial.times)
        load.most, before = MOST_COPIES, load.labels
        often = await growth_of(at, trial.times)
        copies = (load.labels - before) / trial.times
        assert often < GROWTH * once, f"an event takes {often:.0f} bytes of the log, {once:.0f} with one label each"
        begun = load.repeated
        await send_with_kills(at, result, lambda: load.repeated - begun, times=trial.times)
        found = await at.finish()
        assert found.learned == len({(o.id, o.time_ms) for o in outcomes_of(at.topics.blocks()) if o.kind == "joined"})
        result.add(found)
        result.notes.append(
            f"{load.labels} labels; an event takes {once:.0f} bytes of the log with one label, "
            f"{often:.0f} with {copies:.0f} on average"
        )
    return result


async def growth_of(at: Ground, events: int) -> float:
    """Send events and their labels; return how many bytes of the log each event took."""
    await at.check("nothing")
    before = len(at.topics.training.records)
    for _ in range(max(1, events // PIECE_EVENTS)):
        await at.load.piece(PIECE_EVENTS)
    await at.check("a piece to measure")
    size = sum(len(record.value or b"") for record in at.topics.training.records[before:])
    return size / events


# ── F11 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Late(Told):
    """Each label at an edge: just in time, just late, just forgotten; in the order of their times."""

    def _labels(self, name: str, time_ms: int) -> None:
        # A label is judged by the newest label before it as well, so only labels in order are at the edge.
        self._only_once()
        horizon_ms, rng = LATE_HORIZON_MS, self.rng
        delay_ms, becomes = rng.choice(
            [
                (rng.randrange(1_000, horizon_ms), "joined"),
                (horizon_ms - 1, "joined"),
                (horizon_ms, "joined"),
                (horizon_ms + 1, "late"),
                (rng.randrange(horizon_ms + 2, 2 * horizon_ms), "late"),
                (2 * horizon_ms, "late"),
                (2 * horizon_ms + 1, "orphaned"),
                (rng.randrange(2 * horizon_ms + 2, 3 * horizon_ms), "orphaned"),
            ]
        )
        due_ms = time_ms + delay_ms
        self.told[name] = becomes
        self._at(due_ms, self._label(name, due_ms, home(name, self.partitions), y=rng.random() < 0.6))

    def _shuffle_nearby(self, records: list[Sent]) -> None:
        pass


@fault("F11", "late labels, at the very edge of the horizon and beyond it", ci=600, full=8_000, limit_s=300)
async def late(trial: Trial) -> Result:
    """The horizon is in, a millisecond more is late; twice the horizon is late, a millisecond more is of nobody."""
    return await edges(trial, Late, horizon=f"{LATE_HORIZON_MS}ms", disorder=f"{LATE_HORIZON_MS}ms")


async def edges(trial: Trial, workload: Callable[[Random, int, int], Told], **changes: Any) -> Result:
    """Send labels at edges, with kills; what becomes of each is told beforehand and by the oracle."""
    result = Result()
    async with joiners(trial, workload, **changes) as at:
        load = at.load.workload
        assert isinstance(load, Told)
        await send_with_kills(at, result, lambda: len(load.told), times=trial.times)
        await at.load.send(load.rest())
        await at.check("the last piece")  # else the end might be scored before events, which then are stale
        result.add(await at.finish())
        outcomes = told_outcomes(at, load.told)
        wrong = {each: (outcomes[each], becomes) for each, becomes in load.told.items() if outcomes[each] != becomes}
        assert not wrong, f"{len(wrong)} labels (found, should be): {dict(list(wrong.items())[:6])}"
        result.notes.append(", ".join(f"{count} {name}" for name, count in sorted(Counter(outcomes.values()).items())))
    return result


# ── F12 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Early(Told):
    """Every label a piece before its event, and dated up to the edge of the skew before it, or beyond."""

    held: list[Sent] = field(default_factory=list)

    def piece(self, events: int) -> list[Sent]:
        made = super().piece(events)
        labels = [each for each in made if each.topic == "labels"]
        released, self.held = self.held, [each for each in made if each.topic == "events"]
        return [*released, *labels]

    def rest(self) -> list[Sent]:
        """Return the events that are held back."""
        released, self.held = self.held, []
        return released

    def _labels(self, name: str, time_ms: int) -> None:
        self._only_once()
        rng = self.rng
        lead_ms, becomes = rng.choice(
            [
                (rng.randrange(0, SKEW_MS), "joined"),
                (SKEW_MS - 1, "joined"),
                (SKEW_MS, "joined"),
                (SKEW_MS + 1, "orphaned"),
                (rng.randrange(SKEW_MS + 2, 4 * SKEW_MS), "orphaned"),
            ]
        )
        self.told[name] = becomes
        at_ms = time_ms - lead_ms
        self._at(at_ms, self._label(name, at_ms, home(name, self.partitions), y=rng.random() < 0.6))


@fault("F12", "labels before their events, within the skew and beyond it", ci=400, full=6_000, limit_s=300)
async def early(trial: Trial) -> Result:
    """A joiner is killed while labels wait for events that nobody has sent yet."""
    return await edges(trial, Early)


# ── F13 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Shuffled(Told):
    """One label for each event; all labels of a piece in any order, together."""

    def piece(self, events: int) -> list[Sent]:
        sent = [record for _ in range(events) for record in self._event()]
        labels = [each[2] for each in self._due]
        self._due.clear()
        self.rng.shuffle(labels)
        return [*sent, *labels]

    def _labels(self, name: str, time_ms: int) -> None:
        self._only_once()  # else the later event may be read first, and lies too far behind the label
        rng, at = self.rng, home(name, self.partitions)
        if rng.random() < 0.1:
            at = rng.randrange(self.partitions)
        delay_ms = rng.randrange(0, 4_000)
        self.told[name] = "joined"
        self._later(delay_ms, self._label(name, time_ms + delay_ms, at, y=rng.random() < 0.6))


@fault("F13", "labels in any order", ci=600, full=8_000, limit_s=300)
async def shuffled(trial: Trial) -> Result:
    """Shuffled within the horizon every one is joined; over several horizons the oracle says which are late."""
    result = Result()
    async with joiners(trial, Shuffled, disorder="20s") as at:
        load = at.load.workload
        assert isinstance(load, Shuffled)
        await at.load.piece(200)
        await send_with_kills(at, result, lambda: len(load.told), times=trial.times)
        await at.check("labels shuffled within the horizon")
        outcomes = told_outcomes(at, load.told)
        assert set(outcomes.values()) == {"joined"}, Counter(outcomes.values())
        for events in (500, 1_000):
            await at.load.piece(events)
        result.times = len(load.told)
        found = await at.finish()
        assert found.dead["late"], "nothing was so far from its place that it was late"
        result.add(found)
        result.notes.append(f"{found.outcomes['joined']} joined, {found.dead['late']} late by a shuffle over 60 s")
    return result


# ── F14 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Revised(Told):
    """Revisions of each label in any order: other targets, none, the same again, tombstones, some too late."""

    revised: int = 0

    def _labels(self, name: str, time_ms: int) -> None:
        self._only_once()
        rng, place = self.rng, home(name, self.partitions)
        if rng.random() < 0.1:
            place = rng.randrange(self.partitions)
        revisions = list(range(1, rng.randint(1, MOST_REVISIONS) + 1))
        rng.shuffle(revisions)
        words: list[tuple[int, bool | None]] = [(each, rng.choice([True, False, None])) for each in revisions]
        words += [(each, None if y is None else not y) for each, y in words if rng.random() < 0.15]
        words += rng.sample(words, rng.randrange(0, 2))
        delay_ms = rng.randrange(0, 1_500)
        for revision, y in words:
            delay_ms += rng.randrange(0, 700)
            self._later(delay_ms, self._label(name, time_ms + delay_ms, place, y=y, version=revision))
        if rng.random() < 0.1:
            self._later(delay_ms, Sent("labels", place, name.encode(), None))
        if rng.random() < 0.1:
            at_ms = time_ms + rng.randrange(28_000, 32_000)
            self._at(at_ms, self._label(name, at_ms, place, y=rng.random() < 0.5, version=MOST_REVISIONS + 1))
            return  # about the edge: the oracle alone knows
        self.told[name] = "revised"


@fault("F14", "corrected and withdrawn labels", ci=400, full=6_000, limit_s=300)
async def revised(trial: Trial) -> Result:
    """Whatever the order, the highest revision is in force in the end, and of equal ones the first."""
    result = Result()
    labels = {"id": "id", "target": "y", "time": "at", "revision": "version"}
    async with joiners(trial, Revised, labels=labels, corrections_within=f"{DISORDER_MS}ms") as at:
        load = at.load.workload
        assert isinstance(load, Revised)
        await send_with_kills(at, result, lambda: len(load.told), times=trial.times)
        await at.check("the last piece")
        found = await at.finish()
        force = {name: y for (name, _), y in in_force(outcomes_of(at.topics.blocks())).items()}
        words = words_of(at)
        # A withdrawal before any target is of nothing, whatever its revision.
        plain = [name for name in load.told if words[name][0][1] is not None]
        assert len(plain) > trial.times // 3
        wrong = {name: (force.get(name), in_the_end(words[name])) for name in plain}
        wrong = {name: each for name, each in wrong.items() if each[0] != each[1]}
        assert not wrong, f"{len(wrong)} targets (found, should be): {dict(list(wrong.items())[:6])}"
        result.add(found)
        counts = found.outcomes | found.dead
        result.notes.append(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return result


def words_of(at: Ground) -> dict[str, list[tuple[int, float | None]]]:
    """Return revision and target of every label of an id, in the order of the topic."""
    found: dict[str, list[tuple[int, float | None]]] = {}
    for column in at.topics.all_of(at.scenario.domain.topics.labels):
        for record in column.records:
            if b"version" in (record.value or b""):
                raw = orjson.loads(record.value or b"")
                y = None if raw["y"] is None else float(raw["y"])
                found.setdefault(raw["id"], []).append((raw["version"], y))
    return found


def in_the_end(words: list[tuple[int, float | None]]) -> float | None:
    """Return the target of the highest revision, the first of equal ones."""
    return max(words, key=lambda each: each[0])[1]
