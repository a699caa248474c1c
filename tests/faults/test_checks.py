"""The checks find what they are for: a real loop's topics pass, and each copy with one thing changed is told of."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from tests.builders import make_corrections
from tests.cli.loop_builders import logs_left_alone
from tests.faults import memory
from tests.faults.audit import SAID_OF_EACH, Audit, Violations
from tests.faults.checks import check, check_a, check_at_end, check_b
from tests.faults.in_use import in_use_bytes
from tests.faults.invariants import (
    every_accepted_event_is_predicted,
    is_kept,
    nothing_is_committed_ahead,
    the_books_balance,
)
from tests.faults.ledger import Ledger, show
from tests.faults.memory import Memory, Sample
from tests.faults.processes import Refolder
from tests.faults.secrecy import Needles
from tests.faults.soak import EXCEEDED, MET, TOO_SHORT, Growth, Slope
from tests.faults.topics import Column, Topics, why_not_quiet
from tests.faults.workload import DISORDER_MS, HORIZON_MS, SKEW_MS, Workload
from tests.log_forms import LogForm
from tests.scenarios.commanding import tailrace
from tests.scenarios.harness import Scenario, until

from tailrace import settings as loading
from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.snapshots import KEPT, Kind
from tailrace.main import LoopDomain
from tailrace.streams.log import Outgoing, TopicPartition
from tailrace.telemetry import logs
from tailrace.wire.dead_letter import parse

PARTITIONS = 2
WITHIN_S = 30.0


@dataclass
class Ran:
    """A loop that has run, was upgraded, and came to rest."""

    scenario: Scenario
    topics: Topics
    refolder: Refolder
    on_two: dict[str, set[bool]]
    log: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked")
    found = asyncio.run(run_a_loop(folder))
    yield found
    found.refolder.close()


async def run_a_loop(folder: Path) -> Ran:
    form = LogForm("embedded", f"embedded:{folder / 'log'}", folder / "log")
    scenario = await Scenario.make(
        form,
        folder,
        partitions=PARTITIONS,
        horizon=f"{HORIZON_MS}ms",
        disorder=f"{DISORDER_MS}ms",
        skew=f"{SKEW_MS}ms",
        snapshots={"every": "150ms", "publish": "100ms"},
    )
    load = Workload(Random(11), PARTITIONS, time.time_ns() // 1_000_000 - 7_200_000)
    log = folder / "worker.log"
    with logs_left_alone(), log.open("w") as stream:
        logs.configure("info", "json", stream=stream)
        await scenario.start()
        for _ in range(4):
            await send(scenario, load.piece(60))
            await asyncio.sleep(0.15)
        await upgrade(scenario)
        for _ in range(3):
            await send(scenario, load.piece(60))
            await asyncio.sleep(0.15)
        ends = await send(scenario, load.ending())
        async with reading(scenario) as reader:
            topics = Topics(reader, scenario.domain, PARTITIONS)
            await until(lambda: is_quiet(topics, ends), "everything has come through", WITHIN_S)
            await topics.refresh_rest()
        await scenario.close()
    return Ran(scenario, topics, Refolder(scenario.config, folder), load.on_two, log)


async def send(scenario: Scenario, records: Sequence[Any]) -> dict[TopicPartition, int]:
    """Send what a workload made; return where the partitions end."""
    names, ends = scenario.domain.topics, {}
    for record in records:
        at = TopicPartition(names.events if record.topic == "events" else names.labels, record.partition)
        ends[at] = (await (await scenario.user.sink.send(at, [Outgoing(record.key, record.value)])))[-1] + 1
    return ends


async def upgrade(scenario: Scenario) -> None:
    """Build another model beside and promote it."""
    text = scenario.config.read_text()
    was = scenario.settings.loops[scenario.domain.name].champion.model
    scenario.config.write_text(text.replace(was, "HoeffdingTreeClassifier(grace_period=10)"))
    scenario.settings = loading.load(scenario.config)
    loop = scenario.settings.loops[scenario.domain.name]
    scenario.domain = LoopDomain.of(scenario.domain.name, loop, scenario.settings.folder)
    ran = await tailrace(scenario, "upgrade", "--promote", "--by", "ada")
    assert ran.code == 0, ran.err


async def is_quiet(topics: Topics, ends: dict[TopicPartition, int]) -> bool:
    await asyncio.sleep(0.05)
    return not await why_not_quiet(topics, ends)


@asynccontextmanager
async def reading(scenario: Scenario):
    reader = scenario.form.open().reader()
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


class Copy:
    """A copy of the topics in memory, to be doctored."""

    def __init__(self, ran: Ran) -> None:
        topics = ran.topics
        columns = {
            topic: [Column(each.next_offset, list(each.records), list(each.decoded)) for each in of_topic]
            for topic, of_topic in topics._columns.items()
        }
        committed = {role: dict(offsets) for role, offsets in topics.committed.items()}
        self.ran = ran
        self.topics = replace(topics, committed=committed, planted=set(), _columns=columns)
        self.names = topics.domain.topics

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.topics, self.ran.on_two)

    def column(self, topic: str, partition: int = 0) -> Column:
        return self.topics.all_of(topic)[partition]

    def drop(self, topic: str, which: Callable[[Any, Any], bool]) -> int:
        """Take records out; return how many."""
        gone = 0
        for column in self.topics.all_of(topic):
            kept = [pair for pair in zip(column.records, column.decoded, strict=True) if not which(pair[0], pair[1])]
            gone += len(column.records) - len(kept)
            column.records, column.decoded = [record for record, _ in kept], [decoded for _, decoded in kept]
        return gone

    def change(self, topic: str, which: Callable[[Any], bool], how: Callable[[Any], Any]) -> None:
        """Change the first decoded record that is meant."""
        for column in self.topics.all_of(topic):
            for index, decoded in enumerate(column.decoded):
                if which(decoded):
                    column.decoded[index] = how(decoded)
                    return
        raise LookupError(topic)

    async def audit(self, **more: Any) -> Audit:
        async with reading(self.ran.scenario) as reader:
            topics = replace(self.topics, reader=reader)
            return await check_at_end(topics, self.ran.refolder, self.ran.scenario, self.ran.on_two, **more)

    async def says(self, invariant: str, words: str, **more: Any) -> Audit:
        """See that the audit tells of an invariant in these words."""
        audit = await self.audit(**more)
        mine = [line for line in audit.violations.lines if line.startswith(f"{invariant}: ")]
        assert any(words in line for line in mine), audit.violations.lines
        return audit


@pytest.fixture
def copy(ran) -> Copy:
    return Copy(ran)


def pick(columns: Any, rows: Sequence[int]) -> Any:
    """Return some rows of columns, in the order given."""
    if is_dataclass(columns):
        return replace(columns, **{each.name: pick(getattr(columns, each.name), rows) for each in fields(columns)})
    if isinstance(columns, list):
        return [columns[row] for row in rows]
    return None if columns is None else columns[np.array(rows, np.intp)]


def has_examples(record: Any) -> bool:
    return isinstance(record, TrainingBlock) and len(record.examples) > 1


def an_event(copy: Copy) -> tuple[tuple[int, int], Any]:
    """Return an event that was joined: its place and itself."""
    joined = {each.id for each in copy.ledger.outcomes if each.kind == "joined"} - copy.ran.on_two.keys()
    once = [event.id for event in copy.ledger.events.values()]
    return next(
        (at, event) for at, event in copy.ledger.events.items() if event.id in joined and once.count(event.id) == 1
    )


# ── what is right ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_topics_of_a_sound_loop_pass_every_check(ran, copy):
    audit = await copy.audit(logs=[ran.log])

    assert [] == audit.violations.lines
    found = audit.found
    assert found.events > 390
    assert (0, 0) == (found.lost, found.twice)
    assert {"joined", "dropped"} == found.outcomes.keys()
    assert {"late", "orphaned", "conflicting"} <= found.dead.keys()
    assert found == audit.complain()


async def test_the_run_was_such_that_each_check_had_something_to_look_at(ran, copy):
    kinds = {manifest.kind for _, manifest in ran.topics.manifests()}
    versions = {plain["version"] for column in copy.topics.all_of(copy.names.predictions) for plain in column.decoded}
    folded = await ran.refolder.fold(ran.topics.training.next_offset)

    assert {Kind.SNAPSHOT, Kind.PUBLICATION} <= kinds
    assert 2 == len(versions)
    assert [0, 1] == [epoch for _, epoch, _ in folded["epochs"]]
    assert len(copy.ledger.forwards) > 5
    assert ran.on_two
    assert ran.log.stat().st_size > 1_000


async def test_what_is_wrong_is_raised_at_once_and_in_bounded_words(ran, copy):
    copy.drop(copy.names.predictions, lambda *_: True)

    with pytest.raises(AssertionError) as failure:
        async with reading(ran.scenario) as reader:
            await check(replace(copy.topics, reader=reader), ran.refolder, ran.scenario, ran.on_two)

    lines = str(failure.value).splitlines()
    assert f"{len(copy.ledger.events)} lost" in lines[0]
    assert sum("has no prediction" in line for line in lines) == SAID_OF_EACH
    assert len(lines) < 4 * SAID_OF_EACH
    with pytest.raises(AssertionError, match="no prediction"):
        check_a(copy.topics, ran.on_two)


# ── I1 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i1_an_event_without_a_prediction(copy):
    _, event = an_event(copy)
    assert copy.drop(copy.names.predictions, lambda _, plain: plain["event_id"] == event.id)

    audit = await copy.says("I1", f"event {event.id}")

    assert 1 == audit.found.lost_events


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: record._replace(partition=1 - record.partition), "is in partition"),
        (lambda record: record._replace(key=b"another"), "has the key b'another'"),
    ],
)
async def test_i1_a_prediction_in_another_partition_or_under_another_key(copy, change, words):
    records = copy.column(copy.names.predictions).records
    records[3] = change(records[3])

    await copy.says("I1", words)


async def test_i1_two_events_with_one_prediction_id(copy):
    column = copy.column(copy.names.predictions)
    column.decoded[5] = column.decoded[5] | {"prediction_id": column.decoded[4]["prediction_id"]}

    await copy.says("I1", "two events have one prediction id")


async def test_i1_a_second_prediction_of_an_event_under_an_id_of_its_own(copy):
    column = copy.column(copy.names.predictions)
    again = column.decoded[5] | {"prediction_id": column.decoded[5]["prediction_id"] + "-2"}
    column.records.append(column.records[5]._replace(offset=column.next_offset))
    column.decoded.append(again)

    await copy.says("I1", "has the id")


@pytest.mark.parametrize("field", ["proba", "y_pred", "position", "version"])
async def test_i1_what_scored_holds_was_never_published(copy, field):
    other = {"proba": 0.123, "y_pred": None, "position": "0:0", "version": "another"}
    copy.change(
        copy.names.predictions, lambda plain: plain["position"] > "1", lambda plain: plain | {field: other[field]}
    )

    await copy.says("I1", "is none of its 1 predictions")


async def test_i1_of_two_predictions_one_must_be_what_scored_holds_and_the_other_may_differ(copy):
    column = copy.column(copy.names.predictions)
    column.records.append(column.records[5]._replace(offset=column.next_offset))
    column.decoded.append(column.decoded[5] | {"proba": 0.25})
    violations = Violations()

    every_accepted_event_is_predicted(copy.ledger, violations)

    assert [] == violations.lines


# ── I2, I3 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i2_an_event_without_scored_row_is_lost(copy):
    at, event = an_event(copy)

    def holds(block):
        return at[0] == block.source_partition and at[1] in block.source_offsets.tolist()

    def without(block):
        return pick_rows(block, [row for row, offset in enumerate(block.source_offsets.tolist()) if offset != at[1]])

    copy.change(copy.names.scored, holds, without)

    audit = await copy.says("I2", f"event {event.id}")

    assert audit.found.lost_events == 1


def pick_rows(block: Any, rows: Sequence[int]) -> Any:
    """Return some rows of a scored block."""
    names = ("source_offsets", "ids", "times_ms", "served", "x")
    return replace(block, **{name: pick(getattr(block, name), rows) for name in names})


@pytest.mark.parametrize(("topic", "lost"), [("dead_events", "lost_events"), ("dead_labels", "lost_labels")])
async def test_i2_a_bad_record_without_dead_letter_is_lost(copy, topic, lost):
    name = getattr(copy.names, topic)
    codes = copy.ledger.bad_events if topic == "dead_events" else copy.ledger.bad_labels
    letters = copy.ledger.event_letters if topic == "dead_events" else copy.ledger.label_letters
    at = next(iter(codes))
    assert len(letters[at]) == 1
    assert copy.drop(name, lambda record, _: is_letter_of(record, at)) == 1

    audit = await copy.says("I2", "and has no dead letter")

    assert 1 == getattr(audit.found, lost)


def is_letter_of(record: Any, at: tuple[int, int]) -> bool:
    letter = parse(record.headers)
    return (letter.partition, letter.offset) == at


async def test_i2_a_dead_letter_that_is_not_the_record_it_was(copy):
    records = next(column.records for column in copy.topics.all_of(copy.names.dead_events) if column.records)
    records[0] = records[0]._replace(value=b"something else")

    await copy.says("I2", "as it was")


async def test_i2_a_late_label_whose_letter_is_of_a_block_that_does_not_count(copy):
    at = next(at for at, code in copy.ledger.expected.dead if code == "late")
    (letter,) = copy.ledger.label_letters[at]
    (owner, number) = letter.block.owner, letter.block.number
    copy.drop(
        copy.names.training,
        lambda _, content: isinstance(content, TrainingBlock) and (content.owner, content.number) == (owner, number),
    )

    audit = await copy.says("I2", "it is late, and has neither a row nor a dead letter")

    assert audit.found.lost_labels > 0


@pytest.mark.parametrize(
    ("topic", "words"), [("dead_labels", "labels are"), ("dead_events", "events are"), ("scored", "in scored are")]
)
async def test_i2_sums_that_do_not_add_up(copy, topic, words):
    column = next(column for column in copy.topics.all_of(getattr(copy.names, topic)) if column.records)
    column.records.pop()
    column.decoded.pop()

    await copy.says("I2", words)


class Censored:
    """A reader that leaves out what one topic holds."""

    def __init__(self, reader: Any, topic: str) -> None:
        self._reader = reader
        self._topic = topic

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read(self, at, start, end):
        async for batch in self._reader.read(at, start, end):
            if at.topic != self._topic:
                yield batch


async def test_i2_the_books_do_not_balance_when_dead_letters_are_gone(ran):
    violations = Violations()

    async with reading(ran.scenario) as reader:
        censored = Censored(reader, ran.topics.domain.topics.dead_events)
        await the_books_balance(replace(ran.topics, reader=censored), ran.scenario, violations)

    assert 1 == violations.total
    assert "the books do not balance: " in violations.lines[0]


async def test_i3_an_identity_that_was_settled_twice(copy):
    def with_a_row_again(block):
        rows = [*range(len(block.examples)), 0]
        return replace(block, examples=pick(block.examples, rows))

    copy.change(copy.names.training, has_examples, with_a_row_again)

    audit = await copy.says("I3", "is settled 2 times")

    assert 1 == audit.found.twice


async def test_i3_a_block_that_was_sent_twice_does_not_count_twice(copy):
    column = copy.topics.training
    index = next(i for i, content in enumerate(column.decoded) if has_examples(content))
    column.records.append(column.records[index]._replace(offset=column.next_offset))
    column.decoded.append(column.decoded[index])

    assert 0 == check_a(copy.topics, copy.ran.on_two).twice


async def test_i3_an_example_that_is_missing(copy):
    _, event = an_event(copy)

    def holds(block):
        return isinstance(block, TrainingBlock) and event.id in block.examples.ids

    def without(block):
        rows = [row for row, name in enumerate(block.examples.ids) if name != event.id]
        return replace(block, examples=pick(block.examples, rows))

    copy.change(copy.names.training, holds, without)

    audit = await copy.says("I3", f"{event.id} of {event.time_ms}, joined with")

    assert 1 == audit.found.lost_labels


async def test_i3_another_target(copy):
    def is_plain(block):
        return has_examples(block) and block.examples.ids[0] not in copy.ran.on_two

    def turned(block):
        y = np.array(block.examples.y)
        y[0] = 1.0 - y[0]
        return replace(block, examples=replace(block.examples, y=y))

    copy.change(copy.names.training, is_plain, turned)

    await copy.says("I3", "is in the log and should not be")


async def test_i3_a_label_that_corrects_twice(copy):
    def with_corrections(block):
        return replace(block, corrections=pick(make_corrections(("a", 1, 0.0)), [0, 0]))

    copy.change(copy.names.training, has_examples, with_corrections)

    audit = await copy.says("I3", "corrected, corrected")  # before them it may have been joined

    assert 1 == audit.found.twice


async def test_i2_of_labels_with_one_target_none_is_conflicting(copy):
    at, event_id = next(
        (at, copy.ledger.label_of(at).id)
        for at in sorted(copy.ledger.labels_of_two)
        if any(each.rejection.code.value == "conflicting" for each in copy.ledger.label_letters.get(at, ()))
    )
    copy.ran = replace(copy.ran, on_two={**copy.ran.on_two, event_id: {True}})

    await copy.says("I2", f"label {show(at)}, one of two, is dead-lettered as conflicting")


# ── I4, I5, I6 ──────────────────────────────────────────────────────────────────────────────────────────────────────

OTHER = "0" * 64


def newest_of(kind: Kind, copy: Copy) -> int:
    """Return where in the index the newest manifest of a kind is."""
    decoded = copy.column(copy.names.snapshots).decoded
    return max(i for i, each in enumerate(decoded) if each is not None and each.kind is kind)


async def test_i4_a_snapshot_that_is_not_what_the_log_comes_to(copy):
    decoded = copy.column(copy.names.snapshots).decoded
    index = newest_of(Kind.SNAPSHOT, copy)
    decoded[index] = replace(decoded[index], state_digest=OTHER)

    await copy.says("I4", "is not what the log comes to")
    with pytest.raises(AssertionError, match="is not what the log comes to"):
        await check_b(copy.topics, copy.ran.refolder)


async def test_i4_an_older_snapshot_that_is_not_what_the_log_came_to(copy):
    decoded = copy.column(copy.names.snapshots).decoded
    index = next(i for i, each in enumerate(decoded) if each is not None and each.kind is Kind.SNAPSHOT)
    assert index != newest_of(Kind.SNAPSHOT, copy)
    decoded[index] = replace(decoded[index], state_digest=OTHER)

    await copy.says("I4", "is not what the log comes to there")


@pytest.mark.parametrize(("kind", "words"), [(Kind.SNAPSHOT, "another state digest"), (Kind.PUBLICATION, "branch.")])
async def test_i5_two_states_at_one_position(copy, kind, words):
    column = copy.column(copy.names.snapshots)
    index = newest_of(kind, copy)
    record, manifest = column.records[index], column.decoded[index]
    parts = tuple(replace(part, digest=OTHER) for part in manifest.parts)
    column.records.append(record._replace(offset=column.next_offset))
    column.decoded.append(replace(manifest, number=manifest.number + 1, state_digest=OTHER, parts=parts))

    await copy.says("I5", words)


async def test_i6_a_manifest_that_nobody_has_signed(copy):
    column = copy.column(copy.names.snapshots)
    record = column.records[-1]
    manifest = column.decoded[-1]
    forged = (record.value or b"").replace(manifest.state_digest.encode(), OTHER.encode())
    assert forged != record.value
    column.records[-1] = record._replace(value=forged)

    await copy.says("I6", "is refused")


async def test_i6_a_forgery_that_a_test_has_planted_must_be_refused_and_is_believed_by_nobody(copy):
    column = copy.column(copy.names.snapshots)
    newest = newest_of(Kind.SNAPSHOT, copy)
    before = copy.topics.newest_snapshot()
    copy.topics.planted.add(column.records[newest].offset)

    assert before != copy.topics.newest_snapshot()
    await copy.says("I6", "is a forgery and counts")


async def test_i6_a_file_that_was_changed(copy):
    file = max((copy.ran.scenario.config.parent / "snapshots").rglob("snapshot-*.tailrace"))
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

        await copy.says("I6", "cannot be loaded")
    finally:
        file.write_bytes(content)


async def test_i6_a_file_that_is_gone_though_its_snapshot_stands_in_the_index(copy):
    """A store that loses what it took would be found out by the next restore only."""
    file = max((copy.ran.scenario.config.parent / "snapshots").rglob("snapshot-*.tailrace"))
    content = file.read_bytes()
    try:
        file.unlink()

        await copy.says("I6", "cannot be loaded")
    finally:
        file.write_bytes(content)


def test_i6_only_a_file_whose_place_has_a_newer_snapshot_may_be_gone(copy):
    manifest = copy.column(copy.names.snapshots).decoded[newest_of(Kind.SNAPSHOT, copy)]
    newest = replace(manifest, number=manifest.number + KEPT)
    publication = replace(manifest, kind=Kind.PUBLICATION)

    assert not is_kept(manifest, [manifest, newest])
    assert is_kept(manifest, [manifest, replace(newest, number=newest.number - 1)])
    assert is_kept(manifest, [manifest, replace(newest, lineage=OTHER)])
    assert is_kept(publication, [publication, replace(newest, kind=Kind.PUBLICATION)])


@pytest.mark.parametrize(("position", "words"), [("999999:0", "beyond the end"), ("1:900000", "no end of a block")])
async def test_i6_a_prediction_of_a_state_that_the_log_does_not_have(copy, position, words):
    copy.change(copy.names.predictions, lambda _: True, lambda plain: plain | {"position": position})

    await copy.says("I6", words)


# ── I7 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i7_a_block_that_is_missing_between_two_of_its_owner(copy):
    copy.drop(copy.names.training, lambda _, content: isinstance(content, TrainingBlock) and content.number == 2)

    await copy.says("I7", "has number 3 after number 1")


async def test_i7_a_vector_that_goes_back(copy):
    last = max(i for i, content in enumerate(copy.topics.training.decoded) if isinstance(content, TrainingBlock))
    block = copy.topics.training.decoded[last]
    copy.topics.training.decoded[last] = replace(block, vector=replace(block.vector, labels_next=0))

    await copy.says("I7", "goes back")


async def test_i7_two_values_at_one_offset(copy):
    records = copy.column(copy.names.scored).records
    records[2] = records[2]._replace(value=(records[2].value or b"") + b"!")

    await copy.says("I7", "two values at offset")


async def test_i7_an_offset_that_is_left_out(copy):
    offset = copy.column(copy.names.relabelled).records[1].offset
    copy.drop(copy.names.relabelled, lambda record, _: record.partition == 0 and record.offset == offset)

    await copy.says("I7", f"leaves out the offsets [{offset}]")


# ── I8 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i8_a_prediction_of_another_branch_than_the_champion(copy):
    copy.change(copy.names.predictions, lambda _: True, lambda plain: plain | {"version": "0123456789ab"})

    await copy.says("I8", "is of champion 0123456789ab")


async def test_i8_two_champions_in_one_epoch(copy):
    decoded = copy.column(copy.names.snapshots).decoded
    index = newest_of(Kind.PUBLICATION, copy)
    directory = orjson.loads(decoded[index].inline["branches"])
    other = orjson.dumps(directory | {"champion": OTHER})
    decoded[index] = replace(decoded[index], inline={**decoded[index].inline, "branches": other})

    await copy.says("I8", "epoch 1 has 2 champions in the index")


async def test_i8_the_fold_knows_another_history_than_the_log(copy):
    copy.change(
        copy.names.training,
        lambda content: getattr(content, "expected_epoch", None) == 0,
        lambda command: replace(command, expected_epoch=7),
    )

    await copy.says("I8", "(offset, epoch, champion), the fold")


async def test_i8_an_announcement_of_an_epoch_that_never_was(copy):
    copy.change(
        copy.names.model_events,
        lambda event: event.kind == "promote",
        lambda event: replace(event, numbers={"epoch": 9.0}),
    )

    await copy.says("I8", "announced with epoch 9")


# ── I9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i9_the_scorer_has_committed_an_event_that_is_not_done(copy):
    _, event = an_event(copy)
    copy.drop(copy.names.predictions, lambda _, plain: plain["event_id"] == event.id)

    await copy.says("I9", "is not scored and predicted")


@pytest.mark.parametrize("topic", ["scored", "labels", "relabelled"])
async def test_i9_the_joiner_has_committed_what_no_block_has(copy, topic):
    at = TopicPartition(getattr(copy.names, topic), 1)
    copy.topics.committed["join"][at] += 1

    await copy.says("I9", f"{at.topic}/1 is committed to")


async def test_i9_while_nothing_is_quiet_only_the_learner_may_be_ahead(copy):
    say = Violations()
    copy.topics.committed["learn"][TopicPartition(copy.names.training, 0)] = copy.topics.training.next_offset + 1
    nothing_is_committed_ahead(copy.ledger, say, is_quiet=False)
    assert 0 == say.total

    copy.topics.committed["join"][TopicPartition(copy.names.labels, 1)] += 1
    nothing_is_committed_ahead(copy.ledger, say, is_quiet=False)
    assert {"I9": 1} == say.counts


async def test_i9_the_learner_has_committed_what_no_snapshot_has(copy):
    at = TopicPartition(copy.names.training, 0)
    copy.topics.committed["learn"][at] = copy.topics.training.next_offset + 1

    await copy.says("I9", "the newest snapshot is at")


# ── I10 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_i10_memory_and_files_of_a_process_are_seen():
    mine = Memory(os.getpid())
    before = mine.look()
    held = bytearray(32_000_000)
    held[::4096] = b"x" * len(held[::4096])
    files = [Path(os.devnull).open() for _ in range(5)]  # noqa: SIM115 - to be counted while they are open

    after = mine.look()

    for file in files:
        file.close()
    assert after.resident_bytes - before.resident_bytes > 20_000_000
    assert after.peak_bytes >= after.resident_bytes
    assert 5 == after.files - before.files


def test_i10_growth_is_the_slope_of_the_line_through_the_samples_of_the_second_half():
    sizes = [500_000_000] * 300 + [100_000_000 + 1_000 * second for second in range(3_010, 6_010, 10)]
    samples = [Sample(10.0 * index, 600_000_000, 600_000_000, 7, size) for index, size in enumerate(sizes)]

    growth = Growth.of(Memory(0, samples))
    flat = Growth.of(Memory(0, [each._replace(in_use_bytes=100_000_000) for each in samples]))

    assert 3.6 == pytest.approx(growth.in_use.mb_h)
    assert 3_000 == pytest.approx(growth.span_s, rel=0.1)
    assert (EXCEEDED, 0) == (growth.verdict, growth.files_grown)
    assert (0.0, MET) == (flat.in_use.mb_h, flat.verdict)


def test_i10_what_a_joined_partition_takes_is_no_growth_and_hides_none():
    """Guards the verdict: a process that is given a second partition now and then holds some MB more meanwhile."""
    joined = [1 + (index // 7) % 2 for index in range(120)]
    sizes = [130_000_000 + 2_000_000 * number for number in joined]
    level = [Sample(30.0 * index, 0, 0, 7, *each) for index, each in enumerate(zip(sizes, joined, strict=True))]
    rising = [each._replace(in_use_bytes=each.in_use_bytes + int(each.at_s * 3_000_000 / 3_600)) for each in level]

    flat, growth = Growth.of(Memory(0, level)), Growth.of(Memory(0, rising))

    assert (0.0, MET) == (pytest.approx(flat.in_use.mb_h), flat.verdict)
    assert 3.0 == pytest.approx(growth.in_use.mb_h, rel=1e-3)
    assert growth.verdict == EXCEEDED


def test_i10_resident_memory_that_rises_beyond_its_warm_up_is_not_flat_however_little_is_in_use():
    sizes = [200_000_000] * 300 + [200_000_000 + 1_000_000 * (index // 50) for index in range(302)]
    samples = [Sample(10.0 * index, size, size, 7, 100_000_000) for index, size in enumerate(sizes)]

    growth = Growth.of(Memory(0, samples))

    assert 6.0 == growth.resident_over_mb
    assert growth.verdict == EXCEEDED


async def test_i10_what_a_process_holds_is_told_by_itself():
    before = in_use_bytes()
    held = [bytearray(32_000_000), [str(number) for number in range(100_000)]]

    grown = in_use_bytes() - before

    assert grown == pytest.approx(32_000_000 + 100_000 * (56 + 8), rel=0.05)
    del held
    assert abs(in_use_bytes() - before) < 500_000


@pytest.mark.parametrize(
    ("slope_mb_h", "error_mb_h", "verdict"),
    [(0.9, 0.9, MET), (-9.0, 0.9, MET), (0.9, 1.1, TOO_SHORT), (1.1, 0.1, TOO_SHORT), (1.1, 0.04, EXCEEDED)],
)
def test_i10_memory_is_called_flat_only_where_the_run_can_tell(slope_mb_h, error_mb_h, verdict):
    in_use, resident = Slope(slope_mb_h, error_mb_h, 200.0, 200.0), Slope(9.0, 0.1, 200.0, 203.0)
    growth = Growth(in_use, resident, 3.0, files_grown=0, samples=60, span_s=3_000.0)

    assert verdict == growth.verdict


def test_i10_a_worker_beyond_every_bound_is_told(monkeypatch):
    worker = SimpleNamespace(pid=os.getpid())
    fleet = SimpleNamespace(running={"all": worker})
    for name in ("MOST_FILES", "MOST_RESIDENT_MB"):
        monkeypatch.setattr(memory, name, 1 << 30)
    assert [] == memory.beyond_bounds(fleet)

    for name in ("MOST_FILES", "MOST_RESIDENT_MB"):
        with monkeypatch.context() as one_is_low:
            one_is_low.setattr(memory, name, 1)
            (words,) = memory.beyond_bounds(fleet)
        assert words.startswith("I10: all holds ")


def test_i10_a_process_that_has_ended_is_not_seen():
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)

    assert Memory(pid).look() is None


# ── I11 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i11_features_that_differ_in_the_last_bit(copy):
    def nudged(block):
        numbers = np.array(block.examples.x.numbers)
        numbers[0, 0] = np.nextafter(numbers[0, 0], np.inf)
        return replace(block, examples=replace(block.examples, x=replace(block.examples.x, numbers=numbers)))

    copy.change(copy.names.training, has_examples, nudged)

    await copy.says("I11", "other features than were scored")


async def test_i11_a_prediction_that_differs_from_the_one_that_was_scored(copy):
    def nudged(block):
        served = block.examples.served
        return replace(block, examples=replace(block.examples, served=replace(served, proba=served.proba + 1e-12)))

    copy.change(copy.names.training, has_examples, nudged)

    await copy.says("I11", "another prediction than was scored")


# ── I12 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_value(copy: Copy) -> float:
    """Return a feature value of an event, long enough to be told from others."""
    return min(Needles.of(copy.ledger, copy.ran.scenario.settings).values)


@pytest.mark.parametrize("form", ["x = {!r}", "x = {:.11f}", "ValueError: could not convert '{!r}'"])
async def test_i12_a_value_in_a_log(copy, tmp_path, form):
    log = tmp_path / "worker.log"
    log.write_text(copy.ran.log.read_text() + form.format(a_value(copy)))

    await copy.says("I12", "worker.log tells the feature value", logs=[log])


async def test_i12_a_value_in_a_page_of_metrics(copy):
    page = f"# TYPE x gauge\nx {a_value(copy)!r}\n"

    await copy.says("I12", "/metrics tells the feature value", texts={"/metrics": page})


async def test_i12_a_value_in_an_announcement(copy):
    value = a_value(copy)
    copy.change(copy.names.model_events, lambda _: True, lambda event: replace(event, numbers={"x": value}))

    await copy.says("I12", "model-events tells the feature value")


async def test_i12_a_secret_in_a_log(copy, tmp_path):
    keys = copy.ran.scenario.settings.keys.folder
    secret = next(line for line in (keys / "learner.key").read_text().splitlines() if not line.startswith("-"))
    log = tmp_path / "worker.log"
    log.write_text(f"the key is {secret}")

    await copy.says("I12", "tells a secret", logs=[log])
