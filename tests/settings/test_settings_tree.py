"""What a sound configuration becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.settings.toml_builders import LABELS, make_loop, make_toml, read, read_loop

from tailrace.domain.records import Task
from tailrace.settings import LOOP_TOPICS, field_table, load_text, parse_duration, show_duration
from tailrace.wire.topics import LoopTopics


def test_a_minimal_configuration_takes_every_default():
    settings = read(make_toml())

    assert "embedded:/etc/tailrace/data" == settings.log
    assert ("127.0.0.1", 8321) == settings.http_address
    assert "file:/etc/tailrace/snapshots" == settings.snapshots.store
    assert (30_000, 1_000) == (settings.snapshots.every, settings.snapshots.publish)
    assert 10_000 == settings.kafka.session_timeout
    assert settings.kafka.replication is None


def test_defaults_of_a_loop_follow_its_horizon():
    long, short = read_loop(make_toml()), read_loop(make_toml(make_loop(horizon="20s")))

    assert (3_600_000, 60_000) == (long.disorder, long.skew)
    assert (20_000, 20_000) == (short.disorder, short.skew)


def test_labels_are_recognised_for_one_more_horizon():
    times = read_loop(make_toml(make_loop(horizon="1h", more='disorder = "10m"\nskew = "5s"'))).times

    assert (3_600_000, 600_000, 5_000, 3_600_000) == (
        times.horizon_ms,
        times.disorder_ms,
        times.skew_ms,
        times.recall_ms,
    )


@pytest.mark.parametrize(
    ("within", "recall_ms", "corrections_ms"),
    [("0s", 3_600_000, 0), ("10m", 3_600_000, 600_000), ("3h", 10_800_000, 10_800_000)],
)
def test_corrections_are_taken_as_long_as_asked_for_and_late_labels_are_known_for_a_horizon_at_least(
    within: str, recall_ms: int, corrections_ms: int
):
    times = read_loop(make_toml(make_loop(horizon="1h", more=f'corrections_within = "{within}"'))).times

    assert (recall_ms, corrections_ms) == (times.recall_ms, times.corrections_ms)


def test_corrections_are_taken_for_one_more_horizon_unless_told_otherwise():
    loop = read_loop(make_toml(make_loop(horizon="1h")))

    assert (3_600_000, "ignore") == (loop.times.corrections_ms, loop.corrections)


def test_only_labels_with_revisions_can_withdraw():
    with_revision = make_loop(labels=LABELS.replace("}", ', revision = "version", source = "by" }'))

    assert read_loop(make_toml(with_revision)).takes_withdrawals
    assert not read_loop(make_toml()).takes_withdrawals
    assert not read_loop(
        make_toml(make_loop(labels=LABELS.replace("}", ', revision = "version" }'), more='corrections_within = "0s"'))
    ).takes_withdrawals


def test_a_kafka_address_may_name_several_servers():
    settings = read(make_toml(log="kafka://a:9092, b.example:9093,[::1]:9094"))

    assert "a:9092,b.example:9093,[::1]:9094" == settings.servers
    assert settings.log_folder is None


def test_an_embedded_address_is_a_folder_beside_the_file():
    settings = read(make_toml(log="embedded:data"), folder=Path("/srv/here"))

    assert Path("/srv/here/data") == settings.log_folder
    assert settings.servers is None
    assert Path("/srv/here") == settings.folder


def test_absolute_paths_stay_what_they_are():
    settings = read(make_toml(below='[snapshots]\nstore = "file:/var/snapshots"'))

    assert Path("/var/snapshots") == settings.snapshots.folder


@pytest.mark.parametrize("store", ["s3://bucket", "gs://bucket/a/b.c", "az://container/p"])
def test_a_bucket_is_no_folder(store: str):
    snapshots = read(make_toml(below=f'[snapshots]\nstore = "{store}/"')).snapshots

    assert (store, None) == (snapshots.store, snapshots.folder)


def test_what_reaches_a_bucket_stands_beside_it_and_its_secret_comes_from_a_file(tmp_path: Path):
    (tmp_path / "secret").write_text("hunter2\n")
    below = '[snapshots]\nstore = "s3://bucket"\nendpoint = "http://127.0.0.1:9000/"\nkey_id = "me"'

    environ = {"TAILRACE_SNAPSHOTS__SECRET_FILE": str(tmp_path / "secret")}
    snapshots = load_text(make_toml(below=below), environ=environ).snapshots

    assert "http://127.0.0.1:9000" == snapshots.endpoint
    assert "hunter2" == snapshots.secret.get_secret_value()
    assert "hunter2" not in repr(snapshots)


def test_empty_http_is_off():
    assert read(make_toml(top='http = ""')).http_address is None


def test_http_takes_a_bracketed_address():
    assert ("::1", 80) == read(make_toml(top='http = "[::1]:80"')).http_address


def test_the_short_form_of_a_feature_is_its_type():
    features = 'a = "number"\nb = { type = "number" }'

    loop = read_loop(make_toml(make_loop(features=features)))

    assert loop.features["a"] == loop.features["b"]


def test_features_become_the_contract_in_sorted_order():
    features = """
