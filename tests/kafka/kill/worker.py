"""A worker process that kills itself at a named place: `python -m tests.kafka.kill.worker CONFIG ROLE,ROLE`.

Imports everything, prints `ready` on standard output, then obeys lines on standard input: `arm NAME N` (SIGKILL when
that fail point is reached for the N-th time from now on), `go` (start). When the input ends, so does the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from tailrace import settings as loading
from tailrace.domain.status import Role
from tailrace.main import run
from tailrace.streams import failpoints
from tailrace.telemetry import logs

_GONE = 71


class Trigger:
    """Counts how often the armed place is reached."""

    def __init__(self) -> None:
        self._name = ""
        self._left = 0

    def arm(self, name: str, count: int) -> None:
        """Be killed when `name` is reached for the `count`-th time from now on."""
        assert name in failpoints.NAMES, name
        self._name, self._left = name, count

    def reached(self, name: str) -> None:
        """What `failpoints.hook` is set to."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def obey(trigger: Trigger, *, until: str) -> None:
    """Carry out the lines of standard input up to one; end the process when there are no more."""
    for line in sys.stdin:
        word, *rest = line.split()
        if word == until:
            return
        trigger.arm(rest[0], int(rest[1]))
    os._exit(_GONE)


def main() -> int:
    """Run a worker; return its exit code."""
    config, roles = Path(sys.argv[1]), tuple(Role(name) for name in sys.argv[2].split(","))
    trigger = Trigger()
    failpoints.hook = trigger.reached
    logs.configure("info", "json")
    settings = loading.load(config)
    print("ready", flush=True)
    obey(trigger, until="go")
    threading.Thread(target=obey, args=(trigger,), kwargs={"until": "never"}, daemon=True).start()
    return run(settings, roles)


if __name__ == "__main__":
    sys.exit(main())
