"""One seeded run: a schedule of steps, kills and zombies, and what must hold when everything has come to rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.simulation import people
from tests.simulation import vandal as vandalism
from tests.simulation.agents import Joiner, scorer
from tests.simulation.branch_checks import check_branches
from tests.simulation.checks import check_join
from tests.simulation.environment import surrounded
from tests.simulation.faults import WHOLE, Trim
from tests.simulation.kept import COMMANDS
from tests.simulation.learner import SEAT, Learner
from tests.simulation.people import People
from tests.simulation.rules import planted
from tests.simulation.server import Server
from tests.simulation.vandal import vandal
from tests.simulation.watcher import Watcher
from tests.simulation.world import Process, Seat, World

from tailrace.domain.records import Owner

MAX_STEPS = 400_000
KILLS_PER_STEP = 0.01
MAX_LATE_KILLS = 12
"""Kills after the inputs have ended, so that a run comes to rest."""


@dataclass(slots=True)
class Schedule:
    """Which processes there are, and which goes next.

    Attributes:
        asleep: Zombie → the step at which it goes on.
        newest: The seat that was given away last.
    """

    world: World
    processes: dict[Owner, tuple[Seat, Process]] = field(default_factory=dict)
    asleep: dict[Owner, int] = field(default_factory=dict)
    newest: Seat = SEAT
    steps: int = 0
    started: int = 0
    kills: int = 0

    def start(self, seat: Seat) -> None:
        """Give a seat to a new process."""
        self.started += 1
        name = f"{seat.role}-{self.started}"
        self.world.assigned[seat] = name
        self.newest = seat
        self.world.finished.pop(seat, None)
        self.processes[name] = seat, _process(self.world, seat, name)

    def step(self) -> None:
        """Let one process go on to the next place where it can be killed."""
        self.steps += 1
        name = self.world.rng.choice([name for name in self.processes if self.asleep.get(name, 0) <= self.steps])
        seat, process = self.processes[name]
        if next(process, _ENDED) is _ENDED:
            del self.processes[name]
            if self.world.assigned[seat] == name:
                self.start(seat)

    def maybe_kill(self) -> None:
        """Now and then give a seat to a new process; the old one dies at once or lives on as a zombie."""
        rng, ended = self.world.rng, self.world.inputs_ended
        chance = KILLS_PER_STEP / 10 if ended else KILLS_PER_STEP
        if rng.random() >= chance or (ended and self.kills >= MAX_LATE_KILLS):
            return
        self.kills += 1
        # A takeover that is taken over at once is where claims go wrong.
        seat = self.newest if rng.random() < 0.3 else rng.choice(list(self.world.assigned))
        old = self.world.assigned[seat]
        if rng.random() < 0.5:
            self.processes.pop(old, None)
        else:
            self.asleep[old] = self.steps + rng.choice([0, 20, 100])
        self.start(seat)

    def is_at_rest(self) -> bool:
        """Whether nobody has anything left to do and no zombie is left."""
        world = self.world
        if not world.inputs_ended or len(world.finished) < len(world.assigned):
            return False
        if any(world.assigned[seat] != name for name, (seat, _) in self.processes.items()):
            return False
        return all(
            world.finished[Seat("join", p)] == (world.scored[p].next_offset, world.relabelled[p].next_offset)
            for p in range(world.case.partitions)
        ) and (world.finished[SEAT] == (world.log.next_offset, world.end_of(COMMANDS)))


_ENDED = object()


@dataclass(frozen=True, slots=True)
class Result:
    """What one seed came to; `problems` is empty when everything held."""

    seed: int
    problems: dict[str, int]
    kills: int
    refused: int


def run(seed: int, plant: str | None = None, trim: Trim = WHOLE) -> Result:
    """Run one seed, or what is left of it, with one planted bug if wanted."""
    with planted(plant) as rules:
        world = World.of(seed, rules, trim)
        schedule = Schedule(world)
        problems: Counter[str] = Counter()
        with surrounded(world):
            if not _drive(schedule):
                problems["stuck"] += 1
            else:
                check_branches(world, check_join(world, problems), problems)
        problems.update(world.violations)
    return Result(seed, {name: n for name, n in problems.items() if n}, schedule.kills, world.refused.total())


def _process(world: World, seat: Seat, name: Owner) -> Process:
    if seat.role == "score":
        return scorer(world, seat.partition, name)
    if seat.role == "join":
        return Joiner(world, seat.partition, name).run()
    if seat.role == "people":
        return People(world, name).run()
    if seat.role == "vandal":
        return vandal(world, name)
    if seat.role == "serve":
        return Server(world, seat, name).run()
    if seat.role == "watch":
        return Watcher(world, seat, name).run()
    return Learner(world, name).run()


def _drive(schedule: Schedule) -> bool:
    world, case = schedule.world, schedule.world.case
    for source in range(len(case.events)):
        schedule.start(Seat("score", source))
    for partition in range(case.partitions):
        schedule.start(Seat("join", partition))
    for seat in (SEAT, people.SEAT, vandalism.SEAT, Seat("serve", 0), Seat("watch", 0)):
        schedule.start(seat)
    arrivals = [entry.arrival_ms for events in case.events for entry in events.entries]
    arrivals += [entry.arrival_ms for labels in case.labels for entry in labels.entries]
    arrivals.sort()
    arrived, pace = 0, world.rng.choice([0.02, 0.05, 0.12])
    for _ in range(MAX_STEPS):
        if world.rng.random() < pace and arrived < len(arrivals):
            arrived = min(len(arrivals), arrived + world.rng.choice([1, 3, 10]))
            world.clock_ms = max(world.clock_ms, arrivals[arrived - 1])
        if arrived == len(arrivals) and not world.inputs_ended and _all_scored(world):
            world.end_inputs()
        schedule.maybe_kill()
        schedule.step()
        if schedule.is_at_rest():
            return True
    return False


def _all_scored(world: World) -> bool:
    return all(world.finished.get(Seat("score", source)) is True for source in range(len(world.case.events)))


