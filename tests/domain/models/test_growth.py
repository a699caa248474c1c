"""Hoeffding trees stay within their bounds whatever they are fed, and grow as River's while they are within."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from river import tree
from river.stats import Var
from river.tree.split_criterion import InfoGainSplitCriterion, VarianceReductionSplitCriterion
from river.tree.splitter import EBSTSplitter, ExhaustiveSplitter, QOSplitter, TEBSTSplitter

from tailrace.domain.models import growth
from tailrace.domain.models.growth import ENTRY_BYTES, MODEL_SIZE_MIB, MOST_VALUES
from tailrace.domain.models.spec import ModelSpec

Row = tuple[dict[str, Any], Any]


def no_functions(name: str) -> Any:
    """Import nothing."""
    raise ImportError(f"no module for {name}")


def built(task: str, text: str) -> tuple[Any, Any]:
    """Return a model and its codec."""
    spec = ModelSpec.load(task, text, no_functions)
    return spec.build(), spec.codec()


def rising(count: int) -> Iterator[Row]:
    """Yield a time that never stops, and the same number each time: no split is ever better than another."""
    return (({"at": float(number)}, 1.0) for number in range(count))


def falling(count: int) -> Iterator[Row]:
    """Yield the other way round, which makes an unbounded tree of values count in every one of them."""
    return (({"at": -float(number)}, 1.0) for number in range(count))


def texts(count: int) -> Iterator[Row]:
    """Yield a text that never comes again and a number that depends on its first letter."""
    return (({"text": f"{number % 7}-{number}"}, float(number % 7)) for number in range(count))


def noise(count: int) -> Iterator[Row]:
    """Yield twenty numbers without a grid and a target that depends on two of them."""
    rng = random.Random(5)
    for _ in range(count):
        x = {f"f{i:02}": rng.gauss(0, 1e6) for i in range(20)}
        yield x, x["f01"] - x["f07"] + rng.gauss(0, 1e5)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("HoeffdingTreeRegressor(grace_period=2000)", 50_000),
        ("HoeffdingTreeRegressor(grace_period=2000, splitter=QOSplitter(0.001))", 50_000),
        ("HoeffdingTreeRegressor(grace_period=2000, splitter=EBSTSplitter())", 8_000),
        ("HoeffdingAdaptiveTreeRegressor(grace_period=2000, seed=1)", 8_000),
        ("ARFRegressor(n_models=2, grace_period=5000, seed=1)", 2_500),
    ],
)
def test_a_feature_that_rises_for_ever_leaves_a_state_that_stops_growing(text: str, count: int) -> None:
    """Fails without `_learn_value` and `_learn_slot`: every value is kept, in a chain as long as the log."""
    model, codec = built("regression", text)
    sizes = []
    for number, (x, y) in enumerate(rising(count), start=1):
        model.learn_one(x, y)
        if number in {count // 5, count}:
            assert math.isfinite(model.predict_one(x))
            sizes.append(len(codec.encode(model)))

    assert sizes[1] < 2 * sizes[0] < 1_000_000


def test_a_feature_that_falls_for_ever_does_too() -> None:
    model, codec = built("regression", "HoeffdingTreeRegressor()")

    for x, y in falling(3_000):
        model.learn_one(x, y)

    assert len(codec.encode(model)) < 300_000


def test_a_class_that_never_changes_keeps_an_exhaustive_splitter_small() -> None:
    model, codec = built("binary", "HoeffdingTreeClassifier(splitter=ExhaustiveSplitter())")

    for x, _ in rising(20_000):
        model.learn_one(x, True)

    assert len(codec.encode(model)) < 400_000
    assert {True: 1.0} == model.predict_proba_one({"at": 1.0})


@pytest.mark.parametrize(
    ("task", "text", "target"),
    [
        ("regression", "HoeffdingTreeRegressor(grace_period=50, leaf_prediction='mean')", float),
        ("multiclass", "HoeffdingTreeClassifier(grace_period=50)", str),
    ],
)
def test_texts_that_never_come_again_leave_a_bounded_tree(task: str, text: str, target: Callable[[Any], Any]) -> None:
    """Fails without `_knowing_few` and `_most_branches`: every text is a value, then a branch."""
    model, codec = built(task, text)

    for x, y in texts(3_000):
        model.learn_one(x, target(y))

    assert len(codec.encode(model)) < 600_000


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("HoeffdingTreeRegressor()", 100.0),
        ("ARFRegressor(n_models=10, seed=1)", 5.0),
        ("SRPRegressor(HoeffdingTreeRegressor(), n_models=2, seed=1)", 20.0),
        ("BaggingRegressor(HoeffdingTreeRegressor(), n_models=4, seed=1)", 20.0),
    ],
)
def test_the_trees_of_a_model_share_its_size(text: str, mib: float) -> None:
    model, _ = built("regression", text)
    holder = getattr(model, "model", model)

    assert (mib, MODEL_SIZE_MIB) == (holder.max_size, 100.0)


def test_a_tree_against_the_rest_counts_for_twenty() -> None:
    model, _ = built("multiclass", "OneVsRestClassifier(HoeffdingTreeClassifier())")

    assert pytest.approx(100 / 21) == model.classifier.max_size


def test_the_least_promising_leaves_of_a_full_tree_stop_looking_for_splits() -> None:
    """Fails without `_keep_size`: the state grows with every leaf."""
    model, codec = built("regression", "HoeffdingTreeRegressor(grace_period=200, delta=0.5)")
    model.max_size = 8_000 * ENTRY_BYTES / 2**20

    for x, y in noise(3_000):
        model.learn_one(x, y)

    leaves = growth._leaves_of(model._root)
    assert {True, False} == {leaf.is_active() for leaf in leaves}
    assert model._n_active_leaves == sum(leaf.is_active() for leaf in leaves)
    assert len(codec.encode(model)) < 30_000 * 60


def test_a_tree_of_too_many_leaves_stops_growing_and_still_learns() -> None:
    model, _ = built("binary", "HoeffdingTreeClassifier(grace_period=20, delta=0.9, tau=0.9)")
    model.max_size = 400 * ENTRY_BYTES / 2**20
    rng = random.Random(1)
    leaves = []
    for number in range(6_000):
        x = {"a": rng.random(), "b": rng.random()}
        model.learn_one(x, rng.random() < (x["a"] + x["b"]) / 2)
        if number % 3_000 == 2_999:
            leaves.append(model.n_leaves)

    assert leaves[0] == leaves[1] < 60
    assert not model._growth_allowed
    assert 6_000 == model._train_weight_seen_by_model


def test_leaves_of_alternate_trees_are_counted() -> None:
    text = "HoeffdingAdaptiveTreeClassifier(grace_period=30, delta=0.5, seed=1)"
    (model, _), (other, _) = built("binary", text), built("binary", text)
    for number in range(200):
        model.learn_one({"a": number % 10}, number % 10 > 4)
        other.learn_one({"a": number % 10}, number % 10 > 2)
    alone = len(growth._leaves_of(model._root))

    model._root._alternate_tree = other._root

    assert alone + len(growth._leaves_of(other._root)) == len(growth._leaves_of(model._root)) > alone > 1


def rivers_values(kind: type, rows: list[tuple[float, Any]]) -> Any:
    """Return the root of a splitter's values, filled by River's own nodes."""
    node = {EBSTSplitter: tree.splitter.ebst_splitter.EBSTNode}.get(
        kind, tree.splitter.exhaustive_splitter.ExhaustiveNode
    )
    (value, target), *others = rows
    root = node(value, target, 1.0)
    for value, target in others:
        root.insert_value(value, target, 1.0)
    return root


@pytest.mark.parametrize("kind", [EBSTSplitter, ExhaustiveSplitter])
def test_below_the_bound_values_are_kept_as_rivers_keeps_them(kind: type) -> None:
    rng = random.Random(2)
    rows = [(round(rng.gauss(0, 1), 2), float(rng.random() < 0.5)) for _ in range(600)]
    splitter: Any = kind()

    for value, target in [(None, 0.0), *rows]:
        splitter.update(value, target, 1.0)

    todo = [(splitter._root, rivers_values(kind, rows))]
    count = 0
    while todo:
        ours, rivers = todo.pop()
        assert (ours is None) == (rivers is None)
        if ours is not None:
            count += 1
            todo += [(ours._left, rivers._left), (ours._right, rivers._right)]
            if kind is EBSTSplitter:
                assert (ours.att_val, ours.estimator.get()) == (rivers.att_val, rivers.estimator.get())
            else:
                assert (ours.cut_point, ours.class_count_left) == (rivers.cut_point, rivers.class_count_left)
                assert ours.class_count_right == rivers.class_count_right
    assert count == splitter._values


def test_past_the_bound_the_counts_beside_every_candidate_stay_exact() -> None:
    splitter: Any = EBSTSplitter()
    whole = Var()
    targets = [float(value >= 700) for value in range(3 * MOST_VALUES)]
    for value, target in enumerate(targets):
        splitter.update(float(value), target, 1.0)
        whole.update(target)

    best = splitter.best_evaluated_split_suggestion(VarianceReductionSplitCriterion(), whole, "at")

    assert MOST_VALUES == splitter._values
    assert 699.0 == best.split_info
    assert [700, 3 * MOST_VALUES - 700] == [side.n for side in best.children_stats]


def test_past_the_bound_an_exhaustive_splitter_finds_its_best_candidate() -> None:
    splitter: Any = ExhaustiveSplitter()
    for value in range(3 * MOST_VALUES):
        splitter.update(float(value), value >= 700, 1.0)

    best = splitter.best_evaluated_split_suggestion(
        InfoGainSplitCriterion(0.01), {False: 700.0, True: 3.0 * MOST_VALUES - 700}, "at", binary_only=True
    )

    assert MOST_VALUES == splitter._values
    assert 699.0 == best.split_info


def test_pruned_values_make_room_again() -> None:
    splitter: Any = TEBSTSplitter()
    whole = Var()
    for value in range(500):
        splitter.update(float(value), float(value >= 250), 1.0)
        whole.update(float(value >= 250))

    splitter.remove_bad_splits(VarianceReductionSplitCriterion(), 0.9, whole.get(), 0.01, whole)

    assert splitter._values < 500
    assert splitter._values == growth._COUNTS[TEBSTSplitter](splitter)


def test_slots_become_wider_and_lose_nothing() -> None:
    splitter: Any = QOSplitter(0.25, allow_multiway_splits=True)
    splitter.update(None, 1.0, 1.0)
    for value in range(2 * MOST_VALUES):
        splitter.update(float(value), 1.0, 1.0)
    quantizer = splitter._quantizer

    assert len(quantizer) <= MOST_VALUES
    assert 2 * MOST_VALUES == sum(slot.y_stats.n for slot in quantizer.hash.values())
    assert splitter.radius == quantizer.radius > 1.0
    assert all(index == math.floor(slot.x_stats.get() / quantizer.radius) for index, slot in quantizer.hash.items())


def test_a_splitter_of_another_kind_counts_by_its_attributes() -> None:
    assert len(vars(tree.splitter.DynamicQuantizer())) == growth._values_of(tree.splitter.DynamicQuantizer())


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("AMFClassifier(seed=1)", 10_000),
        ("AMFRegressor(n_estimators=2, max_nodes=70, seed=1)", 70),
        ("AMFClassifier(n_estimators=100, max_nodes=5000, seed=1)", 1_000),
    ],
)
def test_a_mondrian_forest_has_a_bounded_number_of_nodes(text: str, most: int) -> None:
    task = "regression" if "Regressor" in text else "binary"

    assert most == ModelSpec.load(task, text, no_functions, experimental=True).build().max_nodes


def test_a_mondrian_forest_at_its_bound_still_learns() -> None:
    model = ModelSpec.load(
        "binary", "AMFClassifier(n_estimators=2, max_nodes=21, seed=1)", no_functions, experimental=True
    )
    forest, rng = model.build(), random.Random(1)

    for _ in range(300):
        x = {"a": rng.random(), "b": rng.random()}
        forest.learn_one(x, x["a"] > 0.5)

    assert {21} == {tree._n_nodes for tree in forest}
    assert forest.predict_proba_one({"a": 0.9, "b": 0.5})[True] > 0.5
