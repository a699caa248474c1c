"""What one contender came to, and the clock and CPU of a process."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import orjson


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one contender.

    Attributes:
        events: How many were scored and learned.
        seconds: From the first record to the last label learned.
        cpu_seconds: Of all threads of the contender's process in that time.
        log_loss: Prequential, natural logarithm; None where it is not measured.
        stages: Stage → CPU seconds; what is in no stage is the client of Kafka, the event loop and Faust.
    """

    events: float
    seconds: float
    cpu_seconds: float
    log_loss: float | None = None
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU an event."""
        return self.cpu_seconds / self.events * 1e6

    def report(self) -> None:
        """Print it for the process that asked; `Measured(**…)` reads it."""
        sys.stdout.write(orjson.dumps(asdict(self)).decode() + "\n")
        sys.stdout.flush()

    @classmethod
    def read(cls, line: bytes) -> Measured:
        """Read what `report` printed."""
        plain: dict[str, Any] = orjson.loads(line)
        return cls(**plain)


class Moment(NamedTuple):
    """A reading of the clock and of the CPU time of this process."""

    clock_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Moment:
        """Read both."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.perf_counter(), used.ru_utime + used.ru_stime)
