"""Prequential quality against River's own metric objects, to the last digit.

River's classes are the oracle: the same stream is shown to them one example at a time and to ours in random slices,
with a restore from plain values in between. Comparisons of floats are exact.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from river import dummy, metrics, stats, utils

from tailrace.domain.blocks import Served
from tailrace.domain.evaluation.prequential import ALL, ROLLING, Quality
from tailrace.domain.records import Task

CLASSES = ["ant", "bee", "cat", "dog"]


class Brier(metrics.base.MeanMetric, metrics.base.BinaryMetric):
    """(p - y)², in the arithmetic of River's means."""

    def _eval(self, y_true: bool, y_pred: dict[bool, float]) -> float:
        difference = y_pred.get(True, 0.0) - y_true
        return difference * difference


class LastValue(stats.base.Univariate):
    """The last number seen; None before it."""

    def __init__(self) -> None:
        self.last: float | None = None

    def update(self, x: float) -> None:
        self.last = x

    def get(self) -> float | None:
        return self.last


@dataclass
class Example:
    """One target in River's words, and what a model answered."""

    y: Any
    proba: dict[Any, float] | None = None
    y_pred: Any = None


@dataclass
class Oracle:
    """River's objects for one task, driven as `progressive_val_score` drives them."""

    by_class: dict[str, Callable[[], Any]]
    by_proba: dict[str, Callable[[], Any]]
    models: dict[str, Any]
    values: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for owner in ("served", *self.models):
            for name, made in (self.by_class | self.by_proba).items():
                self.values[owner, name, ALL] = made()
                self.values[owner, name, ROLLING] = utils.Rolling(made, window_size=1_000)

    def show(self, example: Example) -> None:
        self._judge("served", example.y, example.y_pred, example.proba)
        for name, model in self.models.items():
            y_pred = model.predict_one({})
            proba = model.predict_proba_one({}) if self.by_proba else None
            self._judge(name, example.y, y_pred, proba)
            model.learn_one({}, example.y)

    def _judge(self, owner: str, y: Any, y_pred: Any, proba: dict[Any, float] | None) -> None:
        for window in (ALL, ROLLING):
            for name in self.by_class:
                if y_pred is not None:
                    self.values[owner, name, window].update(y, y_pred)
            for name in self.by_proba:
                if proba:
                    self.values[owner, name, window].update(y, proba)


def binary_oracle() -> Oracle:
    return Oracle(
        {"accuracy": metrics.Accuracy},
        {"log_loss": metrics.LogLoss, "brier": Brier, "roc_auc": metrics.ROCAUC},
        {"no_change": dummy.NoChangeClassifier(), "prior": dummy.PriorClassifier()},
    )


def multiclass_oracle() -> Oracle:
    return Oracle(
        {"accuracy": metrics.Accuracy},
        {"cross_entropy": metrics.CrossEntropy},
        {"no_change": dummy.NoChangeClassifier(), "prior": dummy.PriorClassifier()},
    )


def regression_oracle() -> Oracle:
    return Oracle(
        {"mae": metrics.MAE, "rmse": metrics.RMSE},
        {},
        {"no_change": dummy.StatisticRegressor(LastValue()), "prior": dummy.StatisticRegressor(stats.Mean())},
    )


class SameScore:
    """Gives every event one score."""

    def predict_one(self, _x: dict[str, Any]) -> None:
        """Name no class."""

    def predict_proba_one(self, _x: dict[str, Any]) -> dict[bool, float]:
        return {True: 0.5}

    def learn_one(self, _x: dict[str, Any], _y: bool) -> None:
        """Learn nothing."""


def anomaly_oracle() -> Oracle:
    return Oracle({}, {"roc_auc": metrics.ROCAUC}, {"constant": SameScore()})


def answered(y: Any, proba: dict[Any, float]) -> Example:
    return Example(y, proba, max(proba, key=proba.__getitem__) if proba else None)


def binary_stream(seed: int, count: int) -> list[Example]:
    rng = random.Random(seed)
    edges = [0.0, 1.0, 0.5, 1e-16, 1e-15, 1 - 1e-15, 1 - 1e-16, -0.25, 1.25, 5e-324, *(i / 9 for i in range(10))]
    found = []
    for _ in range(count):
        p = rng.choice(edges) if rng.random() < 0.4 else rng.random()
        y = rng.random() < (p if rng.random() < 0.7 else 0.2)
        nothing, one_sided = rng.random() < 0.05, rng.random() < 0.05
        found.append(answered(y, {} if nothing else {False: 1.0} if one_sided else {False: 1 - p, True: p}))
    return found


