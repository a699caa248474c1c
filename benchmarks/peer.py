"""The loop that every peer runs: score each event once, learn each label once, whichever of the two comes first waits.

All of it is in memory and gone with the process, unless a peer keeps the join itself. Peers bring the transport: they
call `event` and `label` and send what `event` returns.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

from benchmarks import protocol
from benchmarks.protocol import Measured, Task

LEAST = 1e-15
"""No probability is taken for less; log loss would be infinite."""


def river_model() -> Any:
    """Return the model of every contender, unmodified."""
    from river import linear_model, preprocessing  # noqa: PLC0415 - Vowpal Wabbit's environment has none

    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


class PeerLoop:
    """A River model and the join, judged as it was served.

    Attributes:
        waiting: Event id → what is learned when its label comes, and what was served.
        early: Event id → a label that came first.
    """

    def __init__(self, task: Task) -> None:
        self.count = task.count
        self.waiting: dict[str, tuple[Any, float]] = {}
        self.early: dict[str, bool] = {}
        self.scored = self.learned = 0
        self.loss = 0.0
        self.begun_s = self.begun_cpu_s = 0.0
        self._handled = threading.Event()
        model = self.build()
        self._predict, self._learn_one = model.predict_proba_one, model.learn_one
        threading.Thread(target=self._report, daemon=True).start()

    def build(self) -> Any:
        """Return the model."""
        return river_model()

    def event(self, event_id: str, x: dict[str, float]) -> float:
        """Return the probability of True; learn at once where the label is here already."""
        if not self.scored:
            self.begin()
        p: float = self._predict(x)[True]
        self.scored += 1
        if event_id in self.early:
            self.learn(x, p, y=self.early.pop(event_id))
        else:
            self.waiting[event_id] = (x, p)
        return p

    def label(self, event_id: str, *, y: bool) -> None:
        """Learn where the event is here; else wait for it."""
        if not self.learned and not self.early:
            self.begin()
        held = self.waiting.pop(event_id, None)
        if held is None:
            self.early[event_id] = y
        else:
            self.learn(*held, y=y)

    def learn(self, x: Any, p: float, *, y: bool) -> None:
        """Judge and learn one example."""
        self.loss -= math.log(max(p if y else 1.0 - p, LEAST))
        self._learn_one(x, y)
        self.learned += 1
        if self.learned == self.count:
            self._handled.set()

    def begin(self) -> None:
        """Note the first record."""
        if not self.begun_s:
            self.begun_s, self.begun_cpu_s = protocol.now_s(), protocol.cpu_s()

    def _report(self) -> None:
        # On a thread of its own: no framework has to know of the runner, and none has to be asked to end.
        if self.count:
            self._handled.wait()
        ended_s = protocol.now_s()
        if self.count:
            protocol.say_handled()
        protocol.await_line()
        cpu_s = protocol.cpu_s() - self.begun_cpu_s
        loss = self.loss / self.learned if self.learned else None
        Measured(self.begun_s, ended_s, cpu_s, self.scored, self.learned, log_loss=loss).say()
        os._exit(0)


def split(event: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """Take the features out of an event as it is in the topic; `event` is used up."""
    event_id = event.pop("id")
    del event["at"]
    return event_id, event
