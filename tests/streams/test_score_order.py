"""Scored blocks of one partition of events keep its order, whatever makes a send wait."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.streams.score_agent import ScoreAgent, ScoreParts, _Sent


class SlowAtFirst:
    """Takes one call after the other, as a sink does, and has no room for a moment at the first."""

    def __init__(self) -> None:
        self.lines: dict[int, list[bytes]] = {}
        self._gate = asyncio.Lock()

    async def send(self, partition: TopicPartition, records: Any) -> asyncio.Future[list[int]]:
        async with self._gate:
            if not self.lines:
                await asyncio.sleep(0.01)
            self.lines.setdefault(partition.partition, []).append(records[0].value)
        done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        done.set_result([0])
        return done


async def test_a_small_batch_does_not_overtake_a_large_one_that_waits_for_room():
    sink, told = SlowAtFirst(), SimpleNamespace()
    told.produced = told.end_to_end = lambda *_: None
    parts = SimpleNamespace(
        scored=sink, scored_topic="scored", predictions_topic="predictions", recorder=told, now_ms=lambda: 0
    )
    agent = ScoreAgent(cast("ScoreParts", parts))
    agent._source = cast("Any", SimpleNamespace(complete=lambda _: None))
    none = np.empty(0, np.int64)
    first, second = (
        _Sent(None, None, none, [(0, Outgoing(None, b"1")), (1, Outgoing(None, b"1"))]),
        _Sent(None, None, none, [(1, Outgoing(None, b"2"))]),
    )

    await asyncio.gather(*(agent._finish(cast("Any", None), sent) for sent in (first, second)))

    assert sink.lines == {0: [b"1"], 1: [b"1", b"2"]}
