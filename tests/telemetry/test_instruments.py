"""The declarations are good Prometheus, bounded, and say nothing about anybody's features."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tailrace.domain.errors import ContractError
from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import ALL, Instrument, Instruments, Type

UNITS = {
    "partitions",
    "batches",
    "seconds",
    "bytes",
    "records",
    "events",
    "labels",
    "ids",
    "samples",
    "snapshots",
    "offset",
    "info",
    "ratio",
}
WITHOUT_UNIT = {
    "tailrace_ready",
    "tailrace_role_state",
    "tailrace_model_metric",
    "tailrace_model_metric_baseline",
    "tailrace_prediction_value",
    "tailrace_http_streams_active",
}
BAD_UNITS = re.compile(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)(_|$)")
CONFIGURED = {
    *("loop", "topic", "partition", "model", "metric", "baseline"),
    *("feature", "class", "route"),
    *declared.BUILD_INFO.labels,
    *declared.LOOP_INFO.labels,
}
"""Labels whose values come from the configuration or from the code, and are few."""


def text_of(instruments: Instruments) -> str:
    return generate_latest(instruments.registry).decode()


@pytest.mark.parametrize("instrument", ALL, ids=lambda instrument: instrument.name)
def test_names_helps_and_labels_follow_the_conventions(instrument: Instrument):
    """The rules of `promtool check metrics`, and ours."""
    base = instrument.name.removesuffix("_total")

    assert re.fullmatch(r"tailrace_[a-z0-9]+(_[a-z0-9]+)*", instrument.name)
    assert (instrument.type is Type.COUNTER) == instrument.name.endswith("_total")
    assert not re.search(r"_(count|sum|bucket|created)$", instrument.name)
    assert not BAD_UNITS.search(instrument.name)
    assert not re.search(r"_(counter|gauge|histogram)(_|$)", instrument.name)
    assert instrument.type is Type.COUNTER or base.rsplit("_", 1)[-1] in UNITS or base in WITHOUT_UNIT
    assert instrument.help[0].isupper() or instrument.help[0].isdigit()
    assert instrument.help.endswith(".")
    assert all(re.fullmatch(r"[a-z]+", label) and label != "le" for label in instrument.labels)
    assert len(set(instrument.labels)) == len(instrument.labels)


def test_no_two_instruments_share_a_name():
    assert len({instrument.name for instrument in ALL}) == len(ALL)


@pytest.mark.parametrize("instrument", ALL, ids=lambda instrument: instrument.name)
def test_every_label_is_a_closed_set_or_comes_from_the_configuration(instrument: Instrument):
    assert set(instrument.closed) <= set(instrument.labels)
    assert set(instrument.labels) - set(instrument.closed) <= CONFIGURED


@pytest.mark.parametrize(
    "instrument", [each for each in ALL if each.type is Type.HISTOGRAM], ids=lambda each: each.name
)
def test_buckets_rise_and_are_few(instrument: Instrument):
    assert list(instrument.buckets) == sorted(set(instrument.buckets))
    assert 5 <= len(instrument.buckets) <= 15
    assert math.isfinite(instrument.buckets[-1])


def test_label_to_influence_is_watched_from_five_milliseconds_to_a_minute():
    assert (0.005, 60.0) == (declared.LABEL_TO_INFLUENCE.buckets[0], declared.LABEL_TO_INFLUENCE.buckets[-1])


def test_two_workers_in_one_process_share_nothing():
    one, other = Instruments(), Instruments()

    one.add(declared.EVENTS, 5, "phishing", "scored")

    assert 'tailrace_events_total{loop="phishing",outcome="scored"} 5.0' in text_of(one)
    assert "tailrace_events_total{" not in text_of(other)


def test_there_are_no_created_series():
    instruments = Instruments()

    instruments.add(declared.EVENTS, 1, "phishing", "scored")
    instruments.observe(declared.LOOP_LAG, [0.1])

    assert "_created" not in text_of(instruments)


def test_process_and_interpreter_are_told_too():
    text = text_of(Instruments())

    assert "python_gc_objects_collected_total" in text
    assert "process_cpu_seconds_total" in text


def test_a_label_outside_of_its_closed_set_is_our_own_mistake():
    instruments = Instruments()

    with pytest.raises(ContractError, match=r"no outcome 'lost'; allowed are abstained, "):
        instruments.add(declared.EVENTS, 1, "phishing", "lost")
    with pytest.raises(ContractError):
        instruments.set(declared.ROLE_STATE, 1, "phishing", "score", "happy")
    with pytest.raises(ContractError):
        instruments.observe(declared.SNAPSHOT_DURATION, [1], "phishing", "think")


def test_a_batch_of_values_lands_in_the_right_buckets():
    instruments = Instruments()

    instruments.observe(declared.LABEL_TO_INFLUENCE, [0.005, 0.006, 59.0, 61.0], "phishing")
    instruments.observe(declared.LABEL_TO_INFLUENCE, [0.001], "phishing")

    families = {family.name: family for family in text_string_to_metric_families(text_of(instruments))}
    found = {
        (sample.name.removeprefix("tailrace_label_to_influence_seconds"), sample.labels.get("le")): sample.value
        for sample in families["tailrace_label_to_influence_seconds"].samples
    }
    assert 2 == found["_bucket", "0.005"]
    assert 3 == found["_bucket", "0.01"]
    assert 3 == found["_bucket", "30.0"]
    assert 4 == found["_bucket", "60.0"]
    assert 5 == found["_bucket", "+Inf"]
    assert 5 == found["_count", None]
    assert found["_sum", None] == pytest.approx(120.012)


def test_beyond_a_cap_values_of_a_label_are_counted_together():
    instruments = Instruments()

    for number in range(declared.MOST_FEATURES + 5):
        instruments.add(declared.FEATURES_MISSING, 1, "phishing", f"f{number}")
    instruments.add(declared.FEATURES_MISSING, 1, "phishing", "f0")
    instruments.add(declared.FEATURES_MISSING, 1, "phishing", "never seen before")

    lines = [line for line in text_of(instruments).splitlines() if line.startswith("tailrace_feature_missing_total{")]
    assert declared.MOST_FEATURES + 1 == len(lines)
    assert 'tailrace_feature_missing_total{feature="f0",loop="phishing"} 2.0' in lines
    assert 'tailrace_feature_missing_total{feature="_other",loop="phishing"} 6.0' in lines


def test_a_weight_counts_values_more_than_once_and_what_is_no_number_is_left_out():
    instruments = Instruments()

    instruments.observe(declared.BATCH_DURATION, [0.5, math.nan], "phishing", "score", weight=100)
    instruments.observe(declared.BATCH_DURATION, [], "phishing", "score")

    assert 'tailrace_batch_duration_seconds_count{loop="phishing",role="score"} 100.0' in text_of(instruments)
    assert 'tailrace_batch_duration_seconds_sum{loop="phishing",role="score"} 50.0' in text_of(instruments)


def test_an_exemplar_is_told_to_who_asks_for_openmetrics():
    instruments = Instruments()

    instruments.observe(declared.END_TO_END, [0.004, 0.3, 70.0], "phishing", exemplar=("ab" * 16, 0.3))

    lines = openmetrics(instruments.registry).decode().splitlines()
    told = [line for line in lines if " # " in line]
    assert ["0.5"] == [re.search(r'le="([^"]+)"', line)[1] for line in told]  # type: ignore[index]
    assert f'# {{trace_id="{"ab" * 16}"}} 0.3' in told[0]
    assert "ab" * 16 not in text_of(instruments)


def test_a_removed_series_is_gone_and_removing_it_again_is_fine():
    instruments = Instruments()
    instruments.set(declared.JOIN_WAITING, 5, "phishing", "3")

    instruments.remove(declared.JOIN_WAITING, "phishing", "3")
    instruments.remove(declared.JOIN_WAITING, "phishing", "3")

    assert 'partition="3"' not in text_of(instruments)
