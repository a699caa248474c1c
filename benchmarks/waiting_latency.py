"""Measures what a large waiting room costs scoring: prediction latency with an empty one and with a full one.

    python -m benchmarks.waiting_latency [--events N] [--rounds R] [--seconds S] [--folder PATH]

One process with all roles on an embedded log, `join.store = "disk"`. Each round sends the same traffic twice, events
with a label each: once with nothing else waiting, once with N events waiting, where the labels belong to waiting
events in random order. Latency is from an event's append to its prediction seen. Exit code: 1 when the median over
the rounds of p99 full / p99 empty is above the bound.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import orjson

from benchmarks.examples import FEATURES
from benchmarks.waiting_room import LOOP, STEP_MS, Worker, fill, id_of, say, tailrace, write_config
from tailrace import opening
from tailrace.settings import load
from tailrace.streams.log import Outgoing, Sink, TopicPartition

MOST_RATIO = 1.5

_PACE_S = 0.005
_WARM_UP_S = 3.0


def main() -> int:
    """Run it; return the exit code."""
    asked = _arguments()
    ratios = []
    for number in range(1, asked.rounds + 1):
        empty = _measure(asked.folder, 0, asked.seconds)
        full = _measure(asked.folder, asked.events, asked.seconds)
        ratios.append(full[1] / empty[1])
        say(f"round {number}: p50, p99 in ms: empty {_ms(empty)}, full {_ms(full)}, p99 ratio {ratios[-1]:.2f}")
    print(f"p99 with {asked.events:,} events waiting / p99 with none: {median(ratios):.2f}, bound {MOST_RATIO}")
    return int(median(ratios) > MOST_RATIO)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting_latency")
    parser.add_argument("--events", type=int, default=1_000_000, help="events that wait (default 1,000,000)")
    parser.add_argument("--rounds", type=int, default=3, help="the median of their ratios counts (default 3)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of traffic (default 20)")
    parser.add_argument("--folder", type=Path, help="where everything is written, and removed at the end")
    return parser.parse_args()


def _ms(latency: tuple[float, float]) -> str:
    return ", ".join(f"{1000 * seconds:.1f}" for seconds in latency)


def _measure(under: Path | None, events: int, seconds: float) -> tuple[float, float]:
    """Return p50 and p99 in seconds, of a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="tailrace-latency-", dir=under))
    try:
        config = write_config(folder)
        begin_ms = time.time_ns() // 1_000_000 - (events + 1) * STEP_MS
        tailrace(config, "topics", "apply", "--yes")
        if events:
            asyncio.run(fill(config, events, begin_ms))
        with Worker.started(config, signal.SIGTERM, roles=("score", "join", "learn")) as worker:
            worker.is_ready()
            worker.waits_for(events)
            worker.rests()
            return asyncio.run(_Traffic(config, events, begin_ms).run(seconds))
    finally:
        shutil.rmtree(folder)


class _Traffic:
    """Events with a label each, at one pace, and the eyes that see their predictions."""

    def __init__(self, config: Path, events: int, begin_ms: int) -> None:
        self._log = opening.open_log(load(config))
        self._waiting = np.random.default_rng(1).permutation(events).tolist()
        self._begin_ms = begin_ms
        self._sent_s: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}

    async def run(self, seconds: float) -> tuple[float, float]:
        """Send for so long; return p50 and p99."""
        sink, reader = self._log.sink("benchmark"), self._log.reader()
        await sink.start()
        await reader.start()
        seeing = asyncio.ensure_future(self._see(reader))
        begun_s = time.perf_counter()
        while time.perf_counter() - begun_s < _WARM_UP_S + seconds:
            await self._send(sink, len(self._sent_s))
            await asyncio.sleep(_PACE_S)
        async with asyncio.timeout(60.0):
            while len(self._seen_s) < len(self._sent_s):  # noqa: ASYNC110 - the topic is what tells
                await asyncio.sleep(0.1)
        seeing.cancel()
        await sink.stop()
        await reader.stop()
        found = [self._seen_s[name] - at_s for name, at_s in self._sent_s.items() if at_s > begun_s + _WARM_UP_S]
        p50, p99 = np.quantile(found, [0.5, 0.99]).tolist()
        return p50, p99

    async def _send(self, sink: Sink, number: int) -> None:
        name, at_ms = f"new-{number}", time.time_ns() // 1_000_000
        x = dict(zip(FEATURES, np.random.default_rng(number).normal(size=len(FEATURES)).tolist(), strict=True))
        self._sent_s[name] = time.perf_counter()
        await sink.send(TopicPartition("events", 0), [Outgoing(None, orjson.dumps({"id": name, "at": at_ms, **x}))])
        label = {"id": name, "at": at_ms, "y": number % 2 == 0}
        if self._waiting:
            row = self._waiting.pop()
            label |= {"id": id_of(row), "at": self._begin_ms + row * STEP_MS}
        await sink.send(TopicPartition("labels", 0), [Outgoing(None, orjson.dumps(label))])

    async def _see(self, reader: object) -> None:
        async for records in reader.follow(TopicPartition(f"{LOOP}.predictions", 0), 0):  # type: ignore[attr-defined]
            now_s = time.perf_counter()
            for record in records:
                self._seen_s.setdefault(orjson.loads(record.value)["event_id"], now_s)


if __name__ == "__main__":
    sys.exit(main())
