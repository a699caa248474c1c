"""A fold of one's own over a stretch of the log, that can be stopped at any record and taken up again there.

It holds every branch that the log admits and that this process can fold. One that began before the stretch is folded
apart, when the log admits it. A branch of which nothing is recorded is left out where it cannot be folded to the end: a
learner held it back, or could not fold it, and there is nothing to compare it with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TypeAlias

from tailrace.domain.branches import Branch, part_name
from tailrace.domain.errors import FoldError, ForeignLogError
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import digest_of
from tailrace.domain.notices import Notices
from tailrace.domain.positions import Position, offset_of
from tailrace.domain.proof import Digests
from tailrace.domain.state import LoopState
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.warming import Progress, Warming

Checkpoint: TypeAlias = Sequence[Mapping[str, bytes]]
"""A state as canonical bytes, one branch each: also of branches that are not admitted yet."""


@dataclass
class Refold:
    """A state on its way through the log.

    Attributes:
        state: At a block's end.
        notices: Of the stretch that is folded.
        recorded: Names of the parts of which a digest was recorded.
        left_out: Lineages of branches that are not folded.
    """

    fold: Fold
    training: TrainingLog
    index: SnapshotIndex
    state: LoopState
    notices: Notices
    recorded: AbstractSet[str]
    left_out: set[str] = field(default_factory=set)

    @classmethod
    async def begin(
        cls, fold: Fold, training: TrainingLog, index: SnapshotIndex, state: LoopState, recorded: AbstractSet[str]
    ) -> Refold:
        """Make ready to fold on from a state: the log's beginning, or a snapshot's."""
        start, end = offset_of(state.position), (await training.range()).end
        notices = await training.notices(start, end, state.ownership)
        refold = cls(fold, training, index, state, notices, recorded)
        await hold_admitted(fold, training, state, notices)
        state.beside = frozenset(state.branches)  # what the log retires it may admit again
        await refold._hold_missing()
        return refold

    async def fold_to(self, position: Position, progress: Progress = lambda _done, _of: None) -> None:
        """Fold records up to a position between two of them.

        Raises:
            FoldError: A model raised at an example that the log does not skip.
            CodecError: The log holds what is not Tailrace's.
            ForeignLogError: The log does not reach back to where a branch begins.
        """
        start, end = offset_of(self.state.position), offset_of(position)
        async for record in self.training.records(start, end):
            decided = self.state.pointers.decisions
            self.fold.fold(self.state, [record], self.notices)
            if self.state.pointers.decisions is not decided:
                self._let_go()
                await self._hold_missing()
            progress(record.offset + 1 - start, end - start)
            await asyncio.sleep(0)

    def digests(self) -> Digests:
        """Return what the state comes to."""
        state = self.state
        parts = {name: digest_of(body) for name, body in self.fold.parts(state).items()}
        return Digests(self.fold.lineage, state.ownership.log_id, state.position, parts)

    def checkpoint(self) -> Checkpoint:
        """Return the state as bytes."""
        lineages = list(self.state.branches)
        return [self.fold.parts_with(self.state, each) for each in lineages] or [self.fold.parts(self.state)]

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Take up a state that `checkpoint` returned."""
        self.state, *others = [self.fold.restore(parts) for parts in checkpoint]
        for other in others:
            for branch in other.branches.values():
                self.fold.hold(self.state, branch)
        held = self.state.branches.items()
        self.state.branches = {lineage: branch for lineage, branch in held if lineage not in self.left_out}

    def leave_out(self, lineage: str) -> bool:
        """Fold a branch no more, from the next `go_back` on; return whether that may be: nothing of it is recorded."""
        may_be = part_name(lineage) not in self.recorded
        if may_be:
            self.left_out.add(lineage)
        return may_be

    def _let_go(self) -> None:
        """Let the branches go that the log has retired and does not admit again: it skips nothing for them any more."""
        state, last = self.state, self.notices.last_admitted
        here = offset_of(state.position)
        gone = {each for each in state.branches if each not in state.pointers.admitted and last.get(each, -1) < here}
        if gone:
            state.branches = {each: held for each, held in state.branches.items() if each not in gone}
            state.beside -= gone

    async def _hold_missing(self) -> None:
        """Fold the branches that were admitted just now and are not held, from where they start."""
        for branch in self.fold.missing(self.state):
            if branch.lineage in self.left_out:
                continue
            try:
                await self._catch_up(branch)
            except (FoldError, ForeignLogError):
                if not self.leave_out(branch.lineage):
                    raise

    async def _catch_up(self, branch: Branch) -> None:
        warming = Warming(self.fold, self.training, self.index)
        warmed = await warming.begin(branch, fresh=True)
        await warming.fold_to(warmed, offset_of(self.state.position))
        if warmed.skips:
            raise FoldError(min(warmed.skips), RuntimeError("at an example that the log does not skip"), branch.lineage)
        self.fold.hold(self.state, warmed.held)
        self.notices.merge(warmed.notices)


async def hold_admitted(fold: Fold, training: TrainingLog, state: LoopState, notices: Notices) -> None:
    """Hold the branches that the log admits from a state on, that begin there or later and can be folded here.

    Args:
        notices: Of the stretch from the state on; what those branches need of the log besides is added.
    """
    for text in notices.admitted.values():
        branch = Branch.read(text)
        is_behind = branch.start < state.position
        if is_behind or branch.lineage in state.branches or fold.kit(branch) is None:
            continue
        fold.hold(state, fold.begin_branch(branch))
        if branch.filter.corrected_to > state.position:
            notices.know(await training.corrections(branch.filter.corrected_to))
