"""Topics that somebody changes while a process runs: it ends and says why, or says what it found and goes on."""

from __future__ import annotations

import pytest
from tests.scenarios.commanding import learn
from tests.scenarios.harness import Scenario, until

from tailrace.domain.errors import LogError
from tailrace.main import Process
from tailrace.streams.embedded_log import EmbeddedReader
from tailrace.streams.log import TopicPartition

WITHIN_S = 30.0


async def running(made, **changes) -> tuple[Scenario, Process]:
    scenario = await made(partitions=2, **changes)
    process = await scenario.start()
    await learn(scenario, process, 10)
    seen = {watch: watch.looks for watch in process.watches}
    # One look may have begun before the last record was written.
    await until(lambda: all(watch.looks > seen[watch] + 1 for watch in seen), "the topics were looked at since")
    return scenario, process


async def end_of(process: Process) -> str:
    """Return why it ends: told by the watch, or by the source that found it first."""
    await until(lambda: process.failure or process.crashed, "the process cannot run any more", WITHIN_S)
    reason = process.failure or process.crash_reason
    assert isinstance(reason, LogError)
    return str(reason)


@pytest.mark.parametrize("topic", ["events", "scored", "training"])
async def test_a_topic_that_is_created_anew_ends_the_process(made_on_both, topic: str):
    """Fails when topics are looked at only at the start: the loop would wait in silence, or begin at zero."""
    scenario, process = await running(made_on_both)
    name, admin = getattr(scenario.domain.topics, topic), scenario.log.admin()
    (state,) = (await admin.describe([name])).values()

    await admin.delete(name)
    await admin.create([state])

    assert name in await end_of(process)
    await admin.close()


async def test_compaction_of_the_training_log_ends_the_process(made_on_both):
    scenario, process = await running(made_on_both)
    admin = scenario.log.admin()

    await admin.alter(scenario.domain.topics.training, {"cleanup.policy": "compact"})

    assert "cleanup.policy is compact and must be delete" in await end_of(process)
    await admin.close()


async def test_more_partitions_of_labels_end_the_process(made_on_both):
    scenario, process = await running(made_on_both)
    admin = scenario.log.admin()

    await admin.add_partitions(scenario.domain.topics.labels, 3)

    assert "scored has 2 partitions" in await end_of(process)
    await admin.close()


async def test_partitions_without_a_leader_are_told_and_only_a_whole_topic_of_them_is_not_ready(made, monkeypatch):
    """Fails when one partition that cannot be asked for hides all others: nothing would be ready, nor looked at."""
    scenario, process = await running(made)
    genuine, names, gone = EmbeddedReader.ranges_of, scenario.domain.topics, set()

    async def ranges_of(reader, partitions):
        return await genuine(reader, [each for each in partitions if each not in gone])

    monkeypatch.setattr(EmbeddedReader, "ranges_of", ranges_of)
    gone.add(TopicPartition(names.events, 1))
    await until(lambda: "log" in process.readiness(), "it is said")
    is_ready, words = process.readiness()["log"]
    assert is_ready
    assert f"has no leader for {names.events}/1; " in words

    gone.add(TopicPartition(names.training, 0))
    await until(lambda: not process.readiness()["log"][0], "learning cannot do its work")
    gone.clear()
    await until(lambda: "log" not in process.readiness(), "all is well again")
    assert process.failure is None
