"""What a contender is asked and what it answers: JSON in its one argument, JSON lines on its standard output.

A contender is a process of its own. Steps, in order:
    1. The runner starts it with a `Task`.
    2. Once it could begin it says `{"is": "ready"}` and waits for a line; only ours do.
    3. When every event is scored and every label learned it says `{"is": "handled"}`.
    4. The runner sends a line when it has seen every prediction in the topic; a task without a count ends here too.
    5. It answers with `Measured` and ends.

Standard library only: every peer imports this in its own environment.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

READY = "ready"
HANDLED = "handled"


@dataclass(frozen=True)
class Task:
    """What a contender is asked for.

    Attributes:
        count: Events, and as many labels; 0: go on until a line comes.
        folder: Its own, empty.
        linger_ms: How long a producer may wait for more, where a contender sets it.
        options: Of one contender alone.
    """

    bootstrap: str = ""
    events: str = ""
    labels: str = ""
    predictions: str = ""
    group: str = ""
    count: int = 0
    folder: str = "."
    linger_ms: int = 5
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def asked(cls) -> Task:
        """Read it from the command line."""
        return cls(**json.loads(sys.argv[1]))

    def text(self) -> str:
        """Return it as the argument."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Measured:
    """What one process of a contender came to.

    Attributes:
        begun_s, ended_s: The first record it was given, the last one that it was done with; since 1970.
        cpu_s: Of all threads of the process from the first record to step 4.
        memory_bytes: The greatest resident size that the process ever had (VmHWM).
        log_loss: Prequential, natural logarithm; None where it is not judged.
        stages: Stage → CPU seconds, where a contender tells.
    """

    begun_s: float
    ended_s: float
    cpu_s: float
    scored: int
    learned: int
    memory_bytes: int = 0
    log_loss: float | None = None
    stages: dict[str, float] = field(default_factory=dict)

    def say(self) -> None:
        """Step 5."""
        say({**asdict(self), "memory_bytes": most_memory_bytes()})


def say(plain: dict[str, Any]) -> None:
    """Tell the runner something."""
    sys.stdout.write(json.dumps(plain) + "\n")
    sys.stdout.flush()


def say_handled() -> None:
    """Step 3."""
    say({"is": HANDLED})


def await_line() -> None:
    """Wait for the runner, or for its end."""
    sys.stdin.readline()


def now_s() -> float:
    """Return the wall clock, which processes and the broker share."""
    return time.time_ns() / 1e9


def cpu_s() -> float:
    """Return the CPU time of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def most_memory_bytes() -> int:
    """Return VmHWM; `ru_maxrss` would be that of the parent where it was larger."""
    with open("/proc/self/status") as status:  # noqa: PTH123 - one line of the kernel's
        return next((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)
