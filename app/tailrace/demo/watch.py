"""Reads predictions back from their topic, as a consumer of the user's would."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tailrace.streams.log import Reader, TopicPartition
from tailrace.wire.prediction_codec import decode_prediction

POLL_S: Final = 0.02
SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """One prediction as it was read back.

    Attributes:
        is_phishing: What the model said; None where it abstained.
        share: The probability of it being phishing.
    """

    page_id: str
    is_phishing: bool | None
    share: float | None


class Watch:
    """Follows a topic of predictions from its end.

    Attributes:
        count: Read so far.
        first_at_s: When the first was read, by the clock that was given.
        latest: The last few.
    """

    def __init__(self, reader: Reader, topic: str, clock_s: Callable[[], float]) -> None:
        self.count = 0
        self.first_at_s: float | None = None
        self.latest: deque[Seen] = deque(maxlen=SHOWN)
        self._reader = reader
        self._topic = topic
        self._clock_s = clock_s

    async def run(self) -> None:
        """Read until cancelled; waits for the topic to be there."""
        while not (partitions := await self._reader.partitions(self._topic)):  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(POLL_S)
        async with asyncio.TaskGroup() as group:
            for number in range(partitions):
                group.create_task(self._follow(TopicPartition(self._topic, number)))

    async def _follow(self, partition: TopicPartition) -> None:
        held = await self._reader.range_of(partition)
        async for batch in self._reader.follow(partition, held.end):
            if batch and self.first_at_s is None:
                self.first_at_s = self._clock_s()
            self.count += len(batch)
            for record in batch[-SHOWN:]:
                prediction = decode_prediction(record.value or b"")
                y_pred = prediction["y_pred"]
                said = None if y_pred is None else bool(y_pred)
                self.latest.append(Seen(prediction["event_id"], said, prediction.get("proba")))
