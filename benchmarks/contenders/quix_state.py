"""Quix Streams with its durable state: the join in keyed State (RocksDB with a changelog topic), the model in memory.

A crash keeps the join and loses the model; labels whose record was not committed are learned again.
"""

from __future__ import annotations

from quixstreams import Application

from benchmarks.peer import PeerLoop, split
from benchmarks.protocol import Task


class StateLoop(PeerLoop):
    """The same loop with the join in the State of the record's key."""

    def take_event(self, event, state):
        event_id, x = split(event)
        self.begin()
        p = self._predict(x)[True]
        self.scored += 1
        y = state.get("y")
        if y is None:
            state.set("x", [x, p])
        else:
            state.delete("y")
            self.learn(x, p, y=y)
        return {"id": event_id, "p": p}

    def take_label(self, label, state):
        self.begin()
        held = state.get("x")
        if held is None:
            state.set("y", label["y"])
        else:
            state.delete("x")
            x, p = held
            self.learn(x, p, y=label["y"])


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
    loop = StateLoop(task)

    def step(value, state):
        if "y" in value:
            loop.take_label(value, state)
            return None
        return loop.take_event(value, state)

    both = app.dataframe(events).concat(app.dataframe(labels)).apply(step, stateful=True)
    both.filter(lambda prediction: prediction is not None).to_topic(predictions)
    app.run()


if __name__ == "__main__":
    main(Task.asked())
