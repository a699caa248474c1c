"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Looks once for all who ask while it looks, and for those who ask soon after.

    A failure is kept like an answer: where every look waits long for something that hangs, those who ask again and
    again would otherwise each begin another one.

    Args:
        look: Finds the answer.
        kept_for_s: For so long after a look what came of it is what everyone gets.
        clock: In seconds; never goes back.
    """

    def __init__(
        self, look: Callable[[], Awaitable[T]], kept_for_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._kept_for_s = kept_for_s
        self._clock = clock
        self._looking: asyncio.Future[T] | None = None
        self._ended_s = 0.0

    async def get(self) -> T:
        """Return the answer; raises what the look raised."""
        looking = self._looking
        if looking is None or (looking.done() and self._clock() - self._ended_s >= self._kept_for_s):
            looking = self._looking = asyncio.ensure_future(self._look())
            looking.add_done_callback(self._end)
        return await asyncio.shield(looking)  # who goes away takes nothing from those who wait on

    def _end(self, looking: asyncio.Future[T]) -> None:
        self._ended_s = self._clock()
        if looking.cancelled():
            self._looking = None
        else:
            looking.exception()  # seen, also where nobody waits any more
