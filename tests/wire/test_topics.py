"""The table of topics."""

from __future__ import annotations

from tailrace.wire.schemas import folder, names
from tailrace.wire.topics import (
    DAY_MS,
    DEAD_LETTER_BYTES,
    LARGEST_MESSAGE_BYTES,
    LoopTopics,
    Partitions,
    Purpose,
    Rule,
    Setting,
    TopicSpec,
    topics_of,
)

HOUR_MS = 60 * 60 * 1000
TABLE = {spec.purpose: spec for spec in topics_of("phishing", "pages", "verdicts", horizon_ms=HOUR_MS)}


def settings_of(purpose: Purpose) -> dict[str, Setting]:
    return {setting.name: setting for setting in TABLE[purpose].settings}


def internal() -> list[TopicSpec]:
    return [spec for spec in TABLE.values() if not spec.is_users]


def test_a_loop_has_a_topic_for_every_purpose() -> None:
    assert list(Purpose) == list(TABLE)


def test_topics_are_named_after_their_loop_or_their_input() -> None:
    assert [
        "pages",
        "verdicts",
        "phishing.predictions",
        "phishing.scored",
        "phishing.relabelled",
        "phishing.training",
        "phishing.commands",
        "phishing.snapshots",
        "phishing.status",
        "phishing.model-events",
        "pages.dlq",
        "verdicts.dlq",
    ] == [spec.name for spec in TABLE.values()]


def test_a_loop_calls_its_topics_by_the_same_names() -> None:
    topics = LoopTopics("phishing", "pages", "verdicts")

    called = [getattr(topics, purpose.value.replace("-", "_")) for purpose in Purpose]
    assert called == [spec.name for spec in TABLE.values()]


def test_the_topics_of_the_user_are_never_changed() -> None:
    users = [spec for spec in TABLE.values() if spec.is_users]

    assert [Purpose.EVENTS, Purpose.LABELS] == [spec.purpose for spec in users]
    assert [[], ["retention.ms"]] == [[setting.name for setting in spec.settings] for spec in users]
    assert {Rule.ADVISED_AT_LEAST} == {setting.rule for spec in users for setting in spec.settings}


def test_partitions_follow_the_inputs_and_the_log_has_one() -> None:
    assert Partitions(1) == TABLE[Purpose.TRAINING].partitions
    assert Partitions(of="verdicts") == TABLE[Purpose.SCORED].partitions == TABLE[Purpose.RELABELLED].partitions
    assert Partitions(of="pages", or_more=True) == TABLE[Purpose.PREDICTIONS].partitions
    assert Partitions(of="verdicts", or_more=True) == TABLE[Purpose.DEAD_LABELS].partitions


def test_the_training_log_keeps_everything_and_loses_nothing() -> None:
    log = {name: (setting.value, setting.rule) for name, setting in settings_of(Purpose.TRAINING).items()}

    assert ("delete", Rule.EXACT) == log["cleanup.policy"]
    assert ("-1", Rule.ADVICE) == log["retention.ms"] == log["retention.bytes"]
    assert ("2", Rule.AT_LEAST_IF_REPLICATED) == log["min.insync.replicas"]
    assert ("false", Rule.EXACT) == log["unclean.leader.election.enable"]


def test_what_recovery_reads_is_kept_for_twice_the_horizon_and_a_week() -> None:
    for purpose in (Purpose.SCORED, Purpose.RELABELLED):
        kept = settings_of(purpose)["retention.ms"]
        assert (str(2 * HOUR_MS + 7 * DAY_MS), Rule.AT_LEAST) == (kept.value, kept.rule)
        size = settings_of(purpose)["retention.bytes"]
        assert ("-1", Rule.AT_LEAST) == (size.value, size.rule)


def test_internal_topics_take_the_brokers_time_and_dead_letters_keep_their_own() -> None:
    for spec in internal():
        time = settings_of(spec.purpose)["message.timestamp.type"]
        is_dead = spec.purpose in (Purpose.DEAD_EVENTS, Purpose.DEAD_LABELS)
        assert ("CreateTime" if is_dead else "LogAppendTime", Rule.EXACT) == (time.value, time.rule)


def test_only_manifests_and_heartbeats_are_compacted() -> None:
    compacted = [spec.purpose for spec in internal() if settings_of(spec.purpose)["cleanup.policy"].value == "compact"]

    assert [Purpose.SNAPSHOTS, Purpose.STATUS] == compacted
    assert ["16777216", "1048576"] == [settings_of(purpose)["segment.bytes"].value for purpose in compacted]


def test_a_dead_letter_topic_takes_records_that_are_larger_than_any_input() -> None:
    assert str(DEAD_LETTER_BYTES) == settings_of(Purpose.DEAD_EVENTS)["max.message.bytes"].value
    assert DEAD_LETTER_BYTES > LARGEST_MESSAGE_BYTES


def test_every_schema_of_the_table_exists() -> None:
    assert {spec.schema for spec in TABLE.values() if spec.schema} <= set(names(folder()))


def test_every_setting_says_why_and_stands_once() -> None:
    for spec in internal():
        assert all(setting.reason for setting in spec.settings)
        assert len(spec.settings) == len(settings_of(spec.purpose))
