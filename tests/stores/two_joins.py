"""Two joins fed alike, one in memory and one on disk: everything they say must be equal, after any restart too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np
from tests.builders import make_limits, make_times

from tailrace.domain.blocks import ScoredBlock, Served, TrainingBlock, Vector, XColumns
from tailrace.domain.join import JoinSpec, Kept, LabelJoin, recover, starts
from tailrace.domain.join.state import JoinState
from tailrace.domain.positions import offset_of, position_of
from tailrace.domain.records import Forward, Label, Mark
from tailrace.stores.shelf import Shelf, new_cache
from tailrace.stores.waiting_room import DiskRoom, vector_text
from tailrace.wire.avro_codec import encode_training

OWNER = "owner"
AWAY = "away-"
"""Ids that begin so are at home on partition 1."""


def make_spec(rng: Random) -> JoinSpec:
    """Return a hostile spec of partition 0 of two."""
    times = replace(
        make_times(
            horizon_ms=100,
            disorder_ms=rng.choice([10, 50, 100]),
            skew_ms=rng.choice([0, 5]),
            recall_ms=rng.choice([0, 50, 100]),
        ),
        corrections_ms=rng.choice([0, 50]),
    )
    limits = make_limits(rng.choice([1, 3, 50]), rng.choice([300, 400_000]), rng.choice([20, 1_000_000]))
    return JoinSpec(0, 2, times, rng.choice([None, 0.0]), limits)


def make_block(rng: Random, now_ms: int) -> ScoredBlock:
    """Return some rows of every kind of column, shaped by one of two contracts."""
    count, wide, late = rng.randint(1, 6), rng.random() < 0.7, rng.choice([0, 30, 150])
    absent = np.array([[rng.random() < 0.3 for _ in range(5 if wide else 3)] for _ in range(count)])
    proba = np.array([[rng.choice([0.25, 0.5, np.nan])] for _ in range(count)])
    return ScoredBlock(
        contract_id="wide" if wide else "narrow",
        log_id="log",
        model="champion",
        version=f"lineage-{rng.randint(0, 2)}",
        state_position=rng.randint(0, 1 << 40),
        source_partition=rng.randint(0, 2),
        source_offsets=np.array(sorted(rng.sample(range(10_000), count)), dtype=np.int64),
        ids=[f"id-{rng.randint(0, 60)}" for _ in range(count)],
        times_ms=np.array([max(0, now_ms - rng.randint(0, late)) for _ in range(count)], dtype=np.int64),
        served=Served((proba[:, 0] > 0.3).astype(np.float64), proba if wide else np.empty((count, 0))),
        x=XColumns(
            np.array([[rng.gauss(0, 1), -0.0] for _ in range(count)]),
            np.array([[rng.randint(-5, 5)] for _ in range(count)], dtype=np.int64),
            [("ä" * rng.randint(0, 3), "text") if wide else () for _ in range(count)],
            absent if rng.random() < 0.4 else None,
        ),
    )


@dataclass
class TwoJoins:
    """The joins, everything they were fed, and the log that both write."""

    seed: int
    folder: Path
    restarts: int = 0
    log: list[tuple[int, TrainingBlock]] = field(default_factory=list)
    scored: list[ScoredBlock] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    relabelled: list[Forward | Mark] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.spec = make_spec(self.rng)
        self.cache = new_cache()
        self.now_ms = 1_000
        self.room = self.open()
        self.memory = LabelJoin(self.spec)
        self.disk = LabelJoin(self.spec, JoinState.empty(self.spec, self.room, self.room.early))

    def open(self) -> DiskRoom:
        """Open the folder."""
        return DiskRoom(Shelf(self.folder, self.cache), 0)

    def step(self) -> None:
        """Do one thing to both."""
        rng = self.rng
        self.now_ms += rng.choice([0, 0, 1, 3, 20])
        kind = rng.random()
        if kind < 0.35:
            self.feed_scored()
        elif kind < 0.7:
            self.feed_label()
        elif kind < 0.8:
            self.feed_relabelled()
        elif kind < 0.85:
            assert self.memory.idle(labels_end_reached=True) == self.disk.idle(labels_end_reached=True)
        elif kind < 0.9:
            self.write()
        elif kind < 0.93:
            self.restart()
        else:
            self.both_take(self.memory.expire(), self.disk.expire())
        while self.memory.is_full or self.disk.is_full:
            self.both_take(True, True)
        self.compare()

    def compare(self) -> None:
        """What both say of themselves is equal."""
        for name in ("waiting", "remembered", "early", "is_dirty", "has_output", "scored_next", "labels_next"):
            assert getattr(self.memory, name) == getattr(self.disk, name), name
        assert self.memory.paused_inputs() == self.disk.paused_inputs()

    def feed_scored(self) -> None:
        block, offset, row = make_block(self.rng, self.now_ms), len(self.scored), 0
        self.scored.append(block)
        if self.rng.random() < 0.5:
            self.room.load(block.ids)
        while row < len(block.ids):
            reached = self.memory.on_scored(offset, block, row)
            assert reached == self.disk.on_scored(offset, block, row)
            row = reached
            while self.memory.is_full:
                self.both_take(True, True)

    def feed_label(self) -> None:
        label = self.make_label(0, len(self.labels))
        self.labels.append(label)
        for join in (self.memory, self.disk):
            join.on_label(label, home=int(label.id.startswith(AWAY)))

    def feed_relabelled(self) -> None:
        rng, offset = self.rng, len(self.relabelled)
        record: Forward | Mark
        if rng.random() < 0.5:
            record = Mark(1, rng.randint(0, 50), self.now_ms - rng.randint(0, 40))
        else:
            record = Forward(self.make_label(1, rng.randint(0, 50)), self.now_ms - rng.randint(0, 40))
        self.relabelled.append(record)
        for join in (self.memory, self.disk):
            join.on_relabelled(offset, record)

    def make_label(self, partition: int, offset: int) -> Label:
        rng = self.rng
        name = f"{AWAY}1" if rng.random() < 0.05 else f"id-{rng.randint(0, 60)}"
        time_ms = max(0, self.now_ms + rng.choice([-160, -60, -20, 0, 4]))
        y = rng.choice([0.0, 1.0, 1.0, None])
        return Label(name, time_ms, y, partition, offset, 7, rng.choice([0, 0, 1, 2]), rng.choice(["", "desk"]))

    def both_take(self, is_due: bool, other: bool) -> None:
        """Take a batch of both and write it to the log."""
        assert is_due == other
        if not (is_due or self.memory.is_dirty):
            return
        number, offset = len(self.log) + 1, 10 * len(self.log) + 10
        batch, same = self.memory.take(), self.disk.take()
        assert (batch.dead, batch.forwards, batch.mark) == (same.dead, same.forwards, same.mark)
        assert self.agree(batch.vector, same.vector)
        block = same.block("wide", "log", OWNER, number)
        assert encode_training(replace(batch, vector=same.vector).block("wide", "log", OWNER, number)) == (
            encode_training(block)
        )
        self.log.append((offset, block))
        self.memory.acknowledged(offset)
        self.disk.acknowledged(offset)
        self.room.acknowledged("log", offset, OWNER, number, "hint")

    def agree(self, vector: Vector, other: Vector) -> bool:
        """Whether two vectors are equal.

        After a restart the disk may name an older row: of what was settled it still knows the block before, where
        memory has read the row's own place in the log. Older is safe: more is read, and known already.
        """
        if self.restarts:
            assert other.oldest_row <= vector.oldest_row
            vector = replace(vector, oldest_row=other.oldest_row)
        return vector_text(vector) == vector_text(other)

    def write(self) -> None:
        """Let the disk follow the log, for a part of the way."""
        while self.room.is_behind and self.rng.random() < 0.8:
            assert self.room.write()

    def restart(self) -> None:
        """Lose what is in memory and make both again, the disk from what it holds."""
        if not self.log:
            return
        self.restarts += 1
        vector = self.log[-1][1].vector
        # What was read past the last block is read again by both.
        del self.scored[offset_of(vector.scored_next) + bool(vector.scored_next % position_of(1)) :]
        del self.labels[vector.labels_next :]
        del self.relabelled[vector.relabelled_next :]
        self.memory = self.recovered(None, vector)
        self.room.close()
        self.room = self.open()
        standing = self.room.standing
        if standing is None:
            state, kept = JoinState.empty(self.spec, self.room, self.room.early), None
            assert self.room.count == 0
        else:
            block = next(block for offset, block in self.log if offset == standing.offset)
            assert standing.vector == vector_text(block.vector)
            state = JoinState.empty(self.spec, self.room, self.room.early)
            state.acknowledged = standing.offset
            kept = Kept(state, block.vector)
        self.room.remake()
        self.disk = self.recovered(kept or Kept(state, None), vector)
        self.room.made()
        self.room.seal(vector)
        self.room.acknowledged("log", self.log[-1][0], OWNER, len(self.log), "hint")
        assert self.agree(self.memory._state.vector({}), self.disk._state.vector({}))
        row = vector.scored_next % position_of(1)
        while row and row < len(self.scored[-1].ids):
            offset = len(self.scored) - 1
            reached = self.memory.on_scored(offset, self.scored[offset], row)
            assert reached == self.disk.on_scored(offset, self.scored[offset], row)
            row = reached
            while self.memory.is_full:
                self.both_take(True, True)

    def recovered(self, kept: Kept | None, vector: Vector) -> LabelJoin:
        since = kept.vector if kept else None
        start = starts(vector, since)
        after = kept.state.acknowledged if since is not None else vector.oldest_row - 1
        low, end = offset_of(start.scored.position), offset_of(vector.scored_next)
        return recover(
            self.spec,
            vector,
            rows=[(offset, block) for offset, block in self.log if offset > after],
            scored=[(offset, block) for offset, block in enumerate(self.scored) if low <= offset <= end],
            labels=[
                (label, int(label.id.startswith(AWAY)))
                for label in self.labels
                if start.labels.position <= label.offset < vector.labels_next
            ],
            relabelled=[
                (offset, record)
                for offset, record in enumerate(self.relabelled)
                if vector.relabelled_low <= offset < vector.relabelled_next
            ],
            kept=kept,
        )
