"""Which branches a learner holds: it warms those that are missing, and carries out what people ask for.

Decides nothing about a branch: it appends, and the fold of what was appended decides. What it answers for is that a
branch is held before the record that admits it is written, and that the champion can be served.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from tailrace.domain.branches import Branch, differences, digest_of_ids, renewed
from tailrace.domain.errors import CodecError, ForeignLogError, TailraceError
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import digest_of
from tailrace.domain.notices import BranchNotices, Notices
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.pointers import MAX_ADMITTED
from tailrace.domain.positions import Position, offset_of, show
from tailrace.domain.records import Admit, Command, CommandKind, Owner, Request, RequestKind, Skip
from tailrace.domain.state import LoopState
from tailrace.domain.status import RoleState
from tailrace.streams.announcements import Announcements
from tailrace.streams.commands import Asked
from tailrace.streams.held_back import HeldBack, in_words
from tailrace.streams.learner_part import LearnerPart, Make
from tailrace.streams.role import RoleReport
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.warming import Warmed, Warming, WarmingFailed
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

_ITSELF = "tailrace"  # who asked, where nobody did
_NEAR = 50  # records; a branch that is so close is brought up while learning waits
_ROUNDS = 5  # of warming that brought it no nearer, since the log grows as fast; then learning waits for it
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class KeeperParts:
    """What branches are kept with.

    Attributes:
        configured: The model of the configuration, as a branch.
        held_back: What this term goes on without.
        retired: Lineages that this term let go, and that nobody was told of yet.
        fold_new: Folds what was just appended, so that it has taken effect.
        read_index: Reads again what snapshots there are.
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
    held_back: HeldBack
    retired: set[str]
    fold_new: Callable[[LoopState], Awaitable[None]]
    read_index: Callable[[], Awaitable[None]]


class _NotAdmissible(TailraceError):
    """A request to admit a branch is not taken into the log."""


