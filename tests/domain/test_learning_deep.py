"""Crafted examples make a model as deep as they can: the fold goes on, and its state can always be kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from river import base
from tests.log_builders import (
    BINARY,
    BRANCH,
    begun,
    make_block,
    make_claim,
    make_examples,
    make_fold,
    make_learner_claim,
    make_log,
    make_skip,
    skipping,
)

from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.branches import Branch, Kit
from tailrace.domain.contract import FeatureContract, FeatureSpec
from tailrace.domain.errors import FoldError
from tailrace.domain.learning import Fold
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.spec import ModelSpec
from tailrace.domain.positions import position_of
from tailrace.domain.records import Features
from tailrace.domain.scoring import score
from tailrace.domain.state import skeletons

CONTRACT = FeatureContract(tuple(FeatureSpec(name, "number") for name in "abc"))
ROWS = 500


class Endless(base.Classifier):
    """Calls itself for ever at a row without `b`."""

    def __init__(self) -> None:
        self.learned = 0

    def learn_one(self, x: Any, y: Any) -> None:
        if not x["b"]:
            self.learn_one(x, y)
        self.learned += 1

    def predict_one(self, _x: Any) -> bool:
        return True


def no_functions(name: str) -> Any:
    """Import nothing."""
    raise ImportError(name)


def doubling() -> Iterator[Features]:
    """Yield rows of which each lies twice as far out as the one before, one feature after the other.

    A Mondrian tree splits above its root at nearly each of them, so that it grows by a level.
    """
    for row in range(5_400):
        feature, step = divmod(row, 2_000)
        x = {name: 2.0**999 if index < feature else 0.0 for index, name in enumerate("abc")}
        yield x | {"abc"[feature]: 2.0 ** (step - 1_000)}


def blocks(rows: list[Features]) -> list[TrainingBlock]:
    made = []
    for number, start in enumerate(range(0, len(rows), ROWS), 1):
        part = rows[start : start + ROWS]
        examples = make_examples(len(part), ys=[float(row % 2) for row in range(len(part))])
        examples = replace(examples, x=CONTRACT.columns(part))
        made.append(make_block(examples, number=number, contract_id=CONTRACT.id))
    return made


def fold_of(text: str) -> Fold:
    spec = ModelSpec.load("binary", text, no_functions, experimental=True)

    def kit_of(branch: Branch) -> Kit:
        return Kit(branch, spec.build, spec.codec())

    return Fold(contract=CONTRACT, target=BINARY, lineage="loop", codec=StateCodec(skeletons()), kit_of=kit_of)


def depth_of(forest: Any) -> int:
    deepest, todo = 0, [(tree._root, 1) for tree in forest]
    while todo:
        node, depth = todo.pop()
        deepest = max(deepest, depth)
        todo += [(child, depth + 1) for child in (() if node.is_leaf else node.children)]
    return deepest


def test_a_mondrian_forest_that_is_fed_crafted_values_can_always_be_kept_and_goes_on() -> None:
    """Defence: the renumbering of nodes that does not call itself (`repairs`). With River's own every further example
    raises once the tree has a thousand levels, and the learner stays down."""
    fold, rows = fold_of("AMFClassifier(n_estimators=1, seed=1)"), list(doubling())
    log = make_log(make_claim(), *blocks(rows))
    whole, rest = log[:11], log[11:]
    state = begun(fold)

    fold.fold(state, whole)
    parts = fold.parts(state)
    restored = fold.restore(parts)
    again = fold.parts(restored)
    for each in (state, restored):
        fold.fold(each, rest)
    answers = score(state.champion.model, rows[-10:], BINARY)

    assert depth_of(state.champion.model) > 1_000
    assert parts == again
    assert len(rows) == restored.champion.learned
    assert fold.parts(state) == fold.parts(restored)
    assert [] == answers.failed


@pytest.mark.parametrize("slices", [1, 2])
def test_an_example_at_which_a_model_calls_itself_for_ever_is_skipped_and_the_fold_goes_on(slices: int) -> None:
    fold = make_fold(Endless, contract=CONTRACT)
    rows: list[Features] = [{"a": 1.0, "b": 0.0 if row == 7 else 1.0, "c": 1.0} for row in range(slices * ROWS)]
    log = make_log(make_claim(), *blocks(rows), make_learner_claim(), make_skip(position_of(1, 7)))
    state = begun(fold)

    with pytest.raises(FoldError) as found:
        fold.fold(begun(fold), log)
    fold.fold(state, log, skipping(found.value.position))

    assert (position_of(1, 7), BRANCH.lineage, "RecursionError") == (
        found.value.position,
        found.value.branch,
        type(found.value.__cause__).__name__,
    )
    assert (len(rows) - 1, 1) == (state.champion.learned, state.champion.skipped)
