"""What the processes of a loop use of the machine, as the kernel counts it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.processes import Fleet

LOOK_S = 0.2
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Return what a process holds in memory; 0 when it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6
    return 0.0


def cpu_s(pid: int) -> float:
    """Return how long a process has computed, in user and kernel mode; proc(5), fields 14 and 15 of `stat`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@dataclass
class Memory:
    """What each worker held at first, and at most.

    Attributes:
        first_mb: By name.
        peak_mb: Likewise.
    """

    first_mb: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)

    @property
    def grown_mb(self) -> float:
        """The most that one worker has grown."""
        return max(self.peak_mb[name] - self.first_mb[name] for name in self.first_mb)

    def look(self, fleet: Fleet) -> None:
        """Take note of what the workers hold now."""
        for name, worker in fleet.running.items():
            now_mb = rss_mb(worker.pid)
            self.first_mb.setdefault(name, now_mb)
            self.peak_mb[name] = max(now_mb, self.peak_mb.get(name, 0.0))


@asynccontextmanager
async def memory_of(fleet: Fleet) -> AsyncIterator[Memory]:
    """Watch what workers hold as long as the block; they are the same at its end."""
    memory = Memory()

    async def watch() -> None:
        while True:
            memory.look(fleet)
            await asyncio.sleep(LOOK_S)

    memory.look(fleet)
    watching = asyncio.create_task(watch())
    try:
        yield memory
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
