"""The join agent: scored events and labels in, blocks of the training log out.

One `PartitionJoin` per assigned partition; this hands it the batches that are its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence

from mode import Service

from tailrace.domain.errors import LogError
from tailrace.domain.status import Role, RoleState
from tailrace.streams.join_writer import JoinParts, JoinTopics
from tailrace.streams.letting_go import let_go
from tailrace.streams.log import RecordBatch, Source, TopicPartition
from tailrace.streams.partition_join import PartitionJoin
from tailrace.streams.topic_watch import RESTORE_IT

__all__ = ["JoinAgent", "JoinParts", "JoinTopics"]


class JoinAgent(Service):
    """Hands the batches of every assigned partition to its join."""

    def __init__(self, parts: JoinParts) -> None:
        super().__init__()
        self._parts = parts
        self._source: Source | None = None
        self._joins: dict[int, PartitionJoin] = {}

    def attach(self, source: Source) -> None:
        """Give the source whose batches come, before it starts."""
        self._source, recorder = source, self._parts.recorder
        source.on_complete = lambda batch, seconds: recorder.completed(Role.JOIN, len(batch.records), seconds)
        source.on_deleted = self._on_deleted

    def _on_deleted(self, partition: TopicPartition) -> bool:
        join = self._joins.get(partition.partition)
        if join is not None:
            join.lose_input()
        return join is not None

    @property
    def source(self) -> Source:
        """The group member."""
        assert self._source is not None, "attach() comes first"
        return self._source

    async def run(self, batches: AsyncIterable[RecordBatch]) -> None:
        """The Faust agent: give each batch to the join of its partition."""
        async for batch in batches:
            self._give(batch)

    def _give(self, batch: RecordBatch) -> None:  # apart from `run`, which would hold a join on until the next batch
        join = self._joins.get(batch.partition.partition)
        if join is None or batch.generation != self.source.generation:
            self.source.complete(batch)  # Read again by whoever has the partition; the vector says from where.
        else:
            join.give(batch)

    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
        """Start the joins of the new partitions; the source has them paused until they have recovered."""
        self._parts.recorder.rebalanced(Role.JOIN, self.source.moved_in_s)
        if not partitions:
            self._parts.report.set(
                RoleState.WAITING, "no partition is assigned; there are more members than partitions"
            )
        count = await self._count()
        for number in sorted({partition.partition for partition in partitions}):
            join = PartitionJoin(self._parts, self.source, generation, number, count, self._tell)
            self._joins[number] = join
            await self.add_runtime_dependency(join)

    async def _count(self) -> int:
        """Return how many partitions each input has.

        Raises:
            LogError: One is gone, or they differ, so that an id's records do not lie on partitions of one number.
        """
        topics, reader = self._parts.topics, self._parts.reader
        counts = {name: await reader.partitions(name) for name in (topics.scored, topics.labels, topics.relabelled)}
        gone = [name for name, count in counts.items() if not count]
        if gone:
            raise LogError(
                f"{', '.join(gone)} did not exist when partitions were assigned: it was deleted, or is being created "
                f"anew. {RESTORE_IT}"
            )
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{name} has {count} partitions" for name, count in counts.items())
            raise LogError(
                f"{found}; all must have as many, else what belongs together lies on different partitions. Restore the "
                "number of the one that was changed, or give the loop another name"
            )
        return counts[topics.scored]

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Stop the joins; what they had not written is decided again by their successors."""
        del partitions
        joins, self._joins = self._joins, {}
        try:
            # At once: each may take a moment to write what it has read.
            await asyncio.gather(*(let_go(self, join) for join in joins.values()))
        finally:
            for number in joins:
                for topic in self._parts.topics.of(number):
                    self._parts.recorder.forget_partition(Role.JOIN, topic.topic, number)
            self._parts.report.set(RoleState.WAITING, "no partition is assigned")

    def _tell(self) -> None:
        """Tell the state of the partition that is worst off."""
        told = {join.stands: join.why for join in reversed(self._joins.values())}
        worst = next(
            (state for state in (RoleState.FAILED, RoleState.RESTORING, RoleState.RUNNING) if state in told), None
        )
        if worst is not None:
            self._parts.report.set(worst, told[worst])

    @property
    def joins(self) -> Sequence[PartitionJoin]:
        """The partitions that are joined here now."""
        return list(self._joins.values())
