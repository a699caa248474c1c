"""An opened log to look at, and the few ways in which the other modules read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tailrace.domain.errors import LogError, LogUnavailable
from tailrace.domain.times import rfc3339_of
from tailrace.opening import open_log
from tailrace.settings import Settings
from tailrace.streams.log import Admin, Commit, Log, Range, Reader, Record, Sink, TopicPartition

__all__ = ["REACH_WITHIN_S", "Reading", "ask", "is_there", "opened", "rfc3339_of"]

T = TypeVar("T")

REACH_WITHIN_S: Final = 5.0
"""How long a command waits for Kafka: a person waits with it."""


@dataclass(frozen=True)
class Reading:
    """A log that answers, and a reader of it."""

    settings: Settings
    log: Log
    reader: Reader
    _admin: list[Admin] = field(default_factory=list)

    @property
    def admin(self) -> Admin:
        """The admin client; opened at its first use, closed with the reading."""
        if not self._admin:
            self._admin.append(self.log.admin())
        return self._admin[0]

    async def ranges(self, topic: str) -> dict[TopicPartition, Range]:
        """Return what each partition of a topic holds.

        Raises:
            LogError: The topic does not exist.
        """
        count = await self.reader.partitions(topic)
        if not count:
            raise LogError(f"topic {topic} does not exist; {self._maker_of(topic)}")
        partitions = [TopicPartition(topic, number) for number in range(count)]
        return {partition: await self.reader.range_of(partition) for partition in partitions}

    def _maker_of(self, topic: str) -> str:
        loops = self.settings.loops.values()
        if any(topic in {loop.events.topic, loop.labels.topic} for loop in loops):
            return "create it, or let `tailrace topics apply --with-inputs --yes` do it"
        return "`tailrace topics apply --yes` creates the topics of this configuration"

    async def records(self, partition: TopicPartition, held: Range) -> AsyncIterator[Record]:
        """Yield the records of a range, in order."""
        if held.start >= held.end:
            return
        async for batch in self.reader.read(partition, *held):
            for record in batch:
                yield record

    async def first_record(self, partition: TopicPartition, held: Range) -> Record | None:
        """Return the record at the start of a range; None when nothing stands there."""
        only = Range(held.start, min(held.end, held.start + 1))
        found = [record async for record in self.records(partition, only)]
        return found[0] if found else None

    async def committed(self, group: str) -> Mapping[TopicPartition, Commit]:
        """Return what a group has committed; nothing when there is no such group."""
        return await self.reader.group_offsets(group)

    async def let_go(self) -> None:
        """Close the admin client if there is one."""
        while self._admin:
            await self._admin.pop().close()

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        """Open a producer for what a person sends by hand."""
        sink = self.log.sink("by hand")
        await sink.start()
        try:
            yield sink
        finally:
            await sink.stop()


def ask(settings: Settings, question: Callable[[Reading], Awaitable[T]], *, must_exist: bool = True) -> T:
    """Open the log, put one question to it, close it.

    Args:
        must_exist: Refuse an embedded log that is not there; False makes an empty one.

    Raises:
        LogUnavailable: The log does not answer, or is not there.
    """

    async def answer() -> T:
        async with opened(settings, must_exist=must_exist) as reading:
            return await question(reading)

    return asyncio.run(answer())


def is_there(settings: Settings) -> bool:
    """Return whether there may be a log: False for an embedded one that nobody has made yet."""
    folder = settings.log_folder
    try:
        return folder is None or (folder / "log.sqlite3").exists()
    except PermissionError:
        return True  # whoever opens it is told that it may not


@asynccontextmanager
async def opened(settings: Settings, *, must_exist: bool = True) -> AsyncIterator[Reading]:
    """Open the log for looking at it; see `ask`."""
    if must_exist and not is_there(settings):
        raise LogUnavailable(
            f"there is no log in {settings.log_folder} yet; `tailrace run` or `tailrace topics apply --yes` with this "
            "configuration makes it"
        )
    log = open_log(settings, reach_within_s=REACH_WITHIN_S)
    admin = log.admin()
    try:
        await admin.brokers()
        if not must_exist:
            await admin.describe(())  # makes the embedded log
    finally:
        await admin.close()
    reading = Reading(settings, log, log.reader())
    await reading.reader.start()
    try:
        yield reading
    finally:
        await reading.reader.stop()
        await reading.let_go()