class BranchKeeper:
    """Keeps the branches of one term."""

    def __init__(self, parts: KeeperParts) -> None:
        self._parts = parts

    # Before anything is served

    async def hold_missing(self, state: LoopState) -> None:
        """Warm the admitted branches that this process can fold and that the snapshot did not have.

        Raises:
            ForeignLogError: The one that serves would begin where the log does not reach back to.
            WarmingFailed: Its model raises too often.
            CodecError: The log holds what is not Tailrace's where it would begin.
        """
        parts = self._parts
        for branch in parts.held_back.missing(parts.fold, state):
            try:
                warmed = await self._warm(state, branch)
            except (ForeignLogError, CodecError, WarmingFailed) as problem:
                if branch.lineage == state.pointers.champion:
                    raise
                await self._go_on_without(state, branch.lineage, problem)
                continue
            for position, error in warmed.skips.items():  # nobody has folded it so far, so the log does not say it yet
                await parts.part.append(_skip(branch.lineage, position, error))
            told = [(branch.lineage, position) for position in warmed.skips]
            await parts.part.confirmed(offset_of(state.position), state.ownership, told)
        await parts.fold_new(state)

    async def _go_on_without(self, state: LoopState, lineage: str, problem: TailraceError) -> None:
        """Let a branch that cannot be warmed cost the others nothing; what no restart can mend is retired."""
        parts = self._parts
        parts.held_back.add(lineage, str(problem))
        log.error("a branch cannot be warmed, the others learn without it", branch=lineage[:12], why=str(problem))
        if isinstance(problem, WarmingFailed):
            await self.retire_failing(lineage, state.pointers.epoch, str(problem))
            await parts.fold_new(state)
        else:
            await parts.announcements.held_back(state.position, lineage, str(problem))

    async def ensure_champion(self, state: LoopState) -> None:
        """Where nothing that this process can fold serves, let the configured model do so.

        Raises:
            ForeignLogError: It is admitted and held back.
        """
        if state.champion is not None:
            return
        parts, configured = self._parts, self._configured(state)
        lacks, why = parts.held_back.why(configured.lineage), self._why(state, configured)
        if lacks and configured.lineage in state.pointers.admitted:
            raise ForeignLogError(lacks)
        if configured.lineage not in state.pointers.admitted:
            await self._make_room(state)
            ids = await self._ids_of(state, configured)
            warmed = await self._warm(state, configured, Notices({configured.lineage: BranchNotices(ids=ids)}))
            await parts.part.append(_admission_of(warmed, parts.fold, ids, why))
            await parts.fold_new(state)
        if state.pointers.champion != configured.lineage:
            log.warning("the branch that served cannot be folded here; the configured model takes over", why=why)
            await parts.part.append(_own(CommandKind.PROMOTE, configured.lineage, state.pointers.epoch, why))
            await parts.fold_new(state)

    async def _make_room(self, state: LoopState) -> None:
        """Where as many branches are admitted as may be, let the oldest go: this loop could not be served otherwise."""
        pointers = state.pointers
        if _is_full(state):
            oldest = next(lineage for lineage in pointers.admitted if lineage != pointers.champion)
            await self._parts.part.append(_own(CommandKind.RETIRE, oldest, pointers.epoch, "room for another branch"))
            await self._parts.fold_new(state)

    def say_what_serves(self, state: LoopState) -> None:
        """Tell where another model than the configured one serves."""
        champion, configured = state.pointers.champion, self._configured(state)
        if champion != configured.lineage:
            log.warning(
                "another model than the configured one serves; `tailrace upgrade` builds it beside and promotes it",
                serves=champion[:12],
                configured=configured.lineage[:12],
                why=self._why(state, configured),
            )

    def _configured(self, state: LoopState) -> Branch:
        return renewed(self._parts.configured, _serving(state))

    def _why(self, state: LoopState, configured: Branch) -> str:
        serving = _serving(state)
        return "the first model of this log" if serving is None else "; ".join(differences(serving, configured))

    async def _ids_of(self, state: LoopState, branch: Branch) -> frozenset[str]:
        """Return the hashes of the event ids that a successor of the champion leaves out, as the champion does."""
        if not branch.filter.ids:
            return frozenset()
        held = await self._parts.training.range()
        known = await self._parts.training.notices(held.start, held.end, OwnershipState())
        return known.of(state.pointers.champion).ids

    async def _warm(self, state: LoopState, branch: Branch, notices: Notices | None = None) -> Warmed:
        """Bring a branch up to the state and hold it; nothing else is folded meanwhile."""

        def tell(done: int, total: int) -> None:
            words = f"branch {branch.lineage[:12]} is warmed: folded {done} of {total} records"
            self._parts.report.set(RoleState.RESTORING, words)

        warming = self._parts.warming
        warmed = await warming.begin(branch, notices)
        await warming.fold_to(warmed, offset_of(state.position), tell)
        self._hold(state, warmed)
        return warmed

    def _hold(self, state: LoopState, warmed: Warmed) -> None:
        self._parts.fold.hold(state, warmed.held)
        self._parts.held_back.discard(warmed.branch.lineage)
        self._parts.notices.merge(warmed.notices)

    # What people ask for

    async def carry_out(
        self, asked: Asked, state_of: Callable[[], LoopState | None], at_block_end: asyncio.Lock
    ) -> bool:
        """Carry out an admission, promotion or retirement.

        Args:
            state_of: Returns the live state; None: this process does not learn at the moment.
            at_block_end: Held by whoever folds.

        Returns:
            Whether that is done with; False: it is to be asked again once this process learns.
        """
        request, state = asked.request, state_of()
        if state is None:
            return False
        if request.kind is RequestKind.ADMIT:
            return await self._admit(request, state, state_of, at_block_end)
        why = self._parts.held_back.why(request.branch)
        if request.kind is RequestKind.PROMOTE and why:
            told = f"the promotion is tried again when the learner restarts: {in_words(request.branch, why)}"
            await self._refuse(request, told)  # now it would serve nowhere, and keep learning down
            return True
        await self._parts.part.append(lambda owner, number: _command(owner, number, asked))
        return True

    async def _admit(
        self,
        request: Request,
        state: LoopState,
        state_of: Callable[[], LoopState | None],
        at_block_end: asyncio.Lock,
    ) -> bool:
        parts = self._parts
        if request.branch in state.pointers.admitted:
            return True
        try:
            branch, skips = Branch.read(request.definition), request.skips
            _check_admission(request, branch, state.pointers.epoch)
            if parts.fold.kit(branch) is None:
                log.warning("an admitted branch cannot be folded here", branch=branch.lineage[:12])
            elif branch.lineage == request.branch and not _is_full(state):  # else the fold refuses it
                given = BranchNotices(set(skips), frozenset(request.ids))
                warmed = await self._warm_beside(branch, Notices({branch.lineage: given}), state_of, at_block_end)
                if warmed is None:
                    return False
                skips = (*skips, *warmed.skips)
        except (CodecError, WarmingFailed, ForeignLogError, _NotAdmissible) as problem:
            await self._refuse(request, str(problem))
            return True
        await parts.part.append(lambda owner, number: _admit(owner, number, request, skips))
        return True

    async def _refuse(self, request: Request, why: str) -> None:
        self._parts.recorder.command_refused(request.kind.value)
        log.warning("command refused", kind=request.kind.value, branch=request.branch[:12], why=why)
        await self._parts.announcements.refused(request.id, why)

    async def _warm_beside(
        self, branch: Branch, notices: Notices, state_of: Callable[[], LoopState | None], at_block_end: asyncio.Lock
    ) -> Warmed | None:
        """Fold a branch in a state of its own while learning goes on, then hold it at the same position.

        Returns None where this process stopped to learn meanwhile.
        """
        warming = self._parts.warming
        async with at_block_end:
            await self._parts.read_index()  # who built the branch may have published it since
        warmed = await warming.begin(branch, notices)
        nearest, rounds = sys.maxsize, 0
        while (state := state_of()) is not None:
            behind = offset_of(state.position) - offset_of(warmed.state.position)
            if behind < 0:  # it was built up to the log's end, and this process is not there yet
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            nearest, rounds = (behind, 0) if behind < nearest else (nearest, rounds + 1)
            if behind <= _NEAR or rounds >= _ROUNDS:
                async with at_block_end:
                    if state is state_of():
                        await warming.fold_to(warmed, offset_of(state.position))
                        self._hold(state, warmed)
                        return warmed
            else:
                await warming.fold_to(warmed, offset_of(state.position))
        return None

    # What a model that raises asks for

    async def retire_failing(self, lineage: str, epoch: int, why: str) -> None:
        """Let a branch that does not serve go."""
        self._parts.retired.add(lineage)
        await self._parts.part.append(_own(CommandKind.RETIRE, lineage, epoch, why))

    # What corrections ask for

    async def refold(self, state_of: Callable[[], LoopState | None], at_block_end: asyncio.Lock) -> None:
        """Build the serving branch anew with every correction that the log holds now, and let it serve."""
        state = state_of()
        serving = None if state is None else _serving(state)
        if state is None or serving is None or self._parts.fold.kit(serving) is None:
            return
        if _is_full(state):
            log.warning("corrections are not applied: as many branches are admitted as may be; retire one")
            return
        parts, why = self._parts, f"corrections up to {show(state.corrections_end)}"
        branch = replace(serving, filter=replace(serving.filter, corrected_to=state.corrections_end))
        ids = await self._ids_of(state, branch)
        log.info("the serving branch is built anew", branch=branch.lineage[:12], why=why)
        try:
            given = Notices({branch.lineage: BranchNotices(ids=ids)})
            warmed = await self._warm_beside(branch, given, state_of, at_block_end)
        except (WarmingFailed, ForeignLogError) as problem:
            log.warning("corrections are not applied", why=str(problem))
            return
        if warmed is None or state is not state_of():
            return
        if state.pointers.champion != serving.lineage:  # somebody decided otherwise meanwhile
            state.branches = {name: held for name, held in state.branches.items() if name != branch.lineage}
            return
        epoch = state.pointers.epoch
        await parts.part.append(_admission_of(warmed, parts.fold, ids, why))
        await parts.part.append(_own(CommandKind.PROMOTE, branch.lineage, epoch, why))
        if serving.filter.corrected_to:  # the one without any correction stays, to go back to
            await parts.part.append(_own(CommandKind.RETIRE, serving.lineage, epoch + 1, f"superseded: {why}"))


