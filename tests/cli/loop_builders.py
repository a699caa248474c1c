"""A loop that has run in this process and left its log, for commands that look at one."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from tests.settings.toml_builders import make_loop, make_toml

from tailrace import main
from tailrace.inspection.reading import opened
from tailrace.inspection.topics import applied
from tailrace.settings import Settings, load
from tailrace.streams.log import Outgoing, Reader, Sink, TopicPartition, TopicState
from tailrace.telemetry import logs
from tailrace.wire.partitioner import partitions_of

EVENTS = 60
PARTITIONS = 2
WITHIN_S = 30.0


@dataclass(frozen=True)
class RanLoop:
    """Where it ran, and what must have come of it.

    Attributes:
        learned: Labels that met their event.
    """

    folder: Path
    learned: int

    @property
    def settings(self) -> Settings:
        return load(self.folder / "tailrace.toml", environ={})


def write_config(folder: Path, log: str = "embedded:./data", name: str = "phishing") -> Path:
    """Write a configuration without HTTP whose snapshots come every second."""
    events = '{ topic = "NAME-pages", id = "page_id", time = "seen_at" }'.replace("NAME", name)
    labels = '{ topic = "NAME-verdicts", id = "page_id", target = "verdict", positive = "phishing" }'.replace(
        "NAME", name
    )
    champion = 'model = "StandardScaler() | LogisticRegression()"\ncompiled = "never"'
    loop = make_loop(name=name, events=events, labels=labels, champion=champion)
    file = folder / "tailrace.toml"
    file.write_text(make_toml(loop, log=log, top='http = ""', below='\n[snapshots]\nevery = "1s"\n'))
    return file


def run_a_loop(folder: Path, log: str = "embedded:./data", name: str = "phishing") -> RanLoop:
    """Run a worker until everything that was sent is learned, then stop it in order.

    60 events of which one is poison; labels for the first 40 but for the poison one, one of them conflicting later,
    one of them not JSON.
    """
    settings = load(write_config(folder, log, name), environ={})
    with logs_left_alone():
        logs.configure("critical")
        return RanLoop(folder, asyncio.run(_run(settings, name)))


def run_it_again(folder: Path, name: str = "phishing") -> None:
    """Run a worker on what a loop left until it has learned 60 more and published them, then stop it in order."""
    settings = load(folder / "tailrace.toml", environ={})
    with logs_left_alone():
        logs.configure("critical")
        asyncio.run(_run_again(settings, name))


@contextmanager
def logs_left_alone() -> Iterator[None]:
    """Give back what `telemetry.logs.configure` and commands that want quiet change: handlers, and levels of all loggers."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in list(root.manager.loggerDict)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in list(root.manager.loggerDict):
            logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
        logging.captureWarnings(False)
        structlog.reset_defaults()


async def _run(settings: Settings, name: str) -> int:
    async with opened(settings, must_exist=False) as reading:
        inputs = [f"{name}-pages", f"{name}-verdicts"]
        await reading.admin.create([TopicState(topic, PARTITIONS, 1) for topic in inputs])
        await applied(reading, name, settings.loops[name])
        process = main.Process(settings)
        await process.start()
        try:
            async with reading.sink() as sink:
                learned = await _feed(sink, name)
            await _until_learned(reading.reader, process, name, learned)
        finally:
            await process.stop()
    return learned


async def _run_again(settings: Settings, name: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with opened(settings) as reading, reading.sink() as sink, asyncio.timeout(WITHIN_S):
        process = main.Process(settings)
        await process.start()
        for index in range(100, 160):
            event = {"page_id": f"page-{index}", "seen_at": now_ms, "age": float(index % 7)}
            await _send(sink, f"{name}-pages", f"page-{index}", event)
            label = {"page_id": f"page-{index}", "verdict": "phishing" if index % 7 > 3 else "fine"}
            await _send(sink, f"{name}-verdicts", f"page-{index}", label)
        is_done = False
        while not is_done:
            await asyncio.sleep(0.05)
            counts = process.loops[name].recorder.counts if name in process.loops else {}
            is_done = counts.get("learned", 0) >= 60 and counts.get("publications", 0) >= 1
        await process.stop()


async def _feed(sink: Sink, name: str) -> int:
    now_ms = time.time_ns() // 1_000_000
    for index in range(EVENTS):
        age: object = "old" if index == 7 else float(index % 5)
        event = {"page_id": f"page-{index}", "seen_at": now_ms - EVENTS + index, "age": age}
        await _send(sink, f"{name}-pages", f"page-{index}", event)
    for index in range(40):
        if index != 7:
            label = {"page_id": f"page-{index}", "verdict": "phishing" if index % 5 > 2 else "fine"}
            await _send(sink, f"{name}-verdicts", f"page-{index}", label)
    await _send(sink, f"{name}-verdicts", "page-1", {"page_id": "page-1", "verdict": "phishing"})
    await _send(sink, f"{name}-verdicts", "page-2", "no object")
    return 39


async def _send(sink: Sink, topic: str, key: str, value: object) -> None:
    partition = partitions_of([key.encode()], PARTITIONS)[0]
    record = Outgoing(key.encode(), json.dumps(value).encode())
    await (await sink.send(TopicPartition(topic, partition), [record]))


async def _until_learned(reader: Reader, process: main.Process, name: str, learned: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            await asyncio.sleep(0.05)
            counts = process.loops[name].recorder.counts if name in process.loops else {}
            done = counts.get("learned", 0), counts.get("events_scored", 0) + counts.get("events_rejected", 0)
            if (learned, EVENTS) == done and counts.get("dead_letters", 0) == 3:
                return
