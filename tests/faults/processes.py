"""The processes of a series: those that fork workers, the workers, and the one that folds the log again."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.in_use import in_use_of
from tests.log_forms import REPOSITORY
from tests.scenarios.harness import InVain

BORN_S = 180.0
FOLDED_S = 600.0  # of a million examples, on a machine that is busy


def spawn(module: str, *arguments: str, hash_seed: int, errors: Path) -> subprocess.Popen[str]:
    """Start a Python module with a hash seed of its own; its standard error goes to a file."""
    with errors.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            bufsize=1,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        )


class Nursery:
    """A process that forks workers; all of them have its hash seed."""

    def __init__(self, hash_seed: int, errors: Path) -> None:
        self.codes: dict[int, int] = {}
        self._errors = errors
        self._born: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._process = spawn("tests.faults.worker", hash_seed=hash_seed, errors=errors)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    async def worker(self, config: Path, roles: Sequence[str], errors: Path, words: Sequence[str]) -> Worker:
        """Start a worker."""
        self.tell("spawn", str(errors), str(config), ",".join(roles), *words)
        pid = await asyncio.to_thread(self._born.get, timeout=BORN_S)
        return Worker(self, pid, errors)

    def tell(self, *words: str) -> None:
        """Give it one order."""
        assert self._process.stdin is not None
        assert self._process.poll() is None, self._errors.read_text()
        self._process.stdin.write(" ".join(words) + "\n")

    def close(self) -> None:
        """End it and with it every worker."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._listener.join()
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, *numbers = line.split()
            if word == "born":
                self._born.put(int(numbers[0]))
            elif word == "ended":
                self.codes[int(numbers[0])] = int(numbers[1])


@dataclass
class Worker:
    """One worker process."""

    nursery: Nursery
    pid: int
    errors: Path

    def arm(self, name: str, count: int) -> None:
        """Have it kill itself at a place, or stop itself (SIGSTOP) where `count` is negative."""
        self.nursery.tell("arm", str(self.pid), name, str(count))

    def set_clock_off(self, offset_ms: int) -> None:
        """Set its wall clock this far ahead of the machine's, or behind."""
        self.arm("clock", offset_ms)

    def sweep(self) -> None:
        """Have it give back the memory that it does not use, as it does by itself once a minute, and tell `in_use`."""
        in_use_of(self.errors).unlink(missing_ok=True)
        self.arm("sweep", 0)

    def in_use(self) -> tuple[int, int]:
        """Return the bytes that it held when it swept last, and how many partitions it joined; it has told by now."""
        held, joined = in_use_of(self.errors).read_text().split()
        return int(held), int(joined)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.pid not in self.nursery.codes

    def kill(self) -> None:
        """SIGKILL it."""
        self.signal(signal.SIGKILL)

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, as the kernel has it."""
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.is_alive:
            with suppress(ProcessLookupError):  # It has ended; its nursery has not told yet.
                os.kill(self.pid, number)

    async def end(self, within_s: float) -> int:
        """Wait until it has ended; return its exit code, negative for a signal."""
        end_s = time.monotonic() + within_s
        while self.is_alive:
            if time.monotonic() >= end_s:
                raise InVain(f"a worker did not end within {within_s} s:\n{self.tail()}")
            await asyncio.sleep(0.005)
        return self.nursery.codes[self.pid]

    @property
    def said(self) -> str:
        """What it wrote so far; it opens its file a moment after it is born."""
        return self.errors.read_text() if self.errors.exists() else ""

    def tail(self) -> str:
        """Return the last lines it wrote."""
        return "".join(self.said.splitlines(keepends=True)[-25:])


class Fleet:
    """The workers of one loop, each with a name.

    Args:
        teams: The roles of each worker, by its name.

    Attributes:
        options: What a worker is besides, by its name: words `WHAT=VALUE` as `tests.faults.worker` takes them.
    """

    def __init__(self, config: Path, teams: Mapping[str, Sequence[str]], rng: Random, folder: Path) -> None:
        self.running: dict[str, Worker] = {}
        self.logs: list[Path] = []
        self.options: dict[str, Sequence[str]] = {}
        self._config = config
        self._teams = dict(teams)
        self._folder = folder
        # Workers take turns between two hash seeds, so that each goes on from what another seed has written.
        self._nurseries = [Nursery(rng.randrange(1, 1 << 30), folder / f"nursery-{n}.log") for n in range(2)]

    async def start(self, name: str, armed: Sequence[str] = (), *, config: Path | None = None) -> Worker:
        """Start the next process of a name; with a configuration of its own, if that is given."""
        made = len(self.logs) + 1
        errors = self._folder / f"worker-{made:03d}-{name}.log"
        self.logs.append(errors)
        words = (*self.options.get(name, ()), *armed)
        worker = await self._nurseries[made % 2].worker(config or self._config, self._teams[name], errors, words)
        self.running[name] = worker
        return worker

    def enlist(self, name: str, roles: Sequence[str], *options: str) -> None:
        """Make a further worker known, which nothing but `start` starts before the next `start_all`."""
        self._teams[name] = roles
        self.options[name] = options

    async def start_all(self) -> None:
        """Start every worker that does not run."""
        for name in self._teams:
            if name not in self.running:
                await self.start(name)

    async def kill(self, name: str) -> None:
        """SIGKILL a worker and wait for its end."""
        worker = self.running.pop(name)
        worker.kill()
        assert await worker.end(10.0) == -signal.SIGKILL

    async def stop(self, name: str, within_s: float = 20.0) -> int:
        """SIGTERM a worker and wait for its end; return its exit code."""
        worker = self.running.pop(name)
        worker.signal(signal.SIGTERM)
        return await worker.end(within_s)

    def complain_of_the_dead(self) -> None:
        """Fail when a process has ended that nobody killed."""
        for name, worker in self.running.items():
            assert worker.is_alive, f"{name} ended with {worker.nursery.codes[worker.pid]}:\n{worker.tail()}"

    def close(self) -> None:
        """End every process."""
        for worker in self.running.values():
            worker.kill()
        for nursery in self._nurseries:
            nursery.close()


class Refolder:
    """Folds the log again, in another process with a hash seed of its own."""

    def __init__(self, config: Path, folder: Path, hash_seed: int = 4242) -> None:
        self._errors = folder / "refold.log"
        self._process = spawn("tests.faults.refold", str(config), hash_seed=hash_seed, errors=self._errors)

    async def fold(self, offset: int, at: Iterable[int] = ()) -> dict[str, Any]:
        """Return what a bare fold up to an offset of the log comes to, as `tests.faults.refold` says it.

        Args:
            at: Offsets on the way of which the digest is asked for too.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{offset} {' '.join(map(str, at))}\n")
        answer = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), FOLDED_S)
        assert answer, f"the log could not be folded again:\n{self._errors.read_text()}"
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
