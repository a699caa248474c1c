"""How old the state is that serves in this process: in time, in records of the log, and in event time.

Pure but for the recorder: the moments are given. What it knows of the end of the log is what it is told; so the age is
known to within the time between two tellings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mode import Service

from tailrace.domain.blocks import Examples, Ints
from tailrace.domain.errors import LogError
from tailrace.domain.positions import Position, offset_of
from tailrace.domain.status import ServingStatus
from tailrace.streams.log import Reader, TopicPartition
from tailrace.telemetry.recorder import Recorder

ENDS_KEPT: Final = 4_096
"""Ends of the log that are remembered; of more, those in the middle are thinned out."""

_ASK_EVERY_S: Final = 1.0


class Freshness:
    """What is known of the log's end, of what was scored, and of what the serving state has learned."""

    def __init__(self, recorder: Recorder, now_ms: Callable[[], int]) -> None:
        self._recorder = recorder
        self._now_ms = now_ms
        self._ends: deque[tuple[int, int]] = deque()  # (end of the log, when it was seen), rising
        self._scored_ms: int | None = None
        self._learned_ms: int | None = None

    def scored(self, times_ms: Ints) -> None:
        """Take event times of a batch that was scored."""
        if len(times_ms):
            self._scored_ms = max(int(times_ms.max()), self._scored_ms or int(times_ms.max()))

    def learned(self, examples: Examples) -> None:
        """Take examples that a state has learned which serves in this process from now on."""
        if not len(examples):
            return
        newest = int(examples.times_ms.max())
        self._learned_ms = max(newest, self._learned_ms or newest)
        labels_ms = examples.label_broker_ms[examples.label_broker_ms >= 0]
        if len(labels_ms):
            self._recorder.label_to_influence(self._now_ms() - labels_ms)

    def log_ends(self, end: int) -> None:
        """Take where the training log ends now, exclusive."""
        if self._ends and self._ends[-1][0] >= end:
            return
        self._ends.append((end, self._now_ms()))
        if len(self._ends) > ENDS_KEPT:
            oldest, *rest = self._ends
            self._ends = deque([oldest, *rest[1::2]])

    def status(self, position: Position) -> ServingStatus:
        """Return how old a state of this position is."""
        offset = offset_of(position)
        while len(self._ends) > 1 and self._ends[0][0] <= offset:
            self._ends.popleft()
        event_lag_s = None
        if self._scored_ms is not None and self._learned_ms is not None:
            event_lag_s = max(0, self._scored_ms - self._learned_ms) / 1_000
        if not self._ends:
            return ServingStatus(position, event_time_lag_seconds=event_lag_s)
        # The first end past the position: since then the log holds what the state does not.
        end, since_ms = self._ends[0]
        age_s = max(0, self._now_ms() - since_ms) / 1_000 if end > offset else 0.0
        return ServingStatus(position, age_s, max(0, self._ends[-1][0] - offset), event_lag_s)


class LogEnd(Service):
    """Asks every second where the training log ends."""

    def __init__(self, reader: Reader, partition: TopicPartition, freshness: Freshness) -> None:
        super().__init__()
        self._reader, self._partition, self._freshness = reader, partition, freshness

    @Service.task
    async def _ask(self) -> None:
        while not self.should_stop:
            with suppress(LogError):
                self._freshness.log_ends((await self._reader.range_of(self._partition)).end)
            await self.sleep(_ASK_EVERY_S)
