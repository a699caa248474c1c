"""One member of a consumer group on Apache Kafka.

Around one aiokafka group consumer: partitions that may not deliver are simply not asked for, so membership is
kept. aiokafka sends no heartbeat while its assignment callback runs, so what an assignment brings (claims,
recovery) is done beside it; a revocation first lets that end, then finishes what is in flight.
"""

# ruff: noqa: SLF001 - commit metadata, the state of the coordinator and the fetcher's patience have no public methods.
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from mode import Service

from tailrace.domain.errors import ForeignLogError, LogError, LogUnavailable, UnexplainedState
from tailrace.streams.kafka_client import (
    ASKED_S,
    RETRY_S,
    KafkaOptions,
    Waiting,
    close_consumer,
    explained,
    is_outage,
    keep_trying,
    new_consumer,
    start_or_close,
    topics_of,
)
from tailrace.streams.leaders import with_leader
from tailrace.streams.log import Assignment, BatchSink, Commit, RecordBatch, SourceSpec, TopicPartition
from tailrace.streams.membership import MemberSource
from tailrace.streams.watchdog import ParkedWatch, StallWatch, parked
from tailrace.streams.witness import Witnesses, gone

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 50
FETCH_BYTES = 1 << 20
# aiokafka asks a broker for nothing while it holds records of one of its partitions that nobody has taken, by itself
# for 100 ms: where a partition waits for another to catch up, every batch of the other one would cost that. This is
# more than any pace of a source.
UNTAKEN_WAIT_S = 0.015
# Partitions that are added to a topic are seen within this time, in place of Kafka's five minutes.
METADATA_AGE_MS = 5_000
# Longer than the slowest round trip that is borne: one request is on its way to a broker at a time.
HEARD_S = 6.0
# In a row, of four fetch waits each, before nobody waits for a partition: a busy broker may be silent for a while.
EMPTY_POLLS = 5
LAST_COMMIT_S = 2.0
# Well under max_poll_interval (300 s), after which aiokafka leaves the group.
TOUCH_EVERY_S = 10.0
# A look at every partition, between two polls: only where nothing more comes does it matter how far was read.
NOTE_EVERY_S = 1.0
# Asked for instead of partitions that may not deliver: no topic has an empty name.
_NOTHING = KafkaPartition("", 0)

_REFUSED = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class _Kept(NamedTuple):
    """Records that were fetched and wait for other partitions to catch up; they count while nothing else moved."""

    generation: int
    position: int
    records: Sequence[ConsumerRecord]


