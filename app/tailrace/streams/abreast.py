"""Keeps the partitions that one member reads abreast in time while it catches up.

A watermark is the greatest time that was read: where one partition is read hours ahead of another, the events of the
other one come too late for it. So whoever is behind is read first, by the Kafka timestamps of what was delivered, and
no further than a slack ahead of the others.
Pure: no clock, no I/O. Invariant: a partition that has nothing to give, for whatever reason, holds up no other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tailrace.streams.log import Record, TopicPartition

_NOTHING_READ = -1


class Abreast:
    """Which partitions are read next, and how far.

    Args:
        slack_ms: How far one may be ahead of another.
    """

    __slots__ = ("_empty_at", "_reached_ms", "_slack_ms", "_waited_for")

    def __init__(self, slack_ms: int) -> None:
        self._slack_ms = slack_ms
        self._reached_ms: dict[TopicPartition, int] = {}
        self._empty_at: dict[TopicPartition, int | None] = {}
        self._waited_for: Sequence[TopicPartition] = ()

    def delivered(self, partition: TopicPartition, timestamp_ms: int) -> None:
        """Note the timestamp of the last record that was delivered."""
        self._reached_ms[partition] = timestamp_ms
        self._empty_at.pop(partition, None)

    def gave_nothing(self, partition: TopicPartition, end: int | None) -> None:
        """Note that a partition was asked for a while and gave nothing: nobody waits for it until its end moves."""
        self._empty_at[partition] = end

    def choose(
        self,
        ready: Iterable[TopicPartition],
        ends: Mapping[TopicPartition, int | None],
        behind: Iterable[TopicPartition],
    ) -> list[TopicPartition]:
        """Return those that are not ahead of any that has more to give.

        Args:
            ready: May be read now.
            ends: The known end of every assigned partition; None: not known yet.
            behind: Those whose end is not reached, or not known.
        """
        self._waited_for = [at for at in behind if at not in self._empty_at or self._empty_at[at] != ends[at]]
        floor_ms = min(map(self._reached, self._waited_for), default=None)
        return [at for at in ready if floor_ms is None or self._reached(at) <= floor_ms]

    def part_of(self, partition: TopicPartition, records: Sequence[Record]) -> int:
        """Return how many records of a chosen partition may be delivered at once: at least one."""
        others = [self._reached(at) for at in self._waited_for if at != partition]
        if not others or records[-1].timestamp <= (limit_ms := min(others) + self._slack_ms):
            return len(records)
        return max(1, next(count for count, record in enumerate(records) if record.timestamp > limit_ms))

    def _reached(self, partition: TopicPartition) -> int:
        return self._reached_ms.get(partition, _NOTHING_READ)
