"""The shorter way to learn comes to River's own state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from river import anomaly, compose, linear_model, naive_bayes, optim, preprocessing

from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.shortcuts import answers_of, learner_of
from tailrace.domain.models.spec import ModelSpec

NAMES = ("a", "b", "constant", "flag", "tiny")
SCALED = "StandardScaler() | LogisticRegression()"


def spec_of(task: str, text: str) -> ModelSpec:
    def no_functions(name: str) -> Any:
        raise ImportError(name)

    return ModelSpec.load(task, text, no_functions)


def rows(count: int) -> Iterator[tuple[Any, ...]]:
    """Numbers of several sizes, whole numbers, one that never varies, booleans."""
    rng = random.Random(3)
    for _ in range(count):
        yield rng.gauss(5, 3), rng.randrange(9), 1.5, rng.random() < 0.5, rng.gauss(0, 1e-9)


def digests(spec: ModelSpec, *models: Any) -> set[str]:
    codec = spec.codec()
    return {digest_of(codec.encode(model)) for model in models}


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("binary", SCALED),
        ("binary", "StandardScaler() | LogisticRegression(Adam(0.01), l2=0.001)"),
        ("binary", "StandardScaler() | HoeffdingTreeClassifier(grace_period=20)"),
        ("binary", "StandardScaler() | LogisticRegression(SGD(InverseScaling(0.1)), intercept_lr=0.3)"),
        ("binary", "StandardScaler() | LogisticRegression(l1=0.01)"),
        ("binary", "StandardScaler() | LogisticRegression(loss=Hinge(), clip_gradient=0.5)"),
        ("regression", "StandardScaler() | LinearRegression()"),
        ("regression", "StandardScaler() | LinearRegression(clip_gradient=0.01, intercept_init=3.0)"),
    ],
)
def test_a_scaler_and_a_model_come_to_rivers_state_to_the_last_bit(task: str, text: str) -> None:
    spec = spec_of(task, text)
    ours, rivers, made = spec.build(), spec.build(), list(rows(300))

    learner = learner_of(ours)
    assert learner is not None
    for start in range(0, 300, 70):
        part = made[start : start + 70]
        learner.learn_rows(NAMES, part, [row[0] > 5 for row in part])
    for row in made:
        rivers.learn_one(dict(zip(NAMES, row, strict=True)), row[0] > 5)

    assert 1 == len(digests(spec, ours, rivers))


def test_it_goes_on_where_river_was_and_river_where_it_was() -> None:
    spec = spec_of("binary", SCALED)
    ours, rivers, made = spec.build(), spec.build(), list(rows(30))

    for number, row in enumerate(made):
        x = dict(zip(NAMES, row, strict=True))
        ours.predict_proba_one({**x, "never learned": 1.0})
        rivers.learn_one(x, row[3])
        if number % 3:
            ours.learn_one(x, row[3])
        else:
            learner_of(ours).learn_rows(NAMES, [row], [row[3]])

    assert 1 == len(digests(spec, ours, rivers))


def test_no_rows_change_nothing() -> None:
    spec = spec_of("binary", SCALED)
    ours = spec.build()
    learner = learner_of(ours)
    assert learner is not None

    learner.learn_rows(NAMES, [], [])

    assert 1 == len(digests(spec, ours, spec.build()))


def test_after_an_error_it_names_the_row() -> None:
    learner = learner_of(preprocessing.StandardScaler() | linear_model.LogisticRegression())
    assert learner is not None

    with pytest.raises(TypeError):
        learner.learn_rows(("a",), [(1.0,), (2.0,), (None,), (3.0,)], [True] * 4)

    assert 2 == learner.learned


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LogisticRegression(),
        preprocessing.StandardScaler(window_size=10) | linear_model.LogisticRegression(),
        preprocessing.StandardScaler(with_std=False) | linear_model.LogisticRegression(),
        preprocessing.MinMaxScaler() | naive_bayes.GaussianNB(),
        compose.SelectType(float) | preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        preprocessing.StandardScaler() | preprocessing.Normalizer(),
        preprocessing.StandardScaler() | anomaly.OneClassSVM(),
        preprocessing.StandardScaler() | anomaly.HalfSpaceTrees(seed=1),
    ],
    ids=str,
)
def test_any_other_model_has_no_shortcut(model: Any) -> None:
    assert learner_of(model) is None


def learned(model: Any, count: int) -> Any:
    for row in rows(count):
        model.learn_one(dict(zip(NAMES, row, strict=True)), row[0] > 5)
    return model


@pytest.mark.parametrize(
    "final",
    [
        linear_model.LogisticRegression(),
        linear_model.LogisticRegression(optim.SGD(5.0)),
        linear_model.LogisticRegression(loss=optim.losses.Hinge()),
        linear_model.LinearRegression(),
    ],
    ids=["logistic", "far from a half", "hinge", "linear"],
)
def test_answers_are_rivers_to_the_last_bit(final: Any) -> None:
    model = learned(preprocessing.StandardScaler() | final, 300)
    asked = np.array([*rows(400), (1e300, 0, 1.5, 1, -1e300), (1e308, 0, 9.0, 1, 1e308)], np.float64)
    is_number = isinstance(final, linear_model.LinearRegression)

    def by_river(x: dict[str, float]) -> float:
        answer: float = model.predict_one(x) if is_number else model.predict_proba_one(x)[True]
        return answer

    found = answers_of(model, NAMES, asked)

    assert found is not None
    expected = [by_river(dict(zip(NAMES, row, strict=True))) for row in asked.tolist()]
    assert [repr(float(answer)) for answer in found] == [repr(float(answer)) for answer in expected]


@pytest.mark.parametrize(
    "model",
    [
        preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        learned(linear_model.LogisticRegression(), 5),
        learned(preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.Adam()), 5),
        learned(preprocessing.StandardScaler() | linear_model.LogisticRegression(l2=0.1), 5),
        learned(preprocessing.StandardScaler() | linear_model.PAClassifier(), 5),
    ],
    ids=["nothing learned", "no scaler", "another optimizer", "a penalty", "another model"],
)
def test_any_other_model_is_asked_row_by_row(model: Any) -> None:
    assert answers_of(model, NAMES, np.array(list(rows(3)), np.float64)) is None


def test_a_feature_that_was_never_learned_is_asked_about_row_by_row() -> None:
    model = learned(preprocessing.StandardScaler() | linear_model.LogisticRegression(), 5)

    assert answers_of(model, (*NAMES, "new"), np.ones((2, 6))) is None


def test_a_variance_below_zero_is_rivers_to_answer() -> None:
    model = learned(preprocessing.StandardScaler() | linear_model.LogisticRegression(), 5)
    model["StandardScaler"].vars["a"] = -1e-30

    assert answers_of(model, NAMES, np.ones((2, 5))) is None


def test_a_loss_that_raises_at_one_row_is_rivers_to_answer() -> None:
    model = learned(preprocessing.StandardScaler() | linear_model.LinearRegression(loss=optim.losses.Poisson()), 30)
    weights = model["LinearRegression"]._weights
    weights.update(dict.fromkeys(NAMES, 10000.0))

    assert answers_of(model, NAMES, np.array([[5.0, 4.0, 1.5, 0.0, 0.0], [1e9, 4.0, 1.5, 1.0, 0.0]])) is None


def test_a_weight_of_infinity_gives_no_number_as_rivers() -> None:
    model = learned(preprocessing.StandardScaler() | linear_model.LogisticRegression(), 30)
    model["LogisticRegression"]._weights.update({"constant": float("inf")})
    x = dict.fromkeys(NAMES, 1.5)

    (found,) = answers_of(model, NAMES, np.full((1, 5), 1.5)) or []

    assert np.isnan(found)
    assert np.isnan(model.predict_proba_one(x)[True])


def test_no_rows_have_no_answers() -> None:
    model = learned(preprocessing.StandardScaler() | linear_model.LogisticRegression(), 5)

    assert answers_of(model, NAMES, np.empty((0, 5))) == []
