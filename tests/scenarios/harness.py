"""Runs whole flows: a process in this event loop, a user who produces events and labels, and a reader of the topics.

A scenario is a story of what the user sends and what happens to the process; the checks read topics and stores only.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.log_forms import LogForm

from tailrace import settings as loading
from tailrace.domain.status import Role
from tailrace.main import ALL_ROLES, LoopDomain, Process, RunningLoop
from tailrace.main.composition import Composition, Member
from tailrace.settings import Settings
from tailrace.streams.followers import Models
from tailrace.streams.log import Log, Outgoing, Record, Sink, TopicPartition, TopicState
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import ProcessRecorder, Recorder
from tailrace.wire.partitioner import partitions_of
from tailrace.wire.topics import topics_of

WAIT_S = 30.0
FEATURES = {"a": "number", "b": "number"}


def write_config(folder: Path, form: LogForm, **changes: Any) -> Path:
    """Write a tailrace.toml for one loop named `loop_<prefix>`.

    Args:
        changes: They replace values of the loop; `kafka`, `snapshots`, `http` and `api` those of the file.
    """
    name = form.prefix.replace(".", "_").lower()
    loop: dict[str, Any] = {
        "task": "binary",
        "horizon": "1h",
        "events": {"topic": form.topic("events"), "id": "id", "time": "at"},
        "labels": {"topic": form.topic("labels"), "id": "id", "target": "y", "time": "at"},
        "features": FEATURES,
        "champion": {"model": "StandardScaler() | LogisticRegression()", "compiled": "never"},
    }
    snapshots = {"store": "file:./snapshots"} | changes.pop("snapshots", {"every": "1s", "publish": "200ms"})
    kafka = {"session_timeout": "2s"} | changes.pop("kafka", {})
    http, api = changes.pop("http", ""), changes.pop("api", {})
    loop.update(changes)
    lines = [f'log = "{form.address}"', f'http = "{http}"']
    lines += ["[api]", *(f"{key} = {_toml(value)}" for key, value in api.items())] if api else []
    lines += ["[kafka]", *(f"{key} = {_toml(value)}" for key, value in kafka.items())]
    lines += [
        "[snapshots]",
        *(f"{key} = {_toml(value)}" for key, value in snapshots.items()),
    ]
    lines.append(f"[loops.{name}]")
    lines += [f"{key} = {_toml(value)}" for key, value in loop.items()]
    path = folder / "tailrace.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return orjson.dumps(value).decode() if isinstance(value, str) else str(value)


def _key(key: str) -> str:
    return orjson.dumps(key).decode()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a size as `mount` reads it; skip where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill_disk(path: Path) -> None:
    """Write a file for as long as there is space."""
    with path.open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(bytes(4_096)):
            pass


@dataclass
class User:
    """Produces events and labels, and reads what everyone may read."""

    log: Log
    domain: LoopDomain
    partitions: int
    sink: Sink
    sent: int = 0

    async def events(self, *events: dict[str, Any], partition: int | None = None) -> list[int]:
        """Send events, spread over the partitions in turn; return their offsets."""
        offsets = []
        lines: dict[int, list[Outgoing]] = {}
        for event in events:
            at = self.sent % self.partitions if partition is None else partition
            self.sent += 1
            lines.setdefault(at, []).append(Outgoing(None, orjson.dumps(event)))
        for at, outgoing in lines.items():
            offsets += await (await self.sink.send(TopicPartition(self.domain.topics.events, at), outgoing))
        return offsets

    async def labels(self, *labels: dict[str, Any], partition: int | None = None) -> None:
        """Send labels, keyed by event id with Kafka's default partitioner."""
        keys = [str(label["id"]).encode() for label in labels]
        homes = partitions_of(keys, self.partitions) if partition is None else [partition] * len(keys)
        lines: dict[int, list[Outgoing]] = {}
        for key, home, label in zip(keys, homes, labels, strict=True):
            lines.setdefault(home, []).append(Outgoing(key, orjson.dumps(label)))
        for at, outgoing in lines.items():
            await (await self.sink.send(TopicPartition(self.domain.topics.labels, at), outgoing))

    def home(self, id_: str) -> int:
        """Return the partition of an event id."""
        return partitions_of([id_.encode()], self.partitions)[0]

    async def raw(self, topic: str, partition: int, *records: Outgoing) -> list[int]:
        """Send records as they are."""
        return list(await (await self.sink.send(TopicPartition(topic, partition), list(records))))

    async def read(self, topic: str) -> list[Record]:
        """Return everything that a topic holds now."""
        found: list[Record] = []
        async with running(self.log.reader()) as reader:
            for partition in range(await reader.partitions(topic)):
                held = await reader.range_of(TopicPartition(topic, partition))
                if held.start < held.end:
                    async for batch in reader.read(TopicPartition(topic, partition), held.start, held.end):
                        found += batch
        return found

    async def predictions(self) -> list[dict[str, Any]]:
        """Return the predictions."""
        return [orjson.loads(record.value or b"") for record in await self.read(self.domain.topics.predictions)]


