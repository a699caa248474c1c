"""Worker processes that kill themselves at a named place: `python -m tests.faults.worker`.

The process imports everything once and then forks a worker whenever it is told to, which spares each of them seconds
of CPU. Lines on standard input:
    spawn ERRORS CONFIG ROLE,ROLE [WHAT=VALUE …] [NAME N]    fork a worker that logs to the file ERRORS; answered by
                                                             `born PID`
    arm PID NAME N                   SIGKILL it when that fail point is reached for the N-th time from now on; stop it
                                     (SIGSTOP) if N is negative, at the -N-th time
    arm PID clock N                  set its wall clock N milliseconds off that of this machine
    arm PID sweep 0                  have it sweep at once, as it does by itself once a minute, and write what it holds
                                     then, in bytes, into the file ERRORS.in_use, and how many partitions it joins
What a worker may be besides:
    instance=ID      a static member, as `--instance-id` makes it
    groups=WORD      a member of other groups: nobody can configure that, it is another deployment of the same loop
    wrong=N          its fold of every block from the N-th on comes to something else: a broken library, a flipped bit
When a worker has ended, `ended PID CODE` is printed, the code negative for a signal. When the input ends, so does
everything.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

from tests.faults.in_use import in_use_bytes, in_use_of

from tailrace import settings as loading
from tailrace.domain.errors import TailraceError
from tailrace.domain.learning import Fold
from tailrace.domain.state import LoopState
from tailrace.domain.status import Role
from tailrace.main import LoopDomain, run
from tailrace.streams import failpoints
from tailrace.streams.collector import sweep
from tailrace.streams.join_agent import JoinAgent
from tailrace.streams.log import Source
from tailrace.telemetry import logs

FOLDS_WRONGLY = "folds wrongly from now on, in milliseconds since 1970:"
"""Said with the time by a worker that was told to."""

_LOOK_S = 0.01
_IN_FLIGHT_S = 0.004
"""What was sent leaves the process, and is answered, within about this time."""


class Trigger:
    """Counts how often the armed place is reached."""

    def __init__(self) -> None:
        self._name = ""
        self._left = 0
        self._signal = signal.SIGKILL

    def arm(self, name: str, count: int) -> None:
        """Be killed when `name` is reached for the `count`-th time from now on; stopped where `count` is negative."""
        assert name in failpoints.NAMES, name
        self._name, self._left = name, abs(count)
        self._signal = signal.SIGSTOP if count < 0 else signal.SIGKILL

    def reached(self, name: str) -> None:
        """What `failpoints.hook` is set to."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0 and name.endswith("_sent"):
            # It has not left the process at this moment; the kill falls before that, between it and the answer, or after.
            threading.Timer(SystemRandom().uniform(0.0, _IN_FLIGHT_S), self._strike).start()
        elif self._left == 0:
            self._strike()

    def _strike(self) -> None:
        os.kill(os.getpid(), self._signal)


class Clock:
    """The wall clock of a worker, as Python tells it, some time off the machine's."""

    def __init__(self) -> None:
        self._real_ns = time.time_ns

    def set_off(self, offset_ms: int) -> None:
        """Be this far ahead from now on, or behind."""
        real_ns, offset_ns = self._real_ns, offset_ms * 1_000_000
        vars(time).update(time_ns=lambda: real_ns() + offset_ns, time=lambda: (real_ns() + offset_ns) / 1e9)


