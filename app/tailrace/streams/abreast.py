"""Keeps the partitions that one member reads abreast in time while it catches up.

A watermark is the greatest time that was read: where one partition is read hours ahead of another, the events of the
other one come too late for it. So whoever is behind is read first, by the Kafka timestamps of what was delivered.
Pure: no clock, no I/O. Invariant: a partition that has nothing to give, for whatever reason, holds up no other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tailrace.streams.log import TopicPartition


class Abreast:
    """Which partitions are read next."""

    __slots__ = ("_empty_at", "_reached_ms")

    def __init__(self) -> None:
        self._reached_ms: dict[TopicPartition, int] = {}
        self._empty_at: dict[TopicPartition, int | None] = {}

    def delivered(self, partition: TopicPartition, timestamp_ms: int) -> None:
        """Note the timestamp of the last record that was delivered."""
        self._reached_ms[partition] = timestamp_ms
        self._empty_at.pop(partition, None)

    def gave_nothing(self, partition: TopicPartition, end: int | None) -> None:
        """Note that a partition was asked for a while and gave nothing: nobody waits for it until its end moves."""
        self._empty_at[partition] = end

    def choose(
        self, ready: Iterable[TopicPartition], ends: Mapping[TopicPartition, int | None], behind: Iterable[TopicPartition]
    ) -> list[TopicPartition]:
        """Return those that are not ahead of any that has more to give.

        Args:
            ready: May be read now.
            ends: The known end of every assigned partition; None: not known yet.
            behind: Those whose end is not reached, or not known.
        """
        reached = self._reached_ms
        waited_for = [at for at in behind if at not in self._empty_at or self._empty_at[at] != ends[at]]
        floor_ms = min((reached.get(at, -1) for at in waited_for), default=None)
        return [at for at in ready if floor_ms is None or reached.get(at, -1) <= floor_ms]
