"""Our own refold, as recovery, verification and warming do it: decode the log, judge what was served, learn.

`options.compiled` is the champion's; `options.is_bare`: River's `learn_one` alone over the same examples, in memory.
"""

from __future__ import annotations

import gc

from benchmarks import protocol
from benchmarks.examples import examples
from benchmarks.peer import river_model
from benchmarks.protocol import Measured, Task
from benchmarks.training import begun, domain_of, log_of, read

_AT_ONCE = 20


def bare(count: int) -> tuple[float, float, float]:
    """Return when it began and ended, and the CPU of it."""
    made = [(example.x, example.y) for example in examples(count)]
    model = river_model()
    learn = model.learn_one
    gc.collect()
    gc.freeze()
    begun_s, begun_cpu_s = protocol.now_s(), protocol.cpu_s()
    for x, y in made:
        learn(x, y)
    return begun_s, protocol.now_s(), protocol.cpu_s() - begun_cpu_s


def refold(count: int, compiled: str) -> tuple[float, float, float]:
    """Return the same."""
    domain = domain_of(compiled)
    messages = log_of(domain, count)
    _fold(domain, messages[: 2 * _AT_ONCE])  # what is compiled at the first call is no part of a rate
    gc.collect()
    gc.freeze()
    begun_s, begun_cpu_s = protocol.now_s(), protocol.cpu_s()
    _fold(domain, messages)
    return begun_s, protocol.now_s(), protocol.cpu_s() - begun_cpu_s


def _fold(domain, messages) -> None:
    fold, state = begun(domain)
    for at in range(0, len(messages), _AT_ONCE):
        fold.fold(state, read(messages[at : at + _AT_ONCE], at))


def main(task: Task) -> None:
    options = task.options
    found = bare(task.count) if options.get("is_bare") else refold(task.count, options["compiled"])
    protocol.say_handled()
    Measured(*found, scored=task.count, learned=task.count).say()


if __name__ == "__main__":
    main(Task.asked())
