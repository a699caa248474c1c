"""FastStream in batches: two subscribers with `batch=True`, one publishes what it returns as a batch."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker

from benchmarks.peer import PeerLoop, split
from benchmarks.protocol import Task

BATCH_RECORDS = 1_000


async def main(task: Task) -> None:
    broker = KafkaBroker(task.bootstrap, linger_ms=task.linger_ms, max_batch_size=256 << 10, logger=None)
    loop = PeerLoop(task)

    @broker.subscriber(
        task.events,
        group_id=f"{task.group}-events",
        auto_offset_reset="earliest",
        batch=True,
        max_records=BATCH_RECORDS,
    )
    @broker.publisher(task.predictions, batch=True)
    async def score(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answers = []
        for event in events:
            event_id, x = split(event)
            answers.append({"id": event_id, "p": loop.event(event_id, x)})
        return answers

    @broker.subscriber(
        task.labels,
        group_id=f"{task.group}-labels",
        auto_offset_reset="earliest",
        batch=True,
        max_records=BATCH_RECORDS,
    )
    async def learn(labels: list[dict[str, Any]]) -> None:
        for label in labels:
            loop.label(label["id"], y=label["y"])

    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    asyncio.run(main(Task.asked()))
