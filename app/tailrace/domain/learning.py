"""Learning: the fold of the training log into the state of a loop.

`state(p) = fold(lineage, log[start..p])`. Nothing but the log and the lineage enters a state: how records came in
batches, how blocks were sliced, and how often it was restored leave no trace in it.

Decides which records count (by owner and number), judges the predictions that were *recorded as served*, then lets
the model learn. Returns what was noticed; sends, reads and restores nothing itself.

Steps, as the caller takes them for every record of the log, in order:
    1. `open`: a record that is no accepted block is counted and done; an accepted block is returned.
    2. `learn`: its examples in slices of any size, in order.
    3. `close`: the block is done; snapshots are taken here.
When `learn` raises FoldError the whole state is half-changed: append a Skip, restore an earlier state, read the
skips of the tail (`read_skips`) and fold again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from tailrace.domain.blocks import CORRECTED, JOINED, Examples, Served, TrainingBlock, XColumns
from tailrace.domain.branches import CHAMPION, BranchState
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.drift import DriftSignal, LossDrift, new_adwin
from tailrace.domain.errors import CodecError, ContractError, FoldError, is_stop
from tailrace.domain.evaluation.prequential import Quality
from tailrace.domain.models.digest import digest_of, state_digest
from tailrace.domain.models.shortcuts import learner_of
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import Position, offset_of, position_of, show
from tailrace.domain.records import LEARNER, Claim, Skip

LogRecord: TypeAlias = TrainingBlock | Claim | Skip

LOOP: Final = "loop"
"""Name of the part that holds everything of a state but the branches."""

_SKIPS_KEPT = 16  # positions of skipped examples that a state still names, for people


class Logged(NamedTuple):
    """A record of the training log, decoded.

    Attributes:
        digest: SHA-256 of the message's bytes, in hexadecimal.
    """

    offset: int
    record: LogRecord
    digest: str


class Codec(Protocol):
    """State to canonical bytes and back."""

    def encode(self, state: Any, /) -> bytes:
        """Return canonical bytes."""

    def decode(self, body: bytes, /) -> Any:
        """Return the state that `encode` was given."""


@dataclass(slots=True)
class FoldCounts:
    """What the fold did with the records of the log.

    Attributes:
        blocks, examples, dropped: In accepted blocks.
        joined, implicit: The examples by kind.
        corrected, withdrawn: Corrections in accepted blocks; they are recorded, a plain fold does not learn them.
        learned, skipped: The examples by what the champion did; a skipped one raised out of its model.
        foreign: Examples recorded under another feature contract; neither judged nor learned.
        fenced_blocks, fenced_rows: Blocks that do not count and the rows of every kind in them.
        claims, fenced_claims: Claims that count, and that do not.
        skips, fenced_skips: Skip records that count, and that do not.
    """

    blocks: int = 0
    examples: int = 0
    dropped: int = 0
    joined: int = 0
    implicit: int = 0
    corrected: int = 0
    withdrawn: int = 0
    learned: int = 0
    skipped: int = 0
    foreign: int = 0
    fenced_blocks: int = 0
    fenced_rows: int = 0
    claims: int = 0
    fenced_claims: int = 0
    skips: int = 0
    fenced_skips: int = 0


@dataclass(slots=True)
class LoopState:
    """Everything that the log before `position` comes to.

    Attributes:
        outcomes: Outcome of the join → how often, summed over accepted blocks.
        position: Exclusive: everything before it is in the state.
        last_offset: Of the last record that was opened; -1: none.
        last_digest: Its digest, to be compared when the state is restored.
        skipped_positions: The last few examples that were skipped.
    """

    champion: BranchState
    quality: Quality
    drift: LossDrift = field(default_factory=LossDrift)
    ownership: OwnershipState = field(default_factory=OwnershipState)
    counts: FoldCounts = field(default_factory=FoldCounts)
    outcomes: dict[str, int] = field(default_factory=dict)
    position: Position = 0
    last_offset: int = -1
    last_digest: str = ""
    skipped_positions: list[Position] = field(default_factory=list)


class Fold:
    """The fold of one loop: a contract, a target and a way to make its model.

    Args:
        lineage: Names everything that two folds must have in common to come to equal states.
        build_model: Makes a model that has learned nothing.
        codec: Knows the classes of the model and of `skeletons()`.
    """

    def __init__(
        self,
        *,
        contract: FeatureContract,
        target: TargetContract,
        lineage: str,
        build_model: Callable[[], Any],
        codec: Codec,
    ) -> None:
        self.contract = contract
        self.target = target
        self.lineage = lineage
        self._build_model = build_model
        self._codec = codec

    def begin(self) -> LoopState:
        """Return the state before the first record of the log."""
        return LoopState(BranchState(self._build_model(), self.lineage), Quality(self.target.task))

    def open(self, state: LoopState, offset: int, record: LogRecord, digest: str) -> TrainingBlock | None:
        """Begin with one record of the log.

        Args:
            state: Changed in place.
            digest: SHA-256 of the message's bytes, in hexadecimal.

        Returns:
            The block whose examples are to be learned and which is then to be closed; None for a record that is done
            with this call: a claim, a skip, a block that does not count, one that the state already holds.
        """
        if offset < offset_of(state.position):
            return None
        reopened = offset == state.last_offset  # restored in its middle: its outcomes are counted
        state.last_offset, state.last_digest = offset, digest
        if isinstance(record, TrainingBlock) and (reopened or self._accepts(state, record)):
            state.position = max(state.position, position_of(offset))
            return record
        if not isinstance(record, TrainingBlock):
            _count_notice(state, record)
        self.close(state, offset)
        return None

    def learn(
        self,
        state: LoopState,
        block: TrainingBlock,
        offset: int,
        start: int,
        stop: int,
        skips: Container[Position] = frozenset(),
    ) -> list[DriftSignal]:
        """Judge what was served to the examples start .. stop - 1 of an opened block, then learn them.

        Args:
            state: Changed in place; useless after an error.
            skips: Positions of examples that are judged and not learned.

        Raises:
            FoldError: The model raised.
            ContractError: The slice does not begin where the state ends.
        """
        first = position_of(offset, start)
        if state.position != first:
            message = f"a slice begins at {show(first)}, the state ends at {show(state.position)}; fold in order"
            raise ContractError(message)
        examples = _slice(block.examples, start, stop)
        if not len(examples):
            return []  # A block that only moves positions has no layout.
        if block.contract_id != self.contract.id:
            state.counts.foreign += len(examples)
            found: list[DriftSignal] = []
        else:
            found = _judge(state, examples, first)
            self._learn(state, examples, first, skips)
        state.position = first + len(examples)
        return found

    def close(self, state: LoopState, offset: int) -> None:
        """Finish the record at `offset`: the state holds everything up to and with it."""
        state.position = position_of(offset + 1)

    def fold(
        self, state: LoopState, records: Iterable[Logged], skips: Container[Position] = frozenset()
    ) -> list[DriftSignal]:
        """Fold records in order, whole blocks at a time: recovery, verification.

        Raises:
            FoldError: The model raised at an example that is not in `skips`.
        """
        found: list[DriftSignal] = []
        for offset, record, digest in records:
            block = self.open(state, offset, record, digest)
            if block is None:
                continue
            done = state.position - position_of(offset)
            found += self.learn(state, block, offset, done, len(block.examples), skips)
            self.close(state, offset)
        return found

    def parts(self, state: LoopState) -> dict[str, bytes]:
        """Return the state as canonical bytes: one part per branch and the rest."""
        return {CHAMPION: self.champion_part(state), LOOP: self._codec.encode(_dump_loop(state))}

    def champion_part(self, state: LoopState) -> bytes:
        """Return the champion alone as canonical bytes, for serving."""
        return self._codec.encode(state.champion.dump())

    def restore(self, parts: Mapping[str, bytes]) -> LoopState:
        """Return the state that `parts` was called on.

        Raises:
            CodecError: A part is missing, or its bytes are not what they should be.
            SnapshotRefused: The champion is of another lineage.
        """
        if missing := {CHAMPION, LOOP} - parts.keys():
            raise _unusable("state", f"part {min(missing)}")
        champion = self.restore_champion(parts[CHAMPION])
        try:
            return _load_loop(self._codec.decode(parts[LOOP]), champion)
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable(LOOP, repr(error)) from error

    def restore_champion(self, body: bytes) -> BranchState:
        """Return the champion alone, for serving.

        Raises:
            CodecError: The bytes are not what they should be.
            SnapshotRefused: It is of another lineage.
        """
        try:
            return BranchState.load(self._codec.decode(body), self.lineage)
        except (KeyError, TypeError, ValueError) as error:
            raise _unusable(CHAMPION, repr(error)) from error

    def digest(self, state: LoopState) -> str:
        """Return the digest of the state: equal where two folds agree in every byte."""
        return state_digest((name, digest_of(body)) for name, body in self.parts(state).items())

    def _accepts(self, state: LoopState, block: TrainingBlock) -> bool:
        counts, rows = state.counts, len(block.examples)
        if not state.ownership.accept(block.partition, block.owner, block.number):
            counts.fenced_blocks += 1
            counts.fenced_rows += rows + len(block.dropped) + len(block.corrections)
            return False
        corrected = int(np.count_nonzero(block.corrections.kinds == CORRECTED))
        joined = int(np.count_nonzero(block.examples.kinds == JOINED))
        counts.blocks += 1
        counts.examples += rows
        counts.dropped += len(block.dropped)
        counts.joined += joined
        counts.implicit += rows - joined
        counts.corrected += corrected
        counts.withdrawn += len(block.corrections) - corrected
        for outcome, times in block.vector.counts.items():
            state.outcomes[outcome] = state.outcomes.get(outcome, 0) + times
        return True

    def _learn(self, state: LoopState, examples: Examples, first: Position, skips: Container[Position]) -> None:
        skipped = [position for position in range(first, first + len(examples)) if position in skips]
        learner = learner_of(state.champion.model) if not skipped and examples.x.absent is None else None
        if learner is None:
            self._learn_each(state, examples, first, skipped)
        else:
            ys = map(self.target.river, examples.y.tolist())
            try:
                learner.learn_rows(self.contract.names, self.contract.values(examples.x), ys)
            except BaseException as error:
                if is_stop(error):
                    raise
                raise FoldError(first + learner.learned, error) from error
        _count_learned(state, len(examples), skipped)

    def _learn_each(self, state: LoopState, examples: Examples, first: Position, skipped: Container[Position]) -> None:
        learn_one, river = state.champion.model.learn_one, self.target.river
        rows = self.contract.rows(examples.x)
        position = first
        try:
            for position, x, y in zip(count(first), rows, examples.y.tolist(), strict=False):
                if position not in skipped:
                    learn_one(x, river(y))
        except BaseException as error:
            if is_stop(error):
                raise
            raise FoldError(position, error) from error


def skeletons() -> tuple[object, ...]:
    """Return one of each object, besides the model, whose classes a state may hold."""
    return (new_adwin(),)


def read_skips(records: Iterable[Logged], ownership: OwnershipState, branch: str = CHAMPION) -> set[Position]:
    """Return the positions that the learner's accepted skips name: the first pass over a tail of the log.

    Args:
        records: The tail in order; training blocks in it may be left out.
        ownership: As of the tail's beginning; not changed.
    """
    owned = replace(ownership, owners=dict(ownership.owners), numbers=dict(ownership.numbers))
    found = set()
    for offset, record, _ in records:
        if isinstance(record, Claim):
            owned.claim(record)
        elif isinstance(record, Skip):
            counted = owned.accept(LEARNER, record.owner, record.number)
            if counted and record.branch == branch and record.position < position_of(offset):
                found.add(record.position)
    return found


def _count_notice(state: LoopState, record: Claim | Skip) -> None:
    counts = state.counts
    if isinstance(record, Claim):
        counted = state.ownership.claim(record)
        counts.claims += counted
        counts.fenced_claims += not counted
    else:
        counted = state.ownership.accept(LEARNER, record.owner, record.number)
        counts.skips += counted
        counts.fenced_skips += not counted


def _count_learned(state: LoopState, rows: int, skipped: list[Position]) -> None:
    learned = rows - len(skipped)
    state.counts.learned += learned
    state.champion.learned += learned
    if skipped:
        state.counts.skipped += len(skipped)
        state.champion.skipped += len(skipped)
        state.skipped_positions = (state.skipped_positions + skipped)[-_SKIPS_KEPT:]


def _judge(state: LoopState, examples: Examples, first: Position) -> list[DriftSignal]:
    judged = state.quality.update_many(examples.y, examples.served)
    return state.drift.update_many([first + row for row in judged.rows], judged.losses)


def _unusable(part: str, problem: str) -> CodecError:
    return CodecError(
        f"the {part} lacks or garbles {problem}; it must hold what this version of Tailrace writes. "
        "Use another snapshot, or fold the log from its start."
    )


def _slice(examples: Examples, start: int, stop: int) -> Examples:
    if start == 0 and stop >= len(examples):
        return examples
    part = slice(start, stop)
    x, served = examples.x, examples.served
    absent = None if x.absent is None else x.absent[part]
    return Examples(
        kinds=examples.kinds[part],
        ids=examples.ids[part],
        times_ms=examples.times_ms[part],
        y=examples.y[part],
        source_partitions=examples.source_partitions[part],
        source_offsets=examples.source_offsets[part],
        label_partitions=examples.label_partitions[part],
        label_offsets=examples.label_offsets[part],
        label_broker_ms=examples.label_broker_ms[part],
        state_positions=examples.state_positions[part],
        revisions=examples.revisions[part],
        sources=examples.sources[part],
        served=Served(served.y_pred[part], served.proba[part]),
        x=XColumns(x.numbers[part], x.integers[part], x.strings[part], absent),
    )


def _dump_loop(state: LoopState) -> dict[str, Any]:
    owned = state.ownership
    return {
        "log_id": owned.log_id,
        "owners": dict(sorted(owned.owners.items())),
        "numbers": dict(sorted(owned.numbers.items())),
        "counts": asdict(state.counts),
        "outcomes": dict(sorted(state.outcomes.items())),
        "position": state.position,
        "last_offset": state.last_offset,
        "last_digest": state.last_digest,
        "skipped_positions": list(state.skipped_positions),
        "quality": state.quality.dump(),
        "drift": state.drift.dump(),
    }


def _load_loop(plain: Mapping[str, Any], champion: BranchState) -> LoopState:
    return LoopState(
        champion,
        Quality.load(plain["quality"]),
        LossDrift.load(plain["drift"]),
        OwnershipState(plain["log_id"], plain["owners"], plain["numbers"]),
        FoldCounts(**plain["counts"]),
        plain["outcomes"],
        plain["position"],
        plain["last_offset"],
        plain["last_digest"],
        plain["skipped_positions"],
    )
