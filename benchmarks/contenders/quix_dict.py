"""Quix Streams, at least once (its default): two dataframes in one application, the join in a dictionary.

A crash loses the model and what waits.
"""

from __future__ import annotations

from quixstreams import Application

from benchmarks.peer import PeerLoop, split
from benchmarks.protocol import Task


def main(task: Task) -> None:
    app = Application(
        broker_address=task.bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        state_dir=f"{task.folder}/state",
        loglevel="WARNING",
        producer_extra_config={"linger.ms": task.linger_ms},
    )
    events = app.topic(task.events, value_deserializer="json", key_deserializer="bytes")
    labels = app.topic(task.labels, value_deserializer="json", key_deserializer="bytes")
    predictions = app.topic(task.predictions, value_serializer="json")
    loop = PeerLoop(task)

    def score(event):
        event_id, x = split(event)
        return {"id": event_id, "p": loop.event(event_id, x)}

    app.dataframe(events).apply(score).to_topic(predictions)
    app.dataframe(labels).update(lambda label: loop.label(label["id"], y=label["y"]))
    app.run()


if __name__ == "__main__":
    main(Task.asked())
