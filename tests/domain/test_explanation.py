"""An explanation says what the model really does: weights add up, paths are taken, features that matter show."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from river import anomaly, linear_model, naive_bayes, preprocessing, tree

from tailrace.domain.contract import TargetContract
from tailrace.domain.explanation import REASONS_KEPT, Method, explain
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.records import Task

BINARY = TargetContract(Task.BINARY)
COLOURS = TargetContract(Task.MULTICLASS, classes=("blue", "green", "red"))
NUMBER = TargetContract(Task.REGRESSION)


def taught(model: Any, target: Any = lambda x: x["a"] > 0, count: int = 400) -> Any:
    """Teach a model that `a` decides, `b` is noise."""
    rng = random.Random(3)
    for _ in range(count):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        model.learn_one(x, target(x))
    return model


def test_the_contributions_of_a_linear_model_add_up_to_its_answer() -> None:
    model = taught(preprocessing.StandardScaler() | linear_model.LogisticRegression())
    x = {"a": 1.5, "b": -0.5}

    found = explain(model, x, BINARY)

    assert Method.WEIGHTS == found.method
    assert found.base is not None
    raw = found.base + sum(reason.effect or 0.0 for reason in found.reasons)
    assert model.predict_proba_one(x)[True] == pytest.approx(1 / (1 + math.exp(-raw)), rel=1e-12)
    assert ["a", "b"] == [reason.what for reason in found.reasons]


def test_a_filter_before_the_last_step_changes_no_input() -> None:
    model = taught(
        preprocessing.StandardScaler()
        | anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.9)
        | linear_model.LogisticRegression()
    )
    x = {"a": 1.5, "b": -0.5}

    found = explain(model, x, BINARY)

    assert found.base is not None
    raw = found.base + sum(reason.effect or 0.0 for reason in found.reasons)
    assert model.predict_proba_one(x)[True] == pytest.approx(1 / (1 + math.exp(-raw)), rel=1e-12)


def test_the_contributions_of_a_one_class_model_add_up_to_its_score() -> None:
    model = preprocessing.StandardScaler() | anomaly.OneClassSVM()
    rng = random.Random(3)
    for _ in range(100):
        model.learn_one({"a": rng.gauss(1, 1), "b": rng.gauss(0, 1)})
    x = {"a": 1.5, "b": -0.5}

    found = explain(model, x, TargetContract(Task.ANOMALY))

    assert (Method.WEIGHTS, 0.0) == (found.method, found.base)
    assert model.score_one(x) == pytest.approx(sum(reason.effect or 0.0 for reason in found.reasons), rel=1e-9)


def test_a_score_is_explained_by_what_it_would_be_without_each_feature() -> None:
    model = preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(window_size=50, seed=1)
    rng = random.Random(3)
    for _ in range(200):
        model.learn_one({"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)})

    found = explain(model, {"a": 4.0, "b": 0.1}, TargetContract(Task.ANOMALY))

    whole, alone = model.score_one({"a": 4.0, "b": 0.1}), {"a": {"b": 0.1}, "b": {"a": 4.0}}
    assert Method.OCCLUSION == found.method
    assert {name: whole - model.score_one(x) for name, x in alone.items()} == {
        reason.what: reason.effect for reason in found.reasons
    }


def test_inputs_that_a_linear_model_does_not_know_are_no_reasons() -> None:
    assert () == explain(linear_model.LinearRegression(), {"a": 1.0}, NUMBER).reasons


def test_the_path_of_a_tree_is_the_one_that_the_row_takes() -> None:
    model = taught(tree.HoeffdingTreeClassifier(grace_period=20))

    high, low = (explain(model, {"a": a, "b": 0.0}, BINARY) for a in (2.0, -2.0))

    assert Method.PATH == high.method
    assert high.reasons[0].what.startswith("a >")
    assert low.reasons[0].what.startswith("a ≤")


def test_a_tree_takes_the_usual_way_where_a_feature_is_absent() -> None:
    model = taught(preprocessing.StandardScaler() | tree.HoeffdingTreeClassifier(grace_period=20))

    found = explain(model, {"b": 0.0}, BINARY)

    assert found.reasons[0].what.endswith("(absent: the way that most examples took)")


def test_a_tree_that_has_seen_nothing_has_no_path() -> None:
    assert () == explain(tree.HoeffdingTreeClassifier(), {"a": 1.0}, BINARY).reasons


@pytest.mark.parametrize("a", [2.0, -2.0])
def test_of_any_other_model_the_feature_that_decides_has_the_greatest_effect(a: float) -> None:
    model = taught(naive_bayes.GaussianNB())

    found = explain(model, {"a": a, "b": 0.1}, BINARY)

    assert Method.OCCLUSION == found.method
    assert "a" == found.reasons[0].what
    assert (found.reasons[0].effect or 0.0) > 0.1


def test_the_effect_on_the_served_class_of_many_is_told() -> None:
    model = taught(naive_bayes.GaussianNB(), lambda x: COLOURS.classes[min(2, max(0, round(x["a"]) + 1))])

    found = explain(model, {"a": 1.5, "b": 0.1}, COLOURS)

    assert "a" == found.reasons[0].what
    assert (found.reasons[0].effect or 0.0) > 0.1


def test_the_effect_on_a_number_is_told() -> None:
    class Doubling:
        def predict_one(self, x: Any) -> float:
            return 2 * x.get("a", 0.0)

    found = explain(Doubling(), {"a": 4.0, "b": 1.0}, NUMBER)

    assert [("a", 8.0), ("b", 0.0)] == [(reason.what, reason.effect) for reason in found.reasons]


def test_a_model_that_answers_nothing_has_no_reasons() -> None:
    assert () == explain(naive_bayes.GaussianNB(), {"a": 1.0}, BINARY).reasons


def test_the_number_of_reasons_is_bounded() -> None:
    model = linear_model.LinearRegression()
    x = {f"f{number:03}": 1.0 + number for number in range(100)}
    model.learn_one(x, 5.0)

    assert REASONS_KEPT == len(explain(model, x, NUMBER).reasons)


def test_explaining_changes_nothing() -> None:
    """Guards that a question never teaches: the state has the same bytes before and after."""
    for model in (
        taught(preprocessing.StandardScaler() | linear_model.LogisticRegression()),
        taught(tree.HoeffdingTreeClassifier(grace_period=20)),
        taught(naive_bayes.GaussianNB()),
    ):
        codec = StateCodec([model])
        before = codec.encode(model)
        explain(model, {"a": 0.3, "new": 1.0}, BINARY)
        assert before == codec.encode(model)
