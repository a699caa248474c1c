"""What an idle move decides must not be seen by another partition before a commit followed its block."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.agents import Joiner
from tests.simulation.inputs import InputEvent, Topic, add_label
from tests.simulation.rules import Rules
from tests.simulation.world import Seat, World, score

from tailrace.domain.join import JoinLimits
from tailrace.domain.records import Forward, Label

MOVED_TO_MS = 5_000


def test_a_joiner_whose_idle_move_could_not_be_committed_reads_no_further_label() -> None:
    forwards = [forward for seed in range(20) for forward in _forwarded_by_a_former_owner(seed)]

    assert forwards == []


def test_else_its_forwards_would_carry_a_watermark_that_the_log_does_not_know() -> None:
    plant = "labels_after_refused_idle"
    forwards = [forward for seed in range(20) for forward in _forwarded_by_a_former_owner(seed, plant)]

    assert MOVED_TO_MS in {forward.watermark_ms for forward in forwards}


def _forwarded_by_a_former_owner(seed: int, plant: str | None = None) -> list[Forward]:
    """Let a joiner move its quiet labels, lose its seat, and only then get a label of the other partition."""
    world = _world(seed, plant)
    here = next(f"e{n}" for n in range(100) if world.case.home(f"e{n}") == 0)
    there = next(f"e{n}" for n in range(100) if world.case.home(f"e{n}") == 1)
    world.scored[0].append(score([InputEvent(here, MOVED_TO_MS)], [0], 0, world.rng))
    world.clock_ms = MOVED_TO_MS
    seat = Seat("join", 0)
    world.assigned[seat] = "former"
    joiner = Joiner(world, 0, "former")
    process = joiner.run()
    while not any(block.vector.idle_moves for _, block in world.accepted(0)):
        next(process)

    world.assigned[seat] = "owner"
    add_label(world.case.labels[0], 0, Label(there, 100, 1.0, 0, 0, 0), arrival_ms=MOVED_TO_MS)
    for _ in process:
        pass
    return [entry.value for entry in world.relabelled[1].entries if isinstance(entry.value, Forward)]


def _world(seed: int, plant: str | None) -> World:
    world = World.of(seed, Rules(plant))
    world.case = replace(world.case, partitions=2, limits=JoinLimits(), labels=[Topic(), Topic()])
    world.scored, world.relabelled = [Topic(), Topic()], [Topic(), Topic()]
    return world
