"""Scoring never changes a model: its encoded state is the same before and after, for every family."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from river import anomaly, compose, linear_model, naive_bayes, optim, preprocessing, tree

from tailrace.domain.contract import TargetContract
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.teaching import teacher_of
from tailrace.domain.records import Features, Task
from tailrace.domain.scoring import score

BINARY = TargetContract(Task.BINARY)
COLOURS = TargetContract(Task.MULTICLASS, classes=("red", "green", "blue"))
NUMBER = TargetContract(Task.REGRESSION)
SCORE = TargetContract(Task.ANOMALY)


def mixed(last: Any) -> Any:
    texts = compose.SelectType(str) | preprocessing.OneHotEncoder()
    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    return (texts + numbers) | last


def hashed(last: Any) -> Any:
    return preprocessing.FeatureHasher(n_features=16, seed=1) | last


FAMILIES: dict[str, tuple[Callable[[], Any], TargetContract]] = {
    "logistic": (lambda: mixed(linear_model.LogisticRegression()), BINARY),
    "logistic with Adam": (lambda: mixed(linear_model.LogisticRegression(optim.Adam(0.01), l2=1e-4)), BINARY),
    "hashed logistic": (lambda: hashed(linear_model.LogisticRegression(optim.AdaGrad())), BINARY),
    "perceptron": (lambda: mixed(linear_model.Perceptron()), BINARY),
    "softmax": (lambda: mixed(linear_model.SoftmaxRegression()), COLOURS),
    "linear": (lambda: mixed(linear_model.LinearRegression()), NUMBER),
    "gaussian Bayes": (lambda: compose.SelectType(float) | naive_bayes.GaussianNB(), BINARY),
    "Bernoulli Bayes": (lambda: hashed(naive_bayes.BernoulliNB()), COLOURS),
    "multinomial Bayes": (lambda: hashed(preprocessing.Binarizer()) | naive_bayes.MultinomialNB(), COLOURS),
    "Hoeffding tree": (lambda: tree.HoeffdingTreeClassifier(grace_period=20, nominal_attributes=["city"]), COLOURS),
    "Hoeffding regression tree": (lambda: compose.SelectType(float) | tree.HoeffdingTreeRegressor(20), NUMBER),
    "half-space trees": (
        lambda: compose.SelectType(float) | preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(4, 4, 50, seed=1),
        SCORE,
    ),
    "one-class": (lambda: mixed(anomaly.OneClassSVM()), SCORE),
    "adaptive tree": (
        lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=20, nominal_attributes=["city"], seed=1),
        BINARY,
    ),
}


def rows(count: int, seed: int, cities: int) -> list[Features]:
    rng = random.Random(seed)
    return [
        {"age": rng.gauss(40, 9), "city": f"city{rng.randrange(cities)}", "sum": rng.gauss(0, 1)} for _ in range(count)
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("learned", [0, 1, 300])
def test_scoring_leaves_no_trace_in_the_model(family: str, learned: int) -> None:
    """Also of rows with values that the model has not learned."""
    build, target = FAMILIES[family]
    model = build()
    teach = teacher_of(model)
    rng = random.Random(learned)
    for x in rows(learned, seed=1, cities=3):
        teach(x, target.river(float(x["sum"] > 0) if target is not NUMBER else rng.gauss(0, 1)))
    codec = StateCodec([model])
    before = codec.encode(model)

    first = score(model, rows(50, seed=2, cities=9), target)
    again = score(model, rows(50, seed=2, cities=9), target)

    assert before == codec.encode(model)
    assert [] == first.failed
    assert first.served.y_pred.tobytes() == again.served.y_pred.tobytes()
    assert first.served.proba.tobytes() == again.served.proba.tobytes()