def _check_admission(request: Request, branch: Branch, epoch: int) -> None:
    """See that a request to admit is of now, and says itself all that the folds to come must know.

    Raises:
        _NotAdmissible: It is a copy of one that was carried out long ago, or leaves something open.
    """
    if request.expected_epoch != epoch:
        raise _NotAdmissible(
            f"it was made for epoch {request.expected_epoch}, this is epoch {epoch}; look again, then repeat"
        )
    if digest_of_ids(request.ids) != branch.filter.ids:
        raise _NotAdmissible("its ids are not those that its filter names; build the branch again")


def refold_is_due(state: LoopState) -> bool:
    """Return whether the log holds corrections that the serving branch does not know and nobody decided against."""
    serving = _serving(state)
    decided = [
        decision.position
        for decision in state.pointers.decisions
        if decision.kind == CommandKind.PROMOTE and not decision.refusal and decision.by != _ITSELF
    ]
    known = max([0 if serving is None else serving.filter.corrected_to, *decided])
    return serving is not None and state.corrections_end > known


def _is_full(state: LoopState) -> bool:
    return len(state.pointers.admitted) >= MAX_ADMITTED


def _serving(state: LoopState) -> Branch | None:
    text = state.pointers.admitted.get(state.pointers.champion)
    return None if text is None else Branch.read(text)


def _admission_of(warmed: Warmed, fold: Fold, ids: frozenset[str], why: str) -> Make:
    branch, position, skips = warmed.branch, warmed.held.position, tuple(warmed.skips)
    digest = digest_of(fold.body_of(warmed.held))
    return lambda owner, number: Admit(
        *(owner, number, branch.lineage, branch.text, position, digest), tuple(sorted(ids)), skips, _ITSELF, why
    )


def _skip(lineage: str, position: Position, error: str) -> Make:
    return lambda owner, number: Skip(owner, number, position, lineage, error)


def _own(kind: CommandKind, lineage: str, epoch: int, why: str) -> Make:
    return lambda owner, number: Command(*(owner, number, f"{owner}/{number}", kind, lineage, epoch, _ITSELF, why))


def _command(owner: Owner, number: int, asked: Asked) -> Command:
    request = asked.request
    kind = CommandKind(request.kind.value)
    epoch = request.expected_epoch
    return Command(owner, number, request.id, kind, request.branch, epoch, request.by, request.why, asked.offset)


def _admit(owner: Owner, number: int, request: Request, skips: tuple[Position, ...]) -> Admit:
    return Admit(
        *(owner, number, request.branch, request.definition, request.position, request.digest),
        *(request.ids, skips, request.by, request.why),
    )