def work(orders: int, errors: Path, config: Path, roles: str, words: list[str]) -> int:
    """Be a worker; return the exit code.

    Args:
        orders: A pipe of lines `NAME N`; the process ends with it.
        words: `WHAT=VALUE`, then such a line to begin with; or nothing. `clock N` in place of it sets the clock.
    """
    options = dict(word.split("=", 1) for word in words if "=" in word)
    armed = [word for word in words if "=" not in word]
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    trigger, clock, joiners = Trigger(), Clock(), know_joiners()
    failpoints.hook = trigger.reached

    def take(name: str, count: int) -> None:
        if name == "clock":
            clock.set_off(count)
        elif name == "sweep":
            sweep()
            in_use_of(errors).write_text(f"{in_use_bytes()} {sum(len(each.joins) for each in joiners)}")
        else:
            trigger.arm(name, count)

    if armed:
        take(armed[0], int(armed[1]))

    def obey() -> None:
        with os.fdopen(orders) as lines:
            for line in lines:
                name, count = line.split()
                take(name, int(count))
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=obey, daemon=True).start()
    logs.configure("info", "json", stream=sys.stderr)
    if "groups" in options:
        be_in_other_groups(options["groups"])
    if "wrong" in options:
        fold_wrongly(int(options["wrong"]))
    chosen = tuple(Role(name) for name in roles.split(","))
    try:
        return run(loading.load(config), chosen, instance_id=options.get("instance"))
    except TailraceError as problem:  # told as the command line does, whose import would take seconds of CPU
        print(f"tailrace: {problem}", file=sys.stderr, flush=True)
        return 1


def know_joiners() -> list[JoinAgent]:
    """Return a list to which the join of this process, as soon as it is there, is added."""
    joiners: list[JoinAgent] = []
    attach = JoinAgent.attach

    def attach_known(agent: JoinAgent, source: Source) -> None:
        joiners.append(agent)
        attach(agent, source)

    JoinAgent.attach = attach_known  # type: ignore[method-assign]
    return joiners


def be_in_other_groups(word: str) -> None:
    """Have this process join groups of other names, so that Kafka gives it what another member has too."""
    named = LoopDomain.group
    LoopDomain.group = lambda domain, role: f"{named(domain, role)}.{word}"  # type: ignore[method-assign]


def fold_wrongly(after_blocks: int) -> None:
    """Have every block from the N-th on count one example that was not there."""
    close, closed = Fold.close, 0

    def wrongly(fold: Fold, state: LoopState, offset: int) -> None:
        nonlocal closed
        closed += 1
        if closed == after_blocks:
            print(f"{FOLDS_WRONGLY} {time.time_ns() // 1_000_000}", file=sys.stderr, flush=True)
        if closed >= after_blocks:
            state.counts.foreign += 1
        close(fold, state, offset)

    Fold.close = wrongly  # type: ignore[method-assign]


class Nursery:
    """Forks workers and tells of their ends."""

    def __init__(self) -> None:
        self._orders: dict[int, int] = {}

    def live(self) -> None:
        """Obey until the input ends."""
        unread = b""
        while True:
            if select.select([0], [], [], _LOOK_S)[0]:
                chunk = os.read(0, 65_536)
                if not chunk:
                    return
                *lines, unread = (unread + chunk).split(b"\n")
                for line in lines:
                    self._obey(line.decode().split())
            self._tell_ended()

    def _obey(self, words: list[str]) -> None:
        if words[0] == "spawn":
            self._spawn(*words[1:])
        elif (orders := self._orders.get(int(words[1]))) is not None:
            with suppress(BrokenPipeError):  # it has just ended
                os.write(orders, f"{' '.join(words[2:])}\n".encode())

    def _spawn(self, errors: str, config: str, roles: str, *words: str) -> None:
        theirs, ours = os.pipe()
        pid = os.fork()
        if pid == 0:
            # A worker that kept the orders of others open would keep them alive.
            for other in (*self._orders.values(), ours):
                os.close(other)
            code = 1
            try:
                code = work(theirs, Path(errors), Path(config), roles, list(words))
            finally:
                os._exit(code)
        os.close(theirs)
        self._orders[pid] = ours
        print(f"born {pid}", flush=True)

    def _tell_ended(self) -> None:
        while self._orders:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            os.close(self._orders.pop(pid))
            print(f"ended {pid} {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    print("ready", flush=True)
    Nursery().live()
