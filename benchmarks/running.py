"""Runs one contender once: its processes, its topics, and what the runner itself sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.broker import REPOSITORY
from benchmarks.configuration import Loop
from benchmarks.environments import python_of
from benchmarks.lineup import Contender
from benchmarks.protocol import HANDLED, READY, Measured, Task
from benchmarks.topics import Inputs, Watcher, create, pour

_START_WITHIN_S = 90.0
_LAST_WITHIN_S = 30.0
_END_WITHIN_S = 30.0
_SETTLE_S = 6.0


class ContenderError(Exception):
    """A contender did not do what it was asked for; the message says what."""


@dataclass(frozen=True)
class Outcome:
    """What one run of one contender came to.

    Attributes:
        parts: Of each of its processes.
        written, unique: Predictions in the topic, and how many events they answer; None without Kafka.
        last_s: When the last prediction was written, by the broker's clock.
        learns: Whether it was to learn.
    """

    count: int
    parts: tuple[Measured, ...]
    written: int | None = None
    unique: int | None = None
    last_s: float = 0.0
    learns: bool = True

    @property
    def seconds(self) -> float:
        """From the first record to the last label learned and the last prediction written."""
        ended_s = max([self.last_s, *(part.ended_s for part in self.parts if self.learns or not self.last_s)])
        return ended_s - min(part.begun_s for part in self.parts)

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.count / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU an event, of all processes."""
        return sum(part.cpu_s for part in self.parts) / self.count * 1e6

    def cpu_us_of(self, part: int) -> float:
        """The same of one process."""
        return self.parts[part].cpu_s / self.count * 1e6

    @property
    def memory_bytes(self) -> int:
        """Of all processes, each at its greatest."""
        return sum(part.memory_bytes for part in self.parts)

    @property
    def log_loss(self) -> float | None:
        """Of the process that learns."""
        return next((part.log_loss for part in self.parts if part.log_loss is not None), None)

    @property
    def is_balanced(self) -> bool:
        """Whether every event was scored, learned and answered once."""
        scored, learned = sum(part.scored for part in self.parts), sum(part.learned for part in self.parts)
        is_answered = self.written is None or self.written == self.unique == self.count
        return scored == self.count and learned == (self.count if self.learns else 0) and is_answered


