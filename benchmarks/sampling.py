"""Where the CPU of this process goes, by package: a sample for every millisecond of it, by the kernel's timer."""

from __future__ import annotations

import signal
from collections import Counter
from types import FrameType

_EVERY_S = 0.001
_PACKAGES = (
    ("/tailrace/", "tailrace"),
    ("/river/", "River"),
    ("/aiokafka/", "aiokafka"),
    ("/faust/", "Faust, mode"),
    ("/mode/", "Faust, mode"),
    ("/prometheus_client/", "prometheus_client"),
    ("/numpy/", "numpy"),
    ("/fastavro/", "fastavro"),
    ("/asyncio/", "asyncio"),
    ("selectors.py", "asyncio"),
)
_ELSEWHERE = "elsewhere"


class Samples:
    """Counts which package each moment of CPU belongs to: that of the innermost frame which has one.

    Of our own package the room is named too, for instance `tailrace.wire`.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def begin(self) -> None:
        """Sample from here on; only the main thread is seen."""
        self._counts.clear()
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)

    def end(self, cpu_s: float) -> dict[str, float]:
        """Return package → seconds of `cpu_s`."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        total = sum(self._counts.values()) or 1
        return {name: cpu_s * count / total for name, count in self._counts.most_common()}

    def _take(self, _number: int, frame: FrameType | None) -> None:
        while frame is not None:
            name = _package_of(frame.f_code.co_filename)
            if name:
                self._counts[name] += 1
                return
            frame = frame.f_back
        self._counts[_ELSEWHERE] += 1


def _package_of(path: str) -> str:
    for part, name in _PACKAGES:
        if part in path:
            if name == "tailrace":
                room = path.rpartition("/tailrace/")[2].partition("/")[0].removesuffix(".py")
                return f"tailrace.{room}"
            return name
    return ""
