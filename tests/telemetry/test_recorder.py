"""Domain outcomes become numbers for Prometheus and for `status`."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from tailrace.domain.records import Code, Rejection, Stage
from tailrace.domain.snapshots import Kind
from tailrace.domain.status import Quantiles, Role, RoleState
from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import ALL, Instruments, Type
from tailrace.telemetry.recorder import ProcessRecorder, Recorder

PARTITIONS = 8
SECRET = "attacker-text-4711"


def make_recorder() -> tuple[Recorder, Instruments]:
    instruments = Instruments()
    return Recorder(instruments, "phishing"), instruments


def series(instruments: Instruments) -> dict[str, float]:
    lines = generate_latest(instruments.registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs if name.startswith("tailrace_")}


def record_everything(recorder: Recorder, process: ProcessRecorder) -> None:
    """Use every label value that a loop with 8 partitions can have."""
    process.build({"version": "1", "python": "3.11"})
    process.ready(is_ready=True)
    process.http("GET", "/v1/status", 200, 0.1)
    process.http_streams(1)
    process.event_loop_lag(0.01)
    for level in declared.LOG_LEVELS:
        process.log_message(level)
    for role in Role:
        recorder.role(role, RoleState.RUNNING)
        recorder.rebalanced(role)
        recorder.model_position(role, 5)
        for outcome in ("ok", "refused", "failed"):
            recorder.committed(role, outcome)
    for partition in range(PARTITIONS):
        recorder.join_holds(partition, waiting=1, early=2, remembered=3)
        for role, topic in ((Role.SCORE, "pages"), (Role.JOIN, "verdicts"), (Role.JOIN, "scored")):
            recorder.consumed(role, topic, partition, 10)
            recorder.lag(role, topic, partition, records=5, seconds=0.5)
    for topic in ("predictions", "scored", "relabelled", "training", "snapshots", "status", "dlq"):
        recorder.produced(topic, 3)
    recorder.events(dict.fromkeys(declared.EVENT_OUTCOMES, 1))
    recorder.event_joins(dict.fromkeys(declared.JOIN_OUTCOMES, 1))
    recorder.labels(dict.fromkeys(declared.LABEL_OUTCOMES, 1))
    recorder.unknown_fields(2)
    for topic in ("pages", "verdicts"):
        recorder.rejected(topic, [Rejection(code, Stage.VALIDATE, SECRET) for code in Code])
    recorder.learned(examples=5, skipped=1, fenced=1, now_ms=9_000)
    for window in declared.WINDOWS:
        recorder.quality("champion", window, {"accuracy": 0.9, "log_loss": 0.1, "brier": 0.1, "roc_auc": 0.9}, 50)
        recorder.baseline("prior", window, {"accuracy": 0.5})
        recorder.baseline("no_change", window, {"accuracy": 0.5})
    recorder.drifted()
    recorder.decided("promote", is_refused=False)
    recorder.digests_compared(2)
    recorder.diverged()
    recorder.verified("equal", 0.5)
    recorder.verified("failed", None)
    recorder.command_refused("signature")
    recorder.label_to_influence([5.0])
    recorder.end_to_end([5.0])
    for stage in declared.CPU_STAGES:
        recorder.stage(stage, 0.1)
    for kind in Kind:
        recorder.snapshot_done(kind, size_bytes=9, now_ms=9_000)
        recorder.snapshot_failed(kind)
        recorder.snapshot_replaced(kind)
        recorder.snapshot_retried(kind)
        recorder.snapshots_waiting(kind, 2)
    recorder.snapshot_refused("digest")
    for phase in declared.SNAPSHOT_PHASES:
        recorder.snapshot_phase(phase, 0.1)


def test_every_instrument_is_updated_by_the_recorder():
    recorder, instruments = make_recorder()

    record_everything(recorder, ProcessRecorder(instruments))

    told = series(instruments)
    for instrument in ALL:
        suffix = "_bucket" if instrument.type is Type.HISTOGRAM else ""
        assert any(name.split("{")[0] == instrument.name + suffix for name in told), instrument.name


def test_a_loop_with_eight_partitions_stays_under_six_hundred_series():
    recorder, instruments = make_recorder()

    record_everything(recorder, ProcessRecorder(instruments))

    assert len(series(instruments)) < 600


def test_the_text_of_a_rejection_never_becomes_a_series():
    recorder, instruments = make_recorder()

    recorder.rejected("pages", [Rejection(Code.FEATURE_TYPE, Stage.VALIDATE, SECRET)] * 3)

    text = generate_latest(instruments.registry).decode()
    assert SECRET not in text
    assert 'tailrace_dead_letters_total{code="feature_type",loop="phishing",stage="validate",topic="pages"} 3.0' in text
    assert 3 == recorder.counts["dead_letters"]


def test_a_role_is_in_exactly_one_state():
    recorder, instruments = make_recorder()

    recorder.role(Role.LEARN, RoleState.RESTORING)
    recorder.role(Role.LEARN, RoleState.RUNNING)

    states = {name: value for name, value in series(instruments).items() if 'role="learn"' in name}
    assert len(RoleState) == len(states)
    assert ['tailrace_role_state{loop="phishing",role="learn",state="running"}'] == [
        name for name, value in states.items() if value
    ]


def test_counts_are_kept_in_plain_numbers_too():
    recorder, _ = make_recorder()

    recorder.events({"scored": 5, "rejected": 1})
    recorder.events({"scored": 2})
    recorder.labels({"joined": 3})
    recorder.learned(examples=3, skipped=1, now_ms=0)
    recorder.snapshot_done(Kind.SNAPSHOT, size_bytes=1, now_ms=0)

    expected = {"events_scored": 7, "events_rejected": 1, "labels_joined": 3, "learned": 3, "skipped": 1}
    assert expected | {"fenced": 0, "snapshots": 1} == dict(recorder.counts)


def test_nothing_learned_leaves_the_time_of_the_last_learning_alone():
    recorder, instruments = make_recorder()

    recorder.learned(examples=1, now_ms=5_000)
    recorder.learned(examples=0, fenced=1, now_ms=9_000)

    assert 5.0 == series(instruments)['tailrace_model_last_learn_timestamp_seconds{loop="phishing"}']


def test_a_partition_that_went_away_takes_its_gauges_along_and_leaves_its_counters():
    recorder, instruments = make_recorder()
    recorder.consumed(Role.JOIN, "scored", 3, 5)
    recorder.lag(Role.JOIN, "scored", 3, records=5, seconds=None)
    recorder.join_holds(3, waiting=1, early=2, remembered=3)

    recorder.forget_partition(Role.JOIN, "scored", 3)
    recorder.forget_partition(Role.SCORE, "pages", 3)

    left = [name for name in series(instruments) if 'partition="3"' in name]
    assert ["tailrace_consumed_records_total"] == [name.split("{")[0] for name in left]


def test_a_lag_in_seconds_that_is_no_longer_known_is_not_shown():
    recorder, instruments = make_recorder()
    recorder.lag(Role.SCORE, "pages", 0, records=5, seconds=2.0)

    recorder.lag(Role.SCORE, "pages", 0, records=5, seconds=None)

    assert not any(name.startswith("tailrace_consumer_lag_seconds") for name in series(instruments))


def test_latencies_give_quantiles_and_never_less_than_nothing():
    recorder, instruments = make_recorder()
    before = recorder.label_to_influence_quantiles()

    recorder.label_to_influence([-5.0, *range(1, 100)])

    assert before is None
    assert Quantiles(49.0, 98.0, 100) == recorder.label_to_influence_quantiles()
    assert series(instruments)['tailrace_label_to_influence_seconds_sum{loop="phishing"}'] == pytest.approx(4.95)


def test_quantiles_are_about_the_last_few_thousand_labels():
    recorder, _ = make_recorder()

    recorder.label_to_influence([1_000.0] * 4_096)
    recorder.label_to_influence([1.0] * 4_096)

    assert Quantiles(1.0, 1.0, 4_096) == recorder.label_to_influence_quantiles()


def test_the_time_of_a_block_is_added_to_its_stage_even_when_it_raises():
    recorder, instruments = make_recorder()

    try:
        with recorder.timed("predict"):
            sum(range(100_000))
            raise ValueError
    except ValueError:
        pass

    assert 0 < series(instruments)['tailrace_stage_seconds_total{loop="phishing",stage="predict"}'] < 1


def test_levels_of_a_library_count_as_info():
    _, instruments = make_recorder()

    ProcessRecorder(instruments).log_message("trace")

    assert 1 == series(instruments)['tailrace_log_messages_total{level="info"}']
