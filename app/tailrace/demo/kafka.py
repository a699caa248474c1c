"""An Apache Kafka of the demo's own, from deploy/kafka: one broker in the demo's folder, stopped with the demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

import tailrace
from tailrace.domain.errors import LogUnavailable

LAUNCHER: Final = Path(tailrace.__file__).resolve().parents[2] / "deploy" / "kafka" / "launch.py"
STOP_S: Final = 25.0

_NO_LAUNCHER: Final = (
    "Apache Kafka is started from deploy/kafka of Tailrace's repository, which an installed package does not hold; "
    "run `make demo ARGS=--kafka` in a clone, or name a broker of yours with --bootstrap HOST:PORT"
)


class Broker:
    """One broker; `start` it, then `stop` it.

    Attributes:
        folder: Its data; a second start in it has the same address.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: Process | None = None

    async def start(self) -> str:
        """Start it and return its address once it answers. The first start ever fetches it with Maven.

        Raises:
            LogUnavailable: Java or Maven is missing, or Kafka did not come up.
        """
        if not LAUNCHER.is_file():
            raise LogUnavailable(_NO_LAUNCHER)
        # A session of its own: Ctrl-C is for the demo, which still needs the broker to end in order.
        # It also ends when its standard input does, that is, when this process is gone.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(LAUNCHER),
            "run",
            "--dir",
            str(self.folder),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.startswith(b"bootstrap="):
                return line.decode().strip().removeprefix("bootstrap=")
        raise LogUnavailable(await self._why())

    async def stop(self) -> None:
        """Stop it in order; by force when that takes too long."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it at once: the broker dies with its launcher."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def _why(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        said = (await self._process.stderr.read()).decode("utf-8", "replace").strip().splitlines()
        await self._process.wait()
        reason = said[-1] if said else "Apache Kafka did not start"
        return f"{reason}; or name a broker of yours with --bootstrap HOST:PORT"
