"""Two states of one model, compared in the model's own terms."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from river import compose, ensemble, forest, linear_model, multiclass, naive_bayes, preprocessing, tree

from tailrace.domain.models.comparing import MOST_NAMED, Effect, TreeShape, difference_of, effect_of


def rows(count: int, seed: int = 0) -> Iterator[tuple[dict[str, float], bool]]:
    rng = random.Random(seed)
    for _ in range(count):
        x = {"a": rng.random(), "b": rng.random()}
        yield x, x["a"] > 0.5


def taught(model: Any, count: int, seed: int = 0) -> Any:
    model = copy.deepcopy(model)
    for x, y in rows(count, seed):
        model.learn_one(x, y)
    return model


def test_a_model_differs_from_itself_in_nothing():
    model = taught(preprocessing.StandardScaler() | linear_model.LogisticRegression(), 50)

    found = difference_of(model, copy.deepcopy(model))

    assert (3, 0, ()) == (found.weights_known, found.weights_changed, found.weights)
    assert ["0 of 3 weights changed"] == list(found.sentences())


def test_weights_that_moved_most_are_named_first_with_before_and_after():
    before = taught(preprocessing.StandardScaler() | linear_model.LogisticRegression(), 10)
    after = taught(before, 200, seed=1)

    found = difference_of(before, after)

    first = found.weights[0]
    assert ("LogisticRegression", "a") == (first.part, first.name)
    assert after["LogisticRegression"].weights["a"] == first.after
    assert before["LogisticRegression"].weights["a"] == first.before
    assert {"a", "b", "intercept"} == {each.name for each in found.weights}
    assert list(found.sentences())[1].startswith("LogisticRegression: the weight of a went from ")


def test_a_feature_that_only_one_of_them_knows_counts_as_zero_in_the_other():
    before, after = linear_model.LinearRegression(), linear_model.LinearRegression()
    before.learn_one({"a": 1.0}, 1.0)
    after.learn_one({"b": 1.0}, 1.0)

    found = {each.name: (each.before, each.after) for each in difference_of(before, after).weights}

    assert 0.0 == found["a"][1]
    assert 0.0 == found["b"][0]


def test_more_weights_than_are_named_are_counted():
    before, after = linear_model.LinearRegression(), linear_model.LinearRegression()
    after.learn_one({f"x{number}": 1.0 for number in range(30)}, 1.0)

    found = difference_of(before, after)

    assert (31, MOST_NAMED) == (found.weights_changed, len(found.weights))


def test_weights_per_class_name_their_class():
    after = linear_model.SoftmaxRegression()
    for number in range(9):
        after.learn_one({"a": 1.0 + number}, "xy"[number % 2])

    names = {each.name for each in difference_of(linear_model.SoftmaxRegression(), after).weights}

    assert {"a (class x)", "a (class y)"} == names


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), "True"),
        (ensemble.BaggingClassifier(linear_model.LogisticRegression(), n_models=2, seed=1), "BaggingClassifier.1"),
        (
            preprocessing.TargetStandardScaler(linear_model.LinearRegression()),
            "TargetStandardScaler.LinearRegression",
        ),
        (
            (compose.SelectType(float) | preprocessing.StandardScaler()) | linear_model.Perceptron(),
            "Perceptron",
        ),
    ],
)
def test_linear_parts_are_found_inside_of_others(model: Any, part: str):
    found = difference_of(model, taught(model, 50))

    assert part in {each.part for each in found.weights}


def test_a_tree_that_grew_tells_its_shape_and_its_new_splits():
    empty = tree.HoeffdingTreeClassifier(grace_period=50)
    leaf, grown = taught(empty, 5), taught(empty, 500)

    (change,) = difference_of(leaf, grown).trees

    assert TreeShape(1, 1, 0, ()) == change.before
    assert (grown.n_nodes, grown.n_leaves) == (change.after.nodes, change.after.leaves)
    assert grown.height - 1 == change.after.height, "River counts levels, not edges"
    assert change.added[0].startswith("a ≤ 0.")
    assert change.added[0].endswith(" at depth 0")
    assert () == change.removed
    told = list(difference_of(leaf, grown).sentences())
    assert "1 of 1 tree changed" == told[0]
    assert told[1].startswith("HoeffdingTreeClassifier: 1 nodes, 1 leaves and height 0 became ")
    assert told[2].startswith("HoeffdingTreeClassifier: new splits: a ≤ 0.")
    assert "gone" in list(difference_of(grown, leaf).sentences())[2]


def test_a_tree_that_has_seen_nothing_has_no_shape():
    empty = tree.HoeffdingTreeClassifier()

    assert TreeShape(0, 0, 0, ()) == difference_of(empty, taught(empty, 5)).trees[0].before
    assert () == difference_of(empty, copy.deepcopy(empty)).trees


@pytest.mark.parametrize("binary", [True, False])
def test_splits_by_a_category_name_it(binary: bool):
    after = tree.HoeffdingTreeClassifier(grace_period=50, nominal_attributes=["c"], binary_split=binary)
    before = copy.deepcopy(after)
    for number in range(500):
        after.learn_one({"c": "uv"[number % 2]}, number % 2 == 0)

    (change,) = difference_of(before, after).trees

    assert change.added[0] in ({"c = u at depth 0", "c = v at depth 0"} if binary else {"c at depth 0"})


def test_the_trees_of_a_forest_are_named_one_by_one():
    empty = forest.ARFClassifier(n_models=3, seed=1, grace_period=50)

    found = difference_of(taught(empty, 5), taught(empty, 900))

    assert 3 == found.trees_known
    assert {"ARFClassifier.0", "ARFClassifier.1", "ARFClassifier.2"} >= {each.part for each in found.trees}
    assert "3 of 3 trees changed" in set(found.sentences())


def test_many_new_splits_are_counted_after_the_first():
    empty = forest.AMFClassifier(n_estimators=1, seed=1)

    told = list(difference_of(empty, taught(empty, 200)).sentences())

    assert any(sentence.endswith(" more") for sentence in told)


def test_a_model_without_weights_and_splits_says_so():
    found = difference_of(naive_bayes.GaussianNB(), taught(naive_bayes.GaussianNB(), 5))

    assert ["this kind of model has no weights or splits to name; its answers tell what changed"] == list(
        found.sentences()
    )


def answers(y: list[float], proba: list[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    return np.array(y), np.array(proba if proba is not None else []).reshape(len(y), -1)


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (answers([0.0, 1.0], [0.2, 0.8]), answers([1.0, 1.0], [0.6, 0.8]), Effect(2, 1, 0.2)),
        (answers([1.0, 2.0]), answers([1.5, 2.0]), Effect(2, 1, 0.25)),
        (answers([np.nan, np.nan]), answers([np.nan, 1.0]), Effect(2, 1, None)),
        (answers([1.0, 0.0], [np.nan, np.nan]), answers([1.0, 1.0], [np.nan, np.nan]), Effect(2, 1, 0.5)),
    ],
)
def test_the_effect_is_what_the_answers_to_the_same_rows_say(before: Any, after: Any, effect: Effect):
    found = effect_of(before, after)

    assert (effect.rows, effect.differ) == (found.rows, found.differ)
    assert effect.mean_change == (None if found.mean_change is None else pytest.approx(found.mean_change))
