"""Which state serves: the learner's or a follower's own in this process, or the newest published one.

Invariant: a server never goes below the highest position that it has served, except after a model raised or a follower
diverged in this process, when the last published state serves. Where a follower is ahead, that state is kept ready
beside it, so that nothing has to be read then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from mode import Service

from tailrace.domain.blocks import Examples, TrainingBlock
from tailrace.domain.branches import CHAMPION, Branch, BranchState
from tailrace.domain.categories import CategoriesState
from tailrace.domain.errors import CodecError, LogError, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.positions import Position, offset_of
from tailrace.domain.snapshots import Kind, Manifest
from tailrace.domain.state import LoopState
from tailrace.streams.log import Reader, Record
from tailrace.streams.snapshot_index import NO_ANSWER, SnapshotIndex
from tailrace.streams.training_log import TrainingLog

log = structlog.get_logger(__name__)

_ASK_AGAIN_S = 2.0  # a store that did not answer
_RECORDS_READ = 1_000  # of the log, at most, to find the labels of a state that was followed
_UNTOLD_KEPT = 1_000  # blocks of a tail; of a longer one, the newest


@dataclass(slots=True)
class Serving:
    """A model that may be asked, what it knows of open categories, and what a prediction says of it."""

    model: Any
    categories: CategoriesState
    version: str
    position: Position
    log_id: str
    name: str = CHAMPION


def serving_of(branch: BranchState, position: Position, log_id: str) -> Serving:
    """Return a branch as it serves."""
    return Serving(branch.model, branch.categories, branch.lineage, position, log_id)


Untold: TypeAlias = deque[tuple[int, Examples]]
"""Blocks, by offset, that were folded while their state did not serve; they are told when it does."""


def untold() -> Untold:
    """Return room for the blocks of a tail."""
    return deque(maxlen=_UNTOLD_KEPT)


@dataclass(slots=True)
class Models:
    """The models of one loop in this process; shared by its roles.

    Attributes:
        followed: The newest published state; None before there is one.
        live: The learner's state while this process owns the training log and has caught up with it.
        replica: The state of this process's follower, once it has caught up with the log. Handed to a learner, it goes
            on serving while that one begins with it.
        on_learned: Told once which examples the serving state contains from now on, where this process scores.
    """

    followed: Serving | None = None
    live: LoopState | None = None
    replica: LoopState | None = None
    highest: Position = -1
    _served: str = ""  # lineage; goes on serving where the champion is a branch that cannot be folded here
    _told: int = -1  # offset up to which examples were told, exclusive; -1: nothing has served yet
    on_learned: Callable[[Examples], None] = lambda _examples: None

    def current(self) -> Serving | None:
        """Return what serves now; None: nothing is ready yet."""
        folded = self.folded
        if folded is not None and folded.position >= self.highest:
            champion = folded.champion or folded.branches.get(self._served)
            if champion is not None:
                self.highest = folded.position
                self._served = champion.lineage
                return serving_of(champion, folded.position, folded.ownership.log_id)
        return self.followed

    @property
    def lowest(self) -> Position:
        """Below this no published state is taken: a replica that is ahead keeps none of them away."""
        return -1 if self.followed is None else self.followed.position

    @property
    def folded(self) -> LoopState | None:
        """What is folded in this process and may serve: the learner's state, else a follower's."""
        return self.live if self.live is not None else self.replica

    def follow(self, serving: Serving) -> None:
        """Serve a published state from now on, unless a newer one already does."""
        if self.followed is None or serving.position >= self.followed.position:
            if self._told < 0:
                self._told = offset_of(serving.position)
            self.followed = serving
            self.highest = max(self.highest, serving.position)

    def learned(self, offset: int, examples: Examples) -> None:
        """Tell of a block that the serving state contains from now on, unless that was told before."""
        if offset >= self._told:
            self._told = offset + 1
            self.on_learned(examples)

    def learned_tail(self, tail: Untold) -> None:
        """Tell of the blocks of a state that serves from now on."""
        while tail:
            self.learned(*tail.popleft())

    def told_from(self, position: Position) -> int:
        """Return the offset from which on a state of a later position than this one has something to tell."""
        return max(self._told, offset_of(position))

    def retreat(self) -> None:
        """Serve nothing until a published state is given: the live one is half-changed."""
        self.live = self.replica = self.followed = None
        self.highest = -1

    def drop_replica(self) -> None:
        """Serve the last published state: what was followed is half-changed, or wrong."""
        if self.replica is not None:
            self.replica = None
            self.highest = self.lowest

    def rest(self) -> None:
        """Serve what is folded here on as it is now: nobody learns here any more."""
        serving = self.current() if self.folded is not None else None
        self.live = self.replica = None
        if serving is not None:
            self.follow(serving)

    @property
    def serving_position(self) -> Position | None:
        """Up to where the state that serves is folded, exclusive; None: nothing is ready yet."""
        folded = self.folded
        if folded is not None and folded.position >= self.highest:
            return folded.position
        return None if self.followed is None else self.followed.position


class Follower(Service):
    """Follows `<loop>.snapshots` and keeps `Models.followed` at the newest state of this lineage.

    Args:
        configured: What serves, untrained, while there is no state at all.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        index: SnapshotIndex,
        fold: Fold,
        models: Models,
        training: TrainingLog,
        configured: Branch,
        on_refused: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._training = training
        self._configured = configured
        self._reader = reader
        self._index = index
        self._fold = fold
        self._models = models
        self._on_refused = on_refused
        self._stored: Manifest | None = None
        self._refused: Record | None = None
        self._came = asyncio.Event()
        self.is_ready = False

    def remark(self) -> str:
        """Say why what was published last is not served; "" when all is well."""
        refusal = self._index.refusal
        if refusal is None:
            return ""
        return f"what was published last is not served, what was known before is: {refusal.message}"

    @Service.task
    async def _follow(self) -> None:
        partition = self._index.partition
        held = await self._reader.range_of(partition)
        newest: Manifest | None = None
        next_offset = held.start
        async for batch in self._reader.follow(partition, held.start):
            if self.should_stop:
                return
            for record in batch:
                next_offset = record.offset + 1
                before = self._index.refusal
                manifest = self._index.note(record)
                if self._index.refusal is not before:
                    self._refused = None if self._index.refusal is None else record
                if manifest is None or manifest.kind is Kind.BRANCH:
                    continue  # what was built beside does not serve before it is admitted and promoted
                if not _is_inline(manifest):
                    self._want(manifest)
                elif newest is None or manifest.position >= newest.position:
                    newest = manifest
            if next_offset >= held.end:
                if newest is not None:
                    await self._load(newest)
                    newest = None
                await self._begin_if_nothing()
                self.is_ready = True
                self._came.set()

    @Service.task
    async def _fetch(self) -> None:
        """Load what lies in the store beside what travels in the index, which must not wait behind it."""
        while not self.should_stop:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), _ASK_AGAIN_S)
            self._came.clear()
            self._ask_again_for_trust()
            manifest, self._stored = self._stored, None
            if manifest is not None and self.is_ready and not await self._load(manifest):
                self._want(manifest)
                await self.sleep(_ASK_AGAIN_S)

    def _ask_again_for_trust(self) -> None:
        """Take up what was published last if its key was not trusted when it came, and is now."""
        if self._refused is None or not self._index.is_trusted(self._refused):
            return
        manifest, self._refused = self._index.note(self._refused), None
        if manifest is not None and manifest.kind is not Kind.BRANCH:
            self._want(manifest)

    def _want(self, manifest: Manifest) -> None:
        if self._stored is None or manifest.position >= self._stored.position:
            self._stored = manifest

    async def _load(self, manifest: Manifest) -> bool:
        """Serve a state; return whether there is nothing more to do about it: False while the store does not answer."""
        models = self._models
        live, lowest = models.live, models.lowest
        if manifest.position < lowest or (live is not None and live.position >= manifest.position):
            return True
        try:
            served = models.current()
            log_id = "" if served is None else served.log_id  # another log is begun only while no process runs
            bodies = await self._index.load(manifest, log_id=log_id, not_below=max(lowest, 0))
            branch = await asyncio.to_thread(served_branch, self._fold, bodies)
        except (SnapshotRefused, CodecError) as refusal:
            reason = getattr(refusal, "reason", "codec")
            self._on_refused(reason)
            log.warning("published state refused, the one before it serves on", why=str(refusal))
            return bool(reason != NO_ANSWER)
        before = models.followed
        models.follow(serving_of(branch, manifest.position, manifest.log_id))
        if before is not None:
            await self._note_labels(before.position, manifest.position)
        return True

    async def _note_labels(self, before: Position, now: Position) -> None:
        """Read in the log which labels the new state contains and the one before it did not."""
        end = offset_of(now)
        start = max(self._models.told_from(before), end - _RECORDS_READ)
        if start >= end:
            return  # a follower of the log in this process has told them
        try:
            async for record in self._training.records(start, end):
                if isinstance(record.record, TrainingBlock):
                    self._models.learned(record.offset, record.record.examples)
        except LogError as problem:
            log.info("labels of the new state cannot be told", why=str(problem))

    async def _begin_if_nothing(self) -> None:
        """Where the newest state was refused, serve the next one that is good; an untrained model only without any."""
        answers = True
        for manifest in self._index.by_position():
            if self._models.followed is not None:
                return
            if answers or _is_inline(manifest):
                answers = await self._load(manifest)
        if self._models.followed is None:
            self._models.follow(await built_beside(self._fold, self._index, self._configured))


