"""Finished snapshots of one kind on their way into the store and the index.

Nobody who learns or serves waits here. One task writes what was offered, in order, and tries again with a growing
pause until the store and the log take it; so a store that was down, full or slow needs no restart. At most
MOST_WAITING wait, the one being written included: a further one takes the place of the newest that is not yet begun,
because a newer state of the same fold makes it worthless.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from tailrace.domain.errors import TailraceError
from tailrace.domain.positions import show
from tailrace.domain.snapshots import Kind, Manifest
from tailrace.stores.snapshot_file import Packed
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 2
"""Each holds a whole encoded state in memory."""

SLOW_AFTER_MS: Final = 5_000
"""Writing one that takes longer is told as a store that does not answer."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Finished:
    """An encoded state.

    Attributes:
        draft: Its manifest without number and previous digest, which it gets when it is written.
    """

    draft: Manifest
    packed: Packed


class SnapshotQueue:
    """Writes the snapshots of one kind.

    Args:
        write: Stores and indexes one; called for one at a time, in the order of the offers.
        clock_ms: Never goes back.

    Attributes:
        problem: Why the oldest was not taken at the last try; "" before the first that failed.
        on_lost: Called when one could not be written and will not be tried again.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        write: Callable[[Finished], Awaitable[None]],
        recorder: Recorder,
        clock_ms: Callable[[], int],
    ) -> None:
        self._kind = kind
        self._write = write
        self._recorder = recorder
        self._clock_ms = clock_ms
        self._waiting: deque[Finished] = deque()
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._begun_ms = 0
        self.problem = ""
        self.on_lost: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        """How many wait, the one being written included."""
        return len(self._waiting)

    @property
    def late_ms(self) -> int:
        """For how long the oldest is tried in vain; 0 while nothing waits, or not for long."""
        if not self._waiting:
            return 0
        since_ms = self._clock_ms() - self._begun_ms
        return since_ms if self.problem or since_ms >= SLOW_AFTER_MS else 0

    def offer(self, finished: Finished) -> None:
        """Take one; returns at once.

        Raises:
            Exception: What nobody foresaw ended the task that writes.
        """
        if len(self._waiting) == MOST_WAITING:
            self._waiting.pop()
            self._recorder.snapshot_replaced(self._kind)
        self._waiting.append(finished)
        self._tell()
        if self._task is not None and self._task.done():
            self._task.result()
            self._task = None
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def drain(self, within_s: float) -> int:
        """Write what waits, for so long at most; return how many were left, and forget them."""
        if self._task is not None:
            self._hurry.set()
            await asyncio.wait({self._task}, timeout=within_s)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        return self.give_up()

    def give_up(self) -> int:
        """Write nothing more; return how many waited, and forget them."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._hurry.clear()
        left = len(self._waiting)
        for finished in self._waiting:
            self._recorder.snapshot_failed(self._kind)
            position = show(finished.draft.position)
            log.warning("snapshot was not stored before the stop", kind=self._kind, position=position, why=self.problem)
        self._waiting.clear()
        self.problem = ""
        self._tell()
        return left

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        self._begun_ms = self._clock_ms()
        while self._waiting:
            try:
                await self._write(self._waiting[0])
            except (OSError, MemoryError, TailraceError) as cause:
                if not isinstance(cause, TailraceError) or cause.retriable:
                    self._say(cause)
                    await self._pause(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    continue
                log.error("snapshot cannot be written", kind=self._kind, why=str(cause))
                self._recorder.snapshot_failed(self._kind)
                self.on_lost()
            if self.problem:
                log.info("snapshots are stored again", kind=self._kind)
            self._waiting.popleft()
            self._tell()
            self.problem, pause_s, self._begun_ms = "", _FIRST_PAUSE_S, self._clock_ms()

    def _say(self, cause: Exception) -> None:
        if not self.problem:
            log.warning("snapshot waits, it is tried again", kind=self._kind, why=str(cause))
        self.problem = str(cause) or type(cause).__name__
        self._recorder.snapshot_retried(self._kind)

    async def _pause(self, pause_s: float) -> None:
        """Wait, unless a stop is in a hurry: then only the first, short pause stands between two tries."""
        if self._hurry.is_set():
            await asyncio.sleep(_FIRST_PAUSE_S)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), pause_s)

    def _tell(self) -> None:
        self._recorder.snapshots_waiting(self._kind, len(self._waiting))
