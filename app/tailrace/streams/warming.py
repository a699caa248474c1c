"""Warming: a branch is folded in a state of its own, beside everything else, until it has come to the others.

Used by the learner, for branches that are admitted and not held yet, and by commands that build a branch. Such a
state holds the loop's own part too: it says which blocks count, and it must come to the same bytes as everybody
else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import structlog

from tailrace.domain.branches import Branch, BranchState, part_name
from tailrace.domain.errors import CodecError, FoldError, SnapshotRefused, TailraceError
from tailrace.domain.learning import Fold
from tailrace.domain.notices import Notices
from tailrace.domain.positions import Position, offset_of, position_of, show
from tailrace.domain.rehearsal import Rehearsal
from tailrace.domain.state import LoopState
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog

log = structlog.get_logger(__name__)

MAX_SKIPS = 1_000
"""Examples that a model may raise at while it is warmed; a branch with more is no model of these events."""

SLICE_S = 0.005  # of folding, then the event loop turns
_CHECKPOINT_S = 5.0  # of folding, that an example at which the model raises costs again, at most

Progress = Callable[[int, int], None]
"""Told records folded so far, and of how many."""


class WarmingFailed(TailraceError):
    """A branch cannot be warmed."""


@dataclass(slots=True)
class Warmed:
    """A branch on its way, and the state that it is folded in.

    Attributes:
        skips: Positions at which its model raised here, in order, and the class names of what it raised.
    """

    branch: Branch
    state: LoopState
    notices: Notices
    skips: dict[Position, str] = field(default_factory=dict)
    checkpoint: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def held(self) -> BranchState:
        """The branch."""
        return self.state.branches[self.branch.lineage]


class Warming:
    """Folds branches of one loop.

    Args:
        index: Where a state of the branch may be found, so that less has to be folded.
    """

    def __init__(self, fold: Fold, training: TrainingLog, index: SnapshotIndex) -> None:
        self._fold = fold
        self._training = training
        self._index = index

    async def begin(self, branch: Branch, notices: Notices | None = None, *, fresh: bool = False) -> Warmed:
        """Return a branch as far as a snapshot of it reaches, else at the start of the log.

        Args:
            notices: What the log does not say yet: ids that the filter names, examples to skip.
            fresh: Take no snapshot.

        Raises:
            ForeignLogError: The log does not reach back to where the branch would begin.
            ContractError: This process cannot fold the branch.
            WarmingFailed: Its filter speaks of what is not in the log yet.
        """
        await asyncio.to_thread(self._fold.warm, branch)
        state = None if fresh else await self._restored(branch)
        if state is None:
            state = self._fold.begin()
            self._fold.hold(state, self._fold.begin_branch(branch))
        state.beside = frozenset({branch.lineage})
        first = offset_of(state.position)
        end = (await self._training.range()).end
        if branch.filter.reaches_to > position_of(end):
            reach = show(branch.filter.reaches_to)
            raise WarmingFailed(
                f"its filter reaches to {reach}, the log ends at offset {end}; build it again, up to the log's end"
            )
        known = await self._training.notices(first, end, state.ownership)
        if branch.filter.corrected_to > state.position:
            known.know(await self._training.corrections(branch.filter.corrected_to))
        if notices is not None:
            known.merge(notices)
        return Warmed(branch, state, known)

    async def fold_to(
        self,
        warmed: Warmed,
        end: int,
        progress: Progress = lambda _done, _of: None,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        """Fold records up to an offset; an example at which the model raises is skipped and noted.

        Args:
            rehearsal: Asks the branch on the way.

        Raises:
            WarmingFailed: The model raised at more than MAX_SKIPS examples.
        """
        first = offset_of(warmed.state.position)
        while offset_of(warmed.state.position) < end:
            try:
                await self._fold_on(warmed, end, lambda at: progress(at - first, end - first), rehearsal)
            except FoldError as failure:
                self._step_back(warmed, failure)

    async def _fold_on(
        self, warmed: Warmed, end: int, told: Callable[[int], None], rehearsal: Rehearsal | None
    ) -> None:
        slice_begun = checked = perf_counter()
        if not warmed.checkpoint:
            warmed.checkpoint = self._fold.parts_with(warmed.state, warmed.branch.lineage)
        async for record in self._training.records(offset_of(warmed.state.position), end):
            if rehearsal is None:
                self._fold.fold(warmed.state, [record], warmed.notices)
            else:
                rehearsal.fold(warmed.state, record, warmed.notices)
            now = perf_counter()
            if now - slice_begun > SLICE_S:
                told(record.offset + 1)
                if now - checked > _CHECKPOINT_S:
                    warmed.checkpoint = self._fold.parts_with(warmed.state, warmed.branch.lineage)
                    checked = perf_counter()
                await asyncio.sleep(0)
                slice_begun = perf_counter()
        told(end)

    def _step_back(self, warmed: Warmed, failure: FoldError) -> None:
        cause = type(failure.cause).__name__
        if len(warmed.skips) >= MAX_SKIPS:
            raise WarmingFailed(
                f"the model raised {cause} at {show(failure.position)}, and at {MAX_SKIPS} examples before; "
                "choose a model that learns every value of the features"
            ) from failure
        log.warning(
            "the model raised while it was warmed; the example is skipped", error=cause, at=show(failure.position)
        )
        warmed.skips[failure.position] = cause
        warmed.notices.skip(failure.branch, failure.position)
        warmed.state = self._fold.restore(warmed.checkpoint)
        warmed.state.beside = frozenset({warmed.branch.lineage})

    async def _restored(self, branch: Branch) -> LoopState | None:
        for manifest in self._index.holding(part_name(branch.lineage)):
            try:
                bodies = await self._index.load(manifest)
                state = await asyncio.to_thread(self._fold.restore, bodies)
            except (SnapshotRefused, CodecError) as refusal:
                log.warning("snapshot refused, the one before it is tried", number=manifest.number, why=str(refusal))
                continue
            if branch.lineage in state.branches:
                state.branches = {branch.lineage: state.branches[branch.lineage]}
                return state
        return None
