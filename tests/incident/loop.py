"""A real loop on an embedded log: a worker process, and producers of events and labels that can be told to misbehave."""

from __future__ import annotations

import asyncio
import heapq
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from tailrace.demo import place
from tailrace.demo.feeder import FINE, PHISHING
from tailrace.demo.script import Script
from tailrace.inspection.reading import opened
from tailrace.settings import load
from tailrace.streams.log import Outgoing, Sink, TopicPartition, TopicState
from tailrace.wire.partitioner import partitions_of

EVENTS, LABELS, PARTITIONS = "pages", "verdicts", 4
TICK_S: Final = 0.05
STOP_WITHIN_S: Final = 20.0


class Worker:
    """One `tailrace run`, which may be stopped, frozen, and started with other roles."""

    def __init__(self, folder: Path, http: str) -> None:
        self._folder, self._http = folder, http
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "tailrace.toml").write_text(place.configuration(place.EMBEDDED, http))

    def start(self, *roles: str) -> None:
        """Start it; without roles it has all of them."""
        words = [sys.executable, "-m", "tailrace", "run", "--log-format", "json", *(f"--role={role}" for role in roles)]
        with (self._folder / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(words, cwd=self._folder, stdout=log, stderr=log, env=os.environ)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it as an operator would."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass
class Mood:
    """How the producers behave now.

    Attributes:
        rate_per_s: Events.
        garbage: Share of the events that are no JSON.
        delay_s: More that a label is late by.
        is_lying: Labels say the opposite.
    """

    rate_per_s: float = 120.0
    garbage: float = 0.0
    delay_s: float = 0.0
    is_lying: bool = False


class Producers(threading.Thread):
    """Sends events, and their labels when they are due, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="producers", daemon=True)
        self.mood = Mood()
        self.error: BaseException | None = None
        self._folder = folder
        self._ending = threading.Event()
        self._due: list[tuple[float, int, str, bool]] = []
        self._count = 0

    def run(self) -> None:
        """Send until told to end."""
        try:
            asyncio.run(self._send_on())
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """End it."""
        self._ending.set()
        if self.is_alive():
            self.join(STOP_WITHIN_S)

    async def _send_on(self) -> None:
        settings = load(self._folder / "tailrace.toml")
        script = Script(1, horizon_s=place.HORIZON_S)
        async with opened(settings, must_exist=False) as reading:
            await reading.admin.create([TopicState(name, PARTITIONS, 1) for name in (EVENTS, LABELS)])
            async with reading.sink() as sink:
                owed = 0.0
                while not self._ending.is_set():
                    owed += self.mood.rate_per_s * TICK_S
                    await self._send_events(sink, script, int(owed))
                    owed -= int(owed)
                    await self._send_labels(sink)
                    await asyncio.sleep(TICK_S)

    async def _send_events(self, sink: Sink, script: Script, count: int) -> None:
        records: list[tuple[str, bytes]] = []
        for _ in range(count):
            scene = script.next(has_drifted=False)
            event = orjson.dumps({"page_id": scene.page_id, "seen_at": _now_ms(), **scene.x})
            self._count += 1
            is_garbage = self._count % 100 < 100 * self.mood.garbage
            records += [(scene.page_id, event[:-1] if is_garbage else event)] * scene.times
            for verdict in () if is_garbage else scene.verdicts:
                at_s = time.monotonic() + verdict.delay_s + self.mood.delay_s
                heapq.heappush(self._due, (at_s, self._count, scene.page_id, verdict.is_phishing != self.mood.is_lying))
        await _send(sink, EVENTS, records)

    async def _send_labels(self, sink: Sink) -> None:
        records: list[tuple[str, bytes]] = []
        while self._due and self._due[0][0] <= time.monotonic():
            _, _, page_id, is_phishing = heapq.heappop(self._due)
            label = {"page_id": page_id, "verdict": PHISHING if is_phishing else FINE, "decided_at": _now_ms()}
            records.append((page_id, orjson.dumps(label)))
        await _send(sink, LABELS, records)


async def _send(sink: Sink, topic: str, records: list[tuple[str, bytes]]) -> None:
    by_partition: dict[int, list[Outgoing]] = {}
    keys = [key.encode() for key, _ in records]
    for key, partition, (_, value) in zip(keys, partitions_of(keys, PARTITIONS), records, strict=True):
        by_partition.setdefault(partition, []).append(Outgoing(key, value))
    for delivery in [
        await sink.send(TopicPartition(topic, partition), outgoing) for partition, outgoing in by_partition.items()
    ]:
        await delivery


def _now_ms() -> int:
    return int(time.time() * 1_000)  # noqa: TID251 - producers date what they send
