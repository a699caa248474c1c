"""Finds a group member that looks alive and does nothing, so that the process ends and is started anew.

aiokafka parks its coordinator on any error that it cannot retry, and waits for a call that may never come: the
member is expelled while it goes on with its partitions. What it does not expect ends its fetching, of which it tells a
log only: nothing comes any more, and no lag is seen either. And whatever else stops a source shows as lag that stands
still. Pure but for the consumer that it looks at; the source asks once a second.
"""

# ruff: noqa: SLF001 - the states of the coordinator and of the fetcher have no public methods.
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from aiokafka import AIOKafkaConsumer

    from tailrace.streams.log import TopicPartition

# Longer than any attempt, and than aiokafka waits for an answer.
STALL_S = 60.0


def parked(consumer: AIOKafkaConsumer) -> BaseException | None:
    """Return why the consumer's coordinator or its fetching has stopped, or None while both work."""
    coordinator = consumer._coordinator
    if coordinator is not None:
        pending: BaseException | None = getattr(coordinator, "_pending_exception", None)
        if pending is not None:
            return pending
        coordination = _why_ended(getattr(coordinator, "_coordination_task", None), "the coordination task")
        if coordination is not None:
            return coordination
    return stopped_fetching(consumer)


def stopped_fetching(consumer: AIOKafkaConsumer) -> BaseException | None:
    """Return why the consumer fetches nothing any more, or None while it does."""
    return _why_ended(getattr(consumer._fetcher, "_fetch_task", None), "the task that fetches")


def _why_ended(task: asyncio.Future[object] | None, name: str) -> BaseException | None:
    if task is None or not task.done() or task.cancelled():
        return None
    return task.exception() or RuntimeError(f"{name} has ended")


class ParkedWatch:
    """Tells when the coordinator is parked at two looks in a row: once is normal, the next poll takes it up."""

    def __init__(self) -> None:
        self._before: BaseException | None = None

    def look(self, reason: BaseException | None) -> BaseException | None:
        """Take the present reason; return it when it was there before too."""
        before, self._before = self._before, reason
        return reason if before is not None and reason is not None else None


class StallWatch:
    """Tells when partitions that could deliver have lag and have not moved for a long time."""

    def __init__(self, limit_s: float = STALL_S) -> None:
        self._limit_s = limit_s
        self._stands_since: dict[TopicPartition, tuple[int, float]] = {}

    def look(self, behind: Mapping[TopicPartition, int], now_s: float) -> list[TopicPartition]:
        """Take the positions of the partitions that have lag and may deliver; return those that stand still."""
        self._stands_since = {
            partition: self._since(partition, position, now_s) for partition, position in behind.items()
        }
        return [partition for partition, (_, since_s) in self._stands_since.items() if now_s - since_s >= self._limit_s]

    def _since(self, partition: TopicPartition, position: int, now_s: float) -> tuple[int, float]:
        known = self._stands_since.get(partition)
        return known if known is not None and known[0] == position else (position, now_s)
