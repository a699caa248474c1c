"""What is done to topics, what is refused, and that nothing is lowered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace.domain.errors import LogError
from tailrace.streams.log import TopicState
from tailrace.streams.topic_plan import Change, Growth, TopicPlan, apply, plan
from tailrace.wire.topics import DAY_MS, topics_of

HOUR_MS = 3_600_000
TOPICS = topics_of("phishing", "pages", "verdicts", horizon_ms=HOUR_MS)


def make_existing(*, replication: int = 1, events: int = 4, labels: int = 4) -> dict[str, TopicState]:
    """Every topic as a fresh plan would have made it."""
    users = {"pages": TopicState("pages", events, replication), "verdicts": TopicState("verdicts", labels, replication)}
    wanted = plan(TOPICS, users, brokers=replication)
    return users | {creation.name: creation.topic for creation in wanted.creations}


def changed(existing: dict[str, TopicState], name: str, partitions: int | None = None, **settings: str | None):
    """The same with one topic different; a setting that is None is not set."""
    state = existing[name]
    merged = dict(state.settings)
    for key, value in settings.items():
        setting = key.replace("_", ".")
        merged.pop(setting, None)
        if value is not None:
            merged[setting] = value
    return existing | {name: replace(state, partitions=partitions or state.partitions, settings=merged)}


def test_an_empty_cluster_gets_every_topic_with_the_partitions_of_the_users():
    users = {"pages": TopicState("pages", 4, 1), "verdicts": TopicState("verdicts", 2, 1)}

    created = {c.name: c.topic.partitions for c in plan(TOPICS, users, brokers=1).creations}

    assert (created["phishing.predictions"], created["phishing.scored"], created["phishing.training"]) == (4, 2, 1)
    assert (created["pages.dlq"], created["verdicts.dlq"]) == (4, 2)


def test_what_a_plan_made_needs_nothing_more():
    for replication in (1, 3):
        found = plan(TOPICS, make_existing(replication=replication), brokers=replication)

        assert found.is_empty
        assert found.remarks == ()


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, None), (2, 2, "2"), (3, 3, "2"), (9, 3, "2")])
def test_replicas_follow_the_number_of_brokers(brokers, replicas, in_sync):
    training = next(c for c in plan(TOPICS, {}, brokers=brokers).creations if c.name == "phishing.training")

    assert training.topic.replication == replicas
    assert training.topic.settings.get("min.insync.replicas") == in_sync


def test_topics_of_the_user_are_left_to_the_user():
    ours = plan(TOPICS, {}, brokers=1).without_users()

    assert {"pages", "verdicts", "phishing.scored", "phishing.predictions"}.isdisjoint(c.name for c in ours.creations)
    assert "phishing.training" in {c.name for c in ours.creations}
    assert "pages does not exist; create it, it is yours" in ours.remarks
    assert ours.missing == ("pages", "verdicts")


def test_settings_of_the_users_topics_are_never_judged():
    existing = make_existing() | {"pages": TopicState("pages", 4, 1, {"cleanup.policy": "compact"})}

    assert plan(TOPICS, existing, brokers=1).is_empty


@pytest.mark.parametrize(
    ("topic", "settings", "words"),
    [
        ("phishing.training", {"cleanup_policy": "compact"}, "must be delete"),
        ("phishing.training", {"cleanup_policy": "compact,delete"}, "must be delete"),
        ("phishing.scored", {"message_timestamp_type": None}, "message.timestamp.type is CreateTime"),
        ("phishing.commands", {"message_timestamp_type": "CreateTime"}, "must be LogAppendTime"),
        ("phishing.scored", {"retention_ms": str(7 * DAY_MS)}, "retention.ms is 604800000 and must be at least"),
        ("phishing.scored", {"retention_ms": None}, "retention.ms is 604800000 and must be at least"),
        ("phishing.snapshots", {"cleanup_policy": None}, "must be compact"),
    ],
)
def test_a_setting_that_breaks_a_promise_is_refused(topic, settings, words):
    found = plan(TOPICS, changed(make_existing(), topic, **settings), brokers=1)

    assert len(found.refusals) == 1
    assert found.refusals[0].startswith(f"{topic}: ")
    assert words in found.refusals[0]
    assert "kafka-configs" in found.refusals[0]


@pytest.mark.parametrize(
    "settings",
    [{"unclean_leader_election_enable": "true"}, {"min_insync_replicas": "1"}, {"min_insync_replicas": None}],
)
def test_a_replicated_training_log_must_not_lose_what_it_acknowledged(settings):
    existing = changed(make_existing(replication=3), "phishing.training", **settings)

    assert "acknowledged records could be lost" in plan(TOPICS, existing, brokers=3).refusals[0]


def test_one_replica_needs_nothing_in_sync():
    existing = changed(make_existing(), "phishing.training", min_insync_replicas="1")

    assert plan(TOPICS, existing, brokers=1).is_empty


def test_retention_for_ever_is_more_than_any_number():
    existing = changed(make_existing(), "phishing.scored", retention_ms="-1")

    assert plan(TOPICS, existing, brokers=1).is_empty


def test_predictions_with_fewer_partitions_than_events_are_refused_and_with_more_are_right():
    fewer = plan(TOPICS, changed(make_existing(), "phishing.predictions", partitions=2), brokers=1)
    more = plan(TOPICS, changed(make_existing(), "phishing.predictions", partitions=8), brokers=1)

    assert "needs at least 4, as many as pages" in fewer.refusals[0]
    assert more.is_empty


def test_scored_must_have_exactly_the_partitions_of_the_labels():
    for partitions in (2, 8):
        found = plan(TOPICS, changed(make_existing(), "phishing.scored", partitions=partitions), brokers=1)

        assert "must have 4, as many as verdicts" in found.refusals[0]


def test_the_training_log_has_one_partition():
    found = plan(TOPICS, changed(make_existing(), "phishing.training", partitions=2), brokers=1)

    assert "must have 1: its records have one order" in found.refusals[0]


def test_dead_letter_topics_grow_with_their_input():
    found = plan(TOPICS, changed(make_existing(), "pages.dlq", partitions=2), brokers=1)

    assert found.growths == (Growth("pages.dlq", 2, 4),)
    assert found.refusals == ()


def test_a_message_size_that_is_too_small_is_raised_and_a_larger_one_left():
    small = plan(TOPICS, changed(make_existing(), "phishing.scored", max_message_bytes="1000"), brokers=1)
    large = plan(TOPICS, changed(make_existing(), "phishing.scored", max_message_bytes="9000000"), brokers=1)

    assert small.changes == (Change("phishing.scored", {"max.message.bytes": "1048576"}),)
    assert large.is_empty


def test_what_only_differs_from_advice_is_a_note():
    found = plan(TOPICS, changed(make_existing(), "phishing.predictions", retention_ms="60000"), brokers=1)

    assert found.is_empty
    assert found.remarks == (
        "phishing.predictions: retention.ms is 60000; 604800000 is advised (how far back it can be read)",
    )


def test_more_replicas_than_brokers_are_refused():
    assert "there are 1 brokers" in plan(TOPICS, {}, brokers=1, replication=3).refusals[0]


def test_a_plan_tells_its_steps():
    existing = changed(make_existing(), "pages.dlq", partitions=2)
    del existing["phishing.training"]

    steps = plan(TOPICS, existing, brokers=1).steps()

    assert steps == ["create phishing.training", "add partitions to pages.dlq"]


async def test_a_plan_is_carried_out_and_then_empty(log_form):
    topics = topics_of(
        log_form.prefix.replace("-", "_"), log_form.topic("pages"), log_form.topic("verdicts"), horizon_ms=1
    )
    names = [topic.name for topic in topics]
    admin = log_form.open().admin()

    await apply(admin, plan(topics, await admin.describe(names), brokers=await admin.brokers()))
    again = plan(topics, await admin.describe(names), brokers=await admin.brokers())
    await admin.close()

    assert again.is_empty
    assert again.remarks == ()


async def test_foreign_settings_and_partitions_survive_a_change(log_form):
    topics = topics_of(log_form.prefix, log_form.topic("pages"), log_form.topic("verdicts"), horizon_ms=1)
    names = [topic.name for topic in topics]
    scored = f"{log_form.prefix}.scored"
    admin = log_form.open().admin()
    await apply(admin, plan(topics, {}, brokers=1))
    await admin.alter(scored, {"max.message.bytes": "5000", "segment.bytes": "99999999"})

    await apply(admin, plan(topics, await admin.describe(names), brokers=1))
    state = (await admin.describe([scored]))[scored]
    await admin.close()

    assert (state.settings["max.message.bytes"], state.settings["segment.bytes"]) == ("1048576", "99999999")


async def test_a_plan_with_a_refusal_is_not_carried_out(embedded_form):
    admin = embedded_form.open().admin()

    with pytest.raises(LogError, match="cannot be prepared: no"):
        await apply(admin, TopicPlan(plan(TOPICS, {}, brokers=1).creations, refusals=("no",)))
    assert await admin.describe(["phishing.training"]) == {}
    await admin.close()


def test_a_broker_that_is_away_matters_only_where_something_is_to_be_created():
    """Fails when a process cannot start while one of three brokers is restarted."""
    assert plan(TOPICS, make_existing(replication=3), brokers=2, replication=3).is_empty


def test_labels_that_are_kept_for_too_short_a_time_are_remarked_upon_and_left_to_the_user():
    """Otherwise a join that starts does not find what still waits, and stays down."""
    remarks = [
        plan(TOPICS, changed(make_existing(), "verdicts", retention_ms=kept), brokers=1).remarks
        for kept in (str(2 * HOUR_MS - 1), str(2 * HOUR_MS), "-1")
    ]

    ((remark,), *well) = remarks
    assert remark.startswith("verdicts: retention.ms is 7199999; at least 7200000 is advised")
    assert [(), ()] == well


@pytest.mark.parametrize(("horizon_ms", "settings"), [(HOUR_MS, {}), (5 * DAY_MS, {"retention.ms": "864000000"})])
def test_a_labels_topic_is_made_with_a_retention_only_where_kafkas_own_is_too_short(horizon_ms, settings):
    topics = topics_of("phishing", "pages", "verdicts", horizon_ms=horizon_ms)

    made = {creation.name: creation.topic.settings for creation in plan(topics, {}, brokers=1).creations}

    assert ({}, settings) == (made["pages"], made["verdicts"])
