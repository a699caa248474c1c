"""One seeded run: a schedule of steps, kills and zombies, and what must hold when everything has come to rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.simulation.agents import Joiner, scorer
from tests.simulation.learner import SEAT, begun, learner, logged, make_fold
from tests.simulation.oracle import Expected, Outcome, accepted, expect, in_force, outcomes_of
from tests.simulation.rules import planted
from tests.simulation.world import Process, Seat, World

from tailrace.domain.books import LabelRecord, Letter, Topics, recompute
from tailrace.domain.records import Claim, Code, Label, Owner
from tailrace.stores.waiting_folders import WaitingFolders

MAX_STEPS = 400_000
KILLS_PER_STEP = 0.01
MAX_LATE_KILLS = 12
"""Kills after the inputs have ended, so that a run comes to rest."""

_EVENT_OUTCOMES = ("joined", "implicit", "dropped", "repeated", "stale")
_LABEL_OUTCOMES = ("joined", "duplicate", "conflicting", "corrected", "withdrawn", "late", "orphaned")


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
        ) and (world.finished[SEAT] == world.log.next_offset)


_ENDED = object()


@dataclass(frozen=True, slots=True)
class Result:
    """What one seed came to; `problems` is empty when everything held."""

    seed: int
    problems: dict[str, int]
    kills: int
    damaged_refused: int
    rooms_used: int = 0


def run(seed: int, plant: str | None = None, rooms: WaitingFolders | None = None) -> Result:
    """Run one seed, with one planted bug if wanted, and what waits on disk if there is a place for it."""
    with planted(plant) as rules:
        world = World.of(seed, rules, rooms)
        schedule = Schedule(world)
        came_to_rest = _drive(schedule)
        problems = Counter(world.violations)
        if came_to_rest:
            _check(world, problems)
        else:
            problems["stuck"] += 1
    return Result(
        seed, {name: n for name, n in problems.items() if n}, schedule.kills, world.damaged_refused, world.rooms_used
    )


def _process(world: World, seat: Seat, name: Owner) -> Process:
    if seat.role == "score":
        return scorer(world, seat.partition, name)
    if seat.role == "join":
        return Joiner(world, seat.partition, name).run()
    return learner(world, name)


def _drive(schedule: Schedule) -> bool:
    world, case = schedule.world, schedule.world.case
    for source in range(len(case.events)):
        schedule.start(Seat("score", source))
    for partition in range(case.partitions):
        schedule.start(Seat("join", partition))
    schedule.start(SEAT)
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


def _check(world: World, problems: Counter[str]) -> None:
    records = [entry.value for entry in world.log.entries]
    blocks = list(accepted(records))
    expected = expect(world.case, world.scored, world.case.labels, blocks)
    rows = outcomes_of(blocks)
    _check_outcomes(expected, rows, problems)
    _check_in_force(expected, rows, problems)
    _check_dead(world, expected, {(block.partition, block.owner, block.number) for block in blocks}, problems)
    counts: Counter[str] = Counter()
    for block in blocks:
        counts.update(block.vector.counts)
    for outcome in {*_EVENT_OUTCOMES, *_LABEL_OUTCOMES}:
        problems[f"counter {outcome}"] += counts[outcome] != expected.counts[outcome]
    _check_books(world, counts, expected, problems)
    _check_recomputed_books(world, counts, problems)
    problems["memory kept at the end"] += sum(left > 1 for left in world.left.values())
    _check_fold(world, counts, len(rows), problems)


def _check_in_force(expected: Expected, rows: Sequence[Outcome], problems: Counter[str]) -> None:
    try:
        found = in_force(rows)
    except LookupError:
        problems["correction before its example"] += 1
        return
    problems["target in force differs"] += len(expected.in_force.items() ^ found.items())


def _check_outcomes(expected: Expected, rows: Sequence[Outcome], problems: Counter[str]) -> None:
    found = Counter(rows)
    problems["outcome missing"] += len(expected.outcomes - found.keys())
    problems["outcome wrong"] += len(found.keys() - expected.outcomes)
    problems["outcome twice"] += sum(times - 1 for times in found.values())


def _check_dead(world: World, expected: Expected, counted: set[tuple[int, Owner, int]], problems: Counter[str]) -> None:
    dead = {(letter.place, letter.code) for letter in world.letters if letter.block in counted}
    problems["dead letter missing"] += len(expected.dead - dead)
    problems["dead letter wrong"] += len(dead - expected.dead)


def _check_books(world: World, counts: Counter[str], expected: Expected, problems: Counter[str]) -> None:
    sent = {(p, entry.offset) for p, topic in enumerate(world.case.events) for entry in topic.entries}
    found = {
        (entry.value.source_partition, offset)
        for topic in world.scored
        for entry in topic.entries
        for offset in entry.value.source_offsets.tolist()
        if offset < 10**9
    }
    problems["event not scored"] += len(sent ^ found)
    scored = sum(len(entry.value.ids) for topic in world.scored for entry in topic.entries)
    outcomes = sum(counts[outcome] for outcome in _EVENT_OUTCOMES)
    problems["books of events"] += scored != outcomes + expected.counts["waiting"]
    labels = sum(_is_label(entry.value) for topic in world.case.labels for entry in topic.entries)
    outcomes = sum(counts[outcome] for outcome in _LABEL_OUTCOMES)
    problems["books of labels"] += labels + counts["received"] != (
        outcomes + counts["forwarded"] + expected.counts["early"]
    )


def _check_recomputed_books(world: World, counts: Counter[str], problems: Counter[str]) -> None:
    case = world.case
    scored = [(p, entry.value) for p, topic in enumerate(world.scored) for entry in topic.entries]
    labels = [
        LabelRecord((q, entry.offset), entry.value, case.home(entry.value.id) if entry.value else 0)
        for q, topic in enumerate(case.labels)
        for entry in topic.entries
    ]
    letters = [Letter(letter.place, Code(letter.code), letter.block) for letter in world.letters]
    letters += [Letter(record.source, Code.TARGET_INVALID) for record in labels if record.label is None]
    topics = Topics(
        case.partitions,
        {(block.source_partition, offset) for _, block in scored for offset in block.source_offsets.tolist()},
        scored,
        labels,
        [(p, entry.value) for p, topic in enumerate(world.relabelled) for entry in topic.entries],
        [(entry.offset, entry.value) for entry in world.log.entries],
        label_letters=letters,
    )
    books = recompute(topics, case.times)
    problems["recomputed books do not hold"] += not books.holds
    (found,) = (balance.parts for balance in books.balances if balance.line == "labels")
    problems["recomputed labels differ"] += any(found[outcome] != counts[outcome] for outcome in _LABEL_OUTCOMES)


def _is_label(value: Label | None) -> bool:
    return value is not None


def _check_fold(world: World, counts: Counter[str], rows: int, problems: Counter[str]) -> None:
    fold = make_fold(world)
    bare = begun(fold)
    fold.fold(bare, map(logged, world.log.entries))
    problems["fold differs"] += fold.digest(bare) != world.live_digest
    counted = bare.counts
    folded = counted.examples + counted.dropped + counted.corrected + counted.withdrawn
    problems["fold counts differ"] += world.live_outcomes != +counts or folded != rows
    claims = sum(isinstance(entry.value, Claim) for entry in world.log.entries)
    problems["claims differ"] += bare.counts.claims + bare.counts.fenced_claims != claims
