"""A training log that lost records that were folded: learning stops and says so, serving goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from tests.scenarios.commanding import learn
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.domain.records import LEARNER, Claim
from tailrace.domain.status import Role, RoleState
from tailrace.main import Process
from tailrace.wire.avro_codec import decode_training, is_training_block

LEARNED = 60


async def ran(made: Any) -> Scenario:
    scenario = await made(snapshots={"every": "200ms", "publish": "200ms"})
    process = await scenario.start()
    for first in range(0, LEARNED, 10):
        await learn(scenario, process, 10, first=first)
    await scenario.stop(process)
    return scenario


@pytest.mark.parametrize("kept", [0, 5], ids=["recreated", "truncated"])
async def test_a_log_that_was_truncated_or_recreated_is_not_folded_from_zero(made, kept: int):
    """Fails when a snapshot is not held against the record it ends at: the model would begin anew, and publish that."""
    scenario = await ran(made)
    with closing(sqlite3.connect(scenario.form.folder / "log.sqlite3")) as log, log:
        (topic,) = log.execute("select id from topics where name = ?", (scenario.domain.topics.training,)).fetchone()
        log.execute(f"delete from r{topic}_0 where offset >= ?", (kept,))

    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    await until(lambda: process.loops, "the process knows its loop")
    loop = scenario.loop_of(process)
    await until(lambda: loop.reports[Role.LEARN].state is RoleState.FAILED, "learning stops")
    await scenario.user.events(*pairs(1, now_ms(), first=500)[0])

    async def answered() -> bool:
        return "e500" in {each["event_id"] for each in await scenario.user.predictions()}

    await until(answered, "an event is answered")
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

    process = Process(scenario.settings, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    await until(lambda: process.loops, "the process knows its loop")
    reports = scenario.loop_of(process).reports
    await until(lambda: reports[Role.JOIN].state is RoleState.FAILED, "joining stops")
    assert f"{getattr(names, lost)}/0 ends at offset 0, and was joined up to" in reports[Role.JOIN].reason
    added = [decode_training(record.value) for record in (await scenario.user.read(names.training))[before:]]
    assert [] == [each for each in added if isinstance(each, Claim) and each.partition != LEARNER]