class KafkaSource(MemberSource):
    """A group member that reads with `getmany`."""

    def __init__(self, options: KafkaOptions, spec: SourceSpec, sink: BatchSink, assignment: Assignment | None) -> None:
        super().__init__(spec, sink, assignment)
        self._options = options
        self._consumer: AIOKafkaConsumer | None = None
        self._taking: asyncio.Future[None] | None = None
        self._moving = asyncio.Lock()
        self._ends: dict[TopicPartition, int] = {}
        self._ends_s = 0.0
        self._told: dict[TopicPartition, tuple[int, float]] = {}  # Kafka's last answer, and when it was seen first
        self._empty_polls = 0
        self._touched_s = 0.0
        self._outage: Waiting | None = None
        self._undelivered: set[TopicPartition] = set()
        self._kept: dict[TopicPartition, _Kept] = {}
        self._witnesses = Witnesses()
        self._passed: dict[TopicPartition, tuple[int, int]] = {}  # behind the last record, and where reading goes on
        self._noted_s = 0.0

    # ---- life

    async def on_stop(self) -> None:
        """Finish and commit, with a deadline."""
        await self.lose()

    async def on_shutdown(self) -> None:
        """Leave the group, with a deadline; nothing of this source asks Kafka any more."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer)

    @Service.task
    async def _read_on(self) -> None:
        try:
            consumer = await keep_trying(self._connect, self._options, "join a group", gives_up=self._stops)
            await self._topics_exist(consumer)
        except LogUnavailable:
            if self.should_stop:
                return
            raise
        if self.should_stop:
            return
        consumer.subscribe(self.spec.topics, listener=_Listener(self))
        while not self.should_stop:
            try:
                await self._poll(consumer)
            except ConsumerStoppedError:
                return

    def _stops(self) -> bool:
        return bool(self.should_stop)

    async def _connect(self) -> AIOKafkaConsumer:
        spec = self.spec
        consumer = new_consumer(
            self._options,
            group_id=spec.group,
            group_instance_id=spec.instance_id,
            enable_auto_commit=False,
            # Where to begin is decided here, never by a reset inside aiokafka that nobody sees.
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            metadata_max_age_ms=METADATA_AGE_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            session_timeout_ms=spec.session_timeout_ms,
            heartbeat_interval_ms=max(100, spec.session_timeout_ms // 5),
            # An assignment that is still being taken up, then what is in flight, then the last commit.
            rebalance_timeout_ms=max(spec.session_timeout_ms, int(2 * spec.revoke_timeout_s * 1_000) + 5_000),
            partition_assignment_strategy=(
                RangePartitionAssignor if spec.co_partitioned else RoundRobinPartitionAssignor,
            ),
        )
        await start_or_close(consumer)
        consumer._fetcher._prefetch_backoff = UNTAKEN_WAIT_S
        self._consumer = consumer
        return consumer

    async def _topics_exist(self, consumer: AIOKafkaConsumer) -> None:
        said_s = 0.0
        while not self.should_stop:
            known = await keep_trying(partial(topics_of, consumer), self._options, "list topics", gives_up=self._stops)
            missing = sorted(set(self.spec.topics) - known)
            if not missing:
                return
            if time.monotonic() - said_s > TOUCH_EVERY_S:
                said_s = time.monotonic()
                log.warning("%s waits for topics that do not exist yet: %s", self.label, ", ".join(missing))
            await self.sleep(RETRY_S)

    # ---- assignment

    def arrived(self, partitions: Iterable[KafkaPartition]) -> None:
        """Begin with partitions that the group gave to this member."""
        self._taking = self.add_future(self._take_over(frozenset(TopicPartition(*each) for each in partitions)))

    async def lose(self) -> None:
        """Let go of everything, in order."""
        taking = self._taking
        if taking is not None and not taking.done():
            if not self.should_stop:
                await asyncio.wait([taking], timeout=self.spec.revoke_timeout_s)
            taking.cancel()
        async with self._moving:
            await self._release()

    async def _take_over(self, partitions: frozenset[TopicPartition]) -> None:
        async with self._moving:
            consumer = self._consumer
            if consumer is None or self.should_stop:
                return
            positions = await self._positions(consumer, partitions)
            self._passed.clear()
            try:
                for partition, offset in positions.items():
                    self._witnesses.lost_sight(partition)
                    consumer.seek(KafkaPartition(*partition), offset)
            except IllegalStateError:
                return  # Revoked in the meantime.
            if self.spec.start_paused:
                consumer.pause(*(KafkaPartition(*partition) for partition in positions))
            await self._take(positions)

    async def _positions(
        self, consumer: AIOKafkaConsumer, partitions: frozenset[TopicPartition]
    ) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        theirs = [KafkaPartition(*partition) for partition in partitions]

        async def ask() -> tuple[Mapping[KafkaPartition, Commit], Mapping[KafkaPartition, int]]:
            coordinator = consumer._coordinator
            assert coordinator is not None
            offsets = await coordinator.fetch_committed_offsets(theirs)
            new = [tp for tp in theirs if tp not in offsets]
            async with asyncio.timeout(ASKED_S):  # meanwhile it may be known that a leader is gone
                return offsets, await consumer.beginning_offsets(with_leader(consumer, new))

        committed, first = await keep_trying(ask, self._options, "read group offsets", gives_up=self._stops)
        missing = [tp for tp in theirs if tp not in committed]
        if missing and not (self.spec.from_earliest or self.spec.start_paused):
            raise LogError(
                f"group {self.spec.group} has no offset for {missing[0].topic}/{missing[0].partition} and may not "
                "begin at the earliest record; restore the group's offsets"
            )
        if missing and not self.spec.start_paused:
            places = ", ".join(
                f"{tp.topic}/{tp.partition} at {first.get(tp, 'what it holds when it has a leader')}"
                for tp in sorted(missing)
            )
            log.warning("%s has no position and begins at the first record: %s", self.label, places)
        # One without a leader begins at 0 and, where that is gone, at the first offset that the fetch then finds.
        return {TopicPartition(*tp): committed[tp].offset if tp in committed else first.get(tp, 0) for tp in theirs}

    # ---- records

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        self._progress.clear()
        generation, begun = self._generation, {at: each.position for at, each in self._completions.items()}
        ready = []
        if self._taking is not None and self._taking.done():
            ready = [KafkaPartition(*partition) for partition in self._completions if self._may_deliver(partition)]
        try:
            if ready:
                fetched = await self._fetch(consumer, ready)
            else:
                fetched = {}
                await self._wait_for_room(consumer)
        except OffsetOutOfRangeError as error:
            await self._out_of_range(consumer, error, generation)
            return
        except KafkaError as error:
            if isinstance(error, ConsumerStoppedError) or self.should_stop:
                raise ConsumerStoppedError from error
            await self._trouble(error)
            return
        if not fetched:
            self._note_passed(consumer, ready, generation)
        else:
            if self._outage is not None:
                self._outage.over()
                self._outage = None
            self._touched_s = begun_s = time.monotonic()
            if await self._deliver_all(fetched, generation, begun):
                self._note_passed(consumer, ready, generation)
            if sum(map(len, fetched.values())) < self.spec.max_records:
                await asyncio.sleep(max(0.0, begun_s + self.spec.pace_s - time.monotonic()))

    async def _deliver_all(
        self,
        fetched: Mapping[KafkaPartition, Sequence[ConsumerRecord]],
        generation: int,
        begun: Mapping[TopicPartition, int],
    ) -> bool:
        """Deliver what was fetched; return whether all of it was, or is kept."""
        self._undelivered = {TopicPartition(*theirs) for theirs in fetched}
        are_delivered = True
        for theirs, records in fetched.items():
            partition = TopicPartition(*theirs)
            completion = self._completions.get(partition)
            # Not after a rebalance or a seek in the meantime, nor while the last commit may be on its way: these come
            # again, or are another member's.
            is_ours = generation == self._generation and not self._releasing
            if is_ours and completion is not None and completion.position == begun[partition]:
                new = self._witnesses.check(partition, records, time.monotonic())
                if new:
                    await self._deliver(RecordBatch(partition, generation, self._without_rest(partition, new)))
            else:
                are_delivered = False
            self._undelivered.discard(partition)
        return are_delivered

    def _note_passed(self, consumer: AIOKafkaConsumer, ready: Sequence[KafkaPartition], generation: int) -> None:
        """Note how far was read; while nothing is fetched, else what lies between may be a record."""
        now_s, assignment = time.monotonic(), consumer._subscription.subscription.assignment
        is_due = now_s - self._noted_s >= NOTE_EVERY_S
        if not is_due or generation != self._generation or self._releasing or assignment is None:
            return
        self._noted_s = now_s
        for theirs in ready:
            partition = TopicPartition(*theirs)
            completion = self._completions.get(partition)
            if completion is None or partition in self._kept or theirs not in assignment.tps:
                continue
            state = assignment.state_value(theirs)
            if state.has_valid_position:
                self._passed[partition] = (
                    completion.position,
                    max(self.passed(partition, completion.position), state.position),
                )

    async def _fetch(
        self, consumer: AIOKafkaConsumer, ready: Sequence[KafkaPartition]
    ) -> Mapping[KafkaPartition, Sequence[ConsumerRecord]]:
        limit, chosen = self.spec.max_records, self._chosen(ready)
        if not chosen:
            await self._wait_for_room(consumer)
            return {}
        fetched: Mapping[KafkaPartition, Sequence[ConsumerRecord]]
        if fetched := self._kept_of(chosen):
            return fetched
        self._ask_witnesses(consumer, chosen)
        fetched = await consumer.getmany(*chosen, timeout_ms=0, max_records=limit)
        if fetched or self._chosen(ready) != chosen:
            return fetched
        # Whichever comes first: records, or room on another partition. A poll that is cancelled took no records.
        poll = asyncio.ensure_future(consumer.getmany(*chosen, timeout_ms=FETCH_WAIT_MS * 4, max_records=limit))
        room = asyncio.ensure_future(self._progress.wait())
        try:
            await asyncio.wait([poll, room], return_when=asyncio.FIRST_COMPLETED)
        finally:
            room.cancel()
            if not poll.done():
                poll.cancel()
                await asyncio.wait([poll])
        if not poll.cancelled():
            fetched = poll.result()
            found_new = not all(
                self._witnesses.is_only_asked(TopicPartition(*theirs), records) for theirs, records in fetched.items()
            )
            self._empty_polls = 0 if found_new else self._empty_polls + 1
            if self._empty_polls >= EMPTY_POLLS and self._abreast is not None:
                for partition in map(TopicPartition._make, chosen):
                    self._abreast.gave_nothing(partition, self.end_offset(partition))
        return fetched

    def _ask_witnesses(self, consumer: AIOKafkaConsumer, chosen: Sequence[KafkaPartition]) -> None:
        now_s = time.monotonic()
        for theirs in chosen:
            partition = TopicPartition(*theirs)
            offset = self._witnesses.asks(partition, self._completions[partition].position, now_s)
            if offset is not None:
                with suppress(IllegalStateError):  # It is being revoked.
                    consumer.seek(theirs, offset)

    def _chosen(self, ready: Sequence[KafkaPartition]) -> list[KafkaPartition]:
        return [KafkaPartition(*each) for each in self._those_abreast([TopicPartition(*each) for each in ready])]

    def _without_rest(self, partition: TopicPartition, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """Return what may be delivered now; keep what is too far ahead of other partitions."""
        count = len(records) if self._abreast is None else self._abreast.part_of(partition, records)
        if count < len(records):
            self._kept[partition] = _Kept(self._generation, records[count - 1].offset + 1, records[count:])
        return records[:count]

    def _kept_of(self, chosen: Sequence[KafkaPartition]) -> dict[KafkaPartition, Sequence[ConsumerRecord]]:
        found = {}
        for theirs in chosen:
            partition = TopicPartition(*theirs)
            kept = self._kept.pop(partition, None)
            if kept and (kept.generation, kept.position) == (self._generation, self._completions[partition].position):
                found[theirs] = kept.records
        return found

    async def _wait_for_room(self, consumer: AIOKafkaConsumer) -> None:
        if time.monotonic() - self._touched_s > TOUCH_EVERY_S:
            self._touched_s = time.monotonic()
            await consumer.getmany(_NOTHING, timeout_ms=0)
        try:
            async with asyncio.timeout(FETCH_WAIT_MS / 1_000):
                await self._progress.wait()
        except TimeoutError:
            pass

    async def _out_of_range(self, consumer: AIOKafkaConsumer, error: OffsetOutOfRangeError, generation: int) -> None:
        offsets: dict[KafkaPartition, int] = error.args[0]
        for theirs, offset in offsets.items():
            name, partition = f"{theirs.topic}/{theirs.partition}", TopicPartition(*theirs)
            ends = partial(consumer.end_offsets, [theirs])
            end = await keep_trying(ends, self._options, "list offsets", gives_up=self._stops)
            if generation != self._generation or self._releasing:
                return
            if self._witnesses.is_asked(partition, offset):
                if offset >= end[theirs]:
                    raise ForeignLogError(gone(partition, offset))
                # Only the record that is known was deleted; what comes behind it may still be there.
                self._witnesses.forget(partition)
                consumer.seek(theirs, offset + 1)
                continue
            if self.spec.start_paused and offset <= end[theirs] and self.on_deleted(partition):
                log.error("%s: offset %d of %s is gone; the partition is not read on", self.label, offset, name)
                self.pause((partition,))
                continue
            if self.spec.start_paused or not self.spec.from_earliest or offset > end[theirs]:
                raise ForeignLogError(
                    f"offset {offset} of {name} is not in Kafka any more, or not yet. The topic was truncated or "
                    "created anew, or it is another one: restore it, or start the loop anew under another name"
                )
            ask = partial(consumer.beginning_offsets, [theirs])
            first = await keep_trying(ask, self._options, "list offsets", gives_up=self._stops)
            if generation != self._generation or self._releasing:
                return
            log.error("%s: offset %d of %s is gone; it goes on at %d", self.label, offset, name, first[theirs])
            consumer.seek(theirs, first[theirs])
            self.seek(partition, first[theirs])

    async def _trouble(self, error: KafkaError) -> None:
        if not is_outage(error):
            raise explained(error, self._options) from error
        self._outage = self._outage or Waiting(self._options, "read")
        self._outage.say(error)
        await self.sleep(RETRY_S)

    # ---- what agents ask for

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Deliver from this offset next."""
        if partition in self._completions:
            self._fetch_from(partition, offset)
        super().seek(partition, offset)

    def give_back(self, batch: RecordBatch) -> None:
        """Say that nobody works on a batch, nor on those of its partition behind it: they are delivered again."""
        if self._is_in_flight(batch):
            self._fetch_from(batch.partition, batch.records[0].offset)
        super().give_back(batch)

    def _fetch_from(self, partition: TopicPartition, offset: int) -> None:
        if self._consumer is not None:
            self._witnesses.lost_sight(partition)
            with suppress(IllegalStateError):  # It is being revoked.
                self._consumer.seek(KafkaPartition(*partition), offset)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver and fetch nothing of these until resumed."""
        named = self._completions.keys() & set(partitions)
        if self._consumer is not None and named:
            with suppress(IllegalStateError):
                self._consumer.pause(*(KafkaPartition(*partition) for partition in named))
        super().pause(named)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver again."""
        named = self._paused.intersection(partitions)
        if self._consumer is not None and named:
            with suppress(IllegalStateError):
                self._consumer.resume(*(KafkaPartition(*partition) for partition in named))
        super().resume(named)

    async def commit(self, commits: Mapping[TopicPartition, Commit]) -> bool:
        """Commit now, through an outage; False when refused, or when stopping takes too long."""
        consumer, generation = self._consumer, self._generation
        theirs = {KafkaPartition(*partition): tuple(commit) for partition, commit in commits.items()}
        waiting = Waiting(self._options, "commit")
        while consumer is not None and generation == self._generation and commits.keys() <= self._completions.keys():
            is_last = self._releasing or self.should_stop
            try:
                async with asyncio.timeout(LAST_COMMIT_S if is_last else ASKED_S):
                    await consumer.commit(theirs)
            except _REFUSED as error:
                log.info("%s: a commit was refused (%s); the records are read again", self.label, type(error).__name__)
                return False
            except (KafkaError, TimeoutError) as error:
                if not is_outage(error):
                    raise explained(error, self._options) from error
                waiting.say(error)
                if is_last:
                    return False
                await asyncio.sleep(RETRY_S)
            else:
                waiting.over()
                return True
        return False

    async def committed(self, partition: TopicPartition) -> Commit | None:
        """Return what the group last committed, metadata included."""
        consumer = self._consumer
        if consumer is None:
            raise LogUnavailable(f"{self.label} has not reached Kafka yet")
        coordinator = consumer._coordinator
        assert coordinator is not None
        theirs = KafkaPartition(*partition)
        found = await keep_trying(
            lambda: coordinator.fetch_committed_offsets([theirs]), self._options, "read group offsets"
        )
        return Commit(found[theirs].offset, found[theirs].metadata or "") if theirs in found else None

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The end of the partition as of the last fetch: what a transaction left behind its records is not counted."""
        theirs, consumer, asked = KafkaPartition(*partition), self._consumer, self._ends.get(partition)
        if consumer is None or theirs not in consumer.assignment():
            return asked
        state = consumer._subscription.subscription.assignment.state_value(theirs)
        end = max((end for end in (state.highwater, asked) if end is not None), default=None)
        completion = self._completions.get(partition)
        is_read = end is not None and state.has_valid_position and state.position >= end
        is_delivered = partition not in self._undelivered and partition not in self._kept
        return completion.position if is_read and is_delivered and completion is not None else end

    def passed(self, partition: TopicPartition, position: int) -> int:
        """Return how far a partition was read without a record, where `position` follows the last one delivered."""
        noted, passed = self._passed.get(partition, (position, position))
        return max(position, passed) if noted == position else position

    def hears(self, partition: TopicPartition) -> bool:
        """Whether Kafka has told the end of a partition within the last seconds: it is quiet only then."""
        theirs, consumer = KafkaPartition(*partition), self._consumer
        if consumer is None or theirs not in consumer.assignment():
            return False
        if partition in self._paused:
            return partition in self._ends and time.monotonic() - self._ends_s < HEARD_S
        told = consumer._subscription.subscription.assignment.state_value(theirs).timestamp
        if told is None:
            return False
        now_s = time.monotonic()
        before, since_s = self._told.get(partition, (None, now_s))
        if told != before:  # on a clock that may be set
            since_s = now_s
            self._told[partition] = told, now_s
        return now_s - since_s < HEARD_S

    # ---- watching

    @Service.task
    async def _watch(self) -> None:
        parked_watch, stall_watch = ParkedWatch(), StallWatch()
        while not self.should_stop:
            await self.sleep(1.0)
            consumer = self._consumer
            if consumer is None or self.should_stop:
                continue
            reason = parked_watch.look(parked(consumer))
            if reason is not None:
                raise explained(reason, self._options) from reason
            stalled = stall_watch.look(self._deliverable_lag(consumer), time.monotonic())
            if stalled and await self._kafka_answers(consumer, stalled):
                raise UnexplainedState(
                    f"{self.label} has lag on {stalled[0].topic}/{stalled[0].partition} and gets nothing although "
                    "Kafka answers. The process ends so that it is started anew"
                )
            await self._ask_for_ends(consumer)

    def _deliverable_lag(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        lag = self.lag()
        ready = [
            partition
            for partition, completion in self._completions.items()
            if lag.get(partition, 0) > 0 and self._may_deliver(partition) and not completion.in_flight
        ]
        # One without a leader stands still for a reason that is known.
        ready = [TopicPartition(*each) for each in with_leader(consumer, [KafkaPartition(*at) for at in ready])]
        # One that is ahead in time of the others stands still on purpose.
        return {partition: self._completions[partition].position for partition in self._those_abreast(ready)}

    async def _kafka_answers(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> bool:
        try:
            async with asyncio.timeout(ASKED_S):
                await consumer.end_offsets([KafkaPartition(*partition) for partition in partitions])
        except (KafkaError, TimeoutError, OSError):
            return False
        return True

    async def _ask_for_ends(self, consumer: AIOKafkaConsumer) -> None:
        # Nothing is fetched of paused partitions, so their ends are not seen either.
        if not self._paused:
            self._ends.clear()
            return
        asked = with_leader(consumer, [KafkaPartition(*partition) for partition in self._paused])
        try:
            async with asyncio.timeout(ASKED_S):
                ends = await consumer.end_offsets(asked)
        except (KafkaError, TimeoutError, OSError):
            return
        self._ends, self._ends_s = {TopicPartition(*theirs): end for theirs, end in ends.items()}, time.monotonic()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes aiokafka's calls on; aiokafka drops what these raise, so they crash the source instead."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:  # noqa: ARG002 - all, always
        try:
            await self._source.lose()
        except Exception as error:  # noqa: BLE001 - crash() tells it to whoever supervises
            await self._source.crash(error)

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        self._source.arrived(assigned)
