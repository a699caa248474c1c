"""Learning: the fold of the training log into the state of a loop.

`state(p) = fold(lineage, log[start..p])`. Nothing but the log and the lineage enters a state: how records came in
batches, how blocks were sliced, and how often it was restored leave no trace in it.

Decides which records count (by owner and number), judges the predictions that were *recorded as served*, then lets
every branch that is held learn. Returns what was noticed; sends, reads and restores nothing itself.

Steps, as the caller takes them for every record of the log, in order:
    1. `open`: a record that is no accepted block is counted and done; an accepted block is returned.
    2. `learn`: its examples in slices of any size, in order.
    3. `close`: the block is done; snapshots are taken here.
When `learn` raises FoldError the whole state is half-changed: append a Skip, restore an earlier state, read the
notices of the tail (`notices.read_notices`) and fold again.

Which branches are *admitted* is decided by the log and is part of the state; which of them are *held*, so that they
learn, is the caller's business: a process holds those that its libraries can fold. A branch that is ahead of the
state, such as one that starts later, waits until the state has come to it; one that is behind is caught up in a
state of its own first, then held.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from tailrace.domain.blocks import CORRECTED, ERASED, JOINED, Examples, Served, TrainingBlock, between
from tailrace.domain.branches import COMPILED, Branch, BranchState, Codec, Kit, part_name
from tailrace.domain.categories import CategoriesState
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.drift import DriftSignal
from tailrace.domain.errors import ContractError, FoldError, is_stop
from tailrace.domain.evaluation.prequential import Quality
from tailrace.domain.models.digest import digest_of, state_digest
from tailrace.domain.models.fused import FusedModel, Refused
from tailrace.domain.models.shortcuts import learner_of
from tailrace.domain.models.teaching import teacher_of
from tailrace.domain.notices import Lessons, Logged, LogRecord, Notices, erased_rows, lessons_of
from tailrace.domain.pointers import Decision
from tailrace.domain.positions import Position, offset_of, position_of, show
from tailrace.domain.records import LEARNER, Admit, Claim, CommandKind, LearnerRecord, Skip
from tailrace.domain.state import BRANCHES, LOOP, LoopState, dump_loop, load_loop, read_directory, unusable

_SKIPS_KEPT: Final = 16  # positions of skipped examples that a state still names, for people
_NO_NOTICES: Final = Notices()


class Fold:
    """The fold of one loop: a contract, a target, and a way to get what folds a branch.

    Args:
        lineage: Names everything besides the log that the loop's own part depends on; no model is part of it.
        codec: Of the loop's own part; knows the classes of `skeletons()`.
        kit_of: Returns what folds a branch, None where this process cannot fold it: other libraries, features or
            code. Asked once for each branch.
    """

    def __init__(
        self,
        *,
        contract: FeatureContract,
        target: TargetContract,
        lineage: str,
        codec: Codec,
        kit_of: Callable[[Branch], Kit | None],
    ) -> None:
        self.contract = contract
        self.target = target
        self.lineage = lineage
        self._codec = codec
        self._kit_of = kit_of
        self._kits: dict[str, Kit | None] = {}
        self._warm: set[str] = set()

    # Branches

    def begin(self) -> LoopState:
        """Return the state before the first record of the log; no branch is held."""
        return LoopState(Quality(self.target.task))

    def kit(self, branch: Branch) -> Kit | None:
        """Return what folds a branch; None where this process cannot fold it."""
        lineage = branch.lineage
        if lineage not in self._kits:
            self._kits[lineage] = self._kit_of(branch)
        return self._kits[lineage]

    def warm(self, *branches: Branch) -> None:
        """Make ready what the models of branches run, once: call it in a thread where others are served meanwhile."""
        for branch in branches:
            kit = self.kit(branch)
            if kit is not None and branch.lineage not in self._warm:
                kit.warm()
                self._warm.add(branch.lineage)

    def definition(self, branch: BranchState) -> Branch:
        """Return the definition of a branch that was made or restored here."""
        return self._kit_of_held(branch).branch

    def compiled(self, branch: BranchState | None) -> Mapping[str, str]:
        """Return "compiled" → version of the kernels that fold a branch; nothing where River does, or for None."""
        versions = {} if branch is None else self.definition(branch).versions
        return {COMPILED: versions[COMPILED]} if COMPILED in versions else {}

    def begin_branch(self, branch: Branch) -> BranchState:
        """Return a branch that has learned nothing, where it starts.

        Raises:
            ContractError: This process cannot fold it.
        """
        kit = self.kit(branch)
        if kit is None:
            raise ContractError(f"this process cannot fold the branch {branch.lineage[:12]}; ask kit() first")
        categories = CategoriesState(self.contract.open_categories)
        return BranchState(kit.build_model(), branch.lineage, branch.start, categories=categories)

    def hold(self, state: LoopState, branch: BranchState) -> None:
        """Let a branch learn with the others from here on.

        Raises:
            ContractError: It is behind the state, so that it would miss examples.
        """
        if branch.position < state.position:
            raise ContractError(
                f"the branch {branch.lineage[:12]} ends at {show(branch.position)}, the state at "
                f"{show(state.position)}; catch it up first"
            )
        state.branches = dict(sorted({**state.branches, branch.lineage: branch}.items()))

    def missing(self, state: LoopState) -> list[Branch]:
        """Return the admitted branches that this process can fold and does not hold."""
        admitted = [
            Branch.read(text) for lineage, text in state.pointers.admitted.items() if lineage not in state.branches
        ]
        return [branch for branch in admitted if self.kit(branch) is not None]

    # Folding

    def open(self, state: LoopState, offset: int, record: LogRecord, digest: str) -> TrainingBlock | None:
        """Begin with one record of the log.

        Args:
            state: Changed in place.
            digest: SHA-256 of the message's bytes, in hexadecimal.

        Returns:
            The block whose examples are to be learned and which is then to be closed; None for a record that is done
            with this call: a claim, a notice, a block that does not count, one that the state already holds.
        """
        if offset < offset_of(state.position):
            return None
        reopened = offset == state.last_offset  # restored in its middle: its outcomes are counted
        state.last_offset, state.last_digest = offset, digest
        if isinstance(record, TrainingBlock) and (reopened or self._accepts(state, record)):
            _advance(state, max(state.position, position_of(offset)))
            return record
        if isinstance(record, Claim):
            _count_claim(state, record)
        elif not isinstance(record, TrainingBlock):
            self._take_notice(state, offset, record)
        self.close(state, offset)
        return None

    def learn(
        self,
        state: LoopState,
        block: TrainingBlock,
        offset: int,
        start: int,
        stop: int,
        notices: Notices = _NO_NOTICES,
    ) -> list[DriftSignal]:
        """Judge what was served to the examples start .. stop - 1 of an opened block, then learn them.

        Args:
            state: Changed in place; useless after an error.
            notices: Read before; see `notices`.

        Raises:
            FoldError: The model of a branch raised.
            ContractError: The slice does not begin where the state ends.
        """
        first = position_of(offset, start)
        if state.position != first:
            message = f"a slice begins at {show(first)}, the state ends at {show(state.position)}; fold in order"
            raise ContractError(message)
        examples = between(block.examples, start, stop)
        if not len(examples):
            return []  # A block that only moves positions has no layout.
        found: list[DriftSignal] = []
        is_own = block.contract_id == self.contract.id
        if is_own:
            found = _judge(state, examples, first)
        else:
            state.counts.foreign += len(examples)
        for branch in state.branches.values():
            self._teach(branch, examples if is_own else None, first, len(examples), notices)
        state.position = first + len(examples)
        return found

    def close(self, state: LoopState, offset: int) -> None:
        """Finish the record at `offset`: the state holds everything up to and with it."""
        _advance(state, position_of(offset + 1))

    def fold(self, state: LoopState, records: Iterable[Logged], notices: Notices = _NO_NOTICES) -> list[DriftSignal]:
        """Fold records in order, whole blocks at a time: recovery, verification.

        Raises:
            FoldError: A model raised at an example that the notices do not skip.
        """
        found: list[DriftSignal] = []
        for offset, record, digest in records:
            block = self.open(state, offset, record, digest)
            if block is None:
                continue
            done = state.position - position_of(offset)
            found += self.learn(state, block, offset, done, len(block.examples), notices)
            self.close(state, offset)
        return found

    # States as bytes

    def parts(self, state: LoopState) -> dict[str, bytes]:
        """Return the state as canonical bytes: one part per branch that is admitted and held, and the rest.

        A branch that is ahead of the state is left out: it has a snapshot of its own.
        """
        admitted = state.pointers.admitted
        held = [branch for branch in state.branches.values() if branch.lineage in admitted]
        return self._parts(state, [branch for branch in held if branch.position == state.position])

    def parts_with(self, state: LoopState, lineage: str) -> dict[str, bytes]:
        """Return the same of one branch alone, admitted or not, whatever its position."""
        return self._parts(state, [state.branches[lineage]])

    def publication(self, state: LoopState) -> dict[str, bytes]:
        """Return what serving needs as canonical bytes: the champion; nothing where it is not held."""
        champion = state.champion
        if champion is None:
            return {}
        return {BRANCHES: self._directory(state, [champion]), part_name(champion.lineage): self.body_of(champion)}

    def body_of(self, branch: BranchState) -> bytes:
        """Return a branch as canonical bytes."""
        return self._kit_of_held(branch).codec.encode(branch.dump())

    def restore(self, parts: Mapping[str, bytes]) -> LoopState:
        """Return the state that `parts` was called on, with those of its branches that this process can fold.

        Raises:
            CodecError: A part is missing, or its bytes are not what they should be.
            SnapshotRefused: A branch is of another lineage than its part says.
        """
        if missing := {LOOP, BRANCHES} - parts.keys():
            raise unusable("state", f"part {min(missing)}")
        try:
            state = load_loop(self._codec.decode(parts[LOOP]))
        except (KeyError, TypeError, ValueError) as error:
            raise unusable(LOOP, repr(error)) from error
        for branch in self.restore_branches(parts).values():
            self.hold(state, branch)
        return state

    def restore_champion(self, parts: Mapping[str, bytes]) -> BranchState | None:
        """Return the branch that serves according to a snapshot or publication; None: this process cannot fold it.

        Raises:
            CodecError: The bytes are not what they should be.
            SnapshotRefused: It is of another lineage than its part says.
        """
        champion, definitions = read_directory(parts)
        return self.restore_branches(parts, only=champion).get(champion) if champion in definitions else None

    def restore_branches(self, parts: Mapping[str, bytes], only: str | None = None) -> dict[str, BranchState]:
        """Return the branches of a snapshot or publication that this process can fold, by lineage.

        Args:
            only: The lineage of the only one that is asked for.

        Raises:
            CodecError: The bytes are not what they should be.
            SnapshotRefused: A branch is of another lineage than its part says.
        """
        found = {}
        for lineage, definition in read_directory(parts)[1].items():
            kit = self.kit(definition) if only in {None, lineage} else None
            if kit is None:
                continue
            name = part_name(lineage)
            if name not in parts:
                raise unusable("state", f"part {name}")
            try:
                found[lineage] = BranchState.load(kit.codec.decode(parts[name]), lineage)
            except (KeyError, TypeError, ValueError) as error:
                raise unusable(name, repr(error)) from error
        return found

    def digest(self, state: LoopState) -> str:
        """Return the digest of the state: equal where two folds agree in every byte."""
        return state_digest((name, digest_of(body)) for name, body in self.parts(state).items())

    # Inside

    def _parts(self, state: LoopState, branches: list[BranchState]) -> dict[str, bytes]:
        return {
            LOOP: self._codec.encode(dump_loop(state)),
            BRANCHES: self._directory(state, branches),
            **{part_name(branch.lineage): self.body_of(branch) for branch in branches},
        }

    def _kit_of_held(self, branch: BranchState) -> Kit:
        kit = self._kits[branch.lineage]
        assert kit is not None, "a branch that is held was made or restored here"
        return kit

    def _directory(self, state: LoopState, branches: Iterable[BranchState]) -> bytes:
        definitions = {branch.lineage: self._kit_of_held(branch).branch.text for branch in branches}
        plain = {"champion": state.pointers.champion, "epoch": state.pointers.epoch, "definitions": definitions}
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()

    def _accepts(self, state: LoopState, block: TrainingBlock) -> bool:
        counts, rows = state.counts, len(block.examples)
        if not state.ownership.accept(block.partition, block.owner, block.number):
            counts.fenced_blocks += 1
            counts.fenced_rows += rows + len(block.dropped) + len(block.corrections)
            return False
        corrected = int(np.count_nonzero(block.corrections.kinds == CORRECTED))
        joined = int(np.count_nonzero(block.examples.kinds == JOINED))
        erased = int(np.count_nonzero(block.examples.kinds == ERASED))
        counts.blocks += 1
        counts.examples += rows
        counts.dropped += len(block.dropped)
        counts.joined += joined
        counts.implicit += rows - joined - erased
        counts.erased += erased
        counts.corrected += corrected
        counts.withdrawn += len(block.corrections) - corrected
        if len(block.corrections):
            state.corrections_end = position_of(state.last_offset + 1)
        for outcome, times in block.vector.counts.items():
            state.outcomes[outcome] = state.outcomes.get(outcome, 0) + times
        return True

    def _take_notice(self, state: LoopState, offset: int, record: LearnerRecord) -> Decision | None:
        counts = state.counts
        if not state.ownership.accept(LEARNER, record.owner, record.number):
            counts.fenced_notices += 1
            return None
        counts.notices += 1
        if isinstance(record, Skip):
            state.skipped_positions = [*state.skipped_positions, record.position][-_SKIPS_KEPT:]
            return None
        if isinstance(record, Admit):
            return state.pointers.admit(position_of(offset), record)
        decision = state.pointers.command(position_of(offset), record)
        if record.kind is CommandKind.RETIRE and not decision.refusal:
            gone = {record.branch} - state.beside
            state.branches = {lineage: held for lineage, held in state.branches.items() if lineage not in gone}
        return decision

    def _teach(
        self, branch: BranchState, examples: Examples | None, first: Position, count: int, notices: Notices
    ) -> None:
        """Let one branch learn `count` examples; None: they are of another contract."""
        kit, end = self._kit_of_held(branch), first + count
        if branch.position == kit.branch.start > first:
            branch.left_out += min(branch.position, end) - first
        if branch.position >= end:
            return
        done = max(0, branch.position - first)
        if examples is None:
            branch.foreign += count - done
        else:
            rest = between(examples, done, count)
            lessons = lessons_of(rest, first + done, kit.branch.filter, notices.of(branch.lineage), notices.corrections)
            self._learn(branch, rest, first + done, lessons)
            branch.learned += len(rest) - len(lessons.skipped) - len(lessons.left_out)
            branch.skipped += len(lessons.skipped)
            branch.left_out += len(lessons.left_out)
        branch.position = end

    def _learn(self, branch: BranchState, examples: Examples, first: Position, lessons: Lessons) -> None:
        if isinstance(branch.model, FusedModel):
            self._learn_matrix(branch, branch.model, examples, first, lessons)
            return
        is_plain = lessons.is_whole and examples.x.absent is None and not branch.categories
        learner = learner_of(branch.model) if is_plain else None
        if learner is None:
            self._learn_each(branch, examples, first, lessons)
            return
        ys = map(self.target.river, lessons.y.tolist())
        try:
            learner.learn_rows(self.contract.names, self.contract.values(examples.x), ys)
        except BaseException as error:
            if is_stop(error):
                raise
            raise FoldError(first + learner.learned, error, branch.lineage) from error

    def _learn_matrix(
        self, branch: BranchState, model: FusedModel, examples: Examples, first: Position, lessons: Lessons
    ) -> None:
        x, y = self.contract.matrix(examples.x), lessons.y
        rows = np.arange(len(y))
        if not lessons.is_whole:
            rows = np.delete(rows, sorted(lessons.skipped | lessons.left_out))
            x, y = x[rows], y[rows]
        try:
            model.learn_many(x, y)
        except Refused as error:
            raise FoldError(first + int(rows[error.learned]), error, branch.lineage) from error

    def _learn_each(self, branch: BranchState, examples: Examples, first: Position, lessons: Lessons) -> None:
        teach, river, categories = teacher_of(branch.model), self.target.river, branch.categories
        missed = lessons.skipped | lessons.left_out
        row = 0
        try:
            for row, (x, y) in enumerate(zip(self.contract.rows(examples.x), lessons.y.tolist(), strict=True)):
                if row not in missed:
                    teach(categories.learn(x) if categories else x, river(y))
        except BaseException as error:
            if is_stop(error):
                raise
            raise FoldError(first + row, error, branch.lineage) from error


def _advance(state: LoopState, position: Position) -> None:
    state.position = position
    for branch in state.branches.values():
        branch.position = max(branch.position, position)


def _count_claim(state: LoopState, record: Claim) -> None:
    counted = state.ownership.claim(record)
    state.counts.claims += counted
    state.counts.fenced_claims += not counted


def _judge(state: LoopState, examples: Examples, first: Position) -> list[DriftSignal]:
    if not erased_rows(examples):
        judged = state.quality.update_many(examples.y, examples.served)
        return state.drift.update_many([first + row for row in judged.rows], judged.losses)
    kept, served = np.flatnonzero(examples.kinds != ERASED), examples.served
    judged = state.quality.update_many(examples.y[kept], Served(served.y_pred[kept], served.proba[kept]))
    return state.drift.update_many([first + int(kept[row]) for row in judged.rows], judged.losses)
