"""The learn agent: the training log in, the state of the loop out.

One owner per loop. The group gives ownership only: the position comes from a snapshot, and the log says by claims
whose records count. It holds every admitted branch that its libraries can fold. The first learner of a log admits the
configured model; where the champion cannot be folded here, the configured model is warmed and promoted before
anything is learned. What people ask for is appended to the log and takes effect where it stands there.

An exception out of a model is a data outcome:
    1. The state is thrown away; the last published state serves meanwhile.
    2. A skip of that position is appended.
    3. An earlier snapshot is restored and the log folded again, the notices of its tail read first. If the skip is
       not among them, another member has claimed the log meanwhile, and this one gives up.
Where the branch that serves raises too often, learning stays down. One that does not serve is retired behind its skip:
it may not cost the others their learning. For the same reason one that does not serve and cannot be warmed is held
back, or retired where its model raises at too much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter, time_ns

import structlog
from mode import Service

from tailrace.domain.branches import Branch
from tailrace.domain.errors import CodecError, FoldError, ForeignLogError, OwnershipLost, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.notices import Logged, Notices
from tailrace.domain.positions import offset_of, row_of, show
from tailrace.domain.records import CommandKind, Owner, RequestKind, Skip
from tailrace.domain.snapshots import Kind
from tailrace.domain.state import LoopState
from tailrace.domain.status import Role, RoleState
from tailrace.streams import failpoints
from tailrace.streams.agreed_digests import AgreedDigests
from tailrace.streams.announcements import Announcements
from tailrace.streams.branch_keeper import BranchKeeper, KeeperParts, refold_is_due
from tailrace.streams.commands import Commands
from tailrace.streams.followers import Models, built_beside, served_branch, serving_of, untold
from tailrace.streams.held_back import HeldBack
from tailrace.streams.learner_part import LearnerPart
from tailrace.streams.letting_go import let_go
from tailrace.streams.log import Commit, Reader, RecordBatch, Source, TopicPartition
from tailrace.streams.other_learners import OtherLearners
from tailrace.streams.patience import Patience
from tailrace.streams.restoring import Restoring
from tailrace.streams.role import RoleReport
from tailrace.streams.sizes import read_bytes
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.snapshot_writer import SnapshotWriter
from tailrace.streams.standby import Standby
from tailrace.streams.training_log import TrainingLog, logged
from tailrace.streams.warming import Warming, WarmingFailed
from tailrace.telemetry.recorder import Recorder
from tailrace.telemetry.traces import Traces

log = structlog.get_logger(__name__)

SLICE_S = 0.005  # of learning, then the event loop turns; a single step may take longer
_TICK_S = 0.1  # how often a quiet log is asked whether a snapshot is due
_RESTARTS = 3  # for one reason, in
_RESTARTS_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class LearnParts:
    """What the learn agent works with.

    Attributes:
        configured: The model of the configuration, as a branch.
        commands: Makes what follows the commands of a log, from an offset on.
        standby: Has a state at hand, where this process follows the log before it owns it.
        digests: At agreed positions, for others to compare.
        others: Compares them with those of other processes that learn at the same time.
        refold_after_ms: Without another correction, or ten times as long with others; then the serving branch is built
            anew with those that it does not know. None: never.
    """

    fold: Fold
    configured: Branch
    commands: Callable[[int, str], Commands]
    training: TrainingLog
    reader: Reader
    index: SnapshotIndex
    restoring: Restoring
    standby: Standby
    writer: SnapshotWriter
    digests: AgreedDigests
    others: OtherLearners
    models: Models
    announcements: Announcements
    recorder: Recorder
    report: RoleReport
    new_owner: Callable[[], Owner]
    now_ms: Callable[[], int]
    refold_after_ms: int | None = None
    traces: Traces | None = None


class LearnAgent(Service):
    """Owns the fold of one loop while this member has the training partition."""

    def __init__(self, parts: LearnParts) -> None:
        super().__init__()
        self._parts = parts
        self._source: Source | None = None
        self._term: Term | None = None

    def attach(self, source: Source) -> None:
        """Give the source whose batches come, before it starts."""
        self._source = source
        recorder = self._parts.recorder
        source.on_commit = lambda done: recorder.committed(Role.LEARN, "ok" if done else "refused")
        source.on_complete = lambda batch, seconds: recorder.completed(Role.LEARN, len(batch.records), seconds)

    @property
    def source(self) -> Source:
        """The group member."""
        assert self._source is not None, "attach() comes first"
        return self._source

    @property
    def live_state(self) -> LoopState | None:
        """The live state; None while this process does not own the log or still restores."""
        return self._term.folded if self._term is not None and self._term.is_live else None

    def remark(self) -> str:
        """Say which branches learning goes on without; "" when it does with all."""
        return "" if self._term is None else self._term.held_back.remark(self.live_state)

    async def run(self, batches: AsyncIterable[RecordBatch]) -> None:
        """The Faust agent."""
        async for batch in batches:
            self._give(batch)

    def _give(self, batch: RecordBatch) -> None:  # apart from `run`, which would hold a term on until the next batch
        term = self._term
        if term is not None and batch.generation == self.source.generation:
            term.give(batch)

    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None:
        """Begin a term as the owner of the training log."""
        del generation
        self._parts.recorder.rebalanced(Role.LEARN, self.source.moved_in_s)
        if self._parts.training.partition in partitions:
            self._term = Term(self._parts, self.source)
            await self.add_runtime_dependency(self._term)
        else:
            self._parts.report.set(RoleState.WAITING, "another member learns; this one takes over when it leaves")

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """End the term."""
        if self._parts.training.partition in partitions and self._term is not None:
            term, self._term = self._term, None
            try:
                await let_go(self, term)
            finally:
                self._parts.recorder.forget_partition(Role.LEARN, self._parts.training.partition.topic, 0)
                self._parts.report.set(RoleState.WAITING, "the training log is not assigned to this member")


class Term(Service):
    """One stretch of ownership: restore, fold, snapshot, until revoked."""

    def __init__(self, parts: LearnParts, source: Source) -> None:
        super().__init__()
        self.folded: LoopState | None = None
        self.is_live = False
        self.held_back = HeldBack()
        self._parts = parts
        self._source = source
        self._inbox: deque[RecordBatch] = deque()
        self._arrived = asyncio.Event()
        self._part = LearnerPart(parts.training, parts.new_owner())
        self._notices = Notices()
        self._commands: Commands | None = None
        self._restarts: dict[tuple[str, str], deque[float]] = {}  # by branch and what it raised
        self._retired: set[str] = set()  # by this term, and not told yet
        self._at_block_end = asyncio.Lock()  # held while a record is folded or the state is encoded
        self._row_s = 50e-6  # cost of one example, followed as it changes
        self._served = 0  # while restoring: offset up to which what serves is folded
        self._new = untold()  # while restoring: of blocks that what serves does not contain

    def give(self, batch: RecordBatch) -> None:
        """Take a batch; the source bounds how many."""
        self._inbox.append(batch)
        self._arrived.set()

    @Service.task
    async def _live(self) -> None:
        try:
            await self._parts.index.read(self._parts.reader)
            state = await self._first_state()
            await self._claim(state)
            while not self.should_stop:
                try:
                    if not await self._catch_up(state):
                        return
                    await self._keeper().hold_missing(state)
                    await self._keeper().ensure_champion(state)
                    await self._begin_to_serve(state)
                    while not self.should_stop:
                        await self._round()
                except FoldError as failure:
                    await self._skip(failure)
                    state = await self._parts.restoring.newest_good(lambda: self.should_stop)  # 3
                    skipped = [(failure.branch, failure.position)]
                    first = offset_of(state.position)
                    self._notices.merge(await self._part.confirmed(first, state.ownership, skipped))
        except OwnershipLost as lost:
            log.info("training log given up", why=str(lost))
        except (ForeignLogError, CodecError, WarmingFailed) as problem:
            if isinstance(problem, CodecError) and self._live_state() is not None:
                await self._snapshot_now()  # nobody folds on from here; what was learned serves after a restart too
            self._stay_down(str(problem))

    async def on_stop(self) -> None:
        """Snapshot what was folded, then let go: also where there is no time for more than that."""
        parts = self._parts
        try:
            commands = [self._commands.stop()] if self._commands is not None else []
            await asyncio.gather(self._rest(), *commands)
            await parts.writer.drain()
        finally:
            for task in self._futures:  # what serves from now on learns no more, and what was folded is let go
                task.cancel()
            if self.is_live:
                self.is_live = False
                parts.models.rest()
            parts.writer.give_up()
            self._let_go(0 if self.folded is None else offset_of(self.folded.position))
            self.folded, self._notices = None, Notices()
            self._new.clear()
            parts.digests.forget()
            parts.standby.resume()

    async def _rest(self) -> None:
        """Take the last snapshot of the term and commit up to it, where there is a live state at the end of a block."""
        if not self.is_live:
            return
        async with self._at_block_end:
            state = self.folded if self.is_live else None  # a model may have raised meanwhile
            if state is None:
                return
            self.is_live = False
            self._parts.models.rest()
            await self._parts.writer.last(state)
        await self._source.commit({self._parts.training.partition: Commit(offset_of(state.position))})

    # ── restoring ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _catch_up(self, state: LoopState) -> bool:
        """Fold up to the present end of the log; return whether it was reached before the term ends."""
        parts, training = self._parts, self._parts.training
        self.folded = state
        begun, first = perf_counter(), offset_of(state.position)
        self._served = self._served_so_far()
        end = (await training.range()).end
        async for record in training.records(first, end):
            await self._fold(record)
            if self.should_stop:
                return False
            done = record.offset + 1 - first
            parts.recorder.restoring(Role.LEARN, end - first - done)
            parts.report.set(RoleState.RESTORING, f"folded {done} of {end - first} records of the log's tail")
        log.info(
            "restored",
            position=show(state.position),
            branches=len(state.branches),
            tail=end - first,
            seconds=round(perf_counter() - begun, 3),
        )
        return True

    def _served_so_far(self) -> int:
        """Return up to which offset of the log somebody has served a state: as far as this process knows."""
        published = next(iter(self._parts.index.newest(Kind.PUBLICATION)), None)
        known = (self._parts.models.serving_position, None if published is None else published.position)
        return max(offset_of(each) for each in (0, *known) if each is not None)

    async def _fold_new(self, state: LoopState) -> None:
        """Fold what was just appended, so that it has taken effect."""
        end = (await self._parts.training.range()).end
        async for record in self._parts.training.records(offset_of(state.position), end):
            await self._fold(record)

    async def _begin_to_serve(self, state: LoopState) -> None:
        parts, training = self._parts, self._parts.training
        if self.should_stop:
            return
        if state.counts.foreign:
            log.warning(
                "examples of other features or targets are in the log; they were not learned",
                foreign=state.counts.foreign,
            )
        self._keeper().say_what_serves(state)
        parts.announcements.champion = state.pointers.champion
        self._source.seek(training.partition, offset_of(state.position))
        self._source.resume((training.partition,))
        self.is_live = True
        parts.models.live = state
        parts.models.learned_tail(self._new)
        parts.writer.restored(state)
        parts.report.set(RoleState.RUNNING)
        if self._commands is None:
            self._commands = parts.commands(state.pointers.commands_next, state.ownership.log_id)
            await self.add_runtime_dependency(self._commands)

    async def _first_state(self) -> LoopState:
        """Return the state that a follower in this process has come to, else that of a snapshot."""
        parts = self._parts
        state = await parts.standby.take()
        if state is not None and await parts.restoring.still_holds(state):
            log.info("the follower's state is taken over", position=show(state.position))
            return state
        parts.models.drop_replica()
        return await parts.restoring.newest_good(lambda: self.should_stop)

    async def _claim(self, state: LoopState) -> None:
        """Claim the learner's part, and read what the tail says that must be known before it is folded."""
        self._notices.merge(await self._part.claim(offset_of(state.position), state.ownership, self._confirm))

    def _keeper(self) -> BranchKeeper:
        parts = self._parts
        return BranchKeeper(
            KeeperParts(
                fold=parts.fold,
                training=parts.training,
                warming=Warming(parts.fold, parts.training, parts.index),
                configured=parts.configured,
                part=self._part,
                announcements=parts.announcements,
                recorder=parts.recorder,
                report=parts.report,
                notices=self._notices,
                held_back=self.held_back,
                retired=self._retired,
                fold_new=self._fold_new,
                read_index=lambda: parts.index.read(parts.reader),
            )
        )

    async def _confirm(self) -> bool:
        partition = self._parts.training.partition
        known = await self._source.committed(partition)
        return await self._source.commit({partition: known or Commit((await self._parts.training.range()).start)})

    # ── folding ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _state(self) -> LoopState:
        assert self.folded is not None
        return self.folded

    async def _round(self) -> None:
        if not self._inbox:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), _TICK_S)
        async with self._at_block_end:
            if self._live_state() is None:
                return
            # Its admission was on its way when the state was restored.
            if self.held_back.missing(self._parts.fold, self._state):
                await self._keeper().hold_missing(self._state)
                self._parts.report.set(RoleState.RUNNING)
            await self._parts.writer.if_due(self._state)
        while self._inbox and not self.should_stop:
            batch = self._inbox[0]
            records, topic = batch.records, batch.partition.topic
            self._parts.recorder.consumed(Role.LEARN, topic, 0, len(records), read_bytes(records))
            for record in batch.records:
                async with self._at_block_end:
                    if not self.is_live:
                        return
                    if offset_of(self._state.position) <= record.offset:
                        with self._parts.recorder.timed("decode"):
                            decoded = logged(record)
                        begun_ns = time_ns()
                        await self._fold(decoded)
                        if self._parts.traces is not None and record.headers:
                            self._parts.traces.learned(record, self._state.position, begun_ns)
                    await self._parts.writer.if_due(self._state)
            self._inbox.popleft()
            self._source.complete(batch)

    async def _fold(self, record: Logged) -> None:
        """Fold one record, in slices of a few milliseconds."""
        state, parts = self._state, self._parts
        fenced, decided, counted = state.counts.fenced_blocks, state.pointers.decisions, state.counts.examples
        block = parts.fold.open(state, record.offset, record.record, record.digest)
        if state.pointers.decisions is not decided:
            await self._tell_decision(state)
        if block is None:
            parts.recorder.learned(examples=0, fenced=state.counts.fenced_blocks - fenced, now_ms=parts.now_ms())
            return
        rows, start, skipped = len(block.examples), row_of(state.position), _skipped(state)
        while start < rows:
            begun = perf_counter()
            stop = min(rows, start + max(1, int(SLICE_S / self._row_s)))
            with parts.recorder.timed("learn"):
                signals = parts.fold.learn(state, block, record.offset, start, stop, self._notices)
            self._row_s = 0.8 * self._row_s + 0.2 * max((perf_counter() - begun) / (stop - start), 1e-6)
            start = stop
            for signal in signals if self.is_live else ():  # what a restart folds again was told before
                parts.recorder.drifted(parts.now_ms())
                await parts.announcements.drift(signal)
            await asyncio.sleep(0)
        parts.fold.close(state, record.offset)
        failpoints.reached("learn.block_folded")
        if rows:
            skipped = _skipped(state) - skipped
            parts.recorder.learned(examples=rows - skipped, skipped=skipped, now_ms=parts.now_ms())
            if self.is_live:  # what a restart folds again was known before
                parts.models.learned(record.offset, block.examples)
            elif record.offset >= self._served:
                self._new.append((record.offset, block.examples))
        if self.is_live:
            digests = await parts.digests.block_closed(state, counted)
            if digests is not None:
                await parts.others.mine(digests)
        parts.recorder.model_position(Role.LEARN, record.offset + 1)

    async def _tell_decision(self, state: LoopState) -> None:
        parts, decision = self._parts, state.pointers.decisions[-1]
        parts.announcements.champion = state.pointers.champion
        parts.recorder.decided(decision.kind, is_refused=bool(decision.refusal))
        is_ours = decision.kind == CommandKind.RETIRE and decision.branch in self._retired
        if self.is_live or is_ours:  # what else a restart folds again was told before
            await parts.announcements.decision(decision)
        if is_ours:
            self._retired.remove(decision.branch)
        log.info(
            "decided",
            kind=decision.kind,
            branch=decision.branch[:12],
            refusal=decision.refusal or None,
            by=decision.by,
            epoch=decision.epoch,
            position=show(decision.position),
        )

    # ── what people ask for ─────────────────────────────────────────────────────────────────────────────────────

    @Service.task
    async def _obey(self) -> None:
        while not self.should_stop:
            commands = self._commands
            if commands is None or not commands.waiting or self._live_state() is None:
                await self.sleep(_TICK_S)
                continue
            asked = commands.waiting[0]
            if asked.request.kind is RequestKind.SNAPSHOT:
                await self._snapshot_now(asked.request.id)
            elif not await self._keeper().carry_out(asked, self._live_state, self._at_block_end):
                continue
            commands.waiting.popleft()

    @Service.task
    async def _apply_corrections(self) -> None:
        quiet_ms = self._parts.refold_after_ms
        if quiet_ms is None:
            return
        clock, patience = asyncio.get_running_loop().time, Patience(quiet_ms / 1_000)
        while not self.should_stop:
            await self.sleep(_TICK_S)
            state = self._live_state()
            if state is None or not refold_is_due(state):
                patience.nothing_waits()
            elif patience.is_over(state.corrections_end, clock()):
                begun_s = clock()
                await self._keeper().refold(self._live_state, self._at_block_end)
                patience.applied(clock() - begun_s, clock())

    async def _snapshot_now(self, command_id: str = "") -> None:
        if not self._parts.writer.writes:
            if command_id:
                why = "a follower takes the snapshots of this loop, when due"
                await self._parts.announcements.refused(command_id, why)
            return
        async with self._at_block_end:
            state = self._live_state()
            if state is not None:
                await self._parts.writer.last(state)

    def _live_state(self) -> LoopState | None:
        return self.folded if self.is_live and not self.should_stop else None

    # ── a model that raises ─────────────────────────────────────────────────────────────────────────────────────

    async def _skip(self, failure: FoldError) -> None:
        parts, cause = self._parts, type(failure.cause).__name__
        pointers, fails_often = self._state.pointers, self._too_often(failure.branch, cause)
        self.is_live, self.folded = False, None
        parts.models.retreat()  # 1
        self._source.pause((parts.training.partition,))
        self._let_go(offset_of(failure.position))
        await self._serve_published()
        log.error(
            "the model raised; the example is skipped",
            position=show(failure.position),
            error=cause,
            branch=failure.branch[:12],
        )
        reason = f"the model raised {cause} again after {_RESTARTS} restarts in {int(_RESTARTS_WITHIN_S / 60)} minutes"
        if fails_often and failure.branch == pointers.champion:
            self._stay_down(f"{reason}; change the model, then restart this process")
            raise OwnershipLost(reason)
        await self._part.append(lambda owner, number: Skip(owner, number, failure.position, failure.branch, cause))  # 2
        await parts.announcements.skip(failure.position, cause)
        if fails_often and failure.branch not in self._retired:
            await self._keeper().retire_failing(failure.branch, pointers.epoch, reason)

    async def _serve_published(self) -> None:
        parts = self._parts
        for manifest in parts.index.by_position():
            try:
                bodies = await parts.index.load(manifest)
                branch = await asyncio.to_thread(served_branch, parts.fold, bodies)
            except (SnapshotRefused, CodecError) as refusal:
                log.warning("published state refused", why=str(refusal))
            else:
                parts.models.follow(serving_of(branch, manifest.position, manifest.log_id))
                return
        parts.models.follow(await built_beside(parts.fold, parts.index, parts.configured))

    def _let_go(self, next_offset: int) -> None:
        """Forget what came and was not folded; it is not in flight any more, nor completed."""
        self._inbox.clear()
        self._source.seek(self._parts.training.partition, next_offset)

    def _too_often(self, branch: str, cause: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        times = self._restarts.setdefault((branch, cause), deque(maxlen=_RESTARTS + 1))
        times.append(now_s)
        return len(times) > _RESTARTS and now_s - times[0] < _RESTARTS_WITHIN_S

    def _stay_down(self, reason: str) -> None:
        log.error("learning stays down, serving goes on", why=reason)
        self.is_live = False
        self._parts.models.rest()
        self._parts.report.set(RoleState.FAILED, reason)


def _skipped(state: LoopState) -> int:
    return 0 if state.champion is None else state.champion.skipped
