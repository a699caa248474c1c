"""A skip counts only if no other learner has claimed the log before it; who folds on needs to know."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from tests.simulation.broker import SimReader, SimSink
from tests.simulation.environment import surrounded
from tests.simulation.kept import TRAINING
from tests.simulation.rules import Rules
from tests.simulation.virtual import Machine
from tests.simulation.world import World

from tailrace.domain.errors import OwnershipLost
from tailrace.domain.notices import Notices
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Skip
from tailrace.streams.learner_part import LearnerPart
from tailrace.streams.training_log import TrainingLog

BRANCH = "branch"


class Member:
    """One process with a learner's part."""

    def __init__(self, world: World, name: str) -> None:
        self._machine = Machine()
        with self._machine.running():
            training = TrainingLog(SimReader(world, self._machine), SimSink(world, self._machine), TRAINING)
            self.part = LearnerPart(training, name)

    def do(self, program: Coroutine[Any, Any, Any]) -> Any:
        """Run a program to its end."""
        task = self._machine.launch(program)
        while not task.done():
            self._machine.turn()
        return task.result()

    def claim(self) -> None:
        """Claim the part."""
        self.do(self.part.claim(0, OwnershipState(), _yes))

    def skip(self, position: int) -> Notices:
        """Append a skip; return what the log says once it counts."""
        self.do(self.part.append(lambda owner, number: Skip(owner, number, position, BRANCH, "ValueError")))
        found: Notices = self.do(self.part.confirmed(0, OwnershipState(), [(BRANCH, position)]))
        return found


async def _yes() -> bool:
    return True


def test_a_skip_of_the_owner_counts() -> None:
    world = World.of(1, Rules())
    with surrounded(world):
        member = Member(world, "one")
        member.claim()

        assert {3} == member.skip(3).of(BRANCH).skips


def test_a_skip_after_somebody_elses_claim_ends_the_term() -> None:
    """Without `confirmed` the former owner would fold on and keep a state that no log explains."""
    world = World.of(1, Rules())
    with surrounded(world):
        former, owner = Member(world, "one"), Member(world, "two")
        former.claim()
        owner.claim()

        with pytest.raises(OwnershipLost, match="does not count"):
            former.skip(3)


def test_the_new_owner_may_have_skipped_the_same() -> None:
    world = World.of(1, Rules())
    with surrounded(world):
        former, owner = Member(world, "one"), Member(world, "two")
        former.claim()
        owner.claim()
        owner.skip(3)

        assert {3} == former.skip(3).of(BRANCH).skips
