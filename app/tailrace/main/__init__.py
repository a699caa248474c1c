"""The composition root: settings become objects, objects a worker. The only room that knows everyone.

`loops` knows what a loop is before it runs, `composition` makes its agents with everything they work with, `process`
waits for the log, starts it all and ends with an exit code.
"""

from __future__ import annotations

from tailrace.main.composition import RunningLoop
from tailrace.main.loops import ALL_ROLES, LoopDomain, loops_of, now_ms, versions
from tailrace.main.process import Process, run
from tailrace.main.sampling import sample_topic

__all__ = [
    "ALL_ROLES",
    "LoopDomain",
    "Process",
    "RunningLoop",
    "loops_of",
    "now_ms",
    "run",
    "sample_topic",
    "versions",
]
