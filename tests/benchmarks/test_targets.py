"""A target is met, not met, or not measured for a reason; nothing is guessed."""

from __future__ import annotations

import pytest
from benchmarks.figures import Figures, NotMeasured
from benchmarks.latency import Latency
from benchmarks.protocol import Measured
from benchmarks.report import Setting, text
from benchmarks.running import Outcome
from benchmarks.targets import AT_LEAST, AT_MOST, TARGETS, Target, verdicts

from benchmarks import lineup

COUNT = 1_000


def make_outcome(cpu_us: float = 30.0, seconds: float = 1.0, count: int = COUNT, **more) -> Outcome:
    part = Measured(100.0, 100.0 + seconds, cpu_us * count / 1e6, count, count, memory_bytes=1_000_000)
    return Outcome(count, (part,), written=count, unique=count, **more)


def make_target(bound: str = AT_MOST, limit: float = 2.0) -> Target:
    return Target(
        "a target",
        bound,
        limit,
        lambda figures: figures.ratio(cpu_us, cpu_us, lineup.LOOP, lineup.RIVER),
        quick_limit=9.0,
    )


def cpu_us(run: Outcome) -> float:
    return run.cpu_us


def test_a_ratio_is_the_median_of_the_rounds_in_which_both_ran():
    figures = Figures(
        runs={
            lineup.LOOP: [make_outcome(30), make_outcome(60), None, make_outcome(90)],
            lineup.RIVER: [make_outcome(30), make_outcome(10), make_outcome(1), make_outcome(30)],
        }
    )

    assert [1.0, 6.0, 3.0] == pytest.approx(figures.ratios(cpu_us, cpu_us, lineup.LOOP, lineup.RIVER))
    assert pytest.approx(3.0) == figures.ratio(cpu_us, cpu_us, lineup.LOOP, lineup.RIVER)


@pytest.mark.parametrize(("bound", "is_met"), [(AT_MOST, False), (AT_LEAST, True)])
def test_a_value_is_held_against_its_bound(bound: str, is_met: bool):
    figures = Figures(runs={lineup.LOOP: [make_outcome(30)], lineup.RIVER: [make_outcome(10)]})

    verdict = make_target(bound).verdict(figures)

    assert (is_met, 2.0) == (verdict.met, verdict.limit)
    assert pytest.approx(3.0) == verdict.value


def test_quick_runs_have_limits_of_their_own():
    figures = Figures(runs={lineup.LOOP: [make_outcome(30)], lineup.RIVER: [make_outcome(10)]})

    verdict = make_target().verdict(figures, is_quick=True)

    assert (True, 9.0) == (verdict.met, verdict.limit)


def test_what_failed_is_not_measured_and_the_reason_is_told():
    figures = Figures(runs={lineup.RIVER: [make_outcome()]}, failures={lineup.LOOP: "numba is not installed"})

    plain = make_target().verdict(figures).plain()

    assert (None, None, "numba is not installed") == (plain["value"], plain["met"], plain["why"])


def test_every_target_of_an_empty_run_is_not_measured():
    for verdict in verdicts(Figures(), is_quick=False):
        assert verdict.met is None
        assert verdict.why


def test_the_names_of_the_targets_differ():
    assert len(TARGETS) == len({target.name for target in TARGETS})


def test_a_run_is_balanced_when_every_event_was_scored_learned_and_answered_once():
    assert make_outcome().is_balanced
    assert not Outcome(COUNT, make_outcome().parts, written=COUNT + 1, unique=COUNT).is_balanced
    assert not Outcome(COUNT + 1, make_outcome().parts).is_balanced


def test_the_end_of_a_run_is_the_last_prediction_or_the_last_label():
    assert pytest.approx(1.0) == make_outcome().seconds
    assert pytest.approx(7.0) == make_outcome(last_s=107.0).seconds


def test_a_latency_without_a_state_has_no_influence():
    figures = Figures(latencies={lineup.AIOKAFKA: [Latency(500, 10, 10, 1.0, 2.0)]})

    with pytest.raises(NotMeasured, match="no label"):
        figures.latency(lambda run: run.influence_p99_ms, lineup.AIOKAFKA)


def test_the_report_names_what_could_not_be_measured():
    figures = Figures(
        runs={lineup.RIVER: [make_outcome()], lineup.QUIX: [None]},
        failures={lineup.QUIX: "cannot be installed: no wheel"},
    )

    told = text(Setting(COUNT, 1, 500.0, "4.4.0"), figures, verdicts(figures, is_quick=False))

    assert f"| {lineup.QUIX} |  | failed: cannot be installed: no wheel |" in told
    assert "- Quix, dictionary: cannot be installed: no wheel" in told