async def built_beside(fold: Fold, index: SnapshotIndex, configured: Branch) -> Serving:
    """Return what serves where the log's champion cannot be folded here and nothing else is good.

    That is the newest state of the configured model that somebody built for these libraries; without one it is the
    untrained model.
    """
    for manifest in index.newest(Kind.BRANCH):
        try:
            bodies = await index.load(manifest)
            for branch in (await asyncio.to_thread(fold.restore_branches, bodies)).values():
                if fold.definition(branch).model == configured.model:
                    await asyncio.to_thread(fold.warm, fold.definition(branch))
                    return serving_of(branch, manifest.position, manifest.log_id)
        except (SnapshotRefused, CodecError) as refusal:
            log.warning("branch refused, another one is tried", why=str(refusal))
    return serving_of(fold.begin_branch(configured), 0, "")


def _is_inline(manifest: Manifest) -> bool:
    return bool(manifest.inline) or not manifest.parts


def served_branch(fold: Fold, bodies: Mapping[str, bytes]) -> BranchState:
    """Return the champion of a snapshot or publication, ready to answer; it may take seconds the first time.

    Raises:
        CodecError: The bytes are not what they should be.
        SnapshotRefused: It is not in there, or this process cannot fold it.
    """
    branch = fold.restore_champion(bodies)
    if branch is None:
        raise SnapshotRefused(
            "branch",
            "the branch that serves is of other libraries, features or code than this process has; what served before "
            "goes on. Start this process with the versions of the learner",
        )
    fold.warm(fold.definition(branch))
    return branch
