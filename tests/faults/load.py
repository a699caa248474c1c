"""The user of a loop: sends a workload, in pieces or without pause, and knows where each partition ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.faults.workload import Sent, Workload
from tests.scenarios.harness import InVain, Scenario

from tailrace.streams.log import Outgoing, TopicPartition

PIECES_PER_S = 10
LAST_PIECE_S = 60.0


@dataclass
class Load:
    """Sends what a workload makes.

    Attributes:
        ends: Of every partition of events and labels: the offset behind the last record that was acknowledged.
        sent: How many records were acknowledged.
    """

    scenario: Scenario
    workload: Workload
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    sent: int = 0

    async def send(self, records: Sequence[Sent]) -> None:
        """Send records, in order in each partition, and wait until the log has them."""
        names = self.scenario.domain.topics
        lines: dict[TopicPartition, list[Outgoing]] = {}
        for record in records:
            topic = names.events if record.topic == "events" else names.labels
            lines.setdefault(TopicPartition(topic, record.partition), []).append(Outgoing(*record[2:]))
        sink = self.scenario.user.sink
        deliveries = {at: await sink.send(at, outgoing) for at, outgoing in lines.items()}
        for at, delivery in deliveries.items():
            self.ends[at] = (await delivery)[-1] + 1
        self.sent += len(records)

    async def piece(self, events: int) -> None:
        """Send some events and the labels that came due."""
        await self.send(self.workload.piece(events))

    async def ending(self) -> None:
        """Send every label that is still due, and what moves all watermarks past every horizon."""
        await self.send(self.workload.ending())

    @asynccontextmanager
    async def flowing(self, events_per_s: float = 200.0) -> AsyncIterator[None]:
        """Send without pause as long as the block; while the log takes nothing, nothing piles up."""

        stopped = asyncio.Event()

        async def flow() -> None:
            while not stopped.is_set():
                await self.piece(max(1, round(events_per_s / PIECES_PER_S)))
                await asyncio.sleep(1 / PIECES_PER_S)

        task = asyncio.create_task(flow())
        try:
            yield
            # A piece that was begun is sent to its end: else records would be in the log and not in `ends`.
            stopped.set()
            try:
                await asyncio.wait_for(task, LAST_PIECE_S)
            except TimeoutError:
                raise InVain(f"the log did not take the last piece within {LAST_PIECE_S} s") from None
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
