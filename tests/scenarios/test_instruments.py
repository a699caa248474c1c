"""What a running loop tells Prometheus: freshness of what serves, label to influence, books that balance."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack

import pytest
from prometheus_client import generate_latest
from tests.scenarios.harness import Scenario, now_ms, pairs, running, until

from tailrace.domain.status import Role
from tailrace.main import Process, RunningLoop
from tailrace.main.composition import Composition, Member
from tailrace.streams.followers import Models
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import ProcessRecorder, Recorder


@pytest.fixture
async def scenario(log_form, tmp_path):
    made = await Scenario.make(log_form, tmp_path)
    yield made
    await made.close()


def told(process: Process) -> dict[str, float]:
    """Return the series of a process by name."""
    return series_of(process.instruments)


def series_of(instruments: Instruments) -> dict[str, float]:
    """Return the series of Tailrace by name; the name of the loop is left out."""
    found = {}
    for line in generate_latest(instruments.registry).decode().splitlines():
        if line.startswith("tailrace_"):
            name, value = line.rsplit(" ", 1)
            short = re.sub(r'loop="[^"]*",?', "", name).replace(",}", "}").removesuffix("{}")
            found[short] = float(value)
    return found


async def test_the_learner_of_the_scorer_counts_every_label_once(scenario):
    process = await scenario.start()
    events, labels = pairs(100, now_ms())

    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    count, lag = "tailrace_label_to_influence_seconds_count", "tailrace_serving_state_event_time_lag_seconds"
    await until(lambda: told(process).get(count) == 100, "every label is learned")
    await until(lambda: told(process).get("tailrace_serving_state_age_seconds") == 0.0, "nothing newer is in the log")
    await until(lambda: told(process).get(lag) == 0.0, "a heartbeat after the last example tells so")

    found = told(process)
    assert 100 == found[count], "none is counted twice"
    assert 100 == found["tailrace_label_delay_seconds_count"]
    assert found["tailrace_label_to_influence_seconds_sum"] < 100 * 30
    assert 0 == found["tailrace_serving_state_lag_records"]
    stored = 'tailrace_store_request_duration_seconds_count{operation="put",outcome="ok"}'
    await until(lambda: told(process).get(stored), "a snapshot is stored")
    classes = [value for name, value in found.items() if name.startswith("tailrace_predicted_class_total")]
    assert 100 == sum(classes) == found['tailrace_prediction_value_count{model="champion"}']


async def test_books_are_told_up_to_the_position_of_the_learner(scenario):
    process = await scenario.start()
    events, labels = pairs(20, now_ms())
    await scenario.user.events(*events)
    await scenario.user.labels(*labels, *labels[:5])

    duplicate, learned = (
        f'tailrace_books_records{{line="{line}",part="{part}"}}'
        for line, part in (("labels", "duplicate"), ("examples", "learned"))
    )
    await until(lambda: [told(process).get(name) for name in (duplicate, learned)] == [5, 20], "the books are told")

    found = told(process)
    assert 0 == found['tailrace_books_difference_records{line="examples"}']
    assert 20 == found['tailrace_books_records{line="scored",part="joined"}']


async def test_what_is_read_is_told_by_partition_and_how_long_batches_take(scenario):
    process = await scenario.start()
    events, labels = pairs(20, now_ms())
    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(process) == 20, "every label is learned")
    topics = scenario.domain.topics
    at = f'role="score",topic="{topics.events}"'
    await until(lambda: told(process).get(f'tailrace_consumer_completed_offset{{partition="0",{at}}}') == 10, "told")

    seen = f'tailrace_topic_partitions{{topic="{topics.events}"}}'
    await until(lambda: told(process).get(seen) == 2, "the topics were looked at")

    found = told(process)
    assert 2 == found[f"tailrace_consumer_assigned_partitions{{{at}}}"]
    assert found["tailrace_snapshot_interval_seconds"] == scenario.settings.snapshots.every / 1_000
    assert 0 == found[f"tailrace_consumer_paused_partitions{{{at}}}"]
    assert 20 == found['tailrace_batch_duration_seconds_count{role="score"}']
    assert found[f"tailrace_consumed_bytes_total{{{at}}}"] > 20 * 10
    assert found['tailrace_restore_duration_seconds_count{role="learn"}'] == 1
    assert found[f'tailrace_produce_duration_seconds_count{{topic="{topics.predictions}"}}'] >= 1


async def test_labels_that_wait_for_a_learner_are_told_with_all_the_time_that_they_waited(scenario):
    """Guards the latency of an outage: whoever counts only what is learned while all is well never sees one."""
    first = await scenario.start()
    events, labels = pairs(20, now_ms())
    await scenario.user.events(*events)
    await scenario.user.labels(*labels[:10])
    await until(lambda: scenario.learned(first) == 10, "half is learned")
    await scenario.stop(first)
    without = await scenario.start((Role.SCORE, Role.JOIN))
    await scenario.user.labels(*labels[10:])
    joined = 'tailrace_labels_total{outcome="joined"}'
    await until(lambda: told(without).get(joined) == 10, "the other half waits in the training log")
    await scenario.stop(without)
    await asyncio.sleep(1.0)

    second = await scenario.start()
    count = "tailrace_label_to_influence_seconds_count"
    await until(lambda: told(second).get(count) == 10, "the rest is learned, and nothing is told twice")

    assert told(second)["tailrace_label_to_influence_seconds_sum"] >= 10 * 1.0


async def test_a_follower_of_snapshots_counts_the_labels_of_what_it_loads(scenario):
    process = await scenario.start()
    instruments = Instruments()
    loop = RunningLoop(scenario.domain, Models(), Recorder(instruments, scenario.domain.name))
    me = Member("scorer", (Role.SCORE,), scenario.settings, now_ms(), ProcessRecorder(instruments))
    async with running(scenario.form.open().reader()) as reader, AsyncExitStack() as stack:
        composition = Composition(me, scenario.log, reader, loop)
        await composition.make()
        for service in composition.before:  # the follower among them; not the lane: this log has one worker
            await stack.enter_async_context(running(service))
        await until(lambda: loop.follower.is_ready, "the follower serves")
        served = loop.models.serving_position
        events, labels = pairs(30, now_ms())
        await scenario.user.events(*events)
        await scenario.user.labels(*labels)

        await until(lambda: scenario.learned(process) == 30, "every label is learned")
        count = "tailrace_label_to_influence_seconds_count"
        await until(lambda: series_of(instruments).get(count) == 30, "what was published is served")

        assert loop.models.serving_position > served


async def test_many_partitions_commit_no_more_often_than_a_few(made):
    """Unpaced commits of 16 partitions are four times as many as this bound, and marks grow with their square."""
    partitions, flow_s = 16, 3.0
    scenario = await made(partitions=partitions)
    process = await scenario.start()
    clock = asyncio.get_running_loop().time
    begun_s, sent = clock(), 0

    while clock() < begun_s + flow_s:
        events, labels = pairs(2 * partitions, now_ms(), sent)
        await scenario.user.events(*events)
        await scenario.user.labels(*labels)
        sent += 2 * partitions
        await asyncio.sleep(0.05)
    commits, took_s = told(process)['tailrace_commits_total{outcome="ok",role="join"}'], clock() - begun_s
    marks = len(await scenario.user.read(scenario.domain.topics.relabelled))
    await until(lambda: scenario.learned(process) == sent, "every label is learned")

    assert partitions <= commits <= partitions * (took_s / 0.8 + 1)
    assert marks <= partitions * (partitions - 1) * (took_s / 4 + 1)
