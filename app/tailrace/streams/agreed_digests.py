"""Takes digests of a state at the positions that the log agrees on, as often as this process can afford."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from tailrace.domain.errors import CodecError
from tailrace.domain.learning import Fold
from tailrace.domain.models.digest import digest_of
from tailrace.domain.positions import show
from tailrace.domain.proof import TOLD, Digests, Pace, level_of
from tailrace.domain.state import LoopState

log = structlog.get_logger(__name__)


class AgreedDigests:
    """The digests of one line of states.

    Args:
        clock_s: Never goes back.

    Attributes:
        told: The last few, for the heartbeat.
    """

    def __init__(self, fold: Fold, clock_s: Callable[[], float]) -> None:
        self.told: tuple[Digests, ...] = ()
        self._fold = fold
        self._clock_s = clock_s
        self._pace = Pace()
        self._last: deque[Digests] = deque(maxlen=TOLD)

    async def block_closed(self, state: LoopState, counted: int) -> Digests | None:
        """Take a digest if the block that was just closed ends at an agreed position that is worth one.

        The state is encoded in a thread; whoever folds waits. One that cannot be encoded has no digest, and is
        no reason not to fold on: whoever writes snapshots says so.

        Args:
            counted: Examples in the state before the block.
        """
        level = level_of(counted, state.counts.examples)
        if level < self._pace.level:
            return None
        begun_s = self._clock_s()
        parts: dict[str, str] = {}
        try:
            parts = await asyncio.to_thread(self._digests, state)
        except (CodecError, MemoryError) as problem:
            log.warning(
                "no digest at an agreed position",
                position=show(state.position),
                why=str(problem) or type(problem).__name__,
            )
        now_s = self._clock_s()
        self._pace.took(now_s - begun_s, now_s)
        if not parts:
            return None
        digests = Digests(self._fold.lineage, state.ownership.log_id, state.position, parts)
        self._last.append(digests)
        self.told = tuple(self._last)
        return digests

    def forget(self) -> None:
        """Tell nothing any more: the line of states ends here."""
        self._last.clear()
        self.told = ()

    def _digests(self, state: LoopState) -> dict[str, str]:
        return {name: digest_of(body) for name, body in self._fold.parts(state).items()}
