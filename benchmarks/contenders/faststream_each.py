"""FastStream, one message at a time: two subscribers, one publishes what it returns."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker

from benchmarks.peer import PeerLoop, split
from benchmarks.protocol import Task


async def main(task: Task) -> None:
    broker = KafkaBroker(task.bootstrap, logger=None)  # every publish is awaited: to linger would only slow it down
    loop = PeerLoop(task)

    @broker.subscriber(task.events, group_id=f"{task.group}-events", auto_offset_reset="earliest")
    @broker.publisher(task.predictions)
    async def score(event: dict[str, Any]) -> dict[str, Any]:
        event_id, x = split(event)
        return {"id": event_id, "p": loop.event(event_id, x)}

    @broker.subscriber(task.labels, group_id=f"{task.group}-labels", auto_offset_reset="earliest")
    async def learn(label: dict[str, Any]) -> None:
        loop.label(label["id"], y=label["y"])

    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    asyncio.run(main(Task.asked()))
