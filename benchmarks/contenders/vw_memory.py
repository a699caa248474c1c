"""Vowpal Wabbit alone, in memory, on the same examples: one line of text an example, which is its usual input."""

from __future__ import annotations

import gc
import math

from vowpalwabbit import Workspace

from benchmarks import protocol
from benchmarks.examples import examples
from benchmarks.peer import LEAST
from benchmarks.protocol import Measured, Task
from benchmarks.vw import ARGUMENTS, text_of


def main(count: int) -> None:
    made = [(example.x, example.y) for example in examples(count)]
    model = Workspace(ARGUMENTS)
    loss = 0.0
    gc.collect()
    gc.freeze()
    begun_s, begun_cpu_s = protocol.now_s(), protocol.cpu_s()
    for x, y in made:
        text = text_of(x)
        p = model.predict(f"| {text}")
        loss -= math.log(max(p if y else 1.0 - p, LEAST))
        model.learn(f"{'1' if y else '-1'} | {text}")
    ended_s, cpu_s = protocol.now_s(), protocol.cpu_s() - begun_cpu_s
    protocol.say_handled()
    Measured(begun_s, ended_s, cpu_s, count, count, log_loss=loss / count).say()


if __name__ == "__main__":
    main(Task.asked().count)
