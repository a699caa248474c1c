"""The second ruler: the loop as Faust's own documentation shows it, event by event, with a River model in memory.

Two agents in one worker: one predicts and awaits `topic.send`, one learns when the label comes. Whichever of event and
label comes first waits in a dictionary. Nothing of it survives the process.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from uuid import uuid4

import faust
from river import linear_model, preprocessing

from benchmarks.meter import Measured, Moment
from benchmarks.workload import FEATURES, SHORT_EVENTS, SHORT_LABELS

START_WITHIN_S = 60.0
_LEAST = 1e-15


class _App(faust.App):
    """Faust's app, without the folder that it makes for tables where it is started."""

    def _create_directories(self) -> None:
        return


class Event(faust.Record):
    """An event, as Faust's documentation declares what a topic holds."""

    id: str
    at: int
    f00: float
    f01: float
    f02: float
    f03: float
    f04: float
    f05: float
    f06: float
    f07: float
    f08: float
    f09: float
    f10: float
    f11: float
    f12: float
    f13: float
    f14: float
    f15: float
    f16: float
    f17: float
    f18: float
    f19: float


class Label(faust.Record):
    """A label."""

    id: str
    y: bool


class Prediction(faust.Record):
    """What is answered."""

    id: str
    p: float


class Loop:
    """The model, and what waits for its other half."""

    def __init__(self, count: int) -> None:
        self.model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
        self.waiting: dict[str, tuple[dict[str, float], float]] = {}
        self.early: dict[str, bool] = {}
        self.count = count
        self.scored = self.learned = 0
        self.loss = 0.0
        self.begun: Moment | None = None
        self.started, self.done = asyncio.Event(), asyncio.Event()

    def begin(self) -> None:
        """Note the first record."""
        if self.begun is None:
            self.begun = Moment.now()
            self.started.set()

    def event(self, event: Event) -> float:
        """Predict; learn at once where the label is here already."""
        self.begin()
        x = {name: getattr(event, name) for name in FEATURES}
        p: float = self.model.predict_proba_one(x)[True]
        self.scored += 1
        y = self.early.pop(event.id, None)
        if y is None:
            self.waiting[event.id] = (x, p)
        else:
            self.learn(x, p, y=y)
        return p

    def label(self, label: Label) -> None:
        """Learn where the event is here; else wait for it."""
        self.begin()
        waiting = self.waiting.pop(label.id, None)
        if waiting is None:
            self.early[label.id] = label.y
        else:
            self.learn(*waiting, y=label.y)

    def learn(self, x: dict[str, float], p: float, *, y: bool) -> None:
        """Judge and learn one example."""
        self.loss -= math.log(max(p if y else 1.0 - p, _LEAST))
        self.model.learn_one(x, y)
        self.learned += 1
        if self.learned >= self.count and self.scored >= self.count:
            self.done.set()


async def measure(bootstrap: str, count: int, within_s: float) -> Measured:
    """Run a worker over the short topics, which hold `count` events, until all labels are learned.

    Raises:
        TimeoutError: It took too long.
    """
    name = f"bench-faust-{uuid4().hex[:8]}"
    app = _App(
        name,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        value_serializer="json",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        topic_partitions=1,
        web_enabled=False,
    )
    events, labels = app.topic(SHORT_EVENTS, value_type=Event), app.topic(SHORT_LABELS, value_type=Label)
    predictions = app.topic(f"{name}-predictions", partitions=1, value_type=Prediction)
    loop = Loop(count)

    @app.agent(events)
    async def score(stream):
        async for event in stream:
            await predictions.send(value=Prediction(id=event.id, p=loop.event(event)))

    @app.agent(labels)
    async def learn(stream):
        async for label in stream:
            loop.label(label)

    app.finalize()
    await predictions.declare()
    await app.start()
    try:
        async with asyncio.timeout(START_WITHIN_S):
            await loop.started.wait()
        async with asyncio.timeout(within_s):
            await loop.done.wait()
        ended = Moment.now()
    finally:
        await app.stop()
    assert loop.begun is not None
    return Measured(count, ended.clock_s - loop.begun.clock_s, ended.cpu_s - loop.begun.cpu_s, loop.loss / loop.learned)


def main(bootstrap: str, count: int, within_s: float) -> None:
    """Run it once."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(measure(bootstrap, count, within_s)).report()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
