"""Measures a waiting room on disk: events of twenty features that wait for their labels, through a real join.

    python -m benchmarks.waiting_room [--events N] [--labels M] [--folder PATH]

Fills a partition of `scored` on an embedded log, runs `tailrace run --role join` over it with `join.store = "disk"`,
kills the process, starts it again, then sends labels of events in random order. Progress goes to stderr, the table to
stdout. Exit code: 0 when memory and restart keep their bounds, 1 when one does not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from benchmarks.examples import FEATURES, MODEL
from tailrace import opening
from tailrace.domain.blocks import ScoredBlock, Served, XColumns
from tailrace.settings import free_port, load
from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.wire.avro_codec import encode_scored

REPOSITORY = Path(__file__).resolve().parents[1]
LOOP = "bench"
ROWS = 500
"""Of one block of `scored`."""

MOST_EVENTS = 10_000_000
"""What is promised: 1.5 GB and a minute; a tenth of what may grow with the events at a tenth of them."""

STEP_MS = 5  # ten million events are 14 hours
_POLL_S = 0.05
_REST_S = 2.0
_LITTLE = 0.1


class Bounds(NamedTuple):
    """What memory and the time to restart must keep below."""

    most_bytes: float
    restart_s: float

    @classmethod
    def of(cls, events: int) -> Bounds:
        """Return the bounds for so many events that wait."""
        return cls(400e6 + 110 * events, 20.0 + 4e-6 * events)


class Ran(NamedTuple):
    """What one process came to."""

    seconds: float
    most_bytes: int


def main() -> int:
    """Run it; return the exit code."""
    asked = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="tailrace-waiting-", dir=asked.folder))
    try:
        return _measure(folder, asked.events, asked.labels)
    finally:
        shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting_room", description="A waiting room on disk.")
    parser.add_argument("--events", type=int, default=MOST_EVENTS, help="events that wait (default 10,000,000)")
    parser.add_argument("--labels", type=int, default=200_000, help="labels sent at the end, in random order")
    parser.add_argument("--folder", type=Path, help="where everything is written, and removed at the end")
    return parser.parse_args()


def _measure(folder: Path, events: int, labels: int) -> int:
    config = write_config(folder)
    begin_ms = time.time_ns() // 1_000_000 - events * STEP_MS
    tailrace(config, "topics", "apply", "--yes")
    say(f"writing {events:,} scored events")
    asyncio.run(fill(config, events, begin_ms))
    say("a join takes them in")
    filled = _run(config, lambda worker: worker.waits_for(events), signal.SIGKILL)
    say(f"{filled.seconds:.1f} s, {filled.most_bytes / 1e6:,.0f} MB; killed, and started again")
    again = _run(config, lambda worker: (worker.is_ready(), worker.waits_for(events)), signal.SIGKILL)
    say(f"{again.seconds:.1f} s, {again.most_bytes / 1e6:,.0f} MB; {labels:,} labels")
    joined = _label(config, events, min(labels, events // 2), begin_ms)
    bounds = Bounds.of(events)
    disk = sum(file.stat().st_size for file in (folder / "waiting").rglob("*") if file.is_file())
    _print(events, filled, again, joined, min(labels, events // 2), disk)
    most = max(filled.most_bytes, again.most_bytes, joined.most_bytes)
    return int(most > bounds.most_bytes or again.seconds > bounds.restart_s)


def _print(events: int, filled: Ran, again: Ran, joined: Ran, labels: int, disk: int) -> None:
    bounds = Bounds.of(events)
    most = f"{bounds.most_bytes / 1e6:,.0f} MB"
    rows = [
        ("events that wait", f"{events:,}", ""),
        ("taken in", f"{filled.seconds:,.1f} s, {events / filled.seconds:,.0f} a second", ""),
        ("most memory while taking in", f"{filled.most_bytes / 1e6:,.0f} MB", most),
        ("SIGKILL, start to ready", f"{again.seconds:.1f} s", f"{bounds.restart_s:.0f} s"),
        ("most memory after the restart", f"{again.most_bytes / 1e6:,.0f} MB", most),
        (
            "labels in random order",
            f"{labels:,} in {joined.seconds:.1f} s, {labels / joined.seconds:,.0f} a second",
            "",
        ),
        ("most memory while joining", f"{joined.most_bytes / 1e6:,.0f} MB", most),
        ("on disk", f"{disk / 1e9:.2f} GB", ""),
    ]
    print("| waiting room on disk | measured | bound |\n|---|---|---|")
    for name, measured, bound in rows:
        print(f"| {name} | {measured} | {bound} |")


def _label(config: Path, events: int, labels: int, begin_ms: int) -> Ran:
    """Send labels, start a join that has everything, and clock it from when it is ready to the last one joined."""
    rows = np.random.default_rng(1).permutation(events)[:labels].tolist()
    asyncio.run(_send_labels(config, rows, begin_ms))
    with Worker.started(config) as worker:
        worker.is_ready()
        begun = time.perf_counter()
        worker.waits_for(events - labels)
        return Ran(time.perf_counter() - begun, worker.most_bytes())


def _run(config: Path, until: Callable[[Worker], object], end: signal.Signals) -> Ran:
    begun = time.perf_counter()
    with Worker.started(config, end) as worker:
        until(worker)
        return Ran(time.perf_counter() - begun, worker.most_bytes())


class Worker:
    """A `tailrace run` in a process of its own."""

    def __init__(self, child: subprocess.Popen[bytes], address: str) -> None:
        self._child = child
        self._address = address

    @classmethod
    @contextmanager
    def started(
        cls, config: Path, end: signal.Signals = signal.SIGTERM, roles: Sequence[str] = ("join",)
    ) -> Iterator[Worker]:
        """Start it, and end it with this signal."""
        address = f"127.0.0.1:{free_port('127.0.0.1', 0)}"
        asked = [word for role in roles for word in ("--role", role)]
        command = ("run", *asked, "--http", address, "--log-level", "warning", "--config", str(config))
        with subprocess.Popen([sys.executable, "-m", "tailrace", *command], env=_environment()) as child:
            try:
                yield cls(child, address)
            finally:
                child.send_signal(end)
                child.wait()

    def waits_for(self, events: int) -> None:
        """Wait until so many events wait."""
        self._until(lambda: self.waiting() == events)

    def is_ready(self) -> None:
        """Wait until the process says that it is ready."""
        self._until(lambda: self._get("/readyz") is not None)

    def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            if self._child.poll() is not None:
                raise SystemExit(f"tailrace ended with {self._child.returncode}; its output is above")
            time.sleep(_POLL_S)

    def rests(self) -> None:
        """Wait until what taking in has left to do behind is done: the process uses little of a core."""
        used = self._cpu_s()
        while True:
            time.sleep(_REST_S)
            used, before = self._cpu_s(), used
            if used - before < _REST_S * _LITTLE:
                return

    def _cpu_s(self) -> float:
        words = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def waiting(self) -> int | None:
        """Return how many events wait; None before the process answers."""
        for line in (self._get("/metrics") or "").splitlines():
            if line.startswith("tailrace_join_waiting_events{"):
                return int(float(line.rpartition(" ")[2]))
        return None

    def most_bytes(self) -> int:
        """Return the greatest resident size that the process ever had."""
        status = Path(f"/proc/{self._child.pid}/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=30.0) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return None


async def fill(config: Path, events: int, begin_ms: int) -> None:
    rng = np.random.default_rng(1)
    await _send(config, f"{LOOP}.scored", (encode_scored(_block(rng, at, begin_ms)) for at in range(0, events, ROWS)))


async def _send_labels(config: Path, rows: Sequence[int], begin_ms: int) -> None:
    # In time for the oldest event too: no horizon has passed.
    made = (orjson.dumps({"id": id_of(row), "at": begin_ms + row * STEP_MS, "y": row % 2 == 0}) for row in rows)
    await _send(config, "labels", (bytes(memoryview(value)) for value in made))


async def _send(config: Path, topic: str, values: Iterator[bytes]) -> None:
    sink = opening.open_log(load(config)).sink("benchmark")
    await sink.start()
    waiting = []
    for value in values:
        waiting.append(await sink.send(TopicPartition(topic, 0), [Outgoing(None, value)]))
        if len(waiting) == 200:
            for delivery in waiting:
                await delivery
            waiting.clear()
    for delivery in waiting:
        await delivery
    await sink.stop()


def _block(rng: np.random.Generator, first: int, begin_ms: int) -> ScoredBlock:
    proba = rng.uniform(size=(ROWS, 1))
    return ScoredBlock(
        contract_id="contract",
        log_id="log",
        model="champion",
        version="lineage",
        state_position=first << 20,
        source_partition=0,
        source_offsets=np.arange(first, first + ROWS),
        ids=[id_of(row) for row in range(first, first + ROWS)],
        times_ms=begin_ms + np.arange(first, first + ROWS) * STEP_MS,
        served=Served((proba[:, 0] > 0.5).astype(np.float64), proba),
        x=XColumns(
            rng.normal(size=(ROWS, len(FEATURES))), np.empty((ROWS, 0), dtype=np.int64), [()] * ROWS
        ),
    )  # fmt: skip


def id_of(row: int) -> str:
    return f"order-{row * 7_919 % 1_000_000_007:010}"


def write_config(folder: Path) -> Path:
    features = "\n".join(f'{name} = "number"' for name in FEATURES)
    path = folder / "tailrace.toml"
    path.write_text(
        f"""log = "embedded:./log"
http = ""

[loops.{LOOP}]
task = "binary"
events = {{ topic = "events", id = "id", time = "at" }}
labels = {{ topic = "labels", id = "id", target = "y", time = "at" }}
horizon = "48h"

[loops.{LOOP}.join]
store = "disk"

[loops.{LOOP}.features]
{features}

[loops.{LOOP}.champion]
model = "{MODEL}"

[snapshots]
store = "file:./snapshots"
"""
    )
    return path


def tailrace(config: Path, *command: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "tailrace", *command, "--config", str(config)],
        check=True,
        env=_environment(),
        stdout=sys.stderr,
    )


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "app")])}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
