"""The agents of a simulated loop: the order in which they send, wait, commit and recover.

Each is a generator that yields wherever its process can be killed, or stopped and woken later as a zombie. What
they decide is the product's own code; only input and output are simulated.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from tests.simulation.inputs import Entry, InputEvent
from tests.simulation.world import CONTRACT, LOG_ID, DeadLetter, Seat, World, score

from tailrace.domain.blocks import TrainingBlock, Vector
from tailrace.domain.join import Batch, Kept, LabelJoin, recover, starts
from tailrace.domain.join.state import JoinState
from tailrace.domain.positions import offset_of, position_of, row_of
from tailrace.domain.records import Claim, Label, Mark, Owner
from tailrace.stores.waiting_room import DiskRoom
from tailrace.streams.completion import Completion
from tailrace.streams.log import Record, RecordBatch, TopicPartition

Steps: TypeAlias = Generator[None, None, None]

MAX_IN_FLIGHT: Final = 4
"""Batches of a partition whose products are not acknowledged yet."""


def scorer(world: World, source: int, name: Owner) -> Steps:
    """Score one events partition: send, have it acknowledged, commit what is completed from the front on."""
    seat, rng, topic = Seat("score", source), world.rng, world.case.events[source]
    completion = Completion(world.committed.get(seat, 0), limit=MAX_IN_FLIGHT)
    sending: list[tuple[RecordBatch, Steps]] = []
    while True:
        arrived = topic.available(completion.position, rng.choice([1, 2, 5]), world.clock_ms)
        if arrived and completion.has_room and rng.random() < 0.5:
            batch = RecordBatch(TopicPartition("events", source), 1, cast("list[Record]", arrived))
            completion.begin(batch)
            sending.append((batch, _send_scored(world, source, arrived)))
        elif sending:
            batch, sends = chosen = rng.choice(sending)
            if next(sends, _ACKNOWLEDGED) is _ACKNOWLEDGED:
                sending.remove(chosen)
                completion.complete(batch)
        yield
        offset = completion.position if world.rules.is_planted("commit_first") else completion.committable()
        if offset is not None and rng.random() < 0.5:
            if not world.owns(seat, name):
                return
            world.committed[seat] = offset
            completion.commit_done(offset)
        if not arrived and not sending:
            if not world.owns(seat, name):
                return
            world.finished[seat] = world.committed.get(seat, 0) == topic.next_offset
        else:
            world.finished.pop(seat, None)
        yield


_ACKNOWLEDGED = object()


def _send_scored(world: World, source: int, batch: Sequence[Entry[InputEvent]]) -> Steps:
    """Send a batch to the partitions of its ids, each acknowledged at another time."""
    for home in range(world.case.partitions):
        mine = [entry for entry in batch if world.case.home(entry.value.id) == home]
        if mine:
            events, offsets = [entry.value for entry in mine], [entry.offset for entry in mine]
            world.scored[home].append(score(events, offsets, source, world.rng))
            yield


def claim(world: World, seat: Seat, name: Owner) -> Generator[None, None, int | None]:
    """Take over a partition of the log; return the offset of the valid claim, None when the seat is lost."""
    partition = seat.partition
    while True:
        known = world.ownership()
        owner = known.owners.get(partition)
        yield
        # A successful commit between the two: whoever lost the seat must not take the partition from its new owner.
        if not world.rules.is_planted("claim_without_commit") and not world.owns(seat, name):
            return None
        yield
        offset = world.append_record(Claim(partition, name, owner, known.log_id or LOG_ID))
        yield
        if world.ownership(offset + 1).owners[partition] == name:
            return offset
        if not world.owns(seat, name):
            return None


@dataclass(slots=True)
class Joiner:
    """One process of the join, for one partition."""

    world: World
    partition: int
    name: Owner
    number: int = 0
    scored_at: int = 0
    labels_at: int = 0
    relabelled_at: int = 0
    sent_mark: Mark | None = None
    untold: set[int] = field(default_factory=set)
    join: LabelJoin = field(init=False)
    room: DiskRoom | None = None

    @property
    def seat(self) -> Seat:
        """The seat that it needs."""
        return Seat("join", self.partition)

    def run(self) -> Steps:
        """Claim, recover, then join until killed or refused."""
        try:
            yield from self._run()
        finally:
            if self.room is not None:
                self.room.close()

    def _run(self) -> Steps:
        claimed_at = yield from claim(self.world, self.seat, self.name)
        if claimed_at is None:
            return
        self._recover(claimed_at)
        yield
        refused = 0
        while refused < 2:
            took = yield from self._take_inputs()
            idled = self._idle()
            more = self.join.expire()
            if self.join.is_dirty or more:
                yield from self._flush()
            committed = self.world.owns(self.seat, self.name)
            yield
            refused += not committed
            if idled and not committed and not self.world.rules.is_planted("labels_after_refused_idle"):
                return  # What the idle move decides must not be seen by anybody before a commit followed it.
            if committed:
                yield from self._follow()
                yield from self._send_mark()
            self._report(busy=took or idled or more or not committed or bool(self.untold))
            yield

    def _follow(self) -> Steps:
        """Let the waiting room on disk follow what was acknowledged before the commit."""
        while self.room is not None and self.room.is_behind:
            assert self.room.write()
            yield

    def _open_room(self, blocks: Sequence[tuple[int, TrainingBlock]]) -> Kept | None:
        """Open the room of the partition; return what it holds, if the log knows its block and any of it waits."""
        rooms = self.world.rooms
        if rooms is None:
            return None
        self.room = rooms.open(self.partition)
        standing, vector = self.room.standing, None
        if standing is not None:
            # By its place alone, as the product does: that it counts must follow from when the room was written.
            record = next(self.world.log.read(standing.offset, standing.offset + 1)).value
            assert isinstance(record, TrainingBlock)
            assert standing.is_of(LOG_ID, record.vector)
            assert any(offset == standing.offset for offset, _ in blocks), "a room stands as of a fenced block"
            if blocks[-1][1].vector.scored_low.position <= record.vector.scored_next:
                vector = record.vector
        if vector is None and not self.room.is_empty:
            self.room = rooms.renew(self.room, self.partition)
        state = JoinState.empty(self.world.case.spec(self.partition), self.room, self.room.early)
        if vector is not None and standing is not None:
            self.world.rooms_used += 1
            state.acknowledged = standing.offset
        self.room.remake()
        return Kept(state, vector)

    def _recover(self, end: int) -> None:
        world, partition = self.world, self.partition
        blocks = list(world.accepted(partition, end))
        vector = blocks[-1][1].vector if blocks else Vector()
        kept = self._open_room(blocks)
        start = starts(vector, kept.vector if kept else None)
        after = kept.state.acknowledged if kept and kept.vector else vector.oldest_row - 1
        scored, labels = world.scored[partition], world.case.labels[partition]
        self.scored_at, self.labels_at = vector.scored_next, vector.labels_next
        self.relabelled_at = vector.relabelled_next
        self.join = recover(
            world.case.spec(partition),
            vector,
            rows=[(offset, block) for offset, block in blocks if offset > after],
            scored=[
                (entry.offset, entry.value)
                for entry in scored.read(offset_of(start.scored.position), offset_of(vector.scored_next) + 1)
            ],
            labels=[
                (entry.value, world.case.home(entry.value.id))
                for entry in labels.read(start.labels.position, vector.labels_next)
                if entry.value is not None
            ],
            relabelled=[
                (entry.offset, entry.value)
                for entry in world.relabelled[partition].read(vector.relabelled_low, vector.relabelled_next)
            ],
            kept=kept,
        )
        if self.room is not None:
            self.room.made()
            if blocks:
                self.room.seal(vector)
                last = blocks[-1][1]
                self.room.acknowledged(LOG_ID, blocks[-1][0], last.owner, last.number, "")

    def _take_inputs(self) -> Generator[None, None, bool]:
        took, rng = False, self.world.rng
        for _ in range(rng.choice([1, 1, 2, 3])):
            paused, count = self.join.paused_inputs(), rng.choice([1, 2, 5, 20])
            read = rng.choice("slr")
            if read == "s" and not paused.scored:
                took |= yield from self._take_scored(count)
            elif read == "l" and not paused.labels:
                took |= yield from self._take_labels(count)
            elif read == "r":
                took |= yield from self._take_relabelled(count)
        return took

    def _take_scored(self, count: int) -> Generator[None, None, bool]:
        topic = self.world.scored[self.partition]
        batch = topic.available(offset_of(self.scored_at), count, self.world.clock_ms)
        for entry in batch:
            row = row_of(self.scored_at) if entry.offset == offset_of(self.scored_at) else 0
            while row < len(entry.value.ids):
                row = self.join.on_scored(entry.offset, entry.value, row)
                self.scored_at = position_of(entry.offset, row)
                yield from self._make_room()
            self.scored_at = position_of(entry.offset + 1)
        return bool(batch)

    def _take_labels(self, count: int) -> Generator[None, None, bool]:
        batch = self.world.case.labels[self.partition].available(self.labels_at, count, self.world.clock_ms)
        for entry in batch:
            label = entry.value
            if label is None:
                self.join.on_rejected_label(entry.offset)
            else:
                self.join.on_labels([self._as_read(label)], [self.world.case.home(label.id)], 0, 1)
            self.labels_at = entry.offset + 1
            yield from self._make_room()
        return bool(batch)

    def _as_read(self, label: Label) -> Label:
        if not self.world.rules.is_planted("label_by_wall_clock"):
            return label
        return label._replace(time_ms=int(self.world.clock_ms))

    def _take_relabelled(self, count: int) -> Generator[None, None, bool]:
        batch = self.world.relabelled[self.partition].available(self.relabelled_at, count, self.world.clock_ms)
        for entry in batch:
            self.join.on_relabelled(entry.offset, entry.value)
            self.relabelled_at = entry.offset + 1
            yield from self._make_room()
        return bool(batch)

    def _make_room(self) -> Steps:
        while self.join.expire() or self.join.is_full:
            yield from self._flush()

    def _idle(self) -> bool:
        topic = self.world.case.labels[self.partition]
        rest = topic.available(self.labels_at, 1, self.world.clock_ms)
        last = topic.before(self.labels_at)
        quiet_ms = self.world.clock_ms - (last.arrival_ms if last else 0.0)
        is_quiet = not self.world.inputs_ended and not rest and quiet_ms >= self.world.case.idle_after_ms
        return is_quiet and self.world.rng.random() < 0.3 and self.join.idle(labels_end_reached=True)

    def _flush(self) -> Steps:
        """Dead letters and forwards acknowledged, then the block acknowledged."""
        world = self.world
        batch = world.rules.written(self.join.take())
        self.number += 1
        block = batch.block(CONTRACT.id, LOG_ID, self.name, self.number)
        after = world.rules.is_planted("dead_letter_after_block")
        if not after:
            yield from self._send_sides(batch)
        offset = world.append_record(block)
        self.join.acknowledged(offset)
        if self.room is not None:
            self.room.acknowledged(LOG_ID, offset, self.name, self.number, "")
        yield
        if world.faults.strikes("block_again", 0.05):
            world.append_record(block)  # sent again by a new producer
            yield
        if after:
            yield from self._send_sides(batch)

    def _send_sides(self, batch: Batch) -> Steps:
        for home, forward in batch.forwards:
            self.world.relabelled[home].append(forward)
            yield
        for dead in batch.dead:
            place = (dead.label.partition, dead.label.offset)
            self.world.letters.append(DeadLetter(place, dead.code.value, (self.partition, self.name, self.number)))
            yield

    def _send_mark(self) -> Steps:
        """Tell the others; one that has not taken the mark before is told the newest once it has."""
        mark = self.join.mark()
        if mark != self.sent_mark:
            self.sent_mark, self.untold = mark, set(range(self.world.case.partitions)) - {self.partition}
        for other in sorted(self.untold):
            if not self.world.faults.strikes("mark_waits", 0.1):
                self.world.relabelled[other].append(mark)
                self.untold.remove(other)
                yield

    def _report(self, *, busy: bool) -> None:
        world = self.world
        if not world.owns(self.seat, self.name):
            return
        is_done = (
            world.inputs_ended
            and not busy
            and not list(world.scored[self.partition].read(offset_of(self.scored_at)))
            and not list(world.case.labels[self.partition].read(self.labels_at))
            and not list(world.relabelled[self.partition].read(self.relabelled_at))
        )
        if is_done:
            world.finished[self.seat] = (
                world.scored[self.partition].next_offset,
                world.relabelled[self.partition].next_offset,
            )
            world.left[self.partition] = self.join.remembered + self.join.early
        else:
            world.finished.pop(self.seat, None)
