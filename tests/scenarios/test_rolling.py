"""Our own code in two versions: what an older one cannot read stops its learning with the reason, never its serving."""

from __future__ import annotations

import pytest
from tests.scenarios.commanding import learn
from tests.scenarios.harness import now_ms, pairs, until

from tailrace.domain.status import Role, RoleState
from tailrace.main import ALL_ROLES, Process
from tailrace.streams.log import Outgoing
from tailrace.wire.avro_codec import is_training_block

FORMAT_VERSION_AT = 10
"""Behind mark and fingerprint of a value: the first field of every record, as Avro's zigzag."""

NEWER = {
    "a block of a newer format": (lambda value: value[:FORMAT_VERSION_AT] + b"\x04" + value[FORMAT_VERSION_AT + 1 :]),
    "a record that it does not know": (lambda value: value[:2] + bytes(8) + value[FORMAT_VERSION_AT:]),
}
SAID = {
    "a block of a newer format": "a training_block has format version 2, this Tailrace reads 1; upgrade it",
    "a record that it does not know": "it is of another record or of a newer Tailrace",
}


async def answered(scenario, number):
    """Send an event and wait until it is answered."""
    await scenario.user.events(*pairs(1, now_ms(), first=number)[0])

    async def there():
        return f"e{number}" in {each["event_id"] for each in await scenario.user.predictions()}

    await until(there, "the event is answered")


async def is_down_and_says(scenario, process, role, words):
    report = scenario.loop_of(process).reports[role]
    await until(lambda: report.state is RoleState.FAILED, f"{role} stays down")
    assert words in report.reason


@pytest.mark.parametrize("what", NEWER)
async def test_a_newer_writer_of_the_log_stops_an_older_learner_and_joiner_and_no_answer(made, what):
    """New readers come before new writers; where that was not kept, a restart says the same and does not loop."""
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    training = scenario.domain.topics.training
    block = next(
        record.value for record in await scenario.user.read(training) if is_training_block(record.value or b"")
    )

    await scenario.user.raw(training, 0, Outgoing(None, NEWER[what](block)))

    await is_down_and_says(scenario, process, Role.LEARN, SAID[what])
    await answered(scenario, 500)
    position = scenario.loop_of(process).models.current().position
    await scenario.stop(process)
    process = Process(scenario.settings, roles=ALL_ROLES, prepare_topics=False)
    scenario.processes.append(process)
    await process.start()
    await until(lambda: scenario.domain.name in process.loops, "the loop is composed")
    for role in (Role.LEARN, Role.JOIN):
        await is_down_and_says(scenario, process, role, SAID[what])
    await answered(scenario, 501)
    assert position <= scenario.loop_of(process).models.current().position


@pytest.mark.parametrize("what", NEWER)
async def test_a_newer_scorer_stops_an_older_joiner_and_neither_learning_nor_answers(made, what):
    scenario = await made()
    process = await scenario.start()
    await learn(scenario, process, 20)
    scored = scenario.domain.topics.scored
    block = (await scenario.user.read(scored))[0].value

    await scenario.user.raw(scored, 0, Outgoing(None, NEWER[what](block)))

    words = SAID[what].replace("training_block", "scored_block")
    await is_down_and_says(scenario, process, Role.JOIN, words)
    await answered(scenario, 500)
    assert RoleState.RUNNING is scenario.loop_of(process).reports[Role.LEARN].state
