"""A series: one loop under load, whose processes are killed at point after point, checked after each.

A point is a named place in the code or a moment; the seed decides the load, the counts and the moments.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.checks import Found, check
from tests.faults.load import Load
from tests.faults.processes import Fleet, Refolder
from tests.faults.topics import Gap, Topics, gap_of, why_not_quiet
from tests.faults.workload import DISORDER_MS, HORIZON_MS, SKEW_MS, Workload
from tests.log_forms import LogForm
from tests.scenarios.harness import InVain, Scenario

from tailrace.streams import failpoints

ALL = ("score", "join", "learn")
AT_START = ("join.owner_read", "join.claim_committed", "join.claim_acknowledged")
BEFORE_COMMIT = ("score.predictions_acknowledged", "score.scored_acknowledged", "join.block_acknowledged")
"""Places between an acknowledgement and the commit that follows it."""

PARTITIONS = 4
QUIET_S = 45.0
PIECE_EVENTS = 24
PIECES = 6
PAUSE_S = 0.05
OF_A_SNAPSHOT = tuple(name for name in failpoints.NAMES if name.startswith(("learn.snapshot_", "store.")))
_MOST = dict.fromkeys(OF_A_SNAPSHOT, 2) | {"join.committed": 3}


@dataclass(frozen=True, slots=True)
class Point:
    """Where a process is killed.

    Attributes:
        team: The roles of the process.
        place: A name of `failpoints.NAMES`; "" for a moment.
        count: How often the place is reached before.
        after_s: Of the moment: seconds after the load, or the process, started.
        at_start: The process is killed while it starts, after the one before it was killed under load.
    """

    team: tuple[str, ...]
    place: str = ""
    count: int = 1
    after_s: float = 0.0
    at_start: bool = False

    @property
    def worker(self) -> str:
        """The name of the process."""
        return "-".join(self.team)

    def __str__(self) -> str:
        where = f"{self.place} × {self.count}" if self.place else f"{self.after_s:.2f} s"
        return f"{'+'.join(self.team)} at {where}{' of its start' if self.at_start else ''}"


@dataclass
class Report:
    """What a series came to."""

    points: list[Point] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    found: Found | None = None

    @property
    def before_commit(self) -> Counter[str]:
        """How many kills fell between an acknowledgement and its commit, by what was acknowledged."""
        return Counter(score=sum(gap.scored > 0 for gap in self.gaps), join=sum(gap.joined > 0 for gap in self.gaps))


def place(rng: Random, team: tuple[str, ...], name: str) -> Point:
    """Return a point at a named place."""
    if name in AT_START:
        claims = PARTITIONS * ("join" in team) + ("learn" in team)
        return Point(team, name, rng.randrange(1, claims + 1), at_start=True)
    return Point(team, name, rng.randrange(1, _MOST.get(name, 6) + 1))


def moment(rng: Random, team: tuple[str, ...], *, at_start: bool = False) -> Point:
    """Return a point at a random moment."""
    return Point(team, after_s=rng.uniform(0.05, 3.5 if at_start else 1.0), at_start=at_start)


def points_of_one(rng: Random, count: int) -> list[Point]:
    """Return points for one process with all roles: a quarter at moments, the rest at named places, all of which take turns."""
    names = list(failpoints.NAMES)
    rng.shuffle(names)
    named = [place(rng, ALL, names[index % len(names)]) for index in range(count - count // 4)]
    moments = [moment(rng, ALL, at_start=index % 3 == 2) for index in range(count // 4)]
    points = named + moments
    rng.shuffle(points)
    return points


def points_apart(rng: Random, count: int) -> list[Point]:
    """Return `count` points for each role as a process of its own."""
    mine = {
        "score": ["score.predictions_acknowledged", "score.scored_acknowledged"],
        "join": [name for name in failpoints.NAMES if name.startswith("join.")],
        "learn": [*AT_START, "learn.block_folded", *OF_A_SNAPSHOT],
    }
    points = []
    for role, names in mine.items():
        team = (role,)
        rng.shuffle(names)
        half = max(count // 2, min(len(names), count - 1))
        points += [place(rng, team, names[index % len(names)]) for index in range(half)]
        points += [moment(rng, team, at_start=index % 2 == 1) for index in range(count - half)]
    rng.shuffle(points)
    return points


class Series:
    """One loop, its user, its processes and its checks."""

    def __init__(self, scenario: Scenario, fleet: Fleet, refolder: Refolder, topics: Topics, rng: Random) -> None:
        self.report = Report()
        self._scenario = scenario
        self._fleet = fleet
        self._refolder = refolder
        self._topics = topics
        self._rng = rng
        # Times begin well in the past, so that no event is ahead of the clock.
        self._load = Load(scenario, Workload(rng, PARTITIONS, time.time_ns() // 1_000_000 - 7_200_000))

    async def run(self, points: Sequence[Point]) -> Report:
        """Kill at every point, restart, and check."""
        await self._fleet.start_all()
        await self._load.piece(PIECE_EVENTS)
        await self._quiet()
        for point in points:
            begun_s = time.monotonic()
            await self._kill_at(point)
            self._note_gap(point, await gap_of(self._topics))
            await self._fleet.start(point.worker)
            await self._check(point)
            self.report.points.append(point)
            self.report.seconds.append(time.monotonic() - begun_s)
        await self._load.ending()
        await self._check("the end", at_end=True)
        return self.report

    def _note_gap(self, point: Point, gap: Gap) -> None:
        """Note what the killed process had written and not committed; others may be writing at this moment."""
        mine = Gap(gap.scored if "score" in point.team else 0, gap.joined if "join" in point.team else 0)
        if point.place in BEFORE_COMMIT:
            assert mine.scored if point.place.startswith("score.") else mine.joined, (
                f"{point} is between an acknowledgement and its commit, and everything is committed"
            )
        self.report.gaps.append(mine)

    async def _check(self, after: Point | str, *, at_end: bool = False) -> None:
        try:
            await self._quiet()
            on_two, logs = self._load.workload.on_two, self._fleet.logs
            self.report.found = await check(
                self._topics, self._refolder, self._scenario, on_two, logs=logs, at_end=at_end
            )
        except AssertionError as failure:
            failure.add_note(f"after {after}, point {len(self.report.points) + 1} of the series")
            raise

    async def _kill_at(self, point: Point) -> None:
        if point.at_start:
            await self._under_load(self._rng.uniform(0.05, 0.6))
            await self._fleet.kill(point.worker)
            armed = (point.place, str(point.count)) if point.place else ()
            worker = await self._fleet.start(point.worker, armed)
            if not armed:
                await asyncio.sleep(point.after_s)
                worker.kill()
            assert await worker.end(30.0) == -signal.SIGKILL, f"{point}:\n{worker.tail()}"
        elif point.place:
            worker = self._fleet.running[point.worker]
            worker.arm(point.place, point.count)
            end_s = time.monotonic() + 30.0
            while worker.is_alive:
                if time.monotonic() >= end_s:
                    raise InVain(f"{point} was never reached:\n{worker.tail()}")
                await self._load.piece(PIECE_EVENTS // 2)
                await asyncio.sleep(PAUSE_S)
            assert await worker.end(1.0) == -signal.SIGKILL, f"{point}:\n{worker.tail()}"
        else:
            await self._under_load(point.after_s)
            await self._fleet.kill(point.worker)
        self._fleet.running.pop(point.worker, None)

    async def _under_load(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        for _ in range(PIECES):
            await self._load.piece(PIECE_EVENTS)
            if time.monotonic() >= end_s:
                return
            await asyncio.sleep(seconds / PIECES)

    async def _quiet(self) -> None:
        end_s = time.monotonic() + QUIET_S
        while why := await why_not_quiet(self._topics, self._load.ends):
            self._fleet.complain_of_the_dead()
            if time.monotonic() >= end_s:
                logs = "".join(worker.tail() for worker in self._fleet.running.values())
                raise InVain(f"after {QUIET_S} s: {why}\n{logs}")
            await asyncio.sleep(0.1)


def points_of_the_join(rng: Random) -> list[Point]:
    """Return points at every place of the join, for one process with all roles."""
    points = [place(rng, ALL, name) for name in failpoints.NAMES if name.startswith("join.")]
    rng.shuffle(points)
    return points


async def run_series(
    form: LogForm, folder: Path, seed: int, *, apart: bool, count: int, join_store: str = "memory"
) -> Report:
    """Run a series of kills on a log.

    Args:
        apart: Each role is a process of its own; else one process has all.
        count: Of points; for each role when apart.
        join_store: Where what waits is kept; on disk, the points are all places of the join.
    """
    rng = Random(seed)
    scenario = await Scenario.make(
        form,
        folder,
        partitions=PARTITIONS,
        horizon=f"{HORIZON_MS}ms",
        disorder=f"{DISORDER_MS}ms",
        skew=f"{SKEW_MS}ms",
        idle_after="2s" if rng.random() < 0.5 else "10m",
        snapshots={"every": "300ms", "publish": "200ms"},
        join={"store": join_store},
    )
    teams = [(role,) for role in ALL] if apart else [ALL]
    fleet = Fleet(scenario.config, {"-".join(team): team for team in teams}, rng, folder)
    refolder = Refolder(scenario.config, folder)
    reader = form.open().reader()
    await reader.start()
    try:
        topics = Topics(reader, scenario.domain, PARTITIONS)
        points = points_apart(rng, count) if apart else points_of_one(rng, count)
        if join_store == "disk":
            points = points_of_the_join(rng)
        return await Series(scenario, fleet, refolder, topics, rng).run(points)
    except AssertionError as failure:
        shape = "--apart " if apart else ""
        failure.add_note(f"again: python -m tests.faults.kills {shape}--points {count} --seed {seed} --log {form.name}")
        raise
    finally:
        fleet.close()
        refolder.close()
        await reader.stop()
        await scenario.close()
