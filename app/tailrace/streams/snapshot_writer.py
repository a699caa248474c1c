"""When and how the owner of the training log writes snapshots and publications.

Both are taken at block ends. The state is encoded in a thread while learning waits and scoring does not; storing and
indexing is a queue's business (`snapshot_queue`), so that a store that is down, slow or full costs neither learning
nor serving anything. Each kind has a queue of its own: a publication that travels in the index alone does not wait
behind a snapshot that the store does not take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter

import structlog

from tailrace.domain.errors import CodecError, TailraceError
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import state_digest
from tailrace.domain.positions import Position
from tailrace.domain.snapshots import Kind, Manifest, SnapshotSchedule, next_number
from tailrace.domain.state import LoopState
from tailrace.domain.status import SnapshotStatus
from tailrace.stores import snapshot_file
from tailrace.streams.announcements import Announcements
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.snapshot_queue import Finished, SnapshotQueue
from tailrace.telemetry.recorder import Recorder
from tailrace.telemetry.traces import Traces

log = structlog.get_logger(__name__)

DRAIN_WITHIN_S = 3.0  # of a stop, for what waits; well inside of `worker.STOP_WITHIN_S` and the revoke timeout
_REST = 4  # learning goes on for at least so many times as long as an encode took
_COMPRESS_FROM_BYTES = 64 * 1024  # smaller bodies are not worth the time


@dataclass(slots=True)
class _Lane:
    """One kind: when the next is due, what waits, and how far the index is.

    Attributes:
        problem: Why the last could not be taken; "": it could.
        failing_since_ms: When that began.
    """

    schedule: SnapshotSchedule
    queue: SnapshotQueue
    indexed: Position = 0
    problem: str = ""
    failing_since_ms: int = 0

    def lost(self) -> None:
        """Take another one although the position may not move any more."""
        self.schedule.last_position = self.indexed


class SnapshotWriter:
    """Writes the snapshots of one loop.

    Args:
        store_address: For people.
        publish_ms, snapshot_ms: Intervals.
        writes: Says whether whoever calls this writes at all; False: another process takes the snapshots.
        may_write: Asked before each one is made known; False: another member does that now.
        clock_ms: Never goes back; for intervals.
        now_ms: The wall clock; informative.
        traces: Of the examples that wait for a snapshot; None: nothing is traced.
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
        store_address: str,
        publish_ms: int,
        snapshot_ms: int,
        clock_ms: Callable[[], int],
        now_ms: Callable[[], int],
        writes: Callable[[], bool] = lambda: True,
        may_write: Callable[[], Awaitable[bool]] | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._is_asked = writes
        self._may_write = may_write
        self._traces = traces
        self._loop = loop
        self._fold = fold
        self._index = index
        self._announcements = announcements
        self._recorder = recorder
        self._versions = versions
        self._store_address = store_address
        self._clock_ms = clock_ms
        self._now_ms = now_ms
        self._lanes = {
            Kind.SNAPSHOT: self._lane(Kind.SNAPSHOT, snapshot_ms),
            Kind.PUBLICATION: self._lane(Kind.PUBLICATION, publish_ms),
        }
        self.newest: SnapshotStatus | None = None
        recorder.snapshots_every(snapshot_ms)

    @property
    def writes(self) -> bool:
        """Whether this process takes the snapshots of the loop now."""
        return self._is_asked()

    def restored(self, state: LoopState) -> None:
        """Say that a state is live now; what it was restored from need not be written again."""
        usable = (manifest for manifest in self._index.newest() if manifest.position <= state.position)
        newest = next(usable, None)
        if newest is not None:
            self._lanes[Kind.SNAPSHOT].schedule.last_position = newest.position
            self._note(newest)
        published = next(iter(self._index.newest(Kind.PUBLICATION)), None)
        if published is not None:
            # What was published never goes back: readers of the index would refuse it.
            self._lanes[Kind.PUBLICATION].schedule.last_position = published.position

    async def if_due(self, state: LoopState) -> None:
        """Encode what is due at this block end, and hand it on."""
        for kind, lane in self._lanes.items() if self.writes else ():
            if kind is Kind.PUBLICATION and state.champion is None:
                continue  # a learner with other libraries folds the branch that serves
            if lane.schedule.due(self._clock_ms(), state.position):
                await self._take(kind, lane, state)

    async def last(self, state: LoopState) -> None:
        """Take a snapshot now if anything was folded since the last: the process is about to stop."""
        lane = self._lanes[Kind.SNAPSHOT]
        if self.writes and state.position > lane.schedule.last_position:
            await self._take(Kind.SNAPSHOT, lane, state)

    async def drain(self) -> None:
        """Write what waits, for DRAIN_WITHIN_S at most; the next owner folds what was left from the log again."""
        await asyncio.gather(*(lane.queue.drain(DRAIN_WITHIN_S) for lane in self._lanes.values()))

    def give_up(self) -> None:
        """Write nothing more of what waits."""
        for lane in self._lanes.values():
            lane.queue.give_up()

    def remark(self) -> str:
        """Say that no snapshots can be taken, or that the store or the log does not take them; "" when all is well."""
        return "; ".join(filter(None, (self._about_taking(), self._about_writing())))

    def _about_taking(self) -> str:
        failing = {kind: lane for kind, lane in self._lanes.items() if lane.problem}
        if not failing:
            return ""
        kinds = " and ".join(f"{kind.value}s" for kind in failing)
        since_s = (self._clock_ms() - min(lane.failing_since_ms for lane in failing.values())) // 1_000
        problem = next(lane.problem for lane in failing.values())
        told = f"no {kinds} could be taken since {since_s} s, each interval tries again; learning and serving go on"
        return f"{told} ({problem})"

    def _about_writing(self) -> str:
        late = {kind: lane.queue for kind, lane in self._lanes.items() if lane.queue.late_ms}
        if not late:
            return ""
        counts = [f"{len(queue)} {kind.value}{'s' * (len(queue) > 1)}" for kind, queue in late.items()]
        wait = "wait" if sum(map(len, late.values())) > 1 else "waits"
        since_s = max(queue.late_ms for queue in late.values()) // 1_000
        problem = next((queue.problem for queue in late.values() if queue.problem), "")
        what = f"takes nothing since {since_s} s" if problem else f"does not answer since {since_s} s"
        told = f"{' and '.join(counts)} {wait}: the store {self._store_address} {what}; learning and serving go on"
        return f"{told} ({problem})" if problem else told

    def _lane(self, kind: Kind, every_ms: int) -> _Lane:
        queue = SnapshotQueue(kind, write=self._write, recorder=self._recorder, clock_ms=self._clock_ms)
        lane = _Lane(SnapshotSchedule(every_ms, self._clock_ms()), queue)
        queue.on_lost = lane.lost
        return lane

    async def _take(self, kind: Kind, lane: _Lane, state: LoopState) -> None:
        begun_ms, position = self._clock_ms(), lane.schedule.last_position
        try:
            finished = await self._finished(kind, state)
            lane.queue.offer(finished)
            position = state.position
            if lane.problem:
                log.info("snapshots can be taken again", kind=kind.value)
                lane.problem = ""
        except (OSError, TailraceError) as problem:
            self._recorder.snapshot_failed(kind)
            if not lane.problem:
                lane.failing_since_ms = begun_ms
                log.warning("snapshot failed, each interval tries again", kind=kind.value, why=str(problem))
            lane.problem = str(problem)
        finally:
            now_ms = self._clock_ms()
            lane.schedule.taken(now_ms + _REST * (now_ms - begun_ms), position)

    async def _finished(self, kind: Kind, state: LoopState) -> Finished:
        begun = perf_counter()
        packed = await asyncio.to_thread(self._packed, kind, state)
        self._recorder.snapshot_phase("encode", perf_counter() - begun)
        draft = Manifest(
            lineage=self._fold.lineage,
            loop=self._loop,
            log_id=state.ownership.log_id,
            kind=kind,
            number=0,
            position=state.position,
            last_block_offset=state.last_offset if state.last_offset >= 0 else None,
            last_block_digest=state.last_digest or None,
            parts=packed.parts,
            state_digest=state_digest((part.name, part.digest) for part in packed.parts),
            previous_digest=None,
            counters=_counters(state),
            versions={**self._versions, **self._fold.compiled(state.champion)},
            created_at_ms=self._now_ms(),
        )
        return Finished(draft, packed)

    async def _write(self, finished: Finished) -> None:
        begun, kind = perf_counter(), finished.draft.kind
        if self._may_write is not None and not await self._may_write():
            log.info("another member takes the snapshots now; this one is dropped", kind=kind.value)
            return
        previous = next(iter(self._index.newest(kind)), None)
        if previous is not None and previous.position > finished.draft.position:
            log.info("a newer one is in the index; this one is dropped", kind=kind.value, number=previous.number)
            return
        manifest = replace(
            finished.draft,
            number=next_number(self._index.manifests, self._fold.lineage, kind),
            previous_digest=previous.digest if previous is not None else None,
        )
        indexed = await self._index.put(manifest, finished.packed)
        self._recorder.snapshot_phase("write", perf_counter() - begun)
        self._recorder.snapshot_done(kind, size_bytes=indexed.stored_bytes, now_ms=self._now_ms())
        self._lanes[kind].indexed = indexed.position
        if kind is Kind.SNAPSHOT:
            if self._traces is not None:
                facts = {"snapshot": str(indexed.number)}
                self._traces.snapshot(indexed.position, 1_000_000 * indexed.created_at_ms, facts)
            self._note(indexed)
            await self._announcements.snapshot(indexed)

    def _packed(self, kind: Kind, state: LoopState) -> snapshot_file.Packed:
        try:
            return self._encoded(kind, state)
        except MemoryError as cause:
            raise CodecError(
                "the state could not be encoded: this process got no memory for it; give it more"
            ) from cause

    def _encoded(self, kind: Kind, state: LoopState) -> snapshot_file.Packed:
        bodies = self._fold.publication(state) if kind is Kind.PUBLICATION else self._fold.parts(state)
        return snapshot_file.pack(bodies, compress=sum(map(len, bodies.values())) >= _COMPRESS_FROM_BYTES)

    def _note(self, manifest: Manifest) -> None:
        self.newest = SnapshotStatus(
            number=manifest.number,
            position=manifest.position,
            time_ms=manifest.created_at_ms,
            size_bytes=manifest.stored_bytes,
            every_ms=self._lanes[Kind.SNAPSHOT].schedule.every_ms,
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
