"""Bare River on one of the workloads: predict and learn in memory, event by event, each label 1,000 events later."""

from __future__ import annotations

import gc

from benchmarks import protocol
from benchmarks.contenders.bare_river import LAG
from benchmarks.protocol import Measured, Task
from benchmarks.workloads_lineup import BY_NAME
from tailrace.domain.models.expression import parse


def main(task: Task) -> None:
    workload = BY_NAME[task.options["workload"]]
    made = [(dict(sorted(example.x.items())), example.y) for example in workload.make(task.count)]
    model = parse(workload.model).build()
    predict = model.predict_one if workload.task == "regression" else model.predict_proba_one
    learn = model.learn_one
    gc.collect()
    gc.freeze()
    begun_s, begun_cpu_s = protocol.now_s(), protocol.cpu_s()
    labels = iter(made)
    for number, (x, _) in enumerate(made):
        predict(x)
        if number >= LAG:
            learn(*next(labels))
    for each in labels:
        learn(*each)
    ended_s, cpu_s = protocol.now_s(), protocol.cpu_s() - begun_cpu_s
    protocol.say_handled()
    Measured(begun_s, ended_s, cpu_s, len(made), len(made)).say()


if __name__ == "__main__":
    main(Task.asked())
