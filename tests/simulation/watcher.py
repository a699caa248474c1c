"""A process that follows the log: it folds beside the learner and tells its digests, which must be the learner's."""

from __future__ import annotations

from collections.abc import Generator

from tests.simulation.branching import fold_of
from tests.simulation.world import Seat, Seen, World

from tailrace.domain.branches import Branch
from tailrace.domain.errors import FoldError
from tailrace.domain.models.digest import digest_of
from tailrace.domain.notices import CorrectedTargets, Logged, Notices, read_notices
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import offset_of
from tailrace.domain.records import Owner
from tailrace.domain.state import BRANCHES, LoopState


class Watcher:
    """One process that folds the log without writing anything."""

    def __init__(self, world: World, seat: Seat, name: Owner) -> None:
        self._world = world
        self._seat = seat
        self._name = name
        self._fold = fold_of(world.rules, world.rng, world.version)
        self._state = self._fold.begin()
        self._notices = Notices()

    def run(self) -> Generator[None, None, None]:
        """Fold what there is, wait, go on; where a model raises, wait until the log says so and begin again."""
        world = self._world
        while world.owns(self._seat, self._name):
            first, end = offset_of(self._state.position), world.log.next_offset
            if first < end and world.rng.random() < 0.1:
                self._go_on(self._records(first, min(end, first + world.rng.choice([5, 20, 400]))))
            world.finished[self._seat] = True
            yield

    def _records(self, start: int, end: int) -> list[Logged]:
        world = self._world
        return [
            Logged(kept.offset, world.training.decode(kept.value or b""), digest_of(kept.value or b""))
            for kept in world.training.records(start, end)
        ]

    def _go_on(self, records: list[Logged]) -> None:
        state = self._state
        try:
            self._fold.fold(state, records, self._notices)
            if len(state.branches) < len(state.pointers.admitted):
                for branch in self._fold.missing(state):
                    self._fold.hold(state, self._brought_up(branch, state).branches[branch.lineage])
        except FoldError:
            self._begin_again()
            return
        if self._world.rng.random() < 0.2:
            self._tell()

    def _begin_again(self) -> None:
        self._state = self._fold.begin()
        everything = self._records(0, self._world.log.next_offset)
        self._notices = read_notices(everything, OwnershipState())

    def _brought_up(self, branch: Branch, state: LoopState) -> LoopState:
        """Fold a branch from the log's beginning up to the state, in a state of its own."""
        records = self._records(0, offset_of(state.position))
        found = read_notices(records, OwnershipState())
        if branch.filter.corrected_to:
            targets = CorrectedTargets(branch.filter.corrected_to)
            for record in records:
                targets.read(record.offset, record.record)
            found.know(targets.found)
        self._notices.merge(found)
        alone = self._fold.begin()
        alone.beside = frozenset({branch.lineage})
        self._fold.hold(alone, self._fold.begin_branch(branch))
        self._fold.fold(alone, records, found)
        return alone

    def _tell(self) -> None:
        for part, body in self._fold.parts(self._state).items():
            if part != BRANCHES:
                self._world.seen.append(Seen(self._name, self._state.position, part, digest_of(body)))
