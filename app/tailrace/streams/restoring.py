"""Which state a process begins with: that of the newest snapshot which is good and which this log agrees with.

Invariant: nothing is folded onto a state whose manifest, bodies and last record were not all found to be what they
should be. What cannot be restored is folded again from the log's start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from tailrace.domain.errors import CodecError, ForeignLogError, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import digest_of
from tailrace.domain.positions import show
from tailrace.domain.snapshots import Manifest, check_last_block
from tailrace.domain.state import LoopState
from tailrace.domain.status import RoleState
from tailrace.streams.role import RoleReport
from tailrace.streams.snapshot_index import NO_ANSWER, SnapshotIndex
from tailrace.streams.training_log import TrainingLog
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

_STORE_POLL_S = 2.0  # how often a store that gives nothing is asked, where nothing else can be begun with


class Restoring:
    """Restores states of one loop for one role."""

    def __init__(
        self, fold: Fold, training: TrainingLog, index: SnapshotIndex, recorder: Recorder, report: RoleReport
    ) -> None:
        self._report = report
        self._fold = fold
        self._training = training
        self._index = index
        self._recorder = recorder

    async def newest_good(self, is_ended: Callable[[], bool]) -> LoopState:
        """Return the state of the newest snapshot that is good, else that before the log's first record.

        Args:
            is_ended: Says whether nobody waits for it any more.

        Raises:
            ForeignLogError: The log is not the one that was folded, or has lost what no snapshot holds.
        """
        state, is_silent = await self._first_good()
        while state is None and is_silent and (await self._training.range()).start > 0 and not is_ended():
            why = "the log has lost its beginning and the store does not give the snapshots; it is asked again"
            self._report.set(RoleState.RESTORING, why)
            await asyncio.sleep(_STORE_POLL_S)
            state, is_silent = await self._first_good()
        if state is not None:
            return state
        held = await self._training.range()
        if held.start > 0:
            raise ForeignLogError(
                f"{self._training.partition.topic} begins at offset {held.start} and no snapshot of this lineage can "
                "be used: what lies before is gone. Restore the topic or a snapshot, or begin a loop with another name."
            )
        return self._fold.begin()

    async def _first_good(self) -> tuple[LoopState | None, bool]:
        """Return the state of the newest snapshot that is good, and whether the store gave no answer for some."""
        is_silent = False
        for manifest in self._index.newest():
            if is_silent and not manifest.inline:
                continue  # each would take as long to say nothing
            try:
                return await self._state_of(manifest), is_silent
            except (SnapshotRefused, CodecError) as refusal:
                reason = getattr(refusal, "reason", "codec")
                is_silent |= reason == NO_ANSWER
                self._recorder.snapshot_refused(reason)
                log.warning(
                    "snapshot refused, the one before it is tried",
                    number=manifest.number,
                    reason=reason,
                    why=str(refusal),
                )
        return None, is_silent

    async def still_holds(self, state: LoopState) -> bool:
        """Return whether the log still holds the record that a state was folded from last."""
        if state.last_offset < 0:
            return True
        value = await self._training.value_at(state.last_offset)
        return value is not None and digest_of(value) == state.last_digest

    async def _state_of(self, manifest: Manifest) -> LoopState:
        await self._check_log(manifest)
        bodies = await self._index.load(manifest)
        state = await asyncio.to_thread(self._restored, bodies)
        if state.position != manifest.position:
            raise SnapshotRefused(
                "position", f"the state ends at {show(state.position)}, its manifest says {show(manifest.position)}"
            )
        return state

    def _restored(self, bodies: Mapping[str, bytes]) -> LoopState:
        state = self._fold.restore(bodies)
        self._fold.warm(*map(self._fold.definition, state.branches.values()))
        return state

    async def _check_log(self, manifest: Manifest) -> None:
        offset = manifest.last_block_offset
        if offset is None:
            return
        held = await self._training.range()
        refusal = check_last_block(
            manifest, log_id="", start=held.start, end=held.end, value=await self._training.value_at(offset)
        )
        if refusal is not None:
            # An older snapshot of the same log would not help: the log itself is not the one that was folded.
            raise ForeignLogError(refusal.message)
