"""When and how the owner of the training log writes snapshots and publications.

Both are taken at block ends. The state is encoded in a thread while learning waits and scoring does not. A store
that fails costs a snapshot, never learning: the next interval tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

import structlog

from tailrace.domain.errors import OwnershipLost, TailraceError
from tailrace.domain.learning import Fold, LoopState
from tailrace.domain.models.digest import state_digest
from tailrace.domain.snapshots import Kind, Manifest, SnapshotSchedule, next_number
from tailrace.domain.status import SnapshotStatus
from tailrace.stores import snapshot_file
from tailrace.streams.announcements import Announcements
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

_REST = 4  # learning goes on for at least so many times as long as a snapshot or publication took
_COMPRESS_FROM_BYTES = 64 * 1024  # smaller bodies are not worth the time


class SnapshotWriter:
    """Writes the snapshots of one loop.

    Args:
        publish_ms, snapshot_ms: Intervals.
        writes: Says whether whoever calls this writes at all; False: another process takes the snapshots.
        may_write: Asked before each one is made known; False: another member does that now.
        clock_ms: Never goes back; for intervals.
        now_ms: The wall clock; informative.
    """

    def __init__(
        self,
        *,
        loop: str,
        fold: Fold,
        index: SnapshotIndex,
        announcements: Announcements,
        recorder: Recorder,
        versions: Mapping[str, str],
        publish_ms: int,
        snapshot_ms: int,
        clock_ms: Callable[[], int],
        now_ms: Callable[[], int],
        writes: Callable[[], bool] = lambda: True,
        may_write: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._is_asked = writes
        self._may_write = may_write
        self._loop = loop
        self._fold = fold
        self._index = index
        self._announcements = announcements
        self._recorder = recorder
        self._versions = versions
        self._clock_ms = clock_ms
        self._now_ms = now_ms
        self._schedules = {
            Kind.SNAPSHOT: SnapshotSchedule(snapshot_ms, clock_ms()),
            Kind.PUBLICATION: SnapshotSchedule(publish_ms, clock_ms()),
        }
        self.newest: SnapshotStatus | None = None

    @property
    def writes(self) -> bool:
        """Whether this process takes the snapshots of the loop now."""
        return self._is_asked()

    def restored(self, state: LoopState) -> None:
        """Say that a state is live now; what it was restored from need not be written again."""
        usable = (manifest for manifest in self._index.newest() if manifest.position <= state.position)
        newest = next(usable, None)
        if newest is not None:
            self._schedules[Kind.SNAPSHOT].last_position = newest.position
            self._note(newest)
        published = next(iter(self._index.newest(Kind.PUBLICATION)), None)
        if published is not None:
            # What was published never goes back: readers of the index would refuse it.
            self._schedules[Kind.PUBLICATION].last_position = published.position

    async def if_due(self, state: LoopState) -> None:
        """Write what is due at this block end."""
        for kind, schedule in self._schedules.items() if self.writes else ():
            if kind is Kind.PUBLICATION and state.champion is None:
                continue  # a learner with other libraries folds the branch that serves
            if schedule.due(self._clock_ms(), state.position):
                await self._write(kind, state)

    async def last(self, state: LoopState) -> None:
        """Write a snapshot now if anything was folded since the last: the process is about to stop."""
        if self.writes and state.position > self._schedules[Kind.SNAPSHOT].last_position:
            await self._write(Kind.SNAPSHOT, state)

    async def _write(self, kind: Kind, state: LoopState) -> None:
        schedule, begun_ms, before = self._schedules[kind], self._clock_ms(), self._schedules[kind].last_position
        position = state.position
        try:
            manifest = await self._put(kind, state)
        except (OSError, TailraceError) as problem:
            position = before
            self._recorder.snapshot_failed(kind)
            log.warning("snapshot failed, the next interval tries again", kind=kind.value, why=str(problem))
            return
        finally:
            now_ms = self._clock_ms()
            schedule.taken(now_ms + _REST * (now_ms - begun_ms), position)
        self._recorder.snapshot_done(kind, size_bytes=manifest.stored_bytes, now_ms=self._now_ms())
        if kind is Kind.SNAPSHOT:
            self._note(manifest)
            await self._announcements.snapshot(manifest)

    async def _put(self, kind: Kind, state: LoopState) -> Manifest:
        begun = perf_counter()
        packed = await asyncio.to_thread(self._packed, kind, state)
        encoded = perf_counter()
        if self._may_write is not None and not await self._may_write():
            raise OwnershipLost("another member takes the snapshots of this loop now; this one was not made known")
        previous = next(iter(self._index.newest(kind)), None)
        manifest = Manifest(
            lineage=self._fold.lineage,
            loop=self._loop,
            log_id=state.ownership.log_id,
            kind=kind,
            number=next_number(self._index.manifests, self._fold.lineage, kind),
            position=state.position,
            last_block_offset=state.last_offset if state.last_offset >= 0 else None,
            last_block_digest=state.last_digest or None,
            parts=packed.parts,
            state_digest=state_digest((part.name, part.digest) for part in packed.parts),
            previous_digest=previous.digest if previous is not None else None,
            counters=_counters(state),
            versions=self._versions,
            created_at_ms=self._now_ms(),
        )
        indexed = await self._index.put(manifest, packed)
        self._recorder.snapshot_phase("encode", encoded - begun)
        self._recorder.snapshot_phase("write", perf_counter() - encoded)
        return indexed

    def _packed(self, kind: Kind, state: LoopState) -> snapshot_file.Packed:
        bodies = self._fold.publication(state) if kind is Kind.PUBLICATION else self._fold.parts(state)
        return snapshot_file.pack(bodies, compress=sum(map(len, bodies.values())) >= _COMPRESS_FROM_BYTES)

    def _note(self, manifest: Manifest) -> None:
        self.newest = SnapshotStatus(
            number=manifest.number,
            position=manifest.position,
            time_ms=manifest.created_at_ms,
            size_bytes=manifest.stored_bytes,
            every_ms=self._schedules[Kind.SNAPSHOT].every_ms,
            digest=manifest.state_digest,
        )


def _counters(state: LoopState) -> dict[str, int]:
    """Return what the books know of a state: its blocks, and what the champion did with the examples."""
    champion = state.champion
    if champion is None:
        return {"blocks": state.counts.blocks}
    return {
        "blocks": state.counts.blocks,
        "learned": champion.learned,
        "skipped": champion.skipped,
        "left_out": champion.left_out,
        "foreign": champion.foreign,
    }
