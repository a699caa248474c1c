"""What processes take of the machine, as Linux counts it: I10, measured by whoever makes the fault."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.faults.processes import Fleet

MOST_RESIDENT_MB = 500
MOST_FILES = 100
"""A worker of these loops begins with 170 MB and 30 open files: three times as much is a leak, or something unbounded."""
LOOK_S = 0.2
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KB = 1_024
_MB = 1_000_000


class Sample(NamedTuple):
    """One look at a process.

    Attributes:
        at_s: On a clock that never goes back.
        resident_bytes, peak_bytes: VmRSS and VmHWM.
        files: Open file descriptors.
        in_use_bytes: What it holds of its memory, as it told itself; 0: it was not asked.
        joined: How many partitions it joined meanwhile, where that is known.
    """

    at_s: float
    resident_bytes: int
    peak_bytes: int
    files: int
    in_use_bytes: int = 0
    joined: int = 0


@dataclass
class Memory:
    """Looks at one process now and then."""

    pid: int
    samples: list[Sample] = field(default_factory=list)

    def look(self, in_use_bytes: int = 0, joined: int = 0) -> Sample | None:
        """Look at it now and remember what is seen, and what it has told; None: it has ended."""
        folder = Path("/proc") / str(self.pid)
        try:
            status = (folder / "status").read_text()
            files = len(os.listdir(folder / "fd"))
        except (FileNotFoundError, ProcessLookupError):
            return None
        sizes = {name: int(kb) * _KB for name, kb in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE)}
        if len(sizes) < 2:
            return None  # it has ended, and nobody has waited for it yet
        sample = Sample(time.monotonic(), sizes["VmRSS"], sizes["VmHWM"], files, in_use_bytes, joined)
        self.samples.append(sample)
        return sample


def beyond_bounds(fleet: Fleet) -> list[str]:
    """Return in words which workers hold more than any may, whatever has happened to them."""
    found = []
    for name, worker in fleet.running.items():
        if (now := Memory(worker.pid).look()) is None:
            continue
        if now.resident_bytes > MOST_RESIDENT_MB * _MB or now.files > MOST_FILES:
            found.append(
                f"I10: {name} holds {now.resident_bytes // _MB} MB and {now.files} open files, at most "
                f"{MOST_RESIDENT_MB} and {MOST_FILES} are allowed"
            )
    return found


def cpu_s(pid: int) -> float:
    """Return how long a process has computed, in user and kernel mode; proc(5), fields 14 and 15 of `stat`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


@dataclass
class FleetMemory:
    """What each worker of a fleet held at first, and at most.

    Attributes:
        first_mb: By name; what a successor of that name holds is compared with it too.
        peak_mb: Likewise.
    """

    first_mb: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)

    @property
    def grown_mb(self) -> float:
        """The most that one worker has grown."""
        return max(self.peak_mb[name] - self.first_mb[name] for name in self.first_mb)

    def look(self, fleet: Fleet) -> None:
        """Take note of what the workers hold now; one that has ended is passed over."""
        for name, worker in fleet.running.items():
            if (now := Memory(worker.pid).look()) is not None:
                now_mb = now.resident_bytes / _MB
                self.first_mb.setdefault(name, now_mb)
                self.peak_mb[name] = max(now_mb, self.peak_mb.get(name, 0.0))


@asynccontextmanager
async def memory_of(fleet: Fleet) -> AsyncIterator[FleetMemory]:
    """Watch what workers hold as long as the block."""
    memory = FleetMemory()

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
