"""Small things that tests of the log need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mode import Service

from tailrace.streams.log import Outgoing, RecordBatch, Sink, Source, TopicPartition

WAIT_S = 20.0
S = TypeVar("S", bound=Service)


@asynccontextmanager
async def running(service: S) -> AsyncIterator[S]:
    """Start a service and stop it at the end."""
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def until(condition: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """Wait for a condition that other tasks bring about."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is told by nobody
            await asyncio.sleep(0.005)


def outgoing(*values: str) -> list[Outgoing]:
    return [Outgoing(None, value.encode()) for value in values]


async def send(sink: Sink, topic: str, *values: str, partition: int = 0) -> list[int]:
    """Send values and wait for their offsets."""
    async with asyncio.timeout(WAIT_S):
        return list(await (await sink.send(TopicPartition(topic, partition), outgoing(*values))))


@dataclass
class Inbox:
    """Collects batches; completes them at once unless told otherwise."""

    completes: bool = True
    batches: list[RecordBatch] = field(default_factory=list)
    source: Source | None = None

    async def __call__(self, batch: RecordBatch) -> None:
        self.batches.append(batch)
        if self.completes and self.source is not None:
            self.source.complete(batch)

    @property
    def values(self) -> list[str]:
        return [(record.value or b"").decode() for batch in self.batches for record in batch.records]
