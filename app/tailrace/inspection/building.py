"""Builds a branch beside everything else: folded from the log's start, compared with what was served, published.

Serving and learning go on meanwhile; nothing of them is touched. A branch that is published is one that a learner can
admit without folding the log again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.branches import Branch
from tailrace.domain.errors import SettingsError
from tailrace.domain.models.digest import digest_of, state_digest
from tailrace.domain.notices import BranchNotices, Correction, Notices, counting
from tailrace.domain.positions import Position
from tailrace.domain.rehearsal import Comparison, Rehearsal
from tailrace.domain.snapshots import Kind, Manifest, next_number
from tailrace.inspection.lineup import Loop
from tailrace.inspection.reading import Reading
from tailrace.opening import open_keys, open_store
from tailrace.stores import snapshot_file
from tailrace.stores.key_folder import KeyFolder, Signer
from tailrace.stores.signing import Purpose
from tailrace.streams.log import Sink
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.warming import Progress, Warmed, Warming

_WINDOW_RECORDS: Final = 512
"""Records of the log that are read at once, from its end backwards, to find the last examples."""

_COMPRESS_FROM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Built:
    """A branch that was folded up to the present end of the log.

    Attributes:
        end: Offset of the training log up to which it was folded.
        seconds: Of folding.
    """

    warmed: Warmed
    comparison: Comparison
    end: int
    seconds: float
    ids: frozenset[str] = field(default_factory=frozenset)

    @property
    def branch(self) -> Branch:
        """Its definition."""
        return self.warmed.branch

    @property
    def corrected(self) -> int:
        """Events whose target is corrected in it."""
        return sum(said.y is not None for said in self._corrections())

    @property
    def withdrawn(self) -> int:
        """Events whose target was withdrawn, so that it does not learn them."""
        return sum(said.y is None for said in self._corrections())

    def _corrections(self) -> Iterator[Correction]:
        for corrections in self.warmed.notices.corrections.values():
            said = counting(corrections, self.branch.filter)
            if said is not None:
                yield said


class Builder:
    """Builds branches of one loop."""

    def __init__(self, reading: Reading, loop: Loop, now_ms: Callable[[], int]) -> None:
        self._reading = reading
        self._loop = loop
        self._now_ms = now_ms
        self._training = TrainingLog(reading.reader, None, loop.topics.training)

    async def build(self, branch: Branch, *, ids: frozenset[str], compare: int, progress: Progress) -> Built:
        """Fold a branch from the log's start to its present end, and compare it.

        Args:
            ids: Hashes of the event ids that its filter leaves out.
            compare: Examples, the last ones, to ask it about.

        Raises:
            ForeignLogError: The log has lost its beginning.
            WarmingFailed: The model raises at too many examples.
        """
        warming = Warming(self._loop.fold, self._training, self._loop.index(self._reading))
        given = Notices({branch.lineage: BranchNotices(ids=ids)})
        warmed = await warming.begin(branch, given, fresh=True)
        end = (await self._training.range()).end
        rehearsal = await self._noted(branch, end, compare)
        begun = perf_counter()
        await warming.fold_to(warmed, end, progress, rehearsal)
        return Built(warmed, rehearsal.comparison(), end, perf_counter() - begun, ids)

    async def publish(self, built: Built, *, is_new_lineage: bool) -> Manifest:
        """Put a branch where learners find it; return its manifest.

        Args:
            is_new_lineage: No learner of these libraries has run: also write the snapshot that the first one starts
                from, so that it does not fold the log again.

        Raises:
            SettingsError: There is no key on this machine that signs snapshots.
            SnapshotRefused: That key is not trusted here.
        """
        keys = open_keys(self._reading.settings)
        require_learner_key(keys)
        async with self._reading.sink() as sink:
            index = self._index(keys, sink)
            await index.read(self._reading.reader)
            bodies = self._loop.fold.parts_with(built.warmed.state, built.branch.lineage)
            manifest = await self._put(index, Kind.BRANCH, built, bodies)
            if is_new_lineage:
                await self._put(index, Kind.SNAPSHOT, built, self._loop.fold.parts(built.warmed.state))
        return manifest

    async def known_ids(self, lineage: str) -> frozenset[str]:
        """Return the hashes of the event ids that an admitted branch leaves out; they stand in the log alone."""
        fresh = self._loop.fold.begin()
        held = await self._training.range()
        return (await self._training.notices(held.start, held.end, fresh.ownership)).of(lineage).ids

    async def end(self) -> Position:
        """Return the present end of the log, as an offset."""
        return (await self._training.range()).end

    def body_digest(self, built: Built) -> str:
        """Return the digest of the branch alone."""
        return digest_of(self._loop.fold.body_of(built.warmed.held))

    async def _noted(self, branch: Branch, end: int, compare: int) -> Rehearsal:
        """Find the last examples, reading windows from the end backwards."""
        rehearsal, stop = Rehearsal(self._loop.fold, branch), end
        start = (await self._training.range()).start
        while stop > start and rehearsal.noted < compare:
            first = max(start, stop - _WINDOW_RECORDS)
            for record in reversed([record async for record in self._training.records(first, stop)]):
                if isinstance(record.record, TrainingBlock):
                    rehearsal.note(record.offset, record.record, compare - rehearsal.noted)
            stop = first
        return rehearsal

    async def _put(self, index: SnapshotIndex, kind: Kind, built: Built, bodies: dict[str, bytes]) -> Manifest:
        state, held = built.warmed.state, built.warmed.held
        packed = snapshot_file.pack(bodies, compress=sum(map(len, bodies.values())) >= _COMPRESS_FROM_BYTES)
        previous = next(iter(index.newest(kind)), None)
        manifest = Manifest(
            lineage=self._loop.fold.lineage,
            loop=self._loop.name,
            log_id=state.ownership.log_id,
            kind=kind,
            number=next_number(index.manifests, self._loop.fold.lineage, kind),
            position=state.position,
            last_block_offset=state.last_offset if state.last_offset >= 0 else None,
            last_block_digest=state.last_digest or None,
            parts=packed.parts,
            state_digest=state_digest((part.name, part.digest) for part in packed.parts),
            previous_digest=None if previous is None else previous.digest,
            counters={"blocks": state.counts.blocks, "learned": held.learned, "left_out": held.left_out},
            versions={**self._loop.versions, **self._loop.fold.compiled(held)},
            created_at_ms=self._now_ms(),
        )
        return await index.put(manifest, packed)

    def _index(self, keys: KeyFolder, sink: Sink) -> SnapshotIndex:
        return SnapshotIndex(
            self._loop.topics.snapshots,
            lineage=self._loop.fold.lineage,
            versions=self._loop.versions,
            store=open_store(self._reading.settings),
            trusted=keys.trusted,
            sink=sink,
            signer=Signer(keys),
        )


def require_learner_key(keys: KeyFolder) -> None:
    """See that a branch that is built here can be published; asked before anything is folded.

    Raises:
        SettingsError: There is no key on this machine that signs snapshots.
    """
    if not keys.exists(Purpose.SNAPSHOTS):
        path = keys.path(Purpose.SNAPSHOTS)
        found = (
            f"keys.folder: found no {path.name} in {path.parent}; a branch is published with a key that signs snapshots"
        )
        step = f"make one here with `tailrace keys generate` and trust {path.stem}.pub there; --dry-run needs none"
        raise SettingsError([f"{found}: run this where the learner runs, or {step}"])
