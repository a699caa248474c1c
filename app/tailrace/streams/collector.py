"""Memory that is used no more: collected seldom, by the clock, and given back to the system.

aiokafka leaves a fetched batch, up to a megabyte, in a cycle whenever its partition is given up or sought before the
last of it was read; so do connections that fail. What an old generation holds of these only a full collection frees.
What recovery has freed lies between what is kept, where the C library leaves it to the process.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from time import perf_counter
from typing import Final

from mode import Service

EVERY_S: Final = 60.0
MOST_SHARE: Final = 0.001
"""Of the time, for full collections: where one takes 100 ms, they come less often than once a minute."""

# New objects, then collections of the youngest and of the middle generation, before the next one collects.
_COLLECT_AFTER: Final = (50_000, 20, 100)


def calm_collector() -> None:
    """Make the cycle collector look at new objects less often, and at what is there now never again.

    The join remembers up to a million ids. With Python's defaults the collector walks all of them again and again,
    finds nothing, and takes a sixth of the CPU of a busy process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _trimming() -> Callable[[int], object]:
    """Return glibc's `malloc_trim`; what does nothing, where there is none."""
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda _pad: None
    return found


_trim = _trimming()


class Sweeps(Service):
    """Sweeps once a minute, or less often where that takes long."""

    @Service.task
    async def _sweep(self) -> None:
        pause_s = EVERY_S
        while not self.should_stop:
            await self.sleep(pause_s)
            pause_s = max(EVERY_S, sweep() / MOST_SHARE)


def sweep() -> float:
    """Collect everything, give the system back what is free; return the seconds that it took."""
    begun_s = perf_counter()
    gc.collect()
    _trim(0)
    return perf_counter() - begun_s