z = { type = "integer", min = 0, max = 9, missing = 3 }
"user.age" = { type = "number", missing = "absent" }
country = { type = "category", values = ["de", "fr"], other = true }
note = { type = "text", max_length = 20 }
"""

    contract = read_loop(make_toml(make_loop(features=features))).contract

    assert ("country", "note", "user.age", "z") == contract.names
    country, note, age, z = contract.features
    assert (("de", "fr"), True, "reject") == (country.values, country.other, country.missing)
    assert 20 == note.max_length
    assert "absent" == age.missing
    assert (0, 9, 3) == (z.minimum, z.maximum, z.missing)


def test_targets_keep_the_type_they_are_written_in():
    labels = '{ topic = "v", id = "i", target = "t", positive = 1 }'

    target = read_loop(make_toml(make_loop(labels=labels))).target

    assert 1 == target.positive
    assert not isinstance(target.positive, bool)


def test_binary_without_positive_means_true():
    target = read_loop(make_toml(make_loop(labels='{ topic = "v", id = "i", target = "t" }'))).target

    assert target.positive is True


def test_multiclass_classes_are_in_the_order_of_the_file():
    labels = '{ topic = "v", id = "i", target = "t", classes = ["c", "a", "b"] }'

    target = read_loop(make_toml(make_loop(task="multiclass", labels=labels))).target

    assert (Task.MULTICLASS, ("c", "a", "b")) == (target.task, target.classes)


def test_missing_drop_has_no_implicit_target():
    assert read_loop(make_toml()).implicit_y is None


@pytest.mark.parametrize(
    ("task", "labels", "missing", "y"),
    [
        ("binary", '{ topic = "v", id = "i", target = "t" }', "false", 0.0),
        ("binary", '{ topic = "v", id = "i", target = "t", positive = "yes" }', '"no"', 0.0),
        ("multiclass", '{ topic = "v", id = "i", target = "t", classes = ["a", "b"] }', '"b"', 1.0),
        ("regression", '{ topic = "v", id = "i", target = "t" }', "0.5", 0.5),
        ("anomaly", '{ topic = "v", id = "i", target = "t" }', "false", 0.0),
        ("anomaly", '{ topic = "v", id = "i", target = "t", positive = "odd", negative = "fine" }', '"fine"', 0.0),
    ],
)
def test_an_implicit_target_is_read_as_a_label_would_be(task: str, labels: str, missing: str, y: float):
    loop = read_loop(make_toml(make_loop(task=task, labels=labels, more=f"missing = {missing}")))

    assert y == loop.implicit_y


def test_nothing_changes_after_loading():
    settings = read(make_toml())

    with pytest.raises(ValidationError):
        settings.http = ""  # type: ignore[misc]


def test_a_password_is_not_part_of_any_representation():
    kafka = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nusername = "u"\npassword = "hunter2"'

    settings = read(make_toml(log="kafka://a:1", below=kafka))

    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert settings.kafka.password is not None
    assert "hunter2" == settings.kafka.password.get_secret_value()


def test_every_setting_says_what_it_means_what_may_be_written_and_its_default():
    rows = field_table()

    assert 40 < len(rows)
    assert len(rows) == len({row.key for row in rows})
    for row in rows:
        assert row.sentence.endswith("."), row.key
        assert row.type, row.key
        assert row.default, row.key


def test_the_table_names_loops_and_features_by_a_placeholder():
    keys = {row.key for row in field_table()}

    assert {"log", "kafka.password", "loops.NAME.horizon", "loops.NAME.features.NAME.type"} <= keys


def test_the_topics_that_inputs_must_not_meet_are_those_of_the_topic_table():
    topics = LoopTopics("loop", "events", "labels")
    named = {value for name in dir(topics) if isinstance(value := getattr(topics, name), str)}

    assert {name for name in named if name.startswith("loop.")} == {f"loop.{suffix}" for suffix in LOOP_TOPICS}


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("0s", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000)],
)
def test_durations_are_whole_milliseconds(text: str, duration_ms: int):
    assert duration_ms == parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "5 s", "1.5h", "-1s", "1H", "1h30m", "٣s", "3651d", "9" * 40 + "s", 5, None])
def test_what_is_no_duration_is_refused(text: object):
    with pytest.raises(ValueError, match=r"duration|ten years"):
        parse_duration(text)


@given(st.integers(0, 3_650 * 86_400_000))
def test_a_shown_duration_reads_as_itself(duration_ms: int):
    assert duration_ms == parse_duration(show_duration(duration_ms))


def test_a_category_without_values_is_open_up_to_max_of_them():
    contract = read_loop(make_toml(make_loop(features='country = { type = "category", max = 200 }'))).contract

    assert {"country": 200} == contract.open_categories
    assert {"country": "any"} == contract.read({"country": "any"})
