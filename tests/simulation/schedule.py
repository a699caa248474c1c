"""A schedule of steps, kills, zombies, upgrades and wrong clocks: which process goes next, until all is at rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.simulation.agents import Joiner, scorer
from tests.simulation.branching import VERSIONS
from tests.simulation.kept import COMMANDS
from tests.simulation.learner import SEAT, Learner
from tests.simulation.people import People
from tests.simulation.server import Server
from tests.simulation.vandal import vandal
from tests.simulation.watcher import Watcher
from tests.simulation.world import Process, Seat, World

from tailrace.domain.records import Owner

MAX_STEPS: Final = 60_000
KILLS_PER_STEP: Final = 0.01
MAX_LATE_KILLS: Final = 12
"""Kills after the inputs have ended, so that a run comes to rest."""

_JUMPS_PER_STEP: Final = 0.005
_HOUR_MS: Final = 3_600_000


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

    def run(self) -> bool:
        """Start everybody, let inputs arrive, end them, and go on until all is at rest; return whether that came."""
        world, rng = self.world, self.world.rng
        self._start_all()
        arrivals, arrived, pace = _arrivals(world), 0, rng.choice([0.02, 0.05, 0.12])
        for _ in range(MAX_STEPS):
            if rng.random() < pace and arrived < len(arrivals):
                arrived = min(len(arrivals), arrived + rng.choice([1, 3, 10]))
                world.clock_ms = max(world.clock_ms, arrivals[arrived - 1])
            if arrived == len(arrivals) and not world.inputs_ended and _all_scored(world):
                world.end_inputs()
            self._maybe_jump()
            self._maybe_kill()
            self._step()
            if self._is_at_rest():
                return True
        return False

    def end(self) -> None:
        """End every process."""
        for _, process in self.processes.values():
            process.close()
        self.processes.clear()

    def _start_all(self) -> None:
        case = self.world.case
        seats = [Seat("score", source) for source in range(len(case.events))]
        seats += [Seat("join", partition) for partition in range(case.partitions)]
        seats += [SEAT, *(Seat(role, 0) for role in case.others)]
        for seat in seats:
            self._start(seat)

    def _start(self, seat: Seat) -> None:
        """Give a seat to a new process."""
        self.started += 1
        name = f"{seat.role}-{self.started}"
        self.world.assigned[seat] = name
        self.newest = seat
        self.world.finished.pop(seat, None)
        self.processes[name] = seat, _process(self.world, seat, name)

    def _step(self) -> None:
        """Let one process go on to the next place where it can be killed."""
        self.steps += 1
        awake = list(self.processes)
        if self.asleep:
            self.asleep = {name: until for name, until in self.asleep.items() if until > self.steps}
            awake = [name for name in awake if name not in self.asleep]
        name = self.world.rng.choice(awake)
        seat, process = self.processes[name]
        if next(process, _ENDED) is _ENDED:
            del self.processes[name]
            if self.world.assigned[seat] == name:
                self._start(seat)

    def _maybe_jump(self) -> None:
        """Now and then the clocks of all processes are an hour wrong, or right again."""
        if self.world.faults.strikes("clock", _JUMPS_PER_STEP):
            self.world.jump_ms = self.world.rng.choice([-_HOUR_MS, 0, _HOUR_MS])

    def _maybe_kill(self) -> None:
        """Now and then give a seat to a new process; the old one dies at once or lives on as a zombie."""
        world, rng, ended = self.world, self.world.rng, self.world.inputs_ended
        if ended and self.kills >= MAX_LATE_KILLS:
            return
        if not world.faults.strikes("kill", KILLS_PER_STEP / 10 if ended else KILLS_PER_STEP):
            return
        self.kills += 1
        # A takeover that is taken over at once is where claims go wrong.
        seat = self.newest if rng.random() < 0.3 else rng.choice(list(world.assigned))
        old = world.assigned[seat]
        if rng.random() < 0.5:
            gone = self.processes.pop(old, None)
            if gone is not None:
                gone[1].close()
        else:
            self.asleep[old] = self.steps + rng.choice([0, 20, 100])
        if seat == SEAT and world.faults.strikes("upgrade", 0.3):
            world.version = next(version for version in VERSIONS if version != world.version)
        self._start(seat)

    def _is_at_rest(self) -> bool:
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


_ENDED: Final = object()


def _process(world: World, seat: Seat, name: Owner) -> Process:
    match seat.role:
        case "score":
            return scorer(world, seat.partition, name)
        case "join":
            return Joiner(world, seat.partition, name).run()
        case "learn":
            return Learner(world, name).run()
        case "serve":
            return Server(world, seat, name).run()
        case "watch":
            return Watcher(world, seat, name).run()
        case "people":
            return People(world, name).run()
        case _:
            return vandal(world, name)


def _arrivals(world: World) -> list[float]:
    topics = [*world.case.events, *world.case.labels]
    return sorted(entry.arrival_ms for topic in topics for entry in topic.entries)


def _all_scored(world: World) -> bool:
    return all(world.finished.get(Seat("score", source)) is True for source in range(len(world.case.events)))
