"""Sends what could not be used to `<input>.dlq`: key, value, headers and timestamp byte for byte, and the reason.

Where an input takes larger records than its dead-letter topic, the letter of such a record holds the reason, the
beginning of its value, and the size and SHA-256 of all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import structlog

from tailrace.domain.errors import RecordTooLarge
from tailrace.domain.records import Rejection
from tailrace.streams.log import Outgoing, Record, Sink, TopicPartition
from tailrace.telemetry.recorder import Recorder
from tailrace.wire import dead_letter

log = structlog.get_logger(__name__)


class DeadLetters:
    """The dead-letter topic of one input of one loop.

    Args:
        topic: `<input>.dlq`.
        partitions: Of that topic; a letter keeps its partition number where there are enough.
        loop: Named by Connect's header as the connector.
        member: This process, which they name as the task.
    """

    def __init__(self, sink: Sink, recorder: Recorder, *, topic: str, partitions: int, loop: str, member: str) -> None:
        self._sink = sink
        self._recorder = recorder
        self._topic = topic
        self._partitions = partitions
        self._loop = loop
        self._member = member

    async def send(
        self, rejected: Sequence[tuple[Record, Rejection]], *, block: str | None = None
    ) -> Awaitable[object]:
        """Put letters in line; await the result for their acknowledgement.

        Args:
            block: "partition/owner/number" of the training block that they belong to; they count only with it.
        """
        lines: dict[int, list[Outgoing]] = {}
        for record, rejection in rejected:
            headers = dead_letter.encode(record, rejection, self._loop, self._member, block)
            partition = record.partition % self._partitions
            lines.setdefault(partition, []).append(Outgoing(record.key, record.value, headers, record.timestamp))
        deliveries = [
            delivery
            for partition, letters in lines.items()
            for delivery in await self._send(TopicPartition(self._topic, partition), letters)
        ]
        self._recorder.rejected(rejected[0][0].topic, [rejection for _, rejection in rejected])
        return asyncio.gather(*deliveries)

    async def _send(self, partition: TopicPartition, letters: Sequence[Outgoing]) -> list[Awaitable[object]]:
        """Put letters in line, in order; one that is too large is cut, so that it stops nobody."""
        try:
            return [await self._sink.send(partition, letters)]
        except RecordTooLarge as problem:
            if len(letters) > 1:
                middle = len(letters) // 2
                return [*await self._send(partition, letters[:middle]), *await self._send(partition, letters[middle:])]
            (letter,) = letters
            log.warning("a dead letter holds only the beginning of its record", topic=self._topic, why=str(problem))
            headers = dead_letter.without_record(letter.headers, letter.value)
            copy = None if letter.value is None else letter.value[: dead_letter.COPY_BYTES]
            return [await self._sink.send(partition, [Outgoing(None, copy, headers, letter.timestamp_ms)])]
