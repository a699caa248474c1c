"""The yardstick: River alone, in memory. Predict, judge, learn, event by event; no Kafka, no JSON, no join.

A label is learned `options.lag` events after its own, as labels come: 1,000 unless it is said otherwise.
"""

from __future__ import annotations

import gc
import math

from benchmarks import protocol
from benchmarks.examples import examples
from benchmarks.peer import LEAST, river_model
from benchmarks.protocol import Measured, Task

LAG = 1_000


def main(task: Task) -> None:
    count, lag = task.count, task.options.get("lag", LAG)
    made = [(example.x, example.y) for example in examples(count)]
    model = river_model()
    predict, learn, log = model.predict_proba_one, model.learn_one, math.log
    loss = 0.0
    gc.collect()
    gc.freeze()  # the examples are no part of what is measured
    begun_s, begun_cpu_s = protocol.now_s(), protocol.cpu_s()
    labels = iter(made)
    for number, (x, y) in enumerate(made):
        p = predict(x)[True]
        loss -= log(max(p if y else 1.0 - p, LEAST))
        if number >= lag:
            learn(*next(labels))
    for each in labels:
        learn(*each)
    ended_s, cpu_s = protocol.now_s(), protocol.cpu_s() - begun_cpu_s
    protocol.say_handled()
    Measured(begun_s, ended_s, cpu_s, count, count, log_loss=loss / count).say()


if __name__ == "__main__":
    main(Task.asked())
