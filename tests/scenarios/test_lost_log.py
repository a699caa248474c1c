"""A training log that lost records that were folded: learning stops and says so, serving goes on."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from tests.scenarios.commanding import learn
from tests.scenarios.harness import Scenario, example_of, now_ms, pairs, until

from tailrace.domain.records import LEARNER, Claim
from tailrace.domain.status import Role, RoleState
from tailrace.main import Process, RunningLoop
from tailrace.streams.embedded_log import EmbeddedReader
from tailrace.streams.log import Commit, Range, TopicPartition
from tailrace.streams.training_log import Hint, TrainingLog
from tailrace.wire.avro_codec import decode_training, is_training_block

LEARNED = 60


async def ran(made: Any) -> Scenario:
    scenario = await made(snapshots={"every": "200ms", "publish": "200ms"})
    process = await scenario.start()
    for first in range(0, LEARNED, 10):
        await learn(scenario, process, 10, first=first)
    await scenario.stop(process)
    return scenario


async def started(scenario: Scenario) -> RunningLoop:
    """Start a process some of whose roles will not come up; return its loop."""
    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    await until(lambda: process.loops, "the process knows its loop")
    return scenario.loop_of(process)


async def has_answered(scenario: Scenario, event_id: str) -> bool:
    """Tell whether an event is answered."""
    return event_id in {each["event_id"] for each in await scenario.user.predictions()}


async def answers_go_on(scenario: Scenario) -> None:
    """See that another event is answered."""
    await scenario.user.events(*pairs(1, now_ms(), first=500)[0])
    await until(lambda: has_answered(scenario, "e500"), "an event is answered")


@pytest.mark.parametrize("kept", [0, 5], ids=["recreated", "truncated"])
async def test_a_log_that_was_truncated_or_recreated_is_not_folded_from_zero(made, kept: int):
    """Fails when a snapshot is not held against the record it ends at: the model would begin anew, and publish that."""
    scenario = await ran(made)
    with closing(sqlite3.connect(scenario.form.folder / "log.sqlite3")) as log, log:
        (topic,) = log.execute("select id from topics where name = ?", (scenario.domain.topics.training,)).fetchone()
        log.execute(f"delete from r{topic}_0 where offset >= ?", (kept,))

    loop = await started(scenario)
    await until(lambda: loop.reports[Role.LEARN].state is RoleState.FAILED, "learning stops")
    await answers_go_on(scenario)
    assert "its end is gone. Restore the topic, or start over with another loop name" in loop.reports[Role.LEARN].reason
    assert RoleState.RUNNING is loop.reports[Role.SCORE].state
    assert 0 < loop.models.current().position, "what was learned serves on"
    if kept == 0:
        await until(lambda: loop.reports[Role.JOIN].state is RoleState.FAILED, "joining stops")
        assert "it was deleted and created anew" in loop.reports[Role.JOIN].reason
        written = await scenario.user.read(scenario.domain.topics.training)
        assert not any(is_training_block(record.value) for record in written), (
            "a join that begins anew forgets what waits"
        )


@pytest.mark.parametrize("lost", ["labels", "scored"])
async def test_an_input_that_ends_before_what_was_joined_of_it_is_not_even_claimed(made, lost: str):
    """Fails when a joiner does not hold its vector against its inputs: each start would claim, then fail."""
    scenario = await ran(made)
    names = scenario.domain.topics
    with closing(sqlite3.connect(scenario.form.folder / "log.sqlite3")) as log, log:
        (topic,) = log.execute("select id from topics where name = ?", (getattr(names, lost),)).fetchone()
        log.execute(f"delete from r{topic}_0")
    before = len(await scenario.user.read(names.training))

    reports = (await started(scenario)).reports
    await until(lambda: reports[Role.JOIN].state is RoleState.FAILED, "joining stops")
    assert f"{getattr(names, lost)}/0 ends at offset 0, and was joined up to" in reports[Role.JOIN].reason
    added = [decode_training(record.value) for record in (await scenario.user.read(names.training))[before:]]
    assert [] == [each for each in added if isinstance(each, Claim) and each.partition != LEARNER]


@pytest.mark.parametrize("left", [5, 0], ids=["some are left", "none is left"])
async def test_labels_that_were_deleted_before_they_were_joined_stop_the_join_alone(made_on_both, left: int):
    """Fails when a joiner claims and then reads on at what is gone: on Kafka the process would end at every start."""
    scenario = await ran(made_on_both)
    names = scenario.domain.topics
    await scenario.user.labels(*pairs(10, now_ms(), first=900)[1])
    await scenario.form.delete_before(TopicPartition(names.labels, 0), LEARNED + 10 - left)
    before = len(await scenario.user.read(names.training))

    loop = await started(scenario)
    await until(lambda: loop.reports[Role.JOIN].state is RoleState.FAILED, "joining stops")
    await answers_go_on(scenario)

    reason = loop.reports[Role.JOIN].reason
    if left:
        assert f"{names.labels}/0 begins at offset {LEARNED + 5}, and was joined up to offset {LEARNED}: " in reason
        assert f"group {scenario.domain.group(Role.JOIN)} for {names.labels}/0 to {LEARNED + 5} or later" in reason
    elif scenario.form.name == "kafka":
        assert f"{names.labels}/0 holds nothing any more and goes on at offset {LEARNED + 10}, " in reason
    else:  # an empty partition of the embedded log begins anew
        assert f"{names.labels}/0 ends at offset 0" in reason
    added = [decode_training(record.value) for record in (await scenario.user.read(names.training))[before:]]
    assert [] == [each for each in added if isinstance(each, Claim) and each.partition != LEARNER]


async def test_labels_that_were_deleted_after_they_were_joined_are_not_missed(made_on_both):
    scenario = await ran(made_on_both)
    labels = TopicPartition(scenario.domain.topics.labels, 0)
    await scenario.user.labels(*pairs(1, now_ms(), first=900)[1])
    await scenario.form.delete_before(labels, LEARNED)

    await learn(scenario, await scenario.start(), 10, first=600)


async def test_events_that_were_deleted_before_they_were_joined_stop_the_join_alone(made):
    scenario = await ran(made)
    scored = TopicPartition(scenario.domain.topics.scored, 0)
    process = await scenario.start([Role.SCORE])
    for first in (900, 901):
        await scenario.user.events(*pairs(1, now_ms(), first=first)[0])
        await until(lambda first=first: has_answered(scenario, f"e{first}"), "an event is answered")
    await scenario.stop(process)
    last = (await scenario.user.read(scored.topic))[-1].offset
    await scenario.form.delete_before(scored, last)

    loop = await started(scenario)
    await until(lambda: loop.reports[Role.JOIN].state is RoleState.FAILED, "joining stops")
    await answers_go_on(scenario)
    assert f"{scored.topic}/0 begins at offset {last}, and was joined up to offset {last - 1}: " in (
        loop.reports[Role.JOIN].reason
    )


@pytest.mark.parametrize("store", ["memory", "disk"])
async def test_a_join_goes_on_without_deleted_labels_where_the_offset_of_its_group_says_so(made_on_both, store: str):
    """Fails when what a reason tells people to do does not help, or helps for one start only."""
    scenario = await made_on_both(join={"store": store})
    process = await scenario.start()
    await learn(scenario, process, LEARNED)
    waits, label = example_of(500, now_ms())
    await scenario.user.events(waits)
    await until(lambda: has_answered(scenario, "e500"), "an event waits for its label")
    await scenario.stop(process)
    labels = TopicPartition(scenario.domain.topics.labels, 0)
    await scenario.user.labels(*pairs(10, now_ms(), first=900)[1])
    await scenario.form.delete_before(labels, LEARNED + 5)
    admin = scenario.log.admin()
    await admin.commit(scenario.domain.group(Role.JOIN), {labels: Commit(LEARNED + 5)})
    await admin.close()

    process = await scenario.start()
    assert LEARNED == scenario.learned(process)
    await scenario.user.labels(label)
    await until(lambda: scenario.learned(process) == LEARNED + 1, "its label is learned")
    await scenario.stop(process)
    process = await scenario.start()
    await learn(scenario, process, 10, first=600)
    assert LEARNED + 11 == scenario.learned(process)


async def test_a_join_that_has_recovered_is_put_down_when_its_labels_are_deleted_before_it_reads_them(
    made, monkeypatch
):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, LEARNED)
    labels, genuine = TopicPartition(scenario.domain.topics.labels, 0), EmbeddedReader.range_of
    loop = scenario.loop_of(process)

    async def range_of(reader, partition):
        held = await genuine(reader, partition)
        return Range(held.end + 5, held.end + 10) if partition == labels else held

    monkeypatch.setattr(EmbeddedReader, "range_of", range_of)
    assert loop.join.source.on_deleted(labels)
    await until(lambda: loop.reports[Role.JOIN].state is RoleState.FAILED, "joining stops")
    await answers_go_on(scenario)
    assert f"{labels.topic}/0 begins at offset {LEARNED + 5}" in loop.reports[Role.JOIN].reason


async def test_a_restarted_join_reads_the_log_from_the_oldest_row_that_it_remembers(made, monkeypatch):
    """Fails when a recovery begins at the first block again, or behind what it needs: then a late label joins nothing."""
    scenario = await made(horizon="2s", disorder="100ms", skew="100ms", corrections_within="0s")
    process = await scenario.start()
    for first in range(0, 200, 10):
        await learn(scenario, process, 10, first=first)
        (join,) = scenario.loop_of(process).join.joins
        assert join._writer is not None
        if join._writer.hints[0].number > 1:  # what the first block settled is forgotten
            break
        await asyncio.sleep(1.0)
    waits, label = example_of(500, now_ms())
    await scenario.user.events(waits)

    await until(lambda: has_answered(scenario, "e500"), "an event waits for its label")
    await scenario.stop(process)
    asked: list[tuple[Hint | None, int, int]] = []
    genuine = TrainingLog.accepted

    def accepted(log: TrainingLog, part: int, hint: Hint | None, after: int, last: int) -> Any:
        asked.append((hint, after, last))
        return genuine(log, part, hint, after, last)

    monkeypatch.setattr(TrainingLog, "accepted", accepted)
    process = await scenario.start()
    before = scenario.learned(process)
    await scenario.user.labels(label)

    await until(lambda: scenario.learned(process) == before + 1, "its label is learned")
    ((hint, after, last),) = asked
    blocks = [r.offset for r in await scenario.user.read(scenario.domain.topics.training) if is_training_block(r.value)]
    assert hint is not None
    assert blocks[0] < hint.offset <= after + 1 <= last
    assert last in blocks


async def test_a_join_whose_blocks_are_gone_when_it_reads_them_again_stays_down_and_scoring_goes_on(made, monkeypatch):
    scenario = await ran(made)

    async def gone(log: TrainingLog, part: int, hint: Hint | None, after: int, last: int) -> Any:
        raise log.lost(part, last)
        yield

    monkeypatch.setattr(TrainingLog, "accepted", gone)
    loop = await started(scenario)
    await until(lambda: loop.reports[Role.JOIN].state is RoleState.FAILED, "joining stops")
    await answers_go_on(scenario)
    assert "does not hold the block of partition 0 at offset" in loop.reports[Role.JOIN].reason
