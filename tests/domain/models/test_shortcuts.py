"""The shorter way to learn comes to River's own state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from river import anomaly, compose, linear_model, naive_bayes, preprocessing

from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.shortcuts import learner_of
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
        ("regression", "StandardScaler() | LinearRegression()"),
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
