"""Plain aiokafka: `getmany`, one `send_batch` a poll, commit every second after everything sent is acknowledged.

A crash loses the model, and every label and event that waits; what was sent since the last commit is sent again.
"""

from __future__ import annotations

import asyncio
import time

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peer import PeerLoop, split
from benchmarks.protocol import Task

POLL_RECORDS = 1_000
COMMIT_S = 1.0


class Sender:
    """Writes many values at once to one partition."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._sent: list[asyncio.Future] = []

    async def send(self, values: list[bytes]) -> None:
        batch = self._producer.create_batch()
        for value in values:
            if batch.append(key=None, value=value, timestamp=None) is None:
                await self._send(batch)
                batch = self._producer.create_batch()
                batch.append(key=None, value=value, timestamp=None)
        await self._send(batch)

    async def _send(self, batch) -> None:
        self._sent.append(await self._producer.send_batch(batch, self._topic, partition=0))

    async def acknowledged(self) -> None:
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)


async def main(task: Task) -> None:
    loop = PeerLoop(task)
    consumer = AIOKafkaConsumer(
        task.events,
        task.labels,
        bootstrap_servers=task.bootstrap,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=task.bootstrap, linger_ms=task.linger_ms, max_batch_size=256 << 10, acks="all"
    )
    await consumer.start()
    await producer.start()
    sender = Sender(producer, task.predictions)
    commit_at_s = time.monotonic() + COMMIT_S
    while True:
        for partition, records in (await consumer.getmany(timeout_ms=200, max_records=POLL_RECORDS)).items():
            if partition.topic == task.events:
                answers = []
                for record in records:
                    event_id, x = split(orjson.loads(record.value))
                    answers.append(orjson.dumps({"id": event_id, "p": loop.event(event_id, x)}))
                await sender.send(answers)
            else:
                for record in records:
                    label = orjson.loads(record.value)
                    loop.label(label["id"], y=label["y"])
        if time.monotonic() >= commit_at_s:
            await sender.acknowledged()
            await consumer.commit()
            commit_at_s = time.monotonic() + COMMIT_S


if __name__ == "__main__":
    asyncio.run(main(Task.asked()))
