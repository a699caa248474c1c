"""Transport alone, by aiokafka: JSON events in, a JSON answer out, commits; no model, no labels, no join."""

from __future__ import annotations

import asyncio
import time

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.plain_aiokafka import COMMIT_S, POLL_RECORDS, Sender
from benchmarks.protocol import Task
from benchmarks.transport import Transport


async def main(task: Task) -> None:
    transport = Transport(task)
    consumer = AIOKafkaConsumer(
        task.events,
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
        for records in (await consumer.getmany(timeout_ms=200, max_records=POLL_RECORDS)).values():
            transport.begin()
            await sender.send([transport.answer(orjson.loads(record.value)) for record in records])
        if time.monotonic() >= commit_at_s:
            await sender.acknowledged()
            await consumer.commit()
            commit_at_s = time.monotonic() + COMMIT_S


if __name__ == "__main__":
    asyncio.run(main(Task.asked()))
