"""The loop as Faust's own documentation shows it, event by event, with a River model in memory.

Two agents in one worker: one predicts and awaits `topic.send`, one learns when the label comes. Nothing of model and
join survives the process.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import faust

from benchmarks.peer import PeerLoop
from benchmarks.protocol import Task

FEATURES = tuple(f"f{number:02}" for number in range(20))


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


async def main(task: Task) -> None:
    app = _App(
        task.group,
        broker=f"kafka://{task.bootstrap}",
        store="memory://",
        value_serializer="json",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        web_enabled=False,
    )
    events, labels = app.topic(task.events, value_type=Event), app.topic(task.labels, value_type=Label)
    predictions = app.topic(task.predictions, value_type=Prediction)
    loop = PeerLoop(task)

    @app.agent(events)
    async def score(stream):
        async for event in stream:
            x = {name: getattr(event, name) for name in FEATURES}
            await predictions.send(value=Prediction(id=event.id, p=loop.event(event.id, x)))

    @app.agent(labels)
    async def learn(stream):
        async for label in stream:
            loop.label(label.id, y=label.y)

    app.finalize()
    await app.start()
    await asyncio.Event().wait()  # the loop ends the process when everything is learned


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(main(Task.asked()))
