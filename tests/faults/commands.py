"""`tailrace run` as people start it, watched from outside."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.log_forms import REPOSITORY
from tests.scenarios.harness import InVain


@dataclass
class Command:
    """One running `tailrace run`."""

    process: subprocess.Popen[bytes]
    errors: Path

    @classmethod
    def start(cls, config: Path, *arguments: str, name: str = "run") -> Command:
        """Start it; its standard error goes to a file beside the configuration."""
        errors = config.parent / f"{name}-{time.monotonic_ns()}.log"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "tailrace", "run", "--config", str(config), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=REPOSITORY,
            )
        return cls(process, errors)

    @property
    def said(self) -> str:
        """What it wrote to standard error so far."""
        return self.errors.read_text()

    def terminate(self) -> None:
        """SIGTERM it."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, within_s: float) -> tuple[int, float]:
        """Wait for its end; return the exit code and how long that took."""
        began_s = time.monotonic()
        while self.process.poll() is None:
            if time.monotonic() - began_s >= within_s:
                raise InVain(f"still running after {within_s} s:\n{self.said[-3_000:]}")
            await asyncio.sleep(0.01)
        return int(self.process.returncode), time.monotonic() - began_s

    def close(self) -> None:
        """End it if it still runs."""
        self.process.kill()
        self.process.wait()
