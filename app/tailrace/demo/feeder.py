"""Sends what the script says: events at a steady rate, labels when they are due."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from tailrace.demo.script import Script
from tailrace.streams.log import Outgoing, Sink, TopicPartition
from tailrace.wire.partitioner import partitions_of
from tailrace.wire.topics import LoopTopics

TICK_S: Final = 0.02
CATCH_UP_S: Final = 0.5
"""After a log that stood still, events of at most this long are sent at once; the others were never seen."""

TRUTHS_KEPT: Final = 2_000
PHISHING: Final = "phishing"
FINE: Final = "fine"


class Due(NamedTuple):
    """A label on its way; the number keeps labels of one moment in their order."""

    at_s: float
    number: int
    page_id: str
    is_phishing: bool


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How fast events come, and when the pages begin to look different.

    Attributes:
        drift_at_s: After the first event.
        latest_label_s: Labels that are later than this after their event are late on purpose.
    """

    rate_per_s: float
    drift_at_s: float
    latest_label_s: float


class Feeder:
    """Plays the part of the user's producers.

    Attributes:
        events, labels: Sent and acknowledged.
        truth: Page id → whether it is phishing, of the last few thousand.
        ended_s: Seconds from the first event to the last; 0 before.
    """

    def __init__(
        self,
        sink: Sink,
        topics: LoopTopics,
        *,
        partitions: int,
        script: Script,
        rhythm: Rhythm,
        now_ms: Callable[[], int],
    ) -> None:
        self.events = 0
        self.labels = 0
        self.truth: dict[str, bool] = {}
        self.ended_s = 0.0
        self._sink = sink
        self._topics = topics
        self._partitions = partitions
        self._script = script
        self._rhythm = rhythm
        self._now_ms = now_ms
        self._due: list[Due] = []
        self._scenes = 0
        self._begun_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first event."""
        return asyncio.get_running_loop().time() - self._begun_s if self._begun_s else 0.0

    @property
    def has_drifted(self) -> bool:
        """Whether pages look different by now."""
        return self.elapsed_s >= self._rhythm.drift_at_s

    async def run(self, ending: asyncio.Event) -> None:
        """Send until told to end; then send the labels that are still on their way, but for the late ones."""
        self._begun_s = asyncio.get_running_loop().time()
        expected = 0.0
        while not ending.is_set():
            now = self.elapsed_s * self._rhythm.rate_per_s
            expected = max(expected, now - CATCH_UP_S * self._rhythm.rate_per_s)
            count = int(now - expected)
            expected += count
            await self._send_events(count)
            await self._send_labels(self.elapsed_s)
            await asyncio.sleep(TICK_S)
        self.ended_s = self.elapsed_s
        self._due = [due for due in self._due if due.at_s <= self.elapsed_s + self._rhythm.latest_label_s]
        heapq.heapify(self._due)
        await self._send_labels(self.elapsed_s + self._rhythm.latest_label_s)

    async def _send_events(self, count: int) -> None:
        records: list[tuple[str, dict[str, object]]] = []
        for _ in range(count):
            scene = self._script.next(has_drifted=self.has_drifted)
            self._remember(scene.page_id, is_phishing=scene.is_phishing)
            event: dict[str, object] = {"page_id": scene.page_id, "seen_at": self._now_ms(), **scene.x}
            records += [(scene.page_id, event)] * scene.times
            for verdict in scene.verdicts:
                self._scenes += 1
                due = Due(self.elapsed_s + verdict.delay_s, self._scenes, scene.page_id, verdict.is_phishing)
                heapq.heappush(self._due, due)
        self.events += await self._send(self._topics.events, records)

    async def _send_labels(self, until_s: float) -> None:
        records: list[tuple[str, dict[str, object]]] = []
        while self._due and self._due[0].at_s <= until_s:
            due = heapq.heappop(self._due)
            verdict = PHISHING if due.is_phishing else FINE
            records.append((due.page_id, {"page_id": due.page_id, "verdict": verdict, "decided_at": self._now_ms()}))
        self.labels += await self._send(self._topics.labels, records)

    async def _send(self, topic: str, records: list[tuple[str, dict[str, object]]]) -> int:
        keys = [key.encode() for key, _ in records]
        by_partition: dict[int, list[Outgoing]] = {}
        for key, partition, (_, value) in zip(keys, partitions_of(keys, self._partitions), records, strict=True):
            by_partition.setdefault(partition, []).append(Outgoing(key, orjson.dumps(value)))
        deliveries = [
            await self._sink.send(TopicPartition(topic, partition), outgoing)
            for partition, outgoing in by_partition.items()
        ]
        for delivery in deliveries:
            await delivery
        return len(records)

    def _remember(self, page_id: str, *, is_phishing: bool) -> None:
        self.truth[page_id] = is_phishing
        if len(self.truth) > TRUTHS_KEPT:
            del self.truth[next(iter(self.truth))]
