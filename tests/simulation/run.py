"""One seeded run, and what must hold when everything has come to rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.simulation.branch_checks import check_branches
from tests.simulation.checks import check_join
from tests.simulation.environment import surrounded
from tests.simulation.faults import WHOLE, Trim
from tests.simulation.plants import planted
from tests.simulation.schedule import Schedule
from tests.simulation.world import World

from tailrace.stores.waiting_folders import WaitingFolders


@dataclass(frozen=True, slots=True)
class Result:
    """What one seed came to; `problems` is empty when everything held.

    Attributes:
        refused: Snapshots, index records and files that were refused, by reason.
        happened: What happened in it, e.g. "kill" → times: faults, and records of the learner by kind.
        ids: Of events and labels in its inputs.
        faults: Names of those that struck.
        steps: Of processes, until all was at rest.
        rooms_used: How often a join found what waits on disk.
    """

    seed: int
    problems: dict[str, int]
    kills: int
    refused: dict[str, int]
    happened: dict[str, int]
    ids: frozenset[str]
    faults: tuple[str, ...]
    steps: int
    rooms_used: int


def run(seed: int, plant: str | None = None, trim: Trim = WHOLE, rooms: WaitingFolders | None = None) -> Result:
    """Run one seed, or what is left of it, with one planted bug if wanted, and what waits on disk if there is a place."""
    problems: Counter[str] = Counter()
    with planted(plant) as rules:
        world = World.of(seed, rules, trim, rooms)
        schedule = Schedule(world)
        with surrounded(world):
            came_to_rest = schedule.run()
            schedule.end()
            if came_to_rest:
                check_branches(world, check_join(world, problems), problems)
            else:
                problems["stuck"] += 1
        problems.update(world.violations)
    happened = Counter(name.partition(":")[0] for name in world.faults.struck)
    happened.update(type(entry.value).__name__ for entry in world.log.entries)
    return Result(
        seed,
        {name: n for name, n in problems.items() if n},
        schedule.kills,
        dict(world.refused),
        dict(happened),
        world.case.ids,
        tuple(world.faults.struck),
        schedule.steps,
        world.rooms_used,
    )
