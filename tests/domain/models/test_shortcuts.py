"""The shorter way to learn comes to River's own state."""

from __future__ import annotations

import random
from typing import Any

import pytest
from river import compose, linear_model, naive_bayes, preprocessing

from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.shortcuts import learner_of
from tailrace.domain.models.spec import ModelSpec


def no_functions(name: str) -> Any:
    raise ImportError(name)


def examples(count: int) -> list[tuple[dict[str, Any], bool]]:
    """Features appear late, are absent now and then, never vary, or are whole numbers."""
    rng = random.Random(3)
    made = []
    for number in range(count):
        x: dict[str, Any] = {"a": rng.gauss(5, 3), "b": rng.randrange(9), "constant": 1.5, "flag": rng.random() < 0.5}
        if number > count // 3:
            x["late"] = rng.gauss(0, 1e-9)
        if rng.random() < 0.1:
            del x["b"]
        made.append((x, x["a"] > 5))
    return made


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("binary", "StandardScaler() | LogisticRegression()"),
        ("binary", "StandardScaler() | LogisticRegression(Adam(0.01), l2=0.001)"),
        ("binary", "StandardScaler() | HoeffdingTreeClassifier(grace_period=20)"),
        ("regression", "StandardScaler() | LinearRegression()"),
    ],
)
def test_a_scaler_and_a_model_come_to_rivers_state_to_the_last_bit(task: str, text: str) -> None:
    spec = ModelSpec.load(task, text, no_functions)
    ours, rivers = spec.build(), spec.build()

    learn = learner_of(ours)
    for x, y in examples(300):
        learn(x, y)
        rivers.learn_one(x, y)

    codec = spec.codec()
    assert digest_of(codec.encode(rivers)) == digest_of(codec.encode(ours))
    assert learn != ours.learn_one


def test_predictions_between_leave_no_trace() -> None:
    spec = ModelSpec.load("binary", "StandardScaler() | LogisticRegression()", no_functions)
    ours, rivers = spec.build(), spec.build()

    learn = learner_of(ours)
    for x, y in examples(50):
        ours.predict_proba_one({**x, "never learned": 1.0})
        learn(x, y)
        rivers.learn_one(x, y)

    codec = spec.codec()
    assert digest_of(codec.encode(rivers)) == digest_of(codec.encode(ours))


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LogisticRegression(),
        preprocessing.StandardScaler(window_size=10) | linear_model.LogisticRegression(),
        preprocessing.StandardScaler(with_std=False) | linear_model.LogisticRegression(),
        preprocessing.MinMaxScaler() | naive_bayes.GaussianNB(),
        compose.SelectType(float) | preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        preprocessing.StandardScaler() | preprocessing.Normalizer(),
    ],
    ids=str,
)
def test_any_other_model_learns_as_it_does(model: Any) -> None:
    assert model.learn_one == learner_of(model)
