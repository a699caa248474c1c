"""What people ask of the learner: read from the commands topic, verified, handed over in order.

A request is taken only if its signature is that of a key that is trusted for commands here, and if it was made for
this loop and this training log. Everything else is refused, counted and announced; nothing of an unverified request
is even decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from mode import Service

from tailrace.domain.errors import CodecError
from tailrace.domain.records import Request
from tailrace.domain.snapshots import Refusal
from tailrace.streams.announcements import Announcements
from tailrace.streams.log import Reader, Record, TopicPartition
from tailrace.telemetry.recorder import Recorder
from tailrace.wire.avro_codec import Signed, decode_request, decode_signed

log = structlog.get_logger(__name__)

_WAITING = 1_000  # requests that are read and not yet answered

Verify = Callable[[Signed, int], Refusal | None]
"""Says why a signature does not count; None when it does. Told the broker's time of the record."""


class Asked(NamedTuple):
    """A verified request, and its offset in the commands topic."""

    offset: int
    request: Request


@dataclass(frozen=True, slots=True)
class CommandsParts:
    """What the commands are read with."""

    topic: str
    loop: str
    reader: Reader
    verify: Verify
    announcements: Announcements
    recorder: Recorder


class Commands(Service):
    """Follows the commands of one loop from an offset on.

    Attributes:
        waiting: Verified requests that nobody has taken yet, in order.
    """

    def __init__(self, parts: CommandsParts, *, start: int, log_id: str) -> None:
        super().__init__()
        self.waiting: deque[Asked] = deque()
        self._parts = parts
        self._start = start
        self._log_id = log_id

    @Service.task
    async def _follow(self) -> None:
        partition = TopicPartition(self._parts.topic, 0)
        held = await self._parts.reader.range_of(partition)
        async for batch in self._parts.reader.follow(partition, min(held.end, max(self._start, held.start))):
            for record in batch:
                await self._take(record)
            while len(self.waiting) > _WAITING and not self.should_stop:
                await self.sleep(0.1)
            if self.should_stop:
                return

    async def _take(self, record: Record) -> None:
        read = self._read(record)
        if isinstance(read, Request):
            self.waiting.append(Asked(record.offset, read))
            return
        self._parts.recorder.command_refused(read.reason)
        log.warning("command refused", offset=record.offset, reason=read.reason, why=read.message)
        await self._parts.announcements.refused(f"at offset {record.offset}", read.message)

    def _read(self, record: Record) -> Request | Refusal:
        try:
            signed = decode_signed(record.value or b"")
            refusal = self._parts.verify(signed, record.timestamp)
            if refusal is not None:
                return refusal
            request = decode_request(signed.payload)
        except CodecError as problem:
            return Refusal("unreadable", str(problem))
        if (request.loop, request.log_id) != (self._parts.loop, self._log_id):
            found = f"the loop {request.loop} and the log {request.log_id or '?'}"
            return Refusal("other_log", f"it was made for {found}, this is {self._parts.loop} with {self._log_id}")
        return request
