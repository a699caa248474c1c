"""Plain confluent-kafka: take what is there, `produce` per record, flush and commit every second.

A crash loses the model, and every label and event that waits; what was sent since the last commit is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson
from confluent_kafka import Consumer, KafkaException, Message, Producer

from benchmarks.peer import PeerLoop, split
from benchmarks.protocol import Task

POLL_RECORDS = 1_000
COMMIT_S = 1.0


def records(consumer: Consumer) -> Iterator[Message]:
    """Yield what is there; wait for the first record only, since `consume(n, s)` would wait for n of them."""
    first = consumer.poll(0.05)
    if first is None:
        return
    for message in (first, *consumer.consume(POLL_RECORDS - 1, 0)):
        if message.error():
            raise KafkaException(message.error())
        yield message


def main(task: Task, loop: PeerLoop) -> None:
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
    consumer.subscribe([task.events, task.labels])
    commit_at_s, is_dirty = time.monotonic() + COMMIT_S, False
    while True:
        for message in records(consumer):
            is_dirty = True
            if message.topic() == task.events:
                event_id, x = split(orjson.loads(message.value()))
                producer.produce(task.predictions, orjson.dumps({"id": event_id, "p": loop.event(event_id, x)}))
            else:
                label = orjson.loads(message.value())
                loop.label(label["id"], y=label["y"])
        producer.poll(0)
        if is_dirty and time.monotonic() >= commit_at_s:
            producer.flush()
            consumer.commit(asynchronous=False)
            commit_at_s, is_dirty = time.monotonic() + COMMIT_S, False


if __name__ == "__main__":
    asked = Task.asked()
    main(asked, PeerLoop(asked))
