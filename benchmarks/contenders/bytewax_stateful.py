"""Bytewax with its Kafka connectors: events and labels merged, one key, the model and the join as its state.

As in its examples of online learning. Recovery is off, which is the default: a crash loses model and join.
"""

from __future__ import annotations

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main
from confluent_kafka import OFFSET_BEGINNING

from benchmarks.peer import PeerLoop, split
from benchmarks.protocol import Task


def flow_of(task: Task) -> Dataflow:
    loop = PeerLoop(task)
    brokers = [task.bootstrap]
    flow = Dataflow("loop")
    events = kop.input("events", flow, brokers=brokers, topics=[task.events], starting_offset=OFFSET_BEGINNING)
    labels = kop.input("labels", flow, brokers=brokers, topics=[task.labels], starting_offset=OFFSET_BEGINNING)
    values = op.map("parse", op.merge("merge", events.oks, labels.oks), lambda message: orjson.loads(message.value))

    def step(state, value):
        if "y" in value:
            loop.label(value["id"], y=value["y"])
            return state, []
        event_id, x = split(value)
        answer = orjson.dumps({"id": event_id, "p": loop.event(event_id, x)})
        return state, [KafkaSinkMessage(None, answer)]

    keyed = op.key_on("key", values, lambda _value: "model")
    answers = op.key_rm("unkey", op.stateful_flat_map("model", keyed, step))
    kop.output(
        "predictions",
        answers,
        brokers=brokers,
        topic=task.predictions,
        add_config={"linger.ms": str(task.linger_ms)},
    )
    return flow


if __name__ == "__main__":
    cluster_main(flow_of(Task.asked()), [], 0)
