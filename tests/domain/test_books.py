"""The books, recomputed from what the topics of a small loop hold."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from tests.builders import make_corrections, make_label, make_scored_block
from tests.log_builders import make_block, make_claim, make_dropped, make_examples, make_skip

from tailrace.domain.blocks import ERASED, IMPLICIT, JOINED, ScoredBlock, Vector
from tailrace.domain.books import Balance, Books, Folded, LabelRecord, Letter, Range, Topics, Twice, live, recompute
from tailrace.domain.join import JoinLimits, JoinSpec, LabelJoin
from tailrace.domain.positions import position_of
from tailrace.domain.records import Claim, Code, Forward, Label, Mark
from tailrace.domain.times import NEVER, JoinTimes

TIMES = JoinTimes(horizon_ms=100, disorder_ms=20, skew_ms=5, recall_ms=50)


def home_of(event_id: str, partitions: int) -> int:
    return int(event_id) % partitions


@dataclass
class World:
    """A loop whose join runs in this process until nothing is left to read.

    Attributes:
        strays: Whether labels of one id come on several partitions; else each id has its own, not always the right one.
    """

    rng: random.Random
    partitions: int
    implicit: float | None
    times: JoinTimes
    strays: bool
    events: list[tuple[int, int]] = field(default_factory=list)
    scored: list[list[ScoredBlock]] = field(default_factory=list)
    labels: list[list[Label | None]] = field(default_factory=list)
    relabelled: list[list[Forward | Mark]] = field(default_factory=list)
    log: list[tuple[int, Any]] = field(default_factory=list)
    event_letters: list[Letter] = field(default_factory=list)
    label_letters: list[Letter] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def fill(self, count: int) -> None:
        """Make events and labels: disordered, repeated, redelivered, poisoned, late, early, twice, misplaced."""
        rng, parts = self.rng, self.partitions
        self.scored, self.labels = [[] for _ in range(parts)], [[] for _ in range(parts)]
        self.relabelled = [[] for _ in range(parts)]
        for i in range(count):
            event_id, source = str(rng.randrange(count * 2 // 3)), (0, i)
            time_ms = i * 10 - rng.choice([0, 0, 0, 15, 60])
            self.events.append(source)
            if rng.random() < 0.05:
                self.event_letters += [Letter(source, Code.FEATURE_MISSING)] * rng.choice([1, 2])
                continue
            block = make_scored_block((event_id, time_ms), source_offsets=[i])
            self.scored[home_of(event_id, parts)] += [block] * rng.choice([1, 1, 1, 2])
            for _ in range(rng.choice([0, 1, 1, 2, 4])):
                self._label(event_id, time_ms)
        for partition in range(parts):
            # One last record of each moves every watermark past everything before it.
            last, source = (
                make_scored_block((str(partition), 10**6), source_offsets=[count + partition]),
                (0, count + partition),
            )
            self.events.append(source)
            self.scored[partition].append(last)
            self.labels[partition].append(self._numbered(partition, str(partition), 10**6))

    def _label(self, event_id: str, time_ms: int) -> None:
        rng, partition = self.rng, home_of(event_id, self.partitions)
        if self.strays and rng.random() < 0.1:
            partition = rng.randrange(self.partitions)
        elif int(event_id) % 10 == 0:
            partition = int(event_id) // 10 % self.partitions
        if rng.random() < 0.05:
            self.label_letters.append(Letter((partition, len(self.labels[partition])), Code.TARGET_MISSING))
            self.labels[partition].append(None)
        label_ms = time_ms + rng.choice([-40, -5, 0, 50, 100, 101, 140, 200])
        self.labels[partition].append(self._numbered(partition, event_id, label_ms))

    def _numbered(self, partition: int, event_id: str, time_ms: int) -> Label:
        y = self.rng.choice([0.0, 1.0, 0.0, 1.0, None])
        offset, revision = len(self.labels[partition]), self.rng.choice([0, 0, 1, 2])
        return make_label(event_id, time_ms, y, offset, partition, revision=revision)

    def run(self) -> None:
        limits = JoinLimits(max_rows=self.rng.choice([1, 3, 500]))
        specs = [JoinSpec(p, self.partitions, self.times, self.implicit, limits) for p in range(self.partitions)]
        turns = [Turn(self, LabelJoin(spec), spec.partition) for spec in specs]
        for turn in turns:
            self.append(Claim(turn.partition, turn.owner, None, "log"))
        idle_rounds = 0
        while idle_rounds < 3 * self.partitions:
            idle_rounds = 0 if self.rng.choice(turns).step() else idle_rounds + 1
        while sum(turn.step() for turn in turns):
            pass

    def append(self, record: Any) -> int:
        self.log.append((len(self.log), record))
        return len(self.log) - 1

    def topics(self) -> Topics:
        return Topics(
            self.partitions,
            self.events,
            [(p, block) for p, part in enumerate(self.scored) for block in part],
            [
                LabelRecord((q, offset), label, home_of(label.id, self.partitions) if label else 0)
                for q, part in enumerate(self.labels)
                for offset, label in enumerate(part)
            ],
            [(p, record) for p, part in enumerate(self.relabelled) for record in part],
            self.log,
            self.event_letters,
            self.label_letters,
        )


@dataclass
class Turn:
    """One joiner, reading its three inputs in any order."""

    world: World
    join: LabelJoin
    partition: int
    number: int = 0
    read: list[int] = field(default_factory=lambda: [0, 0, 0])
    told: Mark | None = None

    @property
    def owner(self) -> str:
        return f"joiner-{self.partition}"

    def step(self) -> bool:
        world, partition, took = self.world, self.partition, False
        inputs: Sequence[Sequence[Any]] = (
            world.scored[partition],
            world.labels[partition],
            world.relabelled[partition],
        )
        for kind in world.rng.sample(range(3), 3):
            for record in inputs[kind][self.read[kind] : self.read[kind] + world.rng.choice([1, 4])]:
                self._feed(kind, record)
                took = True
        at_end = self.read[1] == len(world.labels[partition])
        moved = world.rng.random() < 0.2 and self.join.idle(at_end)
        while self.join.expire() or self.join.is_full:
            self._flush()
        if took or moved or self.join.is_dirty:
            self._flush()
        return took

    def _feed(self, kind: int, record: Any) -> None:
        offset = self.read[kind]
        self.read[kind] += 1
        if kind == 0:
            while self.join.on_scored(offset, record) < 1:
                self._flush()
        elif kind == 1 and record is None:
            self.join.on_rejected_label(offset)
        elif kind == 1:
            self.join.on_label(record, home_of(record.id, self.world.partitions))
        else:
            self.join.on_relabelled(offset, record)
        while self.join.is_full:
            self._flush()

    def _flush(self) -> None:
        world, batch = self.world, self.join.take()
        self.number += 1
        name = (self.partition, self.owner, self.number)
        for home, forward in batch.forwards:
            world.relabelled[home].append(forward)
        for dead in batch.dead:
            letter = Letter((dead.label.partition, dead.label.offset), dead.code, name)
            # Sent again by a joiner that was replaced before its block was accepted.
            world.label_letters += [letter, letter, letter._replace(block=(self.partition, "zombie", 1))]
        block = batch.block("contract", "log", self.owner, self.number)
        self.join.acknowledged(world.append(block))
        if world.rng.random() < 0.1:
            world.append(block)
            world.append(replace(block, owner="zombie"))
        world.counts.update(batch.vector.counts)
        if batch.mark != self.told:
            self.told = batch.mark
            for other in set(range(world.partitions)) - {self.partition}:
                world.relabelled[other].append(batch.mark)


def merged(parts: dict[str, int], is_merged: bool) -> dict[str, int]:
    if not is_merged:
        return parts
    return {**parts, "duplicate": parts["duplicate"] + parts["withdrawn"], "withdrawn": 0}


def balance(books: Books, line: str) -> Balance:
    return next(balance for balance in books.balances if balance.line == line)


@pytest.mark.parametrize("seed", range(40))
def test_the_books_of_a_quiet_loop_balance_and_agree_with_its_counters(seed: int) -> None:
    """Each event and label is explained once, whatever was redelivered, fenced, forwarded or sent twice."""
    rng = random.Random(seed)
    times = replace(TIMES, corrections_ms=rng.choice([0, 20, 50]))
    strays = seed % 2 == 1
    world = World(rng, rng.choice([1, 2, 3]), rng.choice([None, 0.0]), times, strays)
    world.fill(150)
    world.run()

    books = recompute(world.topics(), times)

    assert [] == [str(one) for one in books.balances if not one.holds]
    assert books.holds
    labels = balance(books, "labels").parts
    by_counters = {part: world.counts[part] for part in labels if part not in ("waiting", "rejected")}
    # With strays nobody wrote down what had been said when a withdrawal was read.
    assert merged(by_counters, strays) == merged({part: labels[part] for part in by_counters}, strays)
    events = balance(books, "scored").parts
    assert {part: world.counts[part] for part in ("joined", "implicit", "dropped")} == {
        part: events[part] for part in ("joined", "implicit", "dropped")
    }
    rows = balance(books, "scored").total + books.redelivered
    assert rows == sum(map(len, world.scored))


def test_what_still_waits_is_found_by_ids_and_watermarks() -> None:
    scored = make_scored_block(("joined", 0), ("waiting", 0), ("mover", 90))
    labels = [make_label("joined", 10), make_label("early", 90, offset=1)]
    row = replace(make_examples(1), ids=["joined"], y=np.array([1.0]))
    topics = loop(scored, labels, make_block(row))

    books = recompute(topics, TIMES)

    assert {"joined": 1, "waiting": 2} == nonzero(balance(books, "scored"))
    assert {"joined": 1, "waiting": 1} == nonzero(balance(books, "labels"))
    assert books.holds


def test_an_event_past_its_horizon_without_an_outcome_is_unexplained() -> None:
    """What waits is never the rest."""
    topics = loop(make_scored_block(("lost", 0), ("mover", 101)), [make_label("mover", 101)])

    books = recompute(topics, TIMES)

    assert (2, {"waiting": 1}) == (balance(books, "scored").total, nonzero(balance(books, "scored")))
    assert "2 scored = 0 joined + 0 implicit + 0 dropped + 1 waiting + 0 repeated + 0 stale, and 1 unexplained" == str(
        balance(books, "scored")
    )
    assert not books.holds


def test_a_label_in_time_that_no_row_holds_is_unexplained() -> None:
    topics = loop(make_scored_block(("a", 0), ("mover", 90)), [make_label("a", 10)])

    assert 1 == balance(recompute(topics, TIMES), "labels").difference


def test_corrections_and_withdrawals_are_explained_by_their_rows() -> None:
    """A null target with no row is `withdrawn` before any label has spoken, `duplicate` after one has."""
    labels = [
        make_label("a", 10, None, 0),
        make_label("a", 10, 1.0, 1, revision=1),
        make_label("a", 20, 0.0, 2, revision=2),
        make_label("a", 20, 1.0, 3, revision=1),
        make_label("a", 30, None, 4, revision=3),
        make_label("a", 30, None, 5, revision=3),
        make_label("a", 40, 0.0, 6, revision=0),
    ]
    row = replace(make_examples(1), ids=["a"], label_offsets=np.array([1]), revisions=np.array([1]), y=np.array([1.0]))
    said = replace(
        make_corrections(("a", 0, 0.0), ("a", 0, None)), label_offsets=np.array([2, 4]), revisions=np.array([2, 3])
    )
    topics = loop(make_scored_block(("a", 0), ("mover", 90)), labels, make_block(row, corrections=said))

    line = balance(recompute(topics, replace(TIMES, corrections_ms=50)), "labels")

    assert {"joined": 1, "duplicate": 3, "corrected": 1, "withdrawn": 2} == nonzero(line)
    assert line.holds


def test_a_label_that_comes_again_for_an_event_that_was_erased_is_a_duplicate() -> None:
    """The row says nothing any more but where its event came from; the labels topic still holds both labels."""
    labels = [make_label("a", 10, 1.0, 0), make_label("a", 20, 1.0, 1)]
    row = replace(make_examples(1), ids=[""], kinds=np.array([ERASED]), y=np.array([0.0]))
    topics = loop(make_scored_block(("a", 0), ("mover", 90)), labels, make_block(row))

    line = balance(recompute(topics, TIMES), "labels")

    assert {"joined": 1, "duplicate": 1} == nonzero(line)
    assert line.holds


@pytest.mark.parametrize(("y", "revision"), [(0.0, 1), (0.0, 2), (1.0, 2), (None, 2)])
def test_a_correction_that_no_row_holds_is_unexplained(y: float | None, revision: int) -> None:
    labels = [make_label("a", 10, 1.0, 0, revision=1), make_label("a", 20, y, 1, revision=revision)]
    row = replace(make_examples(1), ids=["a"], revisions=np.array([1]), y=np.array([1.0]))
    topics = loop(make_scored_block(("a", 0), ("mover", 90)), labels, make_block(row))

    assert 1 == balance(recompute(topics, replace(TIMES, corrections_ms=50)), "labels").difference


def test_a_label_that_no_event_can_claim_any_more_needs_its_dead_letter() -> None:
    scored, labels = make_scored_block(("mover", 1_000)), [make_label("nobody", 10)]
    letter = Letter((0, 0), Code.ORPHANED, (0, "joiner-a", 1))

    without = recompute(loop(scored, labels, make_block(make_examples(0))), TIMES)
    fenced = recompute(loop(scored, labels, letters=[letter]), TIMES)
    accepted = recompute(loop(scored, labels, make_block(make_examples(0)), letters=[letter, letter]), TIMES)

    assert [1, 1, 0] == [balance(books, "labels").difference for books in (without, fenced, accepted)]
    assert {"orphaned": 1} == nonzero(balance(accepted, "labels"))


def test_repeated_stale_and_redelivered_rows_count_by_source_position() -> None:
    rows = (("a", 0), ("a", 0), ("a", 5), ("mover", 50), ("b", 10))
    first = make_scored_block(*rows, source_offsets=[0, 0, 1, 2, 3])

    books = recompute(loop(first, []), TIMES)

    assert {"waiting": 2, "repeated": 1, "stale": 1} == nonzero(balance(books, "scored"))
    assert 1 == books.redelivered


def test_a_redelivery_that_was_accepted_after_all_is_not_repeated() -> None:
    """The id was in use at the first attempt and free again at the second."""
    rows = (("a", 0), ("b", 170), ("a", 180), ("mover", 190), ("a", 180))

    books = recompute(loop(make_scored_block(*rows, source_offsets=[0, 1, 2, 3, 2]), []), TIMES)

    assert 0 == balance(books, "scored").parts["repeated"]


def test_an_event_that_was_rejected_by_one_attempt_and_scored_by_another_is_scored() -> None:
    scored = make_scored_block(("a", 0))
    topics = replace(loop(scored, []), events=[(0, 0), (0, 1), (0, 2)])
    letters = [Letter((0, offset), Code.MODEL_FAILED) for offset in (0, 1, 1)]

    line = balance(recompute(replace(topics, event_letters=letters), TIMES), "events")

    assert (3, {"scored": 1, "rejected": 1}, 1) == (line.total, nonzero(line), line.difference)


def test_a_row_with_two_outcomes_makes_its_balance_fail() -> None:
    scored = make_scored_block(("a", 0))
    joined = make_block(replace(make_examples(1), ids=["a"]))
    dropped = replace(make_block(make_examples(0), number=2), dropped=make_dropped(1))

    line = balance(recompute(loop(scored, [make_label("a")], joined, dropped), TIMES), "scored")

    assert -1 == line.difference


def test_an_identity_that_was_learned_twice_is_named() -> None:
    again = replace(make_examples(1), ids=["a"], kinds=np.array([IMPLICIT]))
    blocks = make_block(replace(make_examples(1), ids=["a"], kinds=np.array([JOINED]))), make_block(again, number=2)

    books = recompute(loop(make_scored_block(("a", 0)), [make_label("a")], *blocks), TIMES)

    assert (Twice("a", 0, (position_of(1, 0), position_of(2, 0))),) == books.learned_twice
    assert not books.holds


def test_examples_before_the_position_of_the_state_are_learned_skipped_or_foreign() -> None:
    blocks = make_block(make_examples(5, 1)), make_block(make_examples(5, 2), number=2)
    topics = loop(make_scored_block(("a", 0)), [], *blocks)

    line = balance(recompute(topics, TIMES, Folded(position_of(2), learned=4, skipped=1)), "examples")
    later = balance(recompute(topics, TIMES, Folded(position_of(3), learned=4, skipped=1)), "examples")

    assert (5, {"learned": 4, "skipped": 1, "left_out": 0, "foreign": 0}, True) == (line.total, line.parts, line.holds)
    assert 5 == later.difference


def test_claims_and_skips_of_the_learner_do_not_disturb_the_books() -> None:
    topics = loop(
        make_scored_block(("a", 0)), [make_label("a")], make_skip(0), make_block(replace(make_examples(1), ids=["a"]))
    )

    assert recompute(topics, TIMES).holds


def test_what_depends_on_deleted_beginnings_is_left_out() -> None:
    """A row counts once the watermark before it is so late that nothing deleted can decide its outcome."""
    scored = make_scored_block(("a", 1_000), ("b", 1_176), ("c", 1_177), ("d", 1_178))
    labels = [make_label("x", 1_176), make_label("y", 1_177, offset=1), make_label("z", 1_180, offset=2)]
    counted = Range({0: 2}, Range.after([400, 1_000], TIMES))

    books = recompute(loop(scored, labels), TIMES, counted=counted)

    assert (2, 2, 2) == tuple(balance(books, line).total for line in ("events", "scored", "labels"))
    assert Range.after([], TIMES) < NEVER


def test_idle_moves_of_accepted_blocks_are_part_of_a_watermark() -> None:
    """The label comes after its partition was moved past its event's recall, so it belongs to none."""
    moved = replace(make_block(make_examples(0)), vector=Vector(idle_moves=[(0, 200), (0, 160)]))
    letter = Letter((0, 0), Code.ORPHANED, (0, "joiner-a", 1))
    topics = loop(make_scored_block(("a", 0), ("mover", 200)), [make_label("a", 10)], moved, letters=[letter])

    assert {"orphaned": 1} == nonzero(balance(recompute(topics, TIMES), "labels"))


def test_live_counters_make_the_same_lines() -> None:
    found = live({"examples": {"examples": 5, "learned": 4, "skipped": 1}, "events": {"events": 2, "scored": 1}})

    assert [
        "2 events = 1 scored + 0 rejected, and 1 unexplained",
        "5 examples = 4 learned + 1 skipped + 0 left out + 0 foreign",
    ] == [str(line) for line in found]


def loop(scored: ScoredBlock, labels: Sequence[Label], *records: Any, letters: Sequence[Letter] = ()) -> Topics:
    """Return the topics of a loop of one partition; its log begins with the claim of joiner-a."""
    log = list(enumerate([make_claim(), *records]))
    events = [(0, int(offset)) for offset in dict.fromkeys(scored.source_offsets.tolist())]
    read = [LabelRecord((label.partition, label.offset), label, 0) for label in labels]
    return Topics(1, events, [(0, scored)], read, [], log, label_letters=letters)


def nonzero(line: Balance) -> dict[str, int]:
    return {part: count for part, count in line.parts.items() if count}
