"""Sends what could not be used to `<input>.dlq`: key, value, headers and timestamp byte for byte, and the reason."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from tailrace.domain.records import Rejection
from tailrace.streams.log import Outgoing, Record, Sink, TopicPartition
from tailrace.telemetry.recorder import Recorder
from tailrace.wire import dead_letter


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
            await self._sink.send(TopicPartition(self._topic, partition), letters)
            for partition, letters in lines.items()
        ]
        self._recorder.rejected(rejected[0][0].topic, [rejection for _, rejection in rejected])
        return _all(deliveries)


async def _all(deliveries: Sequence[Awaitable[object]]) -> None:
    for delivery in deliveries:
        await delivery
