"""What takes the place of a method of River gives the same numbers."""

from __future__ import annotations

import random
from typing import Any

import pytest
from river import ensemble, forest, neighbors, tree
from river.tree.splitter.nominal_splitter_classif import NominalSplitterClassif

from tailrace.domain.models import repairs
from tailrace.domain.models.repairs import apply_repairs


def test_the_share_of_a_value_is_rivers_and_a_look_leaves_nothing_behind() -> None:
    apply_repairs()
    splitter = NominalSplitterClassif()
    for value, target in [("de", 0), ("de", 0), ("fr", 0), ("fr", 1)]:
        splitter.update(value, target, 1.0)

    shares = [splitter.cond_proba("de", 0), splitter.cond_proba("de", 1), splitter.cond_proba("de", 2)]

    assert [2 / 3, 0.0, 0.0] == shares
    assert [0, 1] == list(splitter._att_dist_per_class)


def test_a_class_without_weight_has_no_share() -> None:
    apply_repairs()
    splitter = NominalSplitterClassif()
    splitter.update("de", 0, 0.0)

    assert 0.0 == splitter.cond_proba("de", 0)


def numbers(count: int) -> list[tuple[dict[str, float], int]]:
    """Return rows of two numbers and a class of three."""
    rng = random.Random(4)
    rows = [{"a": rng.random(), "b": rng.random()} for _ in range(count)]
    return [(x, int(x["a"] > 0.5) + int(x["b"] > 0.5)) for x in rows]


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_votes_of_neighbours_are_rivers(softmax: bool, weighted: bool) -> None:
    rivers = repairs.RIVERS_NEIGHBOURS
    apply_repairs()
    model = neighbors.KNNClassifier(3, neighbors.LazySearch(30), weighted=weighted, softmax=softmax)

    for x, y in numbers(80):
        assert {**rivers(model, x)} == model.predict_proba_one(x)
        model.learn_one(x, y)

    assert {0: 0.0, 1: 0.0, 2: 0.0} | {y: 1.0} == model.predict_proba_one(x)


def test_classes_of_a_set_are_asked_in_their_order() -> None:
    """Fails without `_votes_of_neighbours` and `_votes_of_tree`: the order of a set of texts is the process's own."""
    apply_repairs()
    names = [f"class {number:02}" for number in range(40)]
    models: list[Any] = [
        neighbors.KNNClassifier(engine=neighbors.LazySearch(50)),
        tree.HoeffdingAdaptiveTreeClassifier(seed=1),
    ]

    for model in models:
        assert {} == model.predict_proba_one({"a": 1.0})
        for name in reversed(names):
            model.learn_one({"a": float(name[-2:])}, name)
        assert names == list(model.predict_proba_one({"a": 3.5}))


def test_the_leaves_of_a_split_alternate_tree_answer_too() -> None:
    """Fails without `_leaves_reached`: River asks a list for its prediction."""
    apply_repairs()
    trees: list[Any] = [tree.HoeffdingAdaptiveTreeClassifier(30, delta=0.5, seed=seed) for seed in (1, 2, 3)]
    for each in trees:
        for x, y in numbers(400):
            each.learn_one(x, y)
    x = {"a": 0.2, "b": 0.2}
    model, beside, inside = trees
    alone = model.predict_proba_one(x)

    model._root._alternate_tree = beside._root
    both = model.predict_proba_one(x)
    beside._root._alternate_tree = inside._root.traverse(x)[0]

    assert list(alone) == list(both)
    assert alone != both
    assert 1.0 == pytest.approx(sum(both.values()))
    assert 3 == len(model._root.traverse(x))


@pytest.mark.parametrize(
    "model",
    [
        forest.ARFClassifier(seed=1),
        ensemble.SRPClassifier(seed=1),
        forest.ARFRegressor(seed=1),
        ensemble.SRPRegressor(seed=1),
    ],
    ids=lambda model: type(model).__name__,
)
def test_an_ensemble_that_has_learned_nothing_makes_no_members_when_it_is_asked(model: Any) -> None:
    """Fails without `_after_learning`: the ensemble draws random numbers and makes its members for whoever asks first."""
    apply_repairs()
    ask = getattr(model, "predict_proba_one", model.predict_one)
    before = model._rng.getstate()

    assert not ask({"a": 1.0})

    assert 0 == len(model)
    assert before == model._rng.getstate()
