"""The follow agent: folds the training log without owning it, beside the learner, in a process of its own.

It restores what the learner would restore, folds the same records and holds the same branches; it claims and appends
nothing. Four things come of it:
    1. A learner in the same process that gets the training log begins with this state instead of a snapshot.
    2. Digests at agreed positions are compared with those of every other member. Where they differ, this follower
       says so and stops: its state is no longer used for anything. The process goes on.
    3. Where followers take the snapshots, the one that the group `tailrace.<loop>.follow` gives the training log to
       writes them; it asks by a commit before each one whether it still is that one.
    4. A process that scores too serves this state, which waits for no publication.

An example at which a model raises here must raise at the learner too: the follower waits for the skip in the log,
then restores and folds again. A learner that goes on without one has come to something else; unless it does not fold
that branch, having other libraries: then the follower goes on without it too. It does so as well where a branch that
does not serve cannot be warmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from time import perf_counter

import structlog
from mode import Service

from tailrace.domain.branches import part_name
from tailrace.domain.errors import CodecError, FoldError, ForeignLogError, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.notices import Logged, Notices
from tailrace.domain.positions import Position, offset_of, row_of, show
from tailrace.domain.proof import Comparison, Digests, Divergence
from tailrace.domain.state import LoopState
from tailrace.domain.status import MemberStatus, Role, RoleState
from tailrace.streams.agreed_digests import AgreedDigests
from tailrace.streams.announcements import Announcements, in_words
from tailrace.streams.followers import Models, untold
from tailrace.streams.hearing import following, heartbeats_of_others
from tailrace.streams.held_back import HeldBack
from tailrace.streams.log import Commit, Reader, RecordBatch, Source, TopicPartition
from tailrace.streams.restoring import Restoring
from tailrace.streams.role import RoleReport
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.snapshot_writer import SnapshotWriter
from tailrace.streams.training_log import TrainingLog, logged
from tailrace.streams.warming import SLICE_S, Warming, WarmingFailed
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

_ASK_AGAIN_S = 0.2  # for a skip that the learner has to append


@dataclass(frozen=True, slots=True)
class FollowParts:
    """What the follow agent works with.

    Attributes:
        models: Of this process.
        serves: Whether this process answers anything.
        takes_snapshots: Whether followers take the snapshots of this loop.
        member: The name of this process, whose own heartbeats say nothing new.
        status_topic: Where the others tell their digests.
        clock_s: Never goes back.
    """

    fold: Fold
    models: Models
    serves: bool
    training: TrainingLog
    reader: Reader
    index: SnapshotIndex
    restoring: Restoring
    writer: SnapshotWriter
    announcements: Announcements
    recorder: Recorder
    report: RoleReport
    takes_snapshots: bool
    member: str
    status_topic: str
    clock_s: Callable[[], float]


class FollowAgent(Service):
    """Follows the training log of one loop."""

    def __init__(self, parts: FollowParts) -> None:
        super().__init__()
        self.digests = AgreedDigests(parts.fold, parts.clock_s)
        self._parts = parts
        self._source: Source | None = None
        self._state: LoopState | None = None
        self._notices = Notices()
        self._comparison = Comparison()
        self._equal_told = 0
        self._told: Digests | None = None  # the furthest of the learner
        self._held_back = HeldBack()
        self._is_writer = False
        self._has_read_index = False
        self._is_lent = False
        self._resumed = asyncio.Event()
        self._one_asks = asyncio.Lock()  # snapshots and publications are written beside each other
        self._at_block_end = asyncio.Lock()  # held while a record is folded or the state is encoded
        self._row_s = 50e-6  # cost of one example, followed as it changes
        self._new = untold()

    @property
    def followed(self) -> LoopState | None:
        """What was folded so far; None while this follower restores, has lent it, or stays down."""
        return self._state

    @property
    def is_down(self) -> bool:
        """Whether it has stopped for good."""
        return self._parts.report.state is RoleState.FAILED

    # ── the group, which says who writes ────────────────────────────────────────────────────────────────────────

    def attach(self, source: Source) -> None:
        """Give the group member; nothing is read by it."""
        self._source = source

    async def run(self, batches: AsyncIterable[RecordBatch]) -> None:
        """The Faust agent; its source stays paused, so nothing comes."""
        async for batch in batches:
            log.warning("a batch came although nothing is asked for", records=len(batch.records))

    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
        """Take the snapshots from now on, if this member has the training log."""
        del generation
        self._parts.recorder.rebalanced(Role.FOLLOW)
        self._is_writer, self._has_read_index = self._parts.training.partition in partitions, False

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Take no snapshots any more."""
        if self._parts.training.partition in partitions:
            self._is_writer = False
            self._parts.recorder.forget_partition(Role.FOLLOW, self._parts.training.partition.topic, 0)

    @property
    def is_writer(self) -> bool:
        """Whether this member is the one of all followers that takes snapshots, if followers do."""
        return self._is_writer and self._parts.takes_snapshots and not self.is_down

    async def may_write(self) -> bool:
        """Ask by a commit whether this member still is the one that writes; read what the one before it wrote."""
        async with self._one_asks:
            state, source, partition = self._state, self._source, self._parts.training.partition
            if source is None or not self.is_writer:
                return False
            known = await source.committed(partition)
            at = Commit(offset_of(state.position)) if state is not None else known or Commit(0)
            if not await source.commit({partition: at}):
                return False
            if not self._has_read_index:
                await self._parts.index.read(self._parts.reader)
                self._has_read_index = True
            return True

    def remark(self) -> str:
        """Say that snapshots wait, if they are taken here, and which branches are not folded; "" while all is well."""
        about_writing = self._parts.writer.remark() if self.is_writer else ""
        return "; ".join(filter(None, (self._held_back.remark(self._state), about_writing)))

    async def on_stop(self) -> None:
        """Write the snapshots that wait."""
        if self.is_writer:
            await self._parts.writer.drain()

    # ── standby ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def take(self) -> LoopState | None:
        """Give the state away to a learner of this process, at a block's end."""
        self._is_lent = True
        self._resumed.clear()
        async with self._at_block_end:
            state, self._state = self._state, None
        self._new.clear()
        self.digests.forget()
        if not self.is_down:
            self._parts.report.set(RoleState.WAITING, "this process learns; it follows again when it no longer does")
        return state

    def resume(self) -> None:
        """Follow again."""
        self._is_lent = False
        self._resumed.set()

    # ── following ───────────────────────────────────────────────────────────────────────────────────────────────

    @Service.task
    async def _live(self) -> None:
        while not self.should_stop and not self.is_down:
            if self._is_lent:
                await self.wait(self._resumed.wait())
                continue
            try:
                await self._follow_until_it_raises()
            except (ForeignLogError, CodecError, SnapshotRefused, WarmingFailed) as problem:
                self._stay_down(str(problem))

    async def _follow_until_it_raises(self) -> None:
        """Follow; where the model raises, wait for the skip, before which it cannot begin again."""
        try:
            await self._follow()
        except FoldError as failure:
            await self._await_skip(failure)

    async def _follow(self) -> None:
        parts, training = self._parts, self._parts.training
        parts.report.set(RoleState.RESTORING, "a snapshot is read")
        await parts.index.read(parts.reader)
        state = await parts.restoring.newest_good(lambda: self.should_stop)
        start, end = offset_of(state.position), (await training.range()).end
        self._notices = await training.notices(start, end, state.ownership)
        self._held_back.leave_out(state)
        await self._hold_missing(state)
        if self._is_lent or self.is_down:
            return
        self._state = state
        self._new.clear()
        parts.writer.restored(state)
        async with following(parts.reader, training.partition, start) as batches:
            async for batch in batches:
                for record in batch:
                    if not await self._step(state, logged(record)):
                        return
                if not await self._step(state, None):
                    return
                self._tell(state, end)
                if offset_of(state.position) >= end:
                    self._serve(state)

    async def _step(self, state: LoopState, record: Logged | None) -> bool:
        """Fold the next record, if there is one, and write what is due; return whether the state is still followed."""
        async with self._at_block_end:
            if self._state is not state or self.should_stop:
                return False
            try:
                if record is not None:
                    await self._fold(state, record)
            except asyncio.CancelledError:
                self._state = None  # whole rows were folded; it may serve to the end
                raise
            except BaseException:
                self._state = None  # half-changed
                self._parts.models.drop_replica()
                raise
            if self._state is state and self.is_writer:
                await self._parts.writer.if_due(state)
            return self._state is state

    async def _fold(self, state: LoopState, record: Logged) -> None:
        parts, counted, decided = self._parts, state.counts.examples, state.pointers.decisions
        block = parts.fold.open(state, record.offset, record.record, record.digest)
        if state.pointers.decisions is not decided:
            await self._hold_missing(state)
        if block is None:
            return
        rows, start = len(block.examples), row_of(state.position)
        while start < rows:
            begun = perf_counter()
            stop = min(rows, start + max(1, int(SLICE_S / self._row_s)))
            parts.fold.learn(state, block, record.offset, start, stop, self._notices)
            self._row_s = 0.8 * self._row_s + 0.2 * max((perf_counter() - begun) / (stop - start), 1e-6)
            start = stop
            await asyncio.sleep(0)
        parts.fold.close(state, record.offset)
        digests = await self.digests.block_closed(state, counted)
        if digests is not None:
            await self._compared(self._comparison.mine(digests))
        parts.recorder.model_position(Role.FOLLOW, record.offset + 1)
        if parts.models.replica is state:
            parts.models.learned(record.offset, block.examples)
        elif parts.serves:
            self._new.append((record.offset, block.examples))

    def _serve(self, state: LoopState) -> None:
        """Let this process answer from what is followed."""
        models = self._parts.models
        if not self._parts.serves or models.replica is state:
            return
        models.replica = state
        models.learned_tail(self._new)

    async def _hold_missing(self, state: LoopState) -> None:
        parts = self._parts
        for branch in self._held_back.missing(parts.fold, state):
            warming = Warming(parts.fold, parts.training, parts.index)
            try:
                warmed = await warming.begin(branch)
                await warming.fold_to(warmed, offset_of(state.position))
            except (ForeignLogError, CodecError, WarmingFailed) as problem:
                if branch.lineage == state.pointers.champion:
                    raise
                await self._go_on_without(state.position, branch.lineage, str(problem))
                continue
            parts.fold.hold(state, warmed.held)
            self._notices.merge(warmed.notices)

    async def _go_on_without(self, position: Position, lineage: str, why: str) -> None:
        self._held_back.add(lineage, why)
        log.error("following goes on without a branch", branch=lineage[:12], why=why)
        await self._parts.announcements.held_back(position, lineage, why)

    def _tell(self, state: LoopState, end: int) -> None:
        """Say how far this follower is, to its group and to people."""
        parts, next_offset = self._parts, offset_of(state.position)
        if self._source is not None and parts.training.partition in self._source.assigned:
            self._source.seek(parts.training.partition, next_offset)
        if next_offset < end:
            parts.recorder.restoring(Role.FOLLOW, end - next_offset)
            parts.report.set(RoleState.RESTORING, f"folded up to offset {next_offset} of {end}")
        else:
            parts.report.set(RoleState.RUNNING)

    # ── a model that raises ─────────────────────────────────────────────────────────────────────────────────────

    async def _await_skip(self, failure: FoldError) -> None:
        parts, training, at = self._parts, self._parts.training, show(failure.position)
        parts.report.set(RoleState.RESTORING, f"the model raised at {at}; the learner says what is skipped")
        state = await parts.restoring.newest_good(lambda: self.should_stop)
        while not self.should_stop and not self._is_lent:
            told = self._told  # asked first: who has come further has appended the skip before
            notices = await training.notices(offset_of(state.position), (await training.range()).end, state.ownership)
            if failure.position in notices.of(failure.branch).skips:
                return
            if told is not None and told.position > failure.position:
                await self._judge(failure, told)
                return
            await self.sleep(_ASK_AGAIN_S)

    async def _judge(self, failure: FoldError, told: Digests) -> None:
        """Say what it means that the learner has come further without a skip."""
        part, at = part_name(failure.branch), failure.position
        if part in told.parts:
            await self._diverge(Divergence(at, self._comparison.equal_at, "the learner", (part,)))
        else:
            why = f"its model raised {type(failure.cause).__name__} at {show(at)}, and the learner does not fold it"
            await self._go_on_without(at, failure.branch, why)

    # ── what others came to ─────────────────────────────────────────────────────────────────────────────────────

    @Service.task
    async def _listen(self) -> None:
        partition = TopicPartition(self._parts.status_topic, 0)
        held = await self._parts.reader.range_of(partition)
        async with following(self._parts.reader, partition, held.end) as batches:
            async for batch in batches:
                if self.should_stop or self.is_down:
                    return
                for status in heartbeats_of_others(batch, self._parts.member):
                    await self._hear(status)

    async def _hear(self, status: MemberStatus) -> None:
        if not any(each.role is Role.LEARN and each.state is RoleState.RUNNING for each in status.roles):
            return  # One that follows and is wrong must not bring down those that are right: all ask the learner.
        told: list[Digests] = [each for each in status.digests if each.lineage == self._parts.fold.lineage]
        known = [] if self._told is None else [self._told]
        self._told = max([*known, *told], key=lambda each: each.position, default=None)
        await self._compared(self._comparison.theirs(status.member, told))

    async def _compared(self, found: Divergence | None) -> None:
        equal, self._equal_told = self._comparison.equal - self._equal_told, self._comparison.equal
        self._parts.recorder.digests_compared(equal)
        if found is not None and self._state is not None and not self.is_down:
            await self._diverge(found)

    async def _diverge(self, found: Divergence) -> None:
        self._parts.recorder.diverged()
        self._parts.models.drop_replica()
        self._stay_down(f"this follower diverged: {in_words(found)}; `tailrace verify` says which of the two is right")
        await self._parts.announcements.divergence(found)

    def _stay_down(self, reason: str) -> None:
        log.error("following stays down, the process goes on", why=reason)
        self._state, self._is_writer = None, False
        self._new.clear()
        self.digests.forget()
        self._parts.report.set(RoleState.FAILED, reason)
        self.add_future(self._leave())

    async def _leave(self) -> None:
        """Leave the group, so that another follower takes the snapshots."""
        if self._source is not None:
            await self._source.stop()
