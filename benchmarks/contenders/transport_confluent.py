"""Transport alone, by confluent-kafka: JSON events in, a JSON answer out, commits; no model, no labels, no join."""

from __future__ import annotations

import time

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.contenders.plain_confluent import COMMIT_S, records
from benchmarks.protocol import Task
from benchmarks.transport import Transport


def main(task: Task) -> None:
    transport = Transport(task)
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": task.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": task.bootstrap,
            "linger.ms": task.linger_ms,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    consumer.subscribe([task.events])
    commit_at_s, is_dirty = time.monotonic() + COMMIT_S, False
    while True:
        for message in records(consumer):
            transport.begin()
            is_dirty = True
            producer.produce(task.predictions, transport.answer(orjson.loads(message.value())))
        producer.poll(0)
        if is_dirty and time.monotonic() >= commit_at_s:
            producer.flush()
            consumer.commit(asynchronous=False)
            commit_at_s, is_dirty = time.monotonic() + COMMIT_S, False


if __name__ == "__main__":
    main(Task.asked())
