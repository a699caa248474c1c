"""Domain outcomes become numbers for Prometheus and for `status`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest
from tests.telemetry.reference import SECRET, at, make_recorder, record_everything, series

import tailrace
from tailrace.domain.errors import ContractError
from tailrace.domain.records import Code, Rejection, RequestKind, Stage
from tailrace.domain.snapshots import Kind
from tailrace.domain.status import Quantiles, Role, RoleState
from tailrace.telemetry import instruments as declared
from tailrace.telemetry.instruments import ALL, MOST_PARTITIONS, OTHER, Instrument, Type
from tailrace.telemetry.recorder import ProcessRecorder, Recorder


def test_everything_that_can_be_told_is_told_somewhere():
    """Without it an instrument could be declared, documented, and never fed."""
    package = Path(tailrace.__file__).parent
    sources = "".join(path.read_text() for path in package.rglob("*.py") if path.parent.name != "telemetry")

    said = {name for kind in (Recorder, ProcessRecorder) for name in vars(kind) if not name.startswith("_")}

    silent = {name for name in said if not re.search(rf"ecorder\.{name}\b", sources)}
    assert {"stage"} == silent, "`timed` says it; everything else is said by an agent"


def test_every_instrument_is_updated_by_the_recorder():
    recorder, instruments = make_recorder()

    record_everything(recorder, ProcessRecorder(instruments))

    told = series(instruments)
    for instrument in ALL:
        suffix = "_bucket" if instrument.type is Type.HISTOGRAM else ""
        assert any(name.split("{")[0] == instrument.name + suffix for name in told), instrument.name


def test_a_loop_with_eight_partitions_and_thirty_features_stays_under_a_thousand_series():
    recorder, instruments = make_recorder()

    record_everything(recorder, ProcessRecorder(instruments))

    assert len(series(instruments)) < 1_100


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

    states = {name: value for name, value in series(instruments).items() if name.startswith("tailrace_role_state")}
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


def test_what_alerts_measure_by_is_told():
    recorder, instruments = make_recorder()

    recorder.topics({"pages": 4, "verdicts": 4})
    recorder.topics({"pages": 8, "verdicts": 4})
    recorder.snapshots_every(90_000)

    assert {
        'tailrace_topic_partitions{loop="phishing",topic="pages"}': 8.0,
        'tailrace_topic_partitions{loop="phishing",topic="verdicts"}': 4.0,
        'tailrace_snapshot_interval_seconds{loop="phishing"}': 90.0,
        "tailrace_ready": 0.0,
    } == series(instruments)


def test_nothing_learned_leaves_the_time_of_the_last_learning_alone():
    recorder, instruments = make_recorder()

    recorder.learned(examples=1, now_ms=5_000)
    recorder.learned(examples=0, fenced=1, now_ms=9_000)

    assert 5.0 == series(instruments)['tailrace_model_last_learn_timestamp_seconds{loop="phishing"}']


def test_a_partition_that_went_away_takes_its_gauges_along_and_leaves_its_counters():
    recorder, instruments = make_recorder()
    recorder.consumed(Role.JOIN, "scored", 3, 5)
    recorder.reading(Role.JOIN, [at("scored", 3)], 9_000, paused={}, held={})
    recorder.join_holds(3, waiting=1, early=2, remembered=3)

    recorder.forget_partition(Role.JOIN, "scored", 3)
    recorder.forget_partition(Role.SCORE, "pages", 3)

    left = [name for name in series(instruments) if 'partition="3"' in name]
    assert ["tailrace_consumed_records_total"] == [name.split("{")[0] for name in left]


def test_a_partition_that_is_no_longer_read_is_forgotten_at_the_next_telling():
    recorder, instruments = make_recorder()
    recorder.reading(Role.SCORE, [at("pages", 0), at("pages", 1)], 9_000, paused={"pages": 1}, held={"pages": 3})

    recorder.reading(Role.SCORE, [at("pages", 1)], 9_000, paused={}, held={})

    told = series(instruments)
    assert not [name for name in told if 'partition="0"' in name]
    assert 1 == told['tailrace_consumer_assigned_partitions{loop="phishing",role="score",topic="pages"}']
    assert 0 == told['tailrace_consumer_paused_partitions{loop="phishing",role="score",topic="pages"}']
    assert 0 == told['tailrace_in_flight_batches{loop="phishing",role="score",topic="pages"}']


def test_a_lag_in_seconds_that_is_no_longer_known_is_not_shown():
    recorder, instruments = make_recorder()
    recorder.reading(Role.SCORE, [at("pages", 0)], 9_000, paused={}, held={})

    recorder.reading(Role.SCORE, [at("pages", 0, lag_seconds=None)], 9_000, paused={}, held={})

    assert not any(name.startswith("tailrace_consumer_lag_seconds") for name in series(instruments))


def test_progress_is_the_moment_at_which_something_was_completed_or_nothing_was_left():
    recorder, instruments = make_recorder()
    name = 'tailrace_consumer_last_progress_timestamp_seconds{loop="phishing",partition="0",role="score",topic="pages"}'
    found = []
    for now_ms, next_offset, lag in ((1_000, 5, 3), (2_000, 5, 4), (3_000, 7, 2), (4_000, 7, 0), (5_000, 7, 1)):
        one = at("pages", 0, next_offset=next_offset, lag_records=lag)
        recorder.reading(Role.SCORE, [one], now_ms, paused={}, held={})
        found.append(series(instruments)[name])

    assert [1, 1, 3, 4, 4] == found


def partitions_of(told: dict[str, float], instrument: Instrument) -> dict[str, float]:
    """Return label value → value."""
    found = {name: value for name, value in told.items() if name.startswith(instrument.name + "{")}
    return {re.search('partition="([^"]+)"', name)[1]: value for name, value in found.items()}  # type: ignore[index]


PER_PARTITION = [each for each in ALL if "partition" in each.labels]


@pytest.mark.parametrize("first", [0, 10, MOST_PARTITIONS], ids=["all", "some", "the last ones"])
def test_beyond_the_cap_partitions_are_shown_as_one_by_every_instrument_alike(first: int):
    recorder, instruments = make_recorder()
    numbers = range(first, MOST_PARTITIONS + 10)
    many = [at("pages", partition, lag_seconds=float(partition)) for partition in numbers]

    recorder.reading(Role.SCORE, many, 9_000, paused={}, held={})
    for partition in numbers:
        recorder.consumed(Role.SCORE, "pages", partition, 1)
        recorder.join_holds(partition, waiting=1, early=2, remembered=partition)

    told = series(instruments)
    names = {*map(str, range(first, MOST_PARTITIONS)), OTHER}
    assert [names] * len(PER_PARTITION) == [partitions_of(told, each).keys() for each in PER_PARTITION]
    others = {each: partitions_of(told, each)[OTHER] for each in PER_PARTITION}
    assert 10 == others[declared.RECORDS_CONSUMED] == others[declared.JOIN_WAITING]
    assert (20, sum(range(MOST_PARTITIONS, MOST_PARTITIONS + 10))) == (
        others[declared.JOIN_EARLY],
        others[declared.JOIN_REMEMBERED],
    )
    assert (50, MOST_PARTITIONS + 9) == (others[declared.LAG_RECORDS], others[declared.LAG_SECONDS])


def test_of_partitions_that_are_shown_as_one_those_that_went_away_are_no_longer_summed():
    recorder, instruments = make_recorder()
    beyond = [MOST_PARTITIONS, MOST_PARTITIONS + 1]
    recorder.reading(Role.JOIN, [at("scored", partition) for partition in beyond], 9_000, paused={}, held={})
    for partition in beyond:
        recorder.join_holds(partition, waiting=1, early=2, remembered=3)

    recorder.forget_partition(Role.JOIN, "scored", beyond[0])
    recorder.reading(Role.JOIN, [at("scored", beyond[1])], 9_000, paused={}, held={})

    told = series(instruments)
    assert {OTHER: 3} == partitions_of(told, declared.JOIN_REMEMBERED)
    assert {OTHER: 5} == partitions_of(told, declared.LAG_RECORDS)
    recorder.forget_partition(Role.JOIN, "scored", beyond[1])
    recorder.reading(Role.JOIN, [], 9_000, paused={}, held={})
    assert not [name for name in series(instruments) if f'partition="{OTHER}"' in name]


def test_every_reason_for_which_a_command_is_refused_has_a_place():
    recorder, _ = make_recorder()
    package = Path(tailrace.__file__).parent
    sources = "".join((package / name).read_text() for name in ("stores/signing.py", "streams/commands.py"))
    said = set(re.findall(r'Refusal\(\s*"(\w+)"', sources)) | {
        reason for path in package.rglob("*.py") for reason in re.findall(r'command_refused\("(\w+)"', path.read_text())
    }

    if "command_refused(request.kind.value)" in (package / "streams/branch_keeper.py").read_text():
        said |= {RequestKind.ADMIT.value, RequestKind.PROMOTE.value}

    for reason in said:
        recorder.command_refused(reason)
    assert said == set(declared.COMMAND_REASONS)
    with pytest.raises(ContractError):
        recorder.command_refused("whatever somebody wrote")


def test_latencies_give_quantiles_and_never_less_than_nothing():
    recorder, instruments = make_recorder()
    before = recorder.label_to_influence_quantiles()

    recorder.label_to_influence(np.array([-5.0, *range(1, 100)]))

    assert before is None
    assert Quantiles(49.0, 98.0, 100) == recorder.label_to_influence_quantiles()
    assert series(instruments)['tailrace_label_to_influence_seconds_sum{loop="phishing"}'] == pytest.approx(4.95)


def test_quantiles_are_about_the_last_few_thousand_labels():
    recorder, _ = make_recorder()

    recorder.label_to_influence(np.full(4_096, 1_000.0))
    recorder.label_to_influence(np.ones(4_096))

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
