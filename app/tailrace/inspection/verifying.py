"""Folds the training log again, in a process of its own, and compares the digest with the newest snapshot's.

Begins at the start of the log; where retention has deleted that, at the oldest snapshot whose next record is still
there. Proves that the snapshot is what the log says, or that code, libraries, machine or bytes are not what they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tailrace.domain.branches import Branch
from tailrace.domain.errors import CodecError, FoldError, ForeignLogError, SnapshotRefused
from tailrace.domain.learning import Fold, LoopState
from tailrace.domain.models.digest import digest_of, state_digest
from tailrace.domain.notices import Notices
from tailrace.domain.positions import Position, offset_of, show
from tailrace.domain.snapshots import Manifest
from tailrace.inspection.reading import Reading
from tailrace.opening import open_trust
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams.log import Range, TopicPartition
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog
from tailrace.wire.topics import LoopTopics

Progress = Callable[[int, int], None]
"""Told records folded so far, and of how many."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a fold of one's own came to.

    Attributes:
        snapshot: Number of the snapshot that was compared; None: there is none of this lineage.
        start, end: Positions between which the log was folded; the end is exclusive.
        from_snapshot: The snapshot that the fold began with; None: the start of the log.
        digest: Of the state that was folded here; "" when the fold did not come through.
        problem: Why the two differ or cannot be compared, in words; "" when they are equal.
    """

    lineage: str
    snapshot: int | None
    start: Position
    end: Position
    from_snapshot: int | None
    records: int
    examples: int
    digest: str
    snapshot_digest: str
    problem: str

    @property
    def is_equal(self) -> bool:
        """Whether the snapshot is what the log says."""
        return not self.problem


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

    async def verify(self, progress: Progress) -> Verified:
        """Fold up to the newest snapshot's position and compare.

        Raises:
            ForeignLogError: The log has lost its beginning, and no snapshot bridges the gap.
            CodecError: The log holds what is not Tailrace's.
        """
        index = SnapshotIndex(
            self.topics.snapshots,
            lineage=self.fold.lineage,
            versions=self.versions,
            store=self.store,
            trusted=open_trust(self.reading.settings),
        )
        await index.read(self.reading.reader)
        manifests = index.newest()
        if not manifests:
            return self._nothing()
        newest, partition = manifests[0], TopicPartition(self.topics.training, 0)
        held = await self.reading.reader.range_of(partition)
        end = offset_of(newest.position)
        if held.end < end:
            return _report(newest, None, problem=f"the log ends at offset {held.end}, before the snapshot's position")
        state, base = await self._begin(index, manifests, held)
        first = state.position
        start = offset_of(first)
        training = TrainingLog(self.reading.reader, None, self.topics.training)
        notices = await training.notices(start, held.end, state.ownership)
        await self._hold_admitted(training, state, notices)
        state.beside = frozenset(state.branches)  # what the log retires it may admit again
        done = learned = 0
        counted = state.counts.examples
        try:
            async for record in training.records(start, end):
                self.fold.fold(state, [record], notices)
                done, learned = record.offset + 1 - start, state.counts.examples - counted
                progress(done, end - start)
                await asyncio.sleep(0)
        except FoldError as failure:
            at = show(failure.position)
            problem = f"the model raised {type(failure.cause).__name__} at {at}, where the snapshot's fold went on"
            return _report(newest, base, start=first, records=done, examples=learned, problem=problem)
        bodies = await asyncio.to_thread(self.fold.parts, state)
        digest = state_digest((name, digest_of(body)) for name, body in bodies.items())
        problem = _difference(newest, state, bodies) or await self._load_problem(index, newest)
        return _report(newest, base, start=first, records=done, examples=learned, digest=digest, problem=problem)

    async def _load_problem(self, index: SnapshotIndex, newest: Manifest) -> str:
        try:
            await index.load(newest)
        except SnapshotRefused as refusal:
            return f"the digests are equal, but the snapshot cannot be loaded: {refusal}"
        return ""

    def _nothing(self) -> Verified:
        problem = (
            "there is no snapshot of this lineage yet, so there is nothing to compare with; "
            "a worker writes the first one after [snapshots] every, and whenever it stops"
        )
        return Verified(self.fold.lineage, None, 0, 0, None, 0, 0, "", "", problem)

    async def _begin(
        self, index: SnapshotIndex, manifests: list[Manifest], held: Range
    ) -> tuple[LoopState, Manifest | None]:
        if held.start == 0:
            return self.fold.begin(), None
        for manifest in reversed(manifests[1:]):
            if offset_of(manifest.position) >= held.start:
                try:
                    return self.fold.restore(await index.load(manifest)), manifest
                except (SnapshotRefused, CodecError):
                    continue
        raise ForeignLogError(
            f"{self.topics.training} begins at offset {held.start} and no older snapshot reaches to it; what lies "
            "before cannot be folded again. Keep this topic without limit, so that its model can be verified"
        )

    async def _hold_admitted(self, training: TrainingLog, state: LoopState, notices: Notices) -> None:
        """Hold every branch that the log admits from here on and that this process can fold."""
        for text in notices.admitted.values():
            branch = Branch.read(text)
            if branch.lineage in state.branches or self.fold.kit(branch) is None or branch.start < state.position:
                continue
            self.fold.hold(state, self.fold.begin_branch(branch))
            if branch.filter.corrected_to > state.position:
                notices.know(await training.corrections(branch.filter.corrected_to))


def _difference(newest: Manifest, state: LoopState, bodies: Mapping[str, bytes]) -> str:
    if state.position != newest.position:
        return f"the fold ends at {show(state.position)}, the snapshot at {show(newest.position)}; records are missing"
    if state.last_digest != newest.last_block_digest:
        return (
            f"offset {state.last_offset} of the log holds another record than the one that the snapshot was folded "
            "from: the log was made anew or changed. Restore the topic, or begin a loop with another name"
        )
    differing = [
        part.name for part in newest.parts if part.name in bodies and digest_of(bodies[part.name]) != part.digest
    ]
    unknown = [part.name for part in newest.parts if part.name not in bodies]
    if differing:
        return (
            f"the digests of {', '.join(differing)} differ: the snapshot is not what this log, this configuration and "
            "these libraries come to. Do not promote it; look for a machine or library that differs, then start a "
            "worker without the snapshot"
        )
    if unknown:
        return f"{', '.join(unknown)} cannot be folded here: other libraries, features or code folded it"
    return ""


def _report(
    newest: Manifest,
    base: Manifest | None,
    *,
    start: Position = 0,
    records: int = 0,
    examples: int = 0,
    digest: str = "",
    problem: str = "",
) -> Verified:
    return Verified(
        lineage=newest.lineage,
        snapshot=newest.number,
        start=start,
        end=newest.position,
        from_snapshot=None if base is None else base.number,
        records=records,
        examples=examples,
        digest=digest,
        snapshot_digest=newest.state_digest,
        problem=problem,
    )
