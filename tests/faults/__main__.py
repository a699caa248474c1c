"""Tries the faults and writes what they came to: `python -m tests.faults [--size ci|full] [--only F05 …] [--keep FOLDER]`.

Each runs in a process of its own, a few side by side, since most of a fault is waiting. One that waited in vain, took
too long or recovered too slowly is tried once more, with the machine for itself, and the table says so and both numbers:
what a busy machine delays is no fault of the loop. Whatever else goes wrong is final, a worker that ended by itself
included. Ends with 1 when one failed, or when recoveries took too long, and prints the line that runs it again.

With --keep FOLDER what was found stays there, by size and seed, and what has passed there is not tried again: after a mend
only what failed is, and the table says what it had failed by.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.faults.catalog import LANES, Fault, Size, load_cases
from tests.faults.table import BOUNDS_S, p99, too_slow, write_table
from tests.log_forms import REPOSITORY

FULL_FACTOR = 10.0
OUT = REPOSITORY / "benchmarks" / "faults.md"


@dataclass
class Running:
    """One fault that is being tried."""

    fault: Fault
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    out: Path
    deadline_s: float

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; until `kill` its number is not given to another."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def kill(self) -> None:
        """End it and whatever it started; its brokers end with it."""
        # It leads a group of its own, in which a worker that is stopped may be left when it has ended by itself.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Runner:
    """Tries faults, `lanes` at a time.

    Attributes:
        kept: How many of `found` had passed before.
    """

    def __init__(self, size: Size, seed: int, lanes: int, folder: Path) -> None:
        self.found: list[dict[str, Any]] = []
        self._size = size
        self._seed = seed
        self._lanes = lanes
        self._folder = folder
        self._running: list[Running] = []
        self._failed_before: dict[str, dict[str, Any]] = {}
        self.kept = 0

    def run(self, faults: Sequence[Fault]) -> None:
        """Try all of them; those that need much of the machine at the end, and then those that are tried again."""
        kept = {each.number: json.loads(self._out(each).read_text()) for each in faults if self._out(each).exists()}
        passed = [found for found in kept.values() if not found["failure"]]
        self._failed_before = {number: found for number, found in kept.items() if found["failure"]}
        self._try_all([each for each in faults if each.number not in {found["number"] for found in passed}])
        self.found += passed
        self.kept = len(passed)

    def _try_all(self, faults: Sequence[Fault]) -> None:
        # The longest first: nobody waits for one at the end.
        waiting = sorted(faults, key=lambda each: (-each.lanes, -each.limit_s))
        try:
            while waiting or self._running:
                while waiting and self._has_room_for(waiting[0]):
                    self._start(waiting.pop(0))
                self._collect()
            self._try_again(faults)
        finally:
            for running in self._running:
                running.kill()

    def _has_room_for(self, fault: Fault) -> bool:
        return len(self._running) < min([self._lanes, fault.lanes, *(each.fault.lanes for each in self._running)])

    def _try_alone(self, fault: Fault) -> None:
        self._start(fault)
        while self._running:
            self._collect()

    def _try_again(self, faults: Sequence[Fault]) -> None:
        for each in faults:
            before = next(found for found in self.found if found["number"] == each.number)
            reason = before["failure"] or too_slow(before)
            if reason and (before.get("in_vain") or not before["failure"]):
                self.found.remove(before)
                self._try_alone(each)
                self.found[-1] |= {"before": reason, "recoveries_before_s": before.get("recoveries_s", {})}
                self._out(each).write_text(json.dumps(self.found[-1]))

    def _out(self, fault: Fault) -> Path:
        return self._folder / f"{fault.number}.json"

    def _start(self, fault: Fault) -> None:
        out, log = self._out(fault), (self._folder / f"{fault.number}.log").open("wb")
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.faults.run", fault.number]
        command += ["--size", self._size, "--seed", str(self._seed), "--out", str(out)]
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        limit_s = fault.limit_s * (1.0 if self._size is Size.CI else FULL_FACTOR)
        self._running.append(Running(fault, process, log, out, time.monotonic() + limit_s))
        print(f"{fault.number} {fault.title} …", file=sys.stderr, flush=True)

    def _collect(self) -> None:
        time.sleep(0.1)
        for running in list(self._running):
            late = time.monotonic() > running.deadline_s
            if running.is_alive and not late:
                continue
            running.kill()
            running.log.close()
            self._running.remove(running)
            self._note(running, late=late)

    def _note(self, running: Running, *, late: bool) -> None:
        fault = running.fault
        if running.out.exists():
            found = json.loads(running.out.read_text())
        else:
            why = "it took too long" if late else f"its process ended with {running.process.returncode}"
            found = {"number": fault.number, "title": fault.title, "failure": why, "in_vain": late, "seconds": 0.0}
        if (before := self._failed_before.get(fault.number)) is not None:
            found["mended"] = before["failure"]
            running.out.write_text(json.dumps(found))
        self.found.append(found)
        word = f"FAILED: {found['failure']}" if found["failure"] else "passed"
        if found.get("skipped"):
            word = f"SKIPPED: {found['skipped']}"
        print(f"{fault.number} {word} ({found['seconds']:.0f} s)", file=sys.stderr, flush=True)
        if found["failure"]:
            sys.stderr.write((self._folder / f"{fault.number}.log").read_text(errors="replace")[-20_000:])
            again = f"python -m tests.faults.run {fault.number} --size {self._size} --seed {self._seed}"
            print(f"again: {again}", file=sys.stderr, flush=True)


def main() -> int:
    """Try the faults; return the exit code."""
    faults = load_cases()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.CI)
    parser.add_argument("--only", nargs="+", choices=list(faults), metavar="FAULT", default=list(faults))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=LANES, help="how many are tried at the same time")
    parser.add_argument("--out", type=Path, help=f"where the table goes; of all faults: {OUT.relative_to(REPOSITORY)}")
    parser.add_argument(
        "--keep", type=Path, help="where what was found stays; what has passed there is not tried again"
    )
    arguments = parser.parse_args()
    out = arguments.out or (OUT if set(arguments.only) == set(faults) else None)
    began_s = time.monotonic()
    # What was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="tailrace-faults-") as folder:
        kept = Path(folder) if arguments.keep is None else arguments.keep / f"{arguments.size}-{arguments.seed}"
        kept.mkdir(parents=True, exist_ok=True)
        runner = Runner(arguments.size, arguments.seed, arguments.lanes, kept)
        runner.run([faults[number] for number in arguments.only])
    found = sorted(runner.found, key=lambda each: str(each["number"]))
    if out is not None:
        write_table(out, found, arguments.size, arguments.seed, time.monotonic() - began_s, runner.kept)
    failed = [each["number"] for each in found if each["failure"]]
    slow = [kind for kind, bound_s in BOUNDS_S.items() if (p99(found, kind) or 0.0) > bound_s]
    for kind in slow:
        print(f"recovery p99 ({kind}) is {p99(found, kind):.1f} s, at most {BOUNDS_S[kind]:.0f} s", file=sys.stderr)
    skipped = sum(bool(each.get("skipped")) for each in found)
    passed = f"{len(found) - len(failed) - skipped} of {len(found)} faults passed, {skipped} skipped"
    print(f"{passed}; {out or 'no table is written of a part'}", file=sys.stderr)
    return 1 if failed or slow else 0


if __name__ == "__main__":
    sys.exit(main())
