"""The commit inside a claim: whoever lost the assignment cannot take the partition from its new owner."""

from __future__ import annotations

from tests.simulation.agents import claim
from tests.simulation.rules import Rules
from tests.simulation.world import Process, Seat, World

SEAT = Seat("join", 0)


def test_a_process_that_lost_its_seat_before_it_reads_the_owner_leaves_the_new_owner_in_place() -> None:
    world = _world()
    lost = _assign(world, "lost")
    _finish(_assign(world, "owner"))

    _finish(lost)

    assert world.ownership().owners == {0: "owner"}


def test_without_the_commit_it_would_take_the_partition() -> None:
    world = _world("claim_without_commit")
    lost = _assign(world, "lost")
    _finish(_assign(world, "owner"))

    _finish(lost)

    assert world.ownership().owners == {0: "lost"}


def test_a_process_that_lost_its_seat_after_the_commit_claims_in_vain() -> None:
    world = _world()
    lost = _assign(world, "lost")
    for _ in range(2):  # it has read the owner and committed
        next(lost)
    _finish(_assign(world, "owner"))

    _finish(lost)

    assert world.ownership().owners == {0: "owner"}
    assert len(world.log.entries) == 2


def test_a_claim_that_was_overtaken_is_made_again_by_the_owner_of_the_seat() -> None:
    world = _world()
    lost = _assign(world, "lost")
    for _ in range(2):
        next(lost)
    owner = _assign(world, "owner")
    next(owner)

    _finish(lost)
    _finish(owner)

    assert world.ownership().owners == {0: "owner"}


def _world(plant: str | None = None) -> World:
    return World.of(1, Rules(plant))


def _assign(world: World, name: str) -> Process:
    world.assigned[SEAT] = name
    return claim(world, SEAT, name)


def _finish(process: Process) -> None:
    for _ in process:
        pass
