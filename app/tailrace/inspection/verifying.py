"""Folds the training log again, in a process of its own, and compares with the digests that were recorded.

Begins at the start of the log, or at a snapshot. Proves that the newest snapshot is what the log says, or that code,
libraries, machine or bytes are not what they were. Then it says where that begins:
    1. Fold once, and compare at some recorded positions, always at those of the snapshots; keep the last state that
       was equal.
    2. At the first that differs, go back to that state and halve the recorded positions between the two, until none
       is left: equal up to P, different at Q.

Memory holds the state, one more as bytes, and the recorded digests, which have a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from tailrace.domain.branches import Branch
from tailrace.domain.errors import CodecError, FoldError, ForeignLogError, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import state_digest
from tailrace.domain.positions import Position, offset_of, show
from tailrace.domain.proof import Digests, differing
from tailrace.domain.snapshots import Manifest
from tailrace.domain.state import LoopState
from tailrace.inspection.certificate import Difference, Part, Verified
from tailrace.inspection.reading import Reading
from tailrace.inspection.recorded import Recorded, proven_before, recorded
from tailrace.inspection.refolding import Checkpoint, Refold
from tailrace.opening import open_trust
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams.log import Range, TopicPartition
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.warming import Progress
from tailrace.wire.topics import LoopTopics

COMPARED: Final = 32
"""Positions at which the first pass compares, besides those of snapshots: each costs one encoding of the state."""

Base = int | Literal["start", "proven"] | None
"""Where to begin: a snapshot's number, the log's first record, the last snapshot that was proven, or what there is."""


@dataclass(slots=True)
class _Seen:
    """What the comparisons so far have found.

    Attributes:
        equal_by: Digests of the manifests of the snapshots that are equal.
    """

    equal_to: Position
    examples: int
    checkpoint: Checkpoint
    equal_by: set[str] = field(default_factory=set)
    compared: int = 0


class _Found(NamedTuple):
    """The lowest position so far at which something else was recorded.

    Attributes:
        examples: Counted up to there.
    """

    at: Position
    examples: int
    recorded_by: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Verifier:
    """Verifies the snapshots of one loop.

    Attributes:
        fold: Made anew; no other state is used with it.
        versions: Of this process, to name what differs.
    """

    reading: Reading
    topics: LoopTopics
    fold: Fold
    store: SnapshotStore
    versions: Mapping[str, str]

    async def verify(self, progress: Progress, *, base: Base = None, to: Position | None = None) -> Verified:
        """Fold up to the newest snapshot's position, or up to `to`, and compare.

        Raises:
            ForeignLogError: The log has lost its beginning, and no snapshot bridges the gap.
            CodecError: The log holds what is not Tailrace's.
            SnapshotRefused: The snapshot to begin with is not there, or cannot be loaded.
        """
        index = SnapshotIndex(
            self.topics.snapshots,
            lineage=self.fold.lineage,
            versions=self.versions,
            store=self.store,
            trusted=open_trust(self.reading.settings),
        )
        await index.read(self.reading.reader)
        manifests = [each for each in index.newest() if to is None or each.position <= to]
        if not manifests:
            return self._nothing(to)
        newest, held = manifests[0], await self.reading.reader.range_of(TopicPartition(self.topics.training, 0))
        end = newest.position if to is None else to
        if held.end < offset_of(end):
            ends = f"the log ends at offset {held.end}, before "
            return self._report(newest, problem=ends + ("the snapshot's position" if to is None else f"{show(end)}"))
        proven = await proven_before(self.reading, self.topics)
        state, begun = await self._begin(index, manifests, held, base, proven)
        training = TrainingLog(self.reading.reader, None, self.topics.training)
        known = await recorded(self.reading, self.topics, manifests)
        named = {name for each in known for name in each.digests.parts}
        refold = await Refold.begin(self.fold, training, index, state, named)
        run = _Run(self, refold, newest, begun, known, progress, proven)
        return await run.to(end, index)

    async def _begin(
        self, index: SnapshotIndex, manifests: Sequence[Manifest], held: Range, base: Base, proven: frozenset[str]
    ) -> tuple[LoopState, Manifest | None]:
        """Return the state to begin with, and the snapshot that it is of."""
        if isinstance(base, int):
            return await self._of_number(index, manifests, base)
        if base == "proven":
            known = (each for each in manifests[1:] if each.digest in proven)
            newest = next(known, None)
            if newest is not None:
                return self.fold.restore(await index.load(newest)), newest
        if held.start == 0:
            return self.fold.begin(), None
        for manifest in reversed(manifests[1:]) if base != "start" else ():
            if offset_of(manifest.position) >= held.start:
                try:
                    return self.fold.restore(await index.load(manifest)), manifest
                except (SnapshotRefused, CodecError):
                    continue
        raise ForeignLogError(
            f"{self.topics.training} begins at offset {held.start} and no older snapshot reaches to it; what lies "
            "before cannot be folded again. Keep this topic without limit, so that its model can be verified"
        )

    async def _of_number(
        self, index: SnapshotIndex, manifests: Sequence[Manifest], number: int
    ) -> tuple[LoopState, Manifest]:
        chosen = next((each for each in manifests if each.number == number), None)
        if chosen is None or chosen is manifests[0]:
            before = ", ".join(str(each.number) for each in reversed(manifests[1:])) or "none"
            message = f"found snapshot {number} to begin with; allowed are those before the newest one: {before}"
            raise SnapshotRefused("missing", message)
        return self.fold.restore(await index.load(chosen)), chosen

    def _nothing(self, to: Position | None) -> Verified:
        before = "" if to is None else f" up to {show(to)}"
        problem = (
            f"there is no snapshot of this lineage yet{before}, so there is nothing to compare with; "
            "a worker writes the first one after [snapshots] every, and whenever it stops"
        )
        return Verified(self.fold.lineage, "", {}, None, 0, 0, None, 0, 0, "", "", problem=problem)

    def _report(self, newest: Manifest, *, problem: str) -> Verified:
        return Verified(
            *(self.fold.lineage, newest.log_id, {}, newest.number, 0, newest.position, None, 0, 0, ""),
            newest.state_digest,
            problem=problem,
        )


@dataclass
class _Run:
    """One verification on its way."""

    verifier: Verifier
    refold: Refold
    newest: Manifest
    base: Manifest | None
    known: Sequence[Recorded]
    progress: Progress
    proven: frozenset[str]

    async def to(self, end: Position, index: SnapshotIndex) -> Verified:
        refold, start = self.refold, self.refold.state.position
        counted = refold.state.counts.examples
        seen = _Seen(start, counted, refold.checkpoint())
        records = [each for each in self.known if start < each.digests.position <= end]
        first, total = offset_of(start), offset_of(end) - offset_of(start)
        found, problem = None, ""

        def tell(_done: int, _of: int) -> None:
            self.progress(offset_of(refold.state.position) - first, total)

        try:
            for position in _compared_at(records):  # 1
                await self._fold_to(position, seen, tell)
                found = self._compare(records, seen)
                if found is not None:
                    break
            await self._fold_to(end, seen, tell)
            problem = _log_problem(self.newest, refold.state) if end == self.newest.position else ""
            result, examples = refold.digests(), refold.state.counts.examples - counted
            if found is not None:
                found = await self._narrowed(records, seen, found)  # 2
        except FoldError as failure:
            at = show(failure.position)
            problem = f"the model raised {type(failure.cause).__name__} at {at}, where the snapshot's fold went on"
            result, examples = Digests("", "", refold.state.position, {}), refold.state.counts.examples - counted
        difference = None if found is None else _difference(seen, found)
        parts = _parts_of(self.newest, result)
        proven = self._proven(seen.equal_by)
        told = [problem, difference.in_words if difference is not None else ""]
        problem = ". ".join(filter(None, told)) or _unknown(parts)
        return Verified(
            lineage=self.newest.lineage,
            log_id=self.newest.log_id,
            branches=_models(refold.state),
            snapshot=self.newest.number,
            start=start,
            end=end,
            from_snapshot=None if self.base is None else self.base.number,
            records=offset_of(result.position) - first,
            examples=examples,
            digest=state_digest(result.parts.items()) if result.parts else "",
            snapshot_digest=self.newest.state_digest,
            parts=parts,
            compared=seen.compared,
            difference=difference,
            proven=tuple(each.number for each in proven),
            proven_manifests=tuple(each.digest for each in proven),
            known=len([each for each in self.known if each.manifest is not None]),
            problem=problem or await _load_problem(index, self.newest),
        )

    def _proven(self, equal_by: set[str]) -> list[Manifest]:
        """Return the manifests of the snapshots that are proven, by this run or by one before it."""
        signed = (each.manifest for each in self.known if each.manifest is not None)
        found = [each for each in signed if each.digest in equal_by or each.digest in self.proven]
        return sorted(found, key=lambda each: (each.number, each.position))

    async def _fold_to(self, position: Position, seen: _Seen, tell: Progress) -> None:
        """Fold on, without a branch that raises where nothing of it is recorded: nobody may have folded it."""
        while True:
            try:
                return await self.refold.fold_to(position, tell)
            except FoldError as failure:
                if not self.refold.leave_out(failure.branch):
                    raise
                self.refold.go_back(seen.checkpoint)

    async def _narrowed(self, records: Sequence[Recorded], seen: _Seen, found: _Found) -> _Found:
        """Halve the recorded positions between the last equal and the first different one."""
        positions = sorted({each.digests.position for each in records})
        while between := [each for each in positions if seen.equal_to < each < found.at]:
            self.refold.go_back(seen.checkpoint)
            await self.refold.fold_to(between[len(between) // 2])
            found = self._compare(records, seen) or found
        return found

    def _compare(self, records: Sequence[Recorded], seen: _Seen) -> _Found | None:
        """Compare with everything that was recorded at the position where the fold stands."""
        state, mine = self.refold.state, self.refold.digests()
        here = [each for each in records if mine.is_comparable(each.digests)]
        seen.compared += 1
        for each in here:
            parts = differing(mine.parts, each.digests.parts)
            if parts:
                return _Found(state.position, state.counts.examples, each.by, parts)
        seen.equal_by |= {
            each.manifest.digest
            for each in here
            if each.manifest is not None and not each.digests.parts.keys() - mine.parts.keys()
        }
        seen.equal_to, seen.examples, seen.checkpoint = state.position, state.counts.examples, self.refold.checkpoint()
        return None


def _compared_at(records: Sequence[Recorded]) -> list[Position]:
    """Return where the first pass compares: at every snapshot, and at some of the other positions."""
    others = sorted({each.digests.position for each in records if each.manifest is None})
    step = -(-len(others) // COMPARED) or 1
    snapshots = {each.digests.position for each in records if each.manifest is not None}
    return sorted({*snapshots, *others[step - 1 :: step]})


def _difference(seen: _Seen, found: _Found) -> Difference:
    records = offset_of(found.at) - offset_of(seen.equal_to)
    return Difference(seen.equal_to, found.at, records, found.examples - seen.examples, found.recorded_by, found.parts)


def _models(state: LoopState) -> dict[str, str]:
    admitted = state.pointers.admitted
    return {lineage: Branch.read(text).model for lineage, text in admitted.items() if lineage in state.branches}


def _parts_of(newest: Manifest, here: Digests) -> tuple[Part, ...]:
    if here.position != newest.position:
        return tuple(Part(name, digest, "") for name, digest in sorted(here.parts.items()))
    theirs = {part.name: part.digest for part in newest.parts}
    names = sorted(here.parts.keys() | theirs.keys())
    return tuple(Part(name, here.parts.get(name, ""), theirs.get(name, "")) for name in names)


def _log_problem(newest: Manifest, state: LoopState) -> str:
    if state.position != newest.position:
        return f"the fold ends at {show(state.position)}, the snapshot at {show(newest.position)}; records are missing"
    if state.last_digest != newest.last_block_digest:
        return (
            f"offset {state.last_offset} of the log holds another record than the one that the snapshot was folded "
            "from: the log was made anew or changed. Restore the topic, or begin a loop with another name"
        )
    return ""


def _unknown(parts: Sequence[Part]) -> str:
    unknown = [part.name for part in parts if part.snapshot and not part.here]
    return f"{', '.join(unknown)} cannot be folded here: other libraries, features or code folded it" if unknown else ""


async def _load_problem(index: SnapshotIndex, newest: Manifest) -> str:
    try:
        await index.load(newest)
    except SnapshotRefused as refusal:
        return f"the digests are equal, but the snapshot cannot be loaded: {refusal}"
    return ""
