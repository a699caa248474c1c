"""The processes of a series: workers that are made ready ahead of time, and the one that folds the log again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.log_forms import REPOSITORY

READY_S = 60.0


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


@dataclass
class Worker:
    """One worker process.

    Attributes:
        died_s: When its end was seen, on the monotonic clock.
    """

    process: subprocess.Popen[str]
    errors: Path
    died_s: float = 0.0

    @classmethod
    def spawn(cls, config: Path, roles: Sequence[str], hash_seed: int, errors: Path) -> Worker:
        """Start a process that imports everything and waits for `go`."""
        arguments = (str(config), ",".join(roles))
        return cls(spawn("tests.kafka.kill.worker", *arguments, hash_seed=hash_seed, errors=errors), errors)

    async def go(self) -> None:
        """Let it start; returns at once when it was made ready long enough ago."""
        assert self.process.stdout is not None
        said = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), READY_S)
        assert said == "ready\n", f"a worker did not come up; see {self.errors}:\n{self.tail()}"
        self.tell("go")

    def arm(self, name: str, count: int) -> None:
        """Have it kill itself at a place."""
        self.tell(f"arm {name} {count}")

    def tell(self, line: str) -> None:
        """Give it one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()

    async def end(self, within_s: float) -> int:
        """Wait until it has ended; return its exit code, negative for a signal."""
        end_s = time.monotonic() + within_s
        while self.process.poll() is None:
            assert time.monotonic() < end_s, f"a worker did not end within {within_s} s:\n{self.tail()}"
            await asyncio.sleep(0.005)
        self.died_s = time.monotonic()
        self.close()
        return int(self.process.returncode)

    def close(self) -> None:
        """End it if it runs, and close its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def tail(self) -> str:
        """Return the last lines it wrote."""
        return "".join(self.errors.read_text().splitlines(keepends=True)[-25:]) if self.errors.exists() else ""


@dataclass
class Fleet:
    """The workers of one loop: one process, or one for each role.

    Attributes:
        teams: The roles of each process.
    """

    config: Path
    teams: Sequence[tuple[str, ...]]
    rng: Random
    folder: Path
    running: dict[tuple[str, ...], Worker] = field(default_factory=dict)
    _ready: dict[tuple[str, ...], Worker] = field(default_factory=dict)
    _made: int = 0

    def prepare(self, team: tuple[str, ...]) -> Worker:
        """Return the process that comes next for a team, made ready in the meantime."""
        if team not in self._ready:
            self._made += 1
            errors = self.folder / f"worker-{self._made:03d}-{'-'.join(team)}.log"
            self._ready[team] = Worker.spawn(self.config, team, self.rng.randrange(1, 1 << 30), errors)
        return self._ready[team]

    async def start(self, team: tuple[str, ...], armed: tuple[str, int] | None = None) -> Worker:
        """Start the next process of a team, and make ready the one after it."""
        worker = self.prepare(team)
        if armed is not None:
            worker.arm(*armed)
        await worker.go()
        del self._ready[team]
        self.running[team] = worker
        self.prepare(team)
        return worker

    async def start_all(self) -> None:
        """Start every team."""
        for team in self.teams:
            self.prepare(team)
        for team in self.teams:
            await self.start(team)

    async def kill(self, team: tuple[str, ...]) -> Worker:
        """SIGKILL the process of a team and wait for its end."""
        worker = self.running.pop(team)
        worker.kill()
        assert await worker.end(10.0) == -signal.SIGKILL
        return worker

    def complain_of_the_dead(self) -> None:
        """Fail when a process has ended that nobody killed."""
        for team, worker in self.running.items():
            assert worker.is_alive, f"{team} ended with {worker.process.returncode}:\n{worker.tail()}"

    def close(self) -> None:
        """End every process."""
        for worker in (*self.running.values(), *self._ready.values()):
            worker.close()
        self.running.clear()
        self._ready.clear()


class Refolder:
    """Folds the log again, in another process with a hash seed of its own."""

    def __init__(self, config: Path, folder: Path, hash_seed: int = 4242) -> None:
        self._errors = folder / "refold.log"
        self._process = spawn("tests.kafka.kill.refold", str(config), hash_seed=hash_seed, errors=self._errors)

    async def fold(self, offset: int) -> dict[str, object]:
        """Return position and digest of a bare fold up to an offset of the log."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{offset}\n")
        answer = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), READY_S)
        assert answer, f"the log could not be folded again:\n{self._errors.read_text()}"
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
