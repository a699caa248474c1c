"""What the quality of served predictions says to people; its arithmetic is held against River in the contracts."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from tailrace.domain.blocks import Served
from tailrace.domain.evaluation.metrics import MeanLoss, RootMeanLoss, number_errors
from tailrace.domain.evaluation.prequential import Figure, Quality, Spread
from tailrace.domain.records import Task

NAN = math.nan


def binary(*rows: tuple[float, float, float]) -> tuple[np.ndarray, Served]:
    """Return columns of (y, y_pred, probability of True)."""
    y, y_pred, proba = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    return y, Served(y_pred, proba.reshape(-1, 1))


def numbers(ys: list[float], y_preds: list[float]) -> tuple[np.ndarray, Served]:
    return np.array(ys, np.float64), Served(np.array(y_preds, np.float64), np.empty((len(ys), 0)))


def test_nothing_judged_has_no_value() -> None:
    for task in Task:
        assert {None} == {figure.value for figure in Quality(task).figures()}
        assert {None} == {figure.best_baseline for figure in Quality(task).figures()}


def test_an_empty_slice_changes_nothing() -> None:
    quality = Quality(Task.REGRESSION)
    before = quality.dump()

    judged = quality.update_many(*numbers([], []))

    assert ((), ()) == judged
    assert before == quality.dump()


def test_abstained_examples_are_counted_and_left_out_but_the_baselines_answer_them() -> None:
    quality = Quality(Task.BINARY)

    judged = quality.update_many(*binary((1, 1, 0.9), (0, NAN, NAN), (1, 0, 0.4)))

    assert ([0, 2], [0.0, 1.0]) == (judged.rows, judged.losses)
    assert (1, 2) == (quality.abstained, quality.metrics["log_loss"].samples)
    assert 2 == quality.baselines.metrics["prior"]["accuracy"].samples


def test_a_class_without_a_probability_counts_for_accuracy_alone() -> None:
    quality = Quality(Task.BINARY)

    quality.update_many(*binary((1, 1, 0.9), (0, 0, NAN)))

    samples = {name: metric.samples for name, metric in quality.metrics.items()}
    assert {"log_loss": 1, "brier": 1, "roc_auc": 1, "accuracy": 2} == samples


def test_a_class_of_many_without_probabilities_counts_for_accuracy_alone() -> None:
    quality = Quality(Task.MULTICLASS)
    proba = np.array([[0.5, 0.5], [NAN, NAN]])

    quality.update_many(np.array([0.0, 1.0]), Served(np.array([0.0, 1.0]), proba))

    assert (1, 2) == (quality.metrics["cross_entropy"].samples, quality.metrics["accuracy"].samples)


def test_a_score_is_judged_by_rank_alone_and_has_no_loss() -> None:
    """So nothing watches an anomaly task for drift; abstained examples are counted as ever."""
    quality = Quality(Task.ANOMALY)

    judged = quality.update_many(*numbers([0, 1, 0, 1], [0.05, 0.95, NAN, 0.5]))

    assert ((), ()) == judged
    assert 1 == quality.abstained
    assert {1.0} == {figure.value for figure in quality.figures()}
    assert {"constant": 0.5} == quality.figures()[0].baselines


def test_scores_of_events_that_were_all_usual_have_no_value() -> None:
    """Unusual events are rare; a value of 0 would look like the worst model."""
    quality = Quality(Task.ANOMALY)
    quality.update_many(*numbers([1], [0.9]))
    quality.update_many(*numbers([0] * 1_000, [0.1] * 1_000))

    whole, rolling = quality.figures()

    assert (1.0, 1_001) == (whole.value, whole.samples)
    assert (None, 1_000, {}) == (rolling.value, rolling.samples, rolling.baselines)


def test_the_best_baseline_is_the_one_that_is_hardest_to_beat() -> None:
    beside = {"no_change": 0.7, "prior": 0.6}

    assert "no_change" == Figure("accuracy", "all", 0.9, 10, beside).best_baseline
    assert "prior" == Figure("log_loss", "all", 0.1, 10, beside).best_baseline


def test_the_summary_holds_plain_values() -> None:
    quality = Quality(Task.REGRESSION)
    quality.update_many(*numbers([1.0, 3.0], [1.5, 3.5]))

    summary = quality.summary()

    expected = {"value": 0.5, "samples": 2, "baselines": {"no_change": 2.0, "prior": 1.5}, "best_baseline": "prior"}
    assert expected == summary["metrics"]["mae"]["all"]
    assert expected == summary["metrics"]["mae"]["rolling"]
    assert 0 == summary["abstained"]


def test_an_empty_slice_of_baselines_and_one_that_follows_are_judged_like_one() -> None:
    rng = random.Random(1)
    ys = [rng.gauss(0, 1) for _ in range(10)]
    at_once, sliced = Quality(Task.REGRESSION), Quality(Task.REGRESSION)

    at_once.update_many(*numbers(ys, ys))
    for y in ys:
        sliced.update_many(*numbers([y], [y]))

    assert at_once.dump() == sliced.dump()


@pytest.mark.parametrize("y", [1.7e308, -1.7e308])
def test_errors_too_large_for_64_bits_count_as_the_largest_number(y: float) -> None:
    largest = 1.7976931348623157e308

    assert ([largest], [largest]) == number_errors([y], [-y])
    assert ([1e200], [largest]) == number_errors([1e200], [0.0])


def test_targets_near_the_limit_of_64_bits_end_nothing() -> None:
    quality = Quality(Task.REGRESSION)
    ys = [1.7e308, -1.7e308] * 600

    judged = quality.update_many(*numbers(ys, [-y for y in ys]))

    assert all(0.0 <= loss <= 1.0 for loss in judged.losses)
    assert all(figure.value is not None and figure.value >= 0 for figure in quality.figures())


def test_an_error_is_bounded_on_the_scale_of_the_targets() -> None:
    """e / (e + s), where s is the mean distance of the targets before it from their running mean."""
    spread = Spread()

    assert [0.0, 1.0, 0.5, 0.75] == spread.bounded([4.0, 6.0, 5.0, 9.0], [0.0, 0.5, 2.0, 3.0])


def test_the_root_of_what_rounding_left_below_zero_is_zero() -> None:
    plain = MeanLoss().dump() | {"samples": 1, "mean": -1e-18, "recent": -1e-18}

    assert (0.0, 0.0) == (RootMeanLoss.load(plain).value, RootMeanLoss.load(plain).rolling)