@asynccontextmanager
async def running(service: Any) -> AsyncIterator[Any]:
    """Start a service, and stop it."""
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def now_ms() -> int:
    """Return the wall clock, as a producer would."""
    return time.time_ns() // 1_000_000


class InVain(AssertionError):
    """Something that was waited for did not come in time: what runs is stuck, or the machine was too busy for it."""


async def until(done: Callable[[], Any], what: str, seconds: float = WAIT_S) -> None:
    """Wait until something holds, with a bound.

    Raises:
        InVain: It does not.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        found = done()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if loop.time() >= end:
            raise InVain(f"waited {seconds} s in vain until {what}")
        await asyncio.sleep(0.01)


@dataclass
class Scenario:
    """One loop on one form of the log."""

    form: LogForm
    config: Path
    settings: Settings
    domain: LoopDomain
    log: Log
    user: User
    processes: list[Process] = field(default_factory=list)

    @classmethod
    async def make(
        cls, form: LogForm, folder: Path, *, partitions: int = 2, replicas: int = 1, **changes: Any
    ) -> Scenario:
        """Write the configuration and create the topics."""
        config = write_config(folder, form, **changes)
        settings = loading.load(config)
        (name, loop) = next(iter(settings.loops.items()))
        domain = LoopDomain.of(name, loop, settings.folder)
        log = form.open()
        await create_topics(log, domain, partitions, replicas)
        sink = log.sink("user")
        await sink.start()
        return cls(form, config, settings, domain, log, User(log, domain, partitions, sink))

    async def start(self, roles: Iterable[Role] = ALL_ROLES, **options: Any) -> Process:
        """Start a process and wait until its roles run."""
        process = Process(self.settings, roles=tuple(roles), prepare_topics=False, **options)
        self.processes.append(process)
        await process.start()
        await until(lambda: is_ready(process), "the process is ready")
        return process

    async def stop(self, process: Process) -> None:
        """Stop a process in order."""
        self.processes.remove(process)
        await process.stop()

    async def close(self) -> None:
        """Stop whatever still runs."""
        for process in list(self.processes):
            await self.stop(process)
        await self.user.sink.stop()

    def loop_of(self, process: Process) -> RunningLoop:
        """Return what a process holds of the loop."""
        return process.loops[self.domain.name]

    def learned(self, process: Process) -> int:
        """Return how many examples the live state of a process has learned."""
        live = self.loop_of(process).models.live
        return 0 if live is None else live.champion.learned


def is_ready(process: Process) -> bool:
    """Tell whether every role of a process is ready, its models included."""
    checks = process.readiness()
    if not all(is_well for is_well, _ in checks.values()):
        return False
    for loop in process.loops.values():
        if loop.learn is not None and loop.reports[Role.LEARN].reason == "" and loop.models.live is None:
            return False
        if loop.score is not None and loop.models.current() is None:
            return False
    return True


async def create_topics(log: Log, domain: LoopDomain, partitions: int, replicas: int = 1) -> None:
    """Create every topic of a loop, the user's included."""
    not_replicated = {"min.insync.replicas"} if replicas == 1 else set()
    specs = topics_of(domain.name, domain.topics.events, domain.topics.labels, horizon_ms=domain.settings.horizon)
    wide = {spec.name for spec in specs if spec.partitions.of is not None or spec.is_users}
    admin = log.admin()
    await admin.create(
        TopicState(
            spec.name,
            partitions if spec.name in wide else 1,
            replicas,
            {} if spec.is_users else {e.name: e.value for e in spec.settings if e.name not in not_replicated},
        )
        for spec in specs
    )
    await admin.close()


def example_of(number: int, at_ms: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an event and its label, told apart by the sign of a - b."""
    a, b = (number * 37 % 100) / 50 - 1, (number * 61 % 100) / 50 - 1
    event = {"id": f"e{number}", "at": at_ms, "a": a, "b": b}
    return event, {"id": f"e{number}", "at": at_ms, "y": a > b}


def pairs(count: int, at_ms: int, first: int = 0) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
    """Return events and their labels, one millisecond apart."""
    made = [example_of(first + number, at_ms + number) for number in range(count)]
    return [event for event, _ in made], [label for _, label in made]


@asynccontextmanager
async def following(scenario: Scenario, member: str = "follower-1") -> AsyncIterator[RunningLoop]:
    """Run a follower of a loop beside its worker, in no group: the embedded log has one worker process."""
    opened = scenario.form.open()
    instruments = Instruments()
    loop = RunningLoop(scenario.domain, Models(), Recorder(instruments, scenario.domain.name))
    async with running(opened.reader()) as reader, AsyncExitStack() as stack:
        me = Member(member, (Role.FOLLOW,), scenario.settings, now_ms(), ProcessRecorder(instruments))
        composition = Composition(me, opened, reader, loop)
        await composition.make()
        for service in [*composition.before, loop.follow]:
            await stack.enter_async_context(running(service))
        yield loop
