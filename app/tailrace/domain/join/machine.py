"""The state machine of one partition's join.

What is decided depends on prefixes of single inputs only, never on how inputs interleave: a watermark is the
greatest time in one partition's prefix, and every record is judged by the watermark just before it. Below, T is
an event's time and H, D, S, R, C, K are the spans of `times.JoinTimes`.

    Events    stale        the scored watermark is past T + D; asked first, leaves no trace
              repeated     an accepted event has this id and time, or this id and a time t with the watermark
                           in [t, t + K]
              joined       a label came in time: max(label time, its watermark) <= T + H
              implicit     none came, and `missing` is a value
              dropped      none came
    Labels    joined       the first one in time
              duplicate    its event has this target, or a word of a higher revision
              conflicting  its event has another target of the same revision: the first wins (dead letter)
              corrected    of a higher revision, which counts from now on; or the first word on an implicit event
              withdrawn    of a higher revision: takes the target back; or there was no label to take back
              late         past T + H for a first word, past T + H + C for a correction (dead letter)
              orphaned     no event came until the scored watermark was past label time + D + S (dead letter)
              forwarded    its id is at home on another partition
    Forwards  received     taken, and judged like a label by the watermark of its own labels partition
              redelivered  below a mark of its partition, or taken before

Corrections are rows that name an event which has its example already; a late first word on an event that still
waits for its implicit target writes both, the example and its correction. With C = 0 revisions say nothing.

A label belongs to the event with T - S <= label time and max(label time, its watermark) <= T + H + R. Until there
is one it is early: kept, and judged in reading order when the event comes. An event's wait ends when the scored
watermark, the own labels watermark and the marks of all other labels partitions have passed T + H.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tailrace.domain import blocks
from tailrace.domain.blocks import ScoredBlock
from tailrace.domain.join.batch import Batch, JoinSpec, PausedInputs, Unwritten
from tailrace.domain.join.memory import DROPPED, IMPLICIT, JOINED, EarlyLabel, Identity, OpenForward
from tailrace.domain.join.state import JoinState
from tailrace.domain.positions import Position, position_of
from tailrace.domain.records import Code, DeadLabel, Forward, Label, Mark
from tailrace.domain.times import EventTimeMs


class LabelJoin:
    """The join of one partition.

    Feed each input in the order of its offsets. After each call, while `is_full` or `expire()` says that more is
    left: `take` a batch, have its dead letters and forwards acknowledged, then its block, tell `acknowledged`,
    commit, and send its mark. `recovery.recover` makes a join again from what was written.
    """

    def __init__(self, spec: JoinSpec, state: JoinState | None = None) -> None:
        self.spec = spec
        self._state = state or JoinState.empty(spec)
        self._unwritten = Unwritten(spec.limits)
        self._sealed: deque[Batch] = deque()
        self._moved = False
        self._mark = self._mark_here()

    # Inputs

    def on_scored(self, offset: int, block: ScoredBlock, row: int = 0) -> int:
        """Read the rows of a block of `scored`, from `row` on.

        Returns:
            The first row that was not read: less than the number of rows when the training block became full.
        """
        if self.is_full or self._sealed_for(block):
            return row
        state, newest, add = self._state, self._state.identities.newest, self._state.identities.add
        early, disorder_ms, watermark = state.early.by_id, state.times.disorder_ms, state.scored_watermark
        ids, times_ms, first = block.ids, block.times_ms.tolist(), position_of(offset)
        stale = repeated = 0
        end = len(ids)
        for at in range(row, end):
            event_id, time_ms, before = ids[at], times_ms[at], watermark
            if time_ms > watermark:  # noqa: PLR1730  # max() would be a tenth of what a row costs
                watermark = time_ms
            if before > time_ms + disorder_ms:
                stale += 1
                continue
            known = newest(event_id)
            if known is not None and state.is_repeated(known, time_ms, before):
                repeated += 1
                continue
            add(Identity(event_id, time_ms, first + at, before, known, block, at))
            if event_id in early and self._judge_early(event_id):
                end = at + 1
                break
        state.scored_watermark = watermark
        state.scored_next = first + end if end < len(ids) else position_of(offset + 1)
        self._count("stale", stale)
        self._count("repeated", repeated)
        self._bury_orphans()
        self._moved = True
        return end

    def on_labels(self, labels: Sequence[Label], homes: Sequence[int], first: int, stop: int) -> int:
        """Read labels first .. stop - 1 of a batch of the own labels partition: for each the same as `on_label`.

        Returns:
            The first label that was not read: less than `stop` when the training block became full.
        """
        state, unwritten, here = self._state, self._unwritten, self.spec.partition
        newest, settle = state.identities.newest, state.settle
        horizon_ms, skew_ms = self.spec.times.horizon_ms, self.spec.times.skew_ms
        for at in range(first, stop):
            label = labels[at]
            event_id, time_ms, y, _, offset, _, revision, _ = label
            identity, watermark = newest(event_id), state.labels_watermark
            # The usual label, the first of a waiting event and in time, is joined here without a call per question.
            if (
                identity is not None
                and (block := identity.block) is not None
                and unwritten.contract_id in (None, block.contract_id)
                and y is not None
                and homes[at] == here
                and identity.time_ms - skew_ms <= time_ms <= (last_ms := identity.time_ms + horizon_ms)
                and watermark <= last_ms
            ):
                unwritten.add_example((block, identity.row, blocks.JOINED, y, label))
                unwritten.counts["joined"] += 1
                settle(identity, JOINED, y, revision)
                if time_ms > watermark:
                    state.labels_watermark = time_ms
                state.labels_next = offset + 1
                self._moved = True
            else:
                self.on_label(label, homes[at])
                unwritten = self._unwritten
            if unwritten.is_full or self._sealed:
                return at + 1
        return stop

    def on_label(self, label: Label, home: int) -> None:
        """Read one label of the own labels partition; `home` is the partition of its id."""
        state = self._state
        before = state.labels_watermark
        is_home = home == self.spec.partition
        identity = state.find(label, before) if is_home else None
        if identity is not None:
            self._sealed_for(identity.block)
        if label.time_ms > before:
            state.labels_watermark = label.time_ms
        state.labels_next = label.offset + 1
        self._moved = True
        if is_home:
            self._on_label(identity, label, before, None)
        else:
            self._unwritten.forwards.append((home, Forward(label, before)))
            self._unwritten.counts["forwarded"] += 1

    def on_relabelled(self, offset: int, record: Forward | Mark) -> None:
        """Read one record of `relabelled`."""
        state = self._state
        if isinstance(record, Mark):
            state.marked(record)
        else:
            self._on_forward(offset, record)
        state.relabelled_next = offset + 1
        self._moved = True

    def on_rejected_label(self, offset: int) -> None:
        """Pass a record of `labels` that could not be used; it has no time, so no watermark moves."""
        self._state.labels_next = offset + 1
        self._moved = True

    def on_rejected_relabelled(self, offset: int) -> None:
        """Pass a record of `relabelled` that could not be used."""
        self._state.relabelled_next = offset + 1
        self._moved = True

    # Time

    def expire(self) -> bool:
        """Give their outcome to the events whose wait is over, by time and id, as far as the block has room.

        Returns:
            Whether more are left; they still wait until the next block.
        """
        state = self._state
        passed = min(state.scored_watermark, state.heard()) - self.spec.times.horizon_ms
        for identity in state.identities.before(passed):
            if self.is_full or (self.spec.implicit is not None and self._sealed_for(identity.block)):
                return True
            self._settle_unlabelled(identity)
        return False

    def idle(self, labels_end_reached: bool) -> bool:  # noqa: FBT001
        """Move a quiet labels partition up to the scored watermark, never further.

        Call when the partition has been at its end for `idle_after`. The move counts once a block has carried it:
        take, acknowledge and commit that block before the next label is read, and only then send its mark.

        Returns:
            Whether the watermark moved.
        """
        if not labels_end_reached or not self._state.move_labels():
            return False
        self._moved = True
        return True

    # Output

    @property
    def is_full(self) -> bool:
        """Whether a batch must be taken before anything more is read."""
        return bool(self._sealed) or self._unwritten.is_full

    @property
    def is_dirty(self) -> bool:
        """Whether a batch would carry anything: rows, counts or positions that moved."""
        return self._moved or bool(self._sealed) or self._unwritten.has_rows

    @property
    def has_output(self) -> bool:
        """Whether a batch would carry rows, dead letters or forwards: what others wait for."""
        waiting = self._unwritten
        return bool(self._sealed or waiting.has_rows or waiting.dead or waiting.forwards)

    @property
    def scored_next(self) -> Position:
        """The position of `scored` to read next."""
        return self._state.scored_next

    @property
    def labels_next(self) -> int:
        """The offset of `labels` to read next."""
        return self._state.labels_next

    @property
    def relabelled_next(self) -> int:
        """The offset of `relabelled` to read next."""
        return self._state.relabelled_next

    def take(self) -> Batch:
        """Return what happened since the last batch, with the vector as of its last row."""
        batch = self._sealed.popleft() if self._sealed else self._close()
        self._mark = batch.mark
        return batch

    def acknowledged(self, log_offset: int) -> None:
        """Tell where the block of the last batch lies in the log."""
        self._state.acknowledged = log_offset

    def mark(self) -> Mark:
        """Return the mark of the last batch; send it only after that batch's positions were committed."""
        return self._mark

    # Bounds

    @property
    def waiting(self) -> int:
        """How many events wait for their label."""
        return self._state.identities.waiting

    @property
    def early(self) -> int:
        """How many labels wait for their event."""
        return self._state.early.count

    @property
    def remembered(self) -> int:
        """How many identities are remembered, waiting ones included."""
        return self._state.identities.count

    @property
    def holds_most(self) -> bool:
        """Whether as many records as may be here are here; where no input is ahead of another, more will come."""
        limits = self.spec.limits
        return self.remembered + self.early >= limits.max_waiting or self.early >= limits.max_early

    @property
    def least_heard(self) -> tuple[int, EventTimeMs]:
        """The labels partition that all waits depend on, having told of the least time here, and that time."""
        told = {self.spec.partition: self._state.labels_watermark, **self._state.marks}
        return min(told.items(), key=lambda each: each[1])

    def paused_inputs(self) -> PausedInputs:
        """Say which inputs must pause because no more may wait: those whose watermark is ahead.

        The input with the least watermark of all partitions always reads on, so no two joins wait for each other.
        """
        if not self.holds_most:
            return PausedInputs()
        state = self._state
        return PausedInputs(
            scored=state.scored_watermark > state.heard(), labels=state.labels_watermark > state.scored_watermark
        )

    def inputs_ahead(self) -> PausedInputs:
        """Say which input may rest while the other one has more to give: one that fills what waits and is far ahead.

        That is when half of what may wait does so, and it is ahead by more than the horizon: what it would bring waits
        for what the other one is about to bring. It is not paused sooner, since other partitions may wait for its mark.
        """
        state, limits = self._state, self.spec.limits
        ahead_ms, horizon_ms = state.scored_watermark - state.labels_watermark, self.spec.times.horizon_ms
        return PausedInputs(
            scored=ahead_ms > horizon_ms and self.remembered + self.early >= limits.max_waiting // 2,
            labels=-ahead_ms > horizon_ms and self.early >= limits.max_early // 2,
        )

    # Batches

    def _close(self) -> Batch:
        unwritten, state = self._unwritten, self._state
        self._unwritten = Unwritten(self.spec.limits)
        self._moved = False
        state.forget()
        vector = state.vector(unwritten.counted())
        state.identities.seal(vector)
        return unwritten.batch(vector, self._mark_here())

    def _sealed_for(self, block: ScoredBlock | None) -> bool:
        """Close the batch, as of now, if a row of `block` cannot stand in it; return whether it was closed.

        A block has one feature contract. Nothing of the input that brings the row may have been counted yet.
        """
        contract_id = self._unwritten.contract_id
        if contract_id is None or block is None or block.contract_id == contract_id:
            return False
        self._sealed.append(self._close())
        return True

    def _mark_here(self) -> Mark:
        return Mark(self.spec.partition, self._state.labels_next, self._state.labels_watermark)

    # Outcomes

    def _on_forward(self, offset: int, forward: Forward) -> None:
        state, label = self._state, forward.label
        identity = state.find(label, forward.watermark_ms)
        if identity is not None:
            self._sealed_for(identity.block)
        opened = state.forwards.take(offset, label)
        if opened is None:
            self._count("redelivered", 1)
        else:
            self._count("received", 1)
            self._on_label(identity, label, forward.watermark_ms, opened)

    def _on_label(
        self, identity: Identity | None, label: Label, watermark_ms: EventTimeMs, opened: OpenForward | None
    ) -> None:
        state = self._state
        if identity is not None:
            self._judge(identity, label, watermark_ms)
        elif state.is_orphan(label):
            self._bury(label, Code.ORPHANED)
        else:
            state.early.add(EarlyLabel(label, watermark_ms), opened)

    def _judge(self, identity: Identity, label: Label, watermark_ms: EventTimeMs) -> None:
        y, last_ms = label.y, identity.time_ms + self.spec.times.horizon_ms
        if y is not None and identity.block is not None and label.time_ms <= last_ms and watermark_ms <= last_ms:
            self._unwritten.add_example((identity.block, identity.row, blocks.JOINED, y, label))
            self._state.settle(identity, JOINED, y, label.revision)
            self._unwritten.counts["joined"] += 1
        elif identity.state == JOINED:
            self._judge_again(identity, label, watermark_ms)
        elif y is None:
            self._count("withdrawn", 1)  # no label said anything that could be taken back
        elif (
            identity.state == DROPPED or self.spec.implicit is None or not self._corrects(identity, label, watermark_ms)
        ):
            self._bury(label, Code.LATE)
        else:
            if identity.block is not None:
                self._settle_unlabelled(identity)
            self._correct(identity, label)

    def _judge_again(self, identity: Identity, label: Label, watermark_ms: EventTimeMs) -> None:
        """Judge a label of an event on which a label has spoken."""
        takes_corrections = self.spec.times.corrections_ms > 0
        step = label.revision - identity.revision if takes_corrections else 0
        if step > 0 and self._corrects(identity, label, watermark_ms):
            self._correct(identity, label)  # one with the same target too: what lies between the two counts no more
        elif identity.y == label.y or step < 0 or (label.y is None and step == 0):
            self._count("duplicate", 1)
        else:
            self._bury(label, Code.CONFLICTING if step == 0 else Code.LATE)

    def _corrects(self, identity: Identity, label: Label, watermark_ms: EventTimeMs) -> bool:
        times = self.spec.times
        last_ms = identity.time_ms + times.horizon_ms + times.corrections_ms
        return times.corrections_ms > 0 and label.time_ms <= last_ms and watermark_ms <= last_ms

    def _correct(self, identity: Identity, label: Label) -> None:
        self._unwritten.add_correction(identity.time_ms, label)
        self._state.identities.correct(identity, label.y, label.revision)
        self._count("withdrawn" if label.y is None else "corrected", 1)

    def _judge_early(self, event_id: str) -> bool:
        """Judge the early labels of an event that has come; return whether the block is full now."""
        state = self._state
        for early in tuple(state.early.by_id[event_id]):
            identity = state.find(early.label, early.watermark_ms)
            if identity is not None:
                state.early.remove(early)
                self._judge(identity, early.label, early.watermark_ms)
        return self.is_full

    def _settle_unlabelled(self, identity: Identity) -> None:
        block, row, implicit = identity.block, identity.row, self.spec.implicit
        assert block is not None
        if implicit is None:
            self._unwritten.add_dropped(block, row)
            self._state.settle(identity, DROPPED, 0.0)
            self._count("dropped", 1)
        else:
            self._unwritten.add_example((block, row, blocks.IMPLICIT, implicit, None))
            self._state.settle(identity, IMPLICIT, implicit)
            self._count("implicit", 1)

    def _bury_orphans(self) -> None:
        state = self._state
        for label in state.early.before(state.scored_watermark - state.times.disorder_ms - state.times.skew_ms):
            self._bury(label, Code.ORPHANED)

    def _bury(self, label: Label, code: Code) -> None:
        self._unwritten.dead.append(DeadLabel(label, code))
        self._count(code.value, 1)

    def _count(self, outcome: str, times: int) -> None:
        if times:
            self._unwritten.counts[outcome] += times