def score_stream(seed: int, count: int) -> list[Example]:
    """Scores inside and outside of 0 to 1, on thresholds, and none."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        y = rng.random() < 0.05
        score = rng.choice([rng.betavariate(5, 2 if y else 5), rng.randrange(10) / 9, rng.gauss(0, 3), -0.0, 0])
        found.append(Example(y, None, None) if rng.random() < 0.05 else Example(y, {True: score}, None))
    return found


def one_sided_score_stream(_seed: int, count: int) -> list[Example]:
    return [Example(False, {True: 0.25}) for _ in range(count)]


def one_sided_binary_stream(_seed: int, count: int) -> list[Example]:
    return [answered(False, {False: 0.0, True: 1.0}) for _ in range(count)]


def multiclass_stream(seed: int, count: int) -> list[Example]:
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        named = rng.sample(CLASSES, rng.randrange(len(CLASSES) + 1))
        weights = [rng.choice([0.0, 1.0, rng.random()]) for _ in named]
        total = sum(weights) or 1.0
        proba = {name: weight / total for name, weight in zip(named, weights, strict=True)}
        found.append(answered(rng.choice(named or CLASSES), proba))
    return found


def regression_stream(seed: int, count: int) -> list[Example]:
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        y = rng.choice([0.0, 1e-300, 1e150, -1e150, rng.gauss(0, 1), rng.gauss(1e6, 1)])
        found.append(Example(y, None, None if rng.random() < 0.05 else rng.choice([y, -y, 0.0, rng.gauss(0, 3)])))
    return found


def calm_regression_stream(seed: int, count: int) -> list[Example]:
    rng = random.Random(seed)
    return [Example(y := rng.gauss(5, 2), None, y + rng.gauss(0, 0.1)) for _ in range(count)]


def as_columns(task: Task, examples: Sequence[Example]) -> tuple[np.ndarray, Served]:
    if task is Task.BINARY:
        proba = [[math.nan if not e.proba else e.proba.get(True, 0.0)] for e in examples]
        index: Callable[[Any], float] = float
    elif task is Task.MULTICLASS:
        proba = [[(e.proba or {}).get(name, math.nan) for name in CLASSES] for e in examples]
        index = lambda name: float(CLASSES.index(name))  # noqa: E731
    else:
        proba, index = [[] for _ in examples], float
    y = np.array([index(e.y) for e in examples])
    answers = [(e.proba or {}).get(True) if task is Task.ANOMALY else e.y_pred for e in examples]
    y_pred = np.array([math.nan if answer is None else index(answer) for answer in answers])
    return y, Served(y_pred, np.array(proba, np.float64).reshape(len(examples), -1))


def in_slices(task: Task, examples: Sequence[Example], seed: int) -> Quality:
    """Judge the stream in slices of random size, now and then continuing from plain values."""
    rng = random.Random(seed)
    quality, done = Quality(task), 0
    while done < len(examples):
        size = rng.choice([1, 2, 7, 100, 1_500])
        quality.update_many(*as_columns(task, examples[done : done + size]))
        done += size
        if rng.random() < 0.2:
            quality = Quality.load(quality.dump())
    return quality


def differences(quality: Quality, oracle: Oracle) -> list[str]:
    found = []
    for figure in quality.figures():
        if figure.value is None:
            # Nothing was judged; or of scores, targets of one kind only: River says 0 of what has no value.
            assert not figure.samples or 0 == oracle.values["served", figure.metric, figure.window].get()
            continue
        for owner, value in {"served": figure.value, **figure.baselines}.items():
            expected = oracle.values[owner, figure.metric, figure.window].get()
            if isinstance(expected, complex):
                # River takes the root of what rounding left below zero.
                expected = 0.0
            if value != expected:
                found.append(f"{owner} {figure.metric} {figure.window}: {value!r} is not River's {expected!r}")
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 999, 1_000, 1_001, 3_500])
@pytest.mark.parametrize(
    ("task", "oracle", "stream"),
    [
        (Task.BINARY, binary_oracle, binary_stream),
        (Task.BINARY, binary_oracle, one_sided_binary_stream),
        (Task.MULTICLASS, multiclass_oracle, multiclass_stream),
        (Task.REGRESSION, regression_oracle, regression_stream),
        (Task.REGRESSION, regression_oracle, calm_regression_stream),
        (Task.ANOMALY, anomaly_oracle, score_stream),
        (Task.ANOMALY, anomaly_oracle, one_sided_score_stream),
    ],
)
def test_every_metric_and_baseline_equals_rivers_to_the_last_digit(
    task: Task, oracle: Callable[[], Oracle], stream: Callable[[int, int], list[Example]], count: int
) -> None:
    """Metrics are folded in River's arithmetic order; an abstained example is left out, as River leaves it out."""
    river = oracle()
    examples = stream(count, count)

    for example in examples:
        river.show(example)
    quality = in_slices(task, examples, seed=count)

    assert [] == differences(quality, river)


def test_the_figures_name_every_metric_and_baseline_of_the_task() -> None:
    names = {task: {figure.metric for figure in Quality(task).figures()} for task in Task}
    baselines = {task: set(Quality(task).baselines.metrics) for task in Task}

    assert {"log_loss", "accuracy", "brier", "roc_auc"} == names[Task.BINARY]
    assert {"cross_entropy", "accuracy"} == names[Task.MULTICLASS]
    assert {"mae", "rmse"} == names[Task.REGRESSION]
    assert {"roc_auc"} == names[Task.ANOMALY]
    assert [*[{"no_change", "prior"}] * 3, {"constant"}] == list(baselines.values())