@dataclass
class Child:
    """A process that was started; its end is the caller's business."""

    process: asyncio.subprocess.Process

    async def says(self, what: str, within_s: float) -> None:
        """Wait for `{"is": what}`.

        Raises:
            ContenderError: It ended, said something else, or nothing.
        """
        plain = await self._line(within_s)
        if plain.get("is") != what:
            raise ContenderError(f"said {plain}, expected was {what}")

    async def told(self) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        with contextlib.suppress(ConnectionError):
            await self.process.stdin.drain()

    async def measured(self) -> Measured:
        """Wait for the result."""
        return Measured(**await self._line(_END_WITHIN_S))

    async def _line(self, within_s: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                while line := await self.process.stdout.readline():
                    if line.startswith(b"{"):
                        return json.loads(line)
        except TimeoutError:
            raise ContenderError(f"said nothing for {within_s:.0f} s") from None
        raise ContenderError(f"ended with {await self.process.wait()}; its output is above")


@contextlib.asynccontextmanager
async def started(python: str, module: str, task: Task) -> AsyncIterator[Child]:
    """Start a contender's process; it is gone at the end."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "app")])}
    process = await asyncio.create_subprocess_exec(
        python,
        "-m",
        f"benchmarks.contenders.{module}",
        task.text(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        cwd=task.folder,
    )
    try:
        yield Child(process)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_WITHIN_S):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(contender: Contender, bootstrap: str, inputs: Inputs, within_s: float) -> Outcome:
    """Run it once over topics that hold `inputs.count` examples.

    Raises:
        ContenderError: It failed or was too slow.
    """
    async with asyncio.timeout(within_s + _START_WITHIN_S + _LAST_WITHIN_S + 2 * _END_WITHIN_S):
        if not contender.uses_kafka:
            return await _in_memory(contender, inputs.count, within_s)
        with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
            return await (_ours if contender.parts else _peer)(contender, bootstrap, inputs, Path(folder), within_s)


async def _in_memory(contender: Contender, count: int, within_s: float) -> Outcome:
    task = Task(count=count, options=contender.options)
    async with started(python_of(contender.environment), contender.module, task) as child:
        await child.says(HANDLED, within_s + _START_WITHIN_S)
        return Outcome(count, (await child.measured(),))


async def _peer(contender: Contender, bootstrap: str, inputs: Inputs, folder: Path, within_s: float) -> Outcome:
    task = peer_task(bootstrap, inputs, folder)
    await create(bootstrap, task.predictions, broker_time=True)
    async with started(python_of(contender.environment), contender.module, task) as child, Watcher(bootstrap) as watch:
        await child.says(HANDLED, within_s + _START_WITHIN_S)
        await watch.holds(task.predictions, 1, inputs.count, _LAST_WITHIN_S)
        await child.told()
        measured = await child.measured()
        answers = await watch.answers(task.predictions, 1)
        unique = len(answers.ids)
        return Outcome(inputs.count, (measured,), answers.written, unique, answers.last_s, contender.learns)


def peer_task(bootstrap: str, inputs: Inputs, folder: Path, **more: Any) -> Task:
    """Return the task of a peer, with a group and a topic of predictions that nobody had before."""
    name = f"peer-{uuid4().hex[:8]}"
    task = Task(bootstrap, inputs.events, inputs.labels, f"{name}-predictions", name, inputs.count, str(folder))
    return replace(task, **more)


async def _ours(contender: Contender, bootstrap: str, inputs: Inputs, folder: Path, within_s: float) -> Outcome:
    name = f"bench_{uuid4().hex[:8]}"
    if contender.fills_late:
        inputs = replace(inputs, events=f"{name}-events", labels=f"{name}-labels")
        await create(bootstrap, inputs.events, inputs.labels, partitions=inputs.partitions)
    loop = Loop(bootstrap, name, inputs.events, inputs.labels, compiled=contender.compiled, **contender.loop)
    config = loop.write(folder)
    tasks = our_tasks(contender, config, inputs.count)
    async with contextlib.AsyncExitStack() as stack:
        python = python_of(contender.environment)
        children = [await stack.enter_async_context(started(python, contender.module, task)) for task in tasks]
        watch = await stack.enter_async_context(Watcher(bootstrap))
        for child in children:
            await child.says(READY, _START_WITHIN_S)
        for child in children:
            await child.told()
        if contender.fills_late:
            await asyncio.gather(*(child.says(READY, _START_WITHIN_S) for child in children))
            await asyncio.sleep(_SETTLE_S)  # the group gives every member its share
            await pour(bootstrap, inputs)
        else:
            await asyncio.gather(*(child.says(HANDLED, within_s + _START_WITHIN_S) for child in children))
        predictions = f"{name}.predictions"
        await watch.holds(predictions, inputs.partitions, inputs.count, within_s + _LAST_WITHIN_S)
        for child in children:
            await child.told()
        measured = tuple([await child.measured() for child in children])
        answers = await watch.answers(predictions, inputs.partitions)
        last_s = answers.last_s if contender.fills_late else 0.0
        return Outcome(inputs.count, measured, answers.written, len(answers.ids), last_s, contender.learns)


def our_tasks(contender: Contender, config: Path, count: int) -> list[Task]:
    """Return the task of each process of ours."""
    return [
        Task(
            count=count,
            folder=str(config.parent),
            options={
                "config": str(config),
                "roles": list(roles),
                "is_share": contender.fills_late,
                **contender.options,
            },
        )
        for roles in contender.parts
    ]
