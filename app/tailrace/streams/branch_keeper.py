"""Which branches a learner holds: it warms those that are missing, and carries out what people ask for.

Decides nothing about a branch: it appends, and the fold of what was appended decides. What it answers for is that a
branch is held before the record that admits it is written, and that the champion can be served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog

from tailrace.domain.branches import Branch, differences
from tailrace.domain.errors import CodecError, ForeignLogError
from tailrace.domain.learning import Fold, LoopState
from tailrace.domain.models.digest import digest_of
from tailrace.domain.notices import BranchNotices, Notices
from tailrace.domain.positions import Position, offset_of
from tailrace.domain.records import Admit, Command, CommandKind, Owner, Request, RequestKind, Skip
from tailrace.domain.status import RoleState
from tailrace.streams.announcements import Announcements
from tailrace.streams.commands import Asked
from tailrace.streams.learner_part import LearnerPart, Make
from tailrace.streams.role import RoleReport
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.warming import Warmed, Warming, WarmingFailed
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

_ITSELF = "tailrace"  # who asked, where nobody did
_NEAR = 50  # records; a branch that is so close is brought up while learning waits


@dataclass(frozen=True, slots=True)
class KeeperParts:
    """What branches are kept with.

    Attributes:
        configured: The model of the configuration, as a branch.
        fold_new: Folds what was just appended, so that it has taken effect.
    """

    fold: Fold
    training: TrainingLog
    warming: Warming
    configured: Branch
    part: LearnerPart
    announcements: Announcements
    recorder: Recorder
    report: RoleReport
    notices: Notices
    fold_new: Callable[[LoopState], Awaitable[None]]


class BranchKeeper:
    """Keeps the branches of one term."""

    def __init__(self, parts: KeeperParts) -> None:
        self._parts = parts

    # Before anything is served

    async def hold_missing(self, state: LoopState) -> None:
        """Warm the admitted branches that this process can fold and that the snapshot did not have.

        Whoever admitted one may not have been able to fold it: what its model raised at is told to the log.
        """
        for branch in self._parts.fold.missing(state):
            warmed = await self._warm(state, branch)
            for position, error in warmed.skips.items():
                await self._parts.part.append(_skip(branch.lineage, position, error))
            told = [(branch.lineage, position) for position in warmed.skips]
            await self._parts.part.confirmed(offset_of(state.position), state.ownership, told)
        await self._parts.fold_new(state)

    async def ensure_champion(self, state: LoopState) -> None:
        """Where nothing that this process can fold serves, let the configured model do so."""
        if state.champion is not None:
            return
        parts, configured = self._parts, self._parts.configured
        why = self._why_configured(state)
        if configured.lineage not in state.pointers.admitted:
            warmed = await self._warm(state, configured)
            digest, position = digest_of(parts.fold.body_of(warmed.held)), warmed.held.position
            skips = tuple(warmed.skips)
            await parts.part.append(
                lambda owner, number: Admit(
                    *(owner, number, configured.lineage, configured.text, position, digest),
                    skips=skips,
                    by=_ITSELF,
                    why=why,
                )
            )
            await parts.fold_new(state)
        if state.pointers.champion != configured.lineage:
            log.warning("the branch that served cannot be folded here; the configured model takes over", why=why)
            epoch = state.pointers.epoch
            await parts.part.append(
                lambda owner, number: Command(
                    *(owner, number, f"{owner}/{number}", CommandKind.PROMOTE, configured.lineage, epoch, _ITSELF, why)
                )
            )
            await parts.fold_new(state)

    def say_what_serves(self, state: LoopState) -> None:
        """Tell where another model than the configured one serves."""
        champion, configured = state.pointers.champion, self._parts.configured
        if champion != configured.lineage:
            log.warning(
                "another model than the configured one serves; `tailrace upgrade` builds it beside and promotes it",
                serves=champion[:12],
                configured=configured.lineage[:12],
            )

    def _why_configured(self, state: LoopState) -> str:
        text = state.pointers.admitted.get(state.pointers.champion)
        if text is None:
            return "the first model of this log"
        return "; ".join(differences(Branch.read(text), self._parts.configured))

    async def _warm(self, state: LoopState, branch: Branch) -> Warmed:
        """Bring a branch up to the state and hold it; nothing else is folded meanwhile."""

        def tell(done: int, total: int) -> None:
            words = f"branch {branch.lineage[:12]} is warmed: folded {done} of {total} records"
            self._parts.report.set(RoleState.RESTORING, words)

        warming = self._parts.warming
        warmed = await warming.begin(branch)
        await warming.fold_to(warmed, offset_of(state.position), tell)
        self._hold(state, warmed)
        return warmed

    def _hold(self, state: LoopState, warmed: Warmed) -> None:
        self._parts.fold.hold(state, warmed.held)
        self._parts.notices.merge(warmed.notices)

    # What people ask for

    async def carry_out(
        self, asked: Asked, state_of: Callable[[], LoopState | None], at_block_end: asyncio.Lock
    ) -> None:
        """Carry out an admission, promotion or retirement.

        Args:
            state_of: Returns the live state; None: this process does not learn any more.
            at_block_end: Held by whoever folds.
        """
        request, state = asked.request, state_of()
        if state is None or asked.offset < state.pointers.commands_next:
            return  # A former learner has put it into the log.
        if request.kind is RequestKind.ADMIT:
            await self._admit(request, state_of, at_block_end)
        else:
            await self._parts.part.append(lambda owner, number: _command(owner, number, asked))

    async def _admit(
        self, request: Request, state_of: Callable[[], LoopState | None], at_block_end: asyncio.Lock
    ) -> None:
        parts, state = self._parts, state_of()
        if state is None or request.branch in state.pointers.admitted:
            return
        skips = set(request.skips)
        try:
            branch = Branch.read(request.definition)
            if parts.fold.kit(branch) is None:
                log.warning("an admitted branch cannot be folded here", branch=branch.lineage[:12])
            elif branch.lineage == request.branch:  # else the fold refuses it
                given = BranchNotices(set(request.skips), frozenset(request.ids))
                skips |= await self._warm_beside(branch, Notices({branch.lineage: given}), state_of, at_block_end)
        except (CodecError, WarmingFailed, ForeignLogError) as problem:
            parts.recorder.command_refused("admit")
            log.warning("branch is not admitted", branch=request.branch[:12], why=str(problem))
            await parts.announcements.refused(request.id, str(problem))
            return
        await parts.part.append(lambda owner, number: _admit(owner, number, request, skips))

    async def _warm_beside(
        self, branch: Branch, notices: Notices, state_of: Callable[[], LoopState | None], at_block_end: asyncio.Lock
    ) -> set[Position]:
        """Fold a branch in a state of its own while learning goes on, then hold it at the same position.

        Returns:
            Where its model raised, of which the log says nothing yet.
        """
        warming = self._parts.warming
        warmed = await warming.begin(branch, notices)
        while (state := state_of()) is not None:
            async with at_block_end:
                behind = offset_of(state.position) - offset_of(warmed.state.position)
                if state is state_of() and behind <= _NEAR:
                    await warming.fold_to(warmed, offset_of(state.position))
                    self._hold(state, warmed)
                    return {*warmed.skips}
            await warming.fold_to(warmed, offset_of(state.position))
        return set()


def _skip(branch: str, position: Position, error: str) -> Make:
    return lambda owner, number: Skip(owner, number, position, branch, error)


def _command(owner: Owner, number: int, asked: Asked) -> Command:
    request = asked.request
    kind = CommandKind(request.kind.value)
    epoch = request.expected_epoch
    return Command(owner, number, request.id, kind, request.branch, epoch, request.by, request.why, asked.offset)


def _admit(owner: Owner, number: int, request: Request, skips: Iterable[Position]) -> Admit:
    return Admit(
        *(owner, number, request.branch, request.definition, request.position, request.digest),
        *(request.ids, tuple(sorted(skips)), request.by, request.why),
    )
