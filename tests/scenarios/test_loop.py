"""The whole loop on both forms of the log: events in, predictions out, labels in, the model learns."""

import pytest
from tests.scenarios.commanding import learn
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace.domain.positions import parse
from tailrace.domain.status import Role, RoleState
from tailrace.wire.avro_codec import decode_status


@pytest.fixture
async def scenario(log_form, tmp_path):
    made = await Scenario.make(log_form, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def kafka_scenario(kafka_form, tmp_path):
    """On Kafka alone: the embedded log has one worker process."""
    made = await Scenario.make(kafka_form, tmp_path)
    yield made
    await made.close()


async def test_every_event_is_answered_and_every_label_learned(scenario):
    process = await scenario.start()
    events, labels = pairs(200, now_ms())

    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(process) == 200, "every label is learned")
    predictions = await scenario.user.predictions()

    assert {event["id"] for event in events} == {prediction["event_id"] for prediction in predictions}
    assert 200 == len({prediction["prediction_id"] for prediction in predictions})


async def test_a_prediction_after_a_label_names_a_state_that_contains_it(scenario):
    process = await scenario.start()
    events, labels = pairs(11, now_ms())

    await scenario.user.events(*events[:10])
    await scenario.user.labels(*labels[:10])
    await until(lambda: scenario.learned(process) == 10, "ten labels are learned")
    position = scenario.loop_of(process).models.live.position
    await scenario.user.events(events[10])

    async def answered():
        return [each for each in await scenario.user.predictions() if each["event_id"] == "e10"]

    await until(answered, "the last event is answered")
    (prediction,) = await answered()
    assert parse(prediction["position"]) >= position


async def test_a_stop_and_a_start_lose_nothing_and_repeat_nothing(scenario):
    first = await scenario.start()
    events, labels = pairs(100, now_ms())
    await scenario.user.events(*events)
    await scenario.user.labels(*labels[:50])
    await until(lambda: scenario.learned(first) == 50, "half of the labels are learned")
    await scenario.stop(first)

    second = await scenario.start()
    await scenario.user.labels(*labels[50:])
    await until(lambda: scenario.learned(second) == 100, "the other half is learned")
    learned_from = {each["event_id"] for each in await scenario.user.predictions()}

    assert 100 == len(learned_from)
    assert 100 == scenario.loop_of(second).models.live.counts.examples


async def test_the_log_tells_that_all_runs_as_soon_as_the_probe_does(scenario):
    first = await scenario.start()
    await learn(scenario, first, 20)
    await scenario.stop(first)

    begun_ms = now_ms()
    await scenario.start()
    ready_ms = now_ms()

    async def told():
        beats = [
            (record.timestamp, decode_status(record.value))
            for record in await scenario.user.read(scenario.domain.topics.status)
            if record.value and record.timestamp >= begun_ms
        ]
        return [
            (at_ms, beat)
            for at_ms, beat in beats
            if beat.roles and all(role.state == RoleState.RUNNING for role in beat.roles)
        ]

    await until(told, "a heartbeat says that every role runs")
    at_ms, beat = (await told())[0]
    assert at_ms - ready_ms < 500
    assert any(each.samples for each in beat.quality)


async def test_roles_apart_close_the_same_loop(kafka_scenario):
    scenario = kafka_scenario
    await scenario.start([Role.SCORE])
    await scenario.start([Role.JOIN])
    learner = await scenario.start([Role.LEARN])
    events, labels = pairs(60, now_ms())

    await scenario.user.events(*events)
    await scenario.user.labels(*labels)
    await until(lambda: scenario.learned(learner) == 60, "the learner has learned all of it")

    async def follows():
        await scenario.user.events(*pairs(1, now_ms(), first=1_000)[0])
        return any(parse(each["position"]) > 0 for each in await scenario.user.predictions())

    await until(follows, "the scorer serves a published state")
