"""The fold of compiled branches: the same promises as of River's, and a lineage of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.builders import make_x
from tests.contracts.compiled_pipelines import compiled, spec_of
from tests.log_builders import begun, make_block, make_claim, make_examples, make_log, skipping

from tailrace.domain.blocks import ERASED, TrainingBlock
from tailrace.domain.branches import COMPILED, Branch, Kit, has_same_learner
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.errors import FoldError
from tailrace.domain.explanation import Method, explain
from tailrace.domain.learning import Fold
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.fused import FusedCodec
from tailrace.domain.models.plans import Feature
from tailrace.domain.models.spec import branch_of
from tailrace.domain.positions import position_of
from tailrace.domain.records import Task
from tailrace.domain.scoring import score, score_columns
from tailrace.domain.state import LoopState, skeletons

NUMBERS = FeatureContract(
    (FeatureSpec("amount", "number"), FeatureSpec("many", "integer"), FeatureSpec("on", "boolean"))
)
BINARY = TargetContract(Task.BINARY)
SPEC = spec_of("binary", "StandardScaler() | LogisticRegression()")


def branch(*, is_compiled: bool = True) -> Branch:
    return branch_of(SPEC, contract_id=NUMBERS.id, cpu_class="any", is_compiled=is_compiled)


def make_fold() -> Fold:
    def kit_of(asked: Branch) -> Kit:
        if not asked.is_compiled:
            return Kit(asked, SPEC.build, SPEC.codec())
        return Kit(asked, build, FusedCodec(build))

    def build() -> Any:
        return compiled(SPEC, [Feature("amount", float), Feature("many", int), Feature("on", bool)])

    return fold_of(kit_of)


def fold_of(kit_of: Callable[[Branch], Kit | None]) -> Fold:
    return Fold(contract=NUMBERS, target=BINARY, lineage="loop", codec=StateCodec(skeletons()), kit_of=kit_of)


def block(count: int, number: int = 1, **changes: Any) -> TrainingBlock:
    rng = np.random.default_rng(number)
    rows = [
        {"amount": rng.normal(5, 2), "many": int(rng.integers(9)), "on": bool(rng.random() < 0.5)} for _ in range(count)
    ]
    examples = replace(make_examples(count, number), x=NUMBERS.columns(rows), **changes)
    return replace(make_block(examples, number=number), contract_id=NUMBERS.id)


def folded(*blocks: TrainingBlock, is_compiled: bool = True, **given: Any) -> tuple[Fold, LoopState]:
    fold = make_fold()
    state = begun(fold, branch(is_compiled=is_compiled))
    fold.fold(state, make_log(make_claim(), *blocks), **given)
    return fold, state


def fold_that_warms(warm: Callable[[], None], *, is_there: bool = True) -> Fold:
    def kit_of(asked: Branch) -> Kit | None:
        return Kit(asked, SPEC.build, SPEC.codec(), warm) if is_there else None

    return fold_of(kit_of)


def test_a_branch_is_made_ready_once() -> None:
    warmed: list[int] = []
    fold = fold_that_warms(lambda: warmed.append(1))

    fold.warm(branch(), branch())
    fold.warm(branch())

    assert [1] == warmed


def test_what_cannot_be_folded_is_not_made_ready() -> None:
    warmed: list[int] = []

    fold_that_warms(lambda: warmed.append(1), is_there=False).warm(branch())

    assert not warmed


def test_what_a_branch_runs_needs_no_making_ready_where_river_runs_it() -> None:
    make_fold().warm(branch(is_compiled=False))


def test_a_compiled_branch_is_another_one_and_says_so() -> None:
    ours, rivers = branch(), branch(is_compiled=False)
    fold, state = folded(block(3))
    _, of_river = folded(block(3), is_compiled=False)

    assert ours.lineage != rivers.lineage
    assert ours.is_compiled
    assert not rivers.is_compiled
    assert {COMPILED: ours.versions[COMPILED]} == fold.compiled(state.champion)
    assert {} == fold.compiled(None) == make_fold_of(rivers).compiled(of_river.champion)


def make_fold_of(definition: Branch) -> Fold:
    fold = make_fold()
    fold.begin_branch(definition)
    return fold


def test_one_learner_folds_both_but_no_kernels_of_another_version() -> None:
    ours, rivers = branch(), branch(is_compiled=False)
    later = replace(ours, versions={**ours.versions, COMPILED: "later"})

    assert has_same_learner(ours, rivers)
    assert not has_same_learner(ours, later)


def test_it_learns_what_river_learns_and_is_judged_alike() -> None:
    blocks = [block(40), block(0, 2), block(25, 3)]
    _, ours = folded(*blocks)
    _, rivers = folded(*blocks, is_compiled=False)

    assert 65 == ours.champion.learned == rivers.champion.learned
    assert ours.quality.dump() == rivers.quality.dump()
    for row in NUMBERS.rows(blocks[0].examples.x)[:9]:
        one, other = (score(state.champion.model, [row], BINARY).served for state in (ours, rivers))
        assert other.proba[0, 0] == pytest.approx(one.proba[0, 0], rel=1e-12)
        assert other.y_pred[0] == one.y_pred[0]


def test_slices_and_restores_leave_no_trace() -> None:
    fold, straight = folded(block(30))
    sliced = begun(fold, branch())
    (_, claim, first), (offset, record, digest) = make_log(make_claim(), block(30))
    fold.open(sliced, 0, claim, first)
    fold.open(sliced, offset, record, digest)

    for start in range(0, 30, 7):
        fold.learn(sliced, record, offset, start, min(30, start + 7))
        sliced = fold.restore(fold.parts(sliced))
    fold.open(sliced, offset, record, digest)
    fold.close(sliced, offset)

    assert fold.digest(straight) == fold.digest(sliced)


def test_rows_asked_one_by_one_and_as_a_matrix_are_answered_alike() -> None:
    asked = block(9).examples.x
    _, state = folded(block(40))
    model = state.champion.model

    many, each = score_columns(model, NUMBERS, asked, BINARY), score(model, NUMBERS.rows(asked), BINARY)

    assert many.served.proba.tobytes() == each.served.proba.tobytes()
    assert [] == many.failed == each.failed


def test_an_example_that_cannot_be_learned_is_named_by_its_position_and_skipped_by_it() -> None:
    poisoned = block(20)
    poisoned.examples.x.numbers[13] = np.inf

    with pytest.raises(FoldError) as caught:
        folded(poisoned)
    _, state = folded(poisoned, notices=skipping(position_of(1, 13), position_of(1, 4), branch=branch()))

    assert position_of(1, 13) == caught.value.position
    assert branch().lineage == caught.value.branch
    assert (18, 2) == (state.champion.learned, state.champion.skipped)


def test_the_position_is_right_beside_examples_that_are_left_out() -> None:
    poisoned = block(20)
    poisoned.examples.kinds[3] = ERASED
    poisoned.examples.x.numbers[13] = np.inf

    with pytest.raises(FoldError) as caught:
        folded(poisoned)

    assert position_of(1, 13) == caught.value.position


def test_a_row_that_lacks_a_feature_cannot_be_learned() -> None:
    whole = block(5)
    absent = np.zeros((5, 3), np.bool_)
    absent[2, 1] = True
    lacking = replace(whole, examples=replace(whole.examples, x=replace(whole.examples.x, absent=absent)))

    with pytest.raises(FoldError) as caught:
        folded(lacking)

    assert position_of(1, 2) == caught.value.position


def test_a_row_that_is_no_row_of_the_contract_is_rejected_alone() -> None:
    _, state = folded(block(40))
    good = NUMBERS.rows(block(1).examples.x)[0]

    scores = score(state.champion.model, [good, {**good, "amount": "text"}, {}, good], BINARY)

    assert [1, 2] == [row for row, _ in scores.failed]
    assert [False, True, True, False] == np.isnan(scores.served.y_pred).tolist()
    assert [0] == [len(score(state.champion.model, [], BINARY).served.y_pred)]


def test_it_is_explained_as_the_river_model_that_it_stands_for() -> None:
    _, state = folded(block(40))
    x = NUMBERS.rows(block(1).examples.x)[0]

    found = explain(state.champion.model, x, BINARY)

    assert Method.WEIGHTS is found.method
    assert 3 == len(found.reasons)


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (FeatureSpec("colour", "category", most=9), "without a list of values"),
        (FeatureSpec("note", "text"), "without a list of values"),
        (FeatureSpec("amount", "number", missing="absent"), "may be absent"),
    ],
)
def test_only_complete_rows_of_numbers_are_a_matrix(feature: FeatureSpec, said: str) -> None:
    assert said in FeatureContract((feature,)).why_no_matrix
    assert "" == NUMBERS.why_no_matrix


MIXED = FeatureContract(
    (
        FeatureSpec("amount", "number"),
        FeatureSpec("colour", "category", values=("red", "", "blue"), other=True, missing="absent"),
    )
)


def test_categories_stand_as_the_numbers_of_their_values() -> None:
    rows = [{"amount": 1.0, "colour": value} for value in ("", "blue", "red", "other")] + [{"amount": 2.0}]

    assert "" == MIXED.why_no_matrix
    assert [0.0, 1.0, 2.0, 3.0, -1.0] == MIXED.matrix(MIXED.columns(rows))[:, 1].tolist()
    assert [0.0, 2.0] == MIXED.matrix(MIXED.columns([rows[0], rows[2]]))[:, 1].tolist()
    assert (0, 2) == MIXED.matrix(MIXED.columns([])).shape


def test_a_number_that_is_absent_is_none_in_a_matrix() -> None:
    contract = FeatureContract((FeatureSpec("a", "number", missing="absent"), FeatureSpec("b", "number")))

    assert np.isnan(contract.matrix(contract.columns([{"b": 1.0}]))).tolist() == [[True, False]]


def test_a_matrix_of_numbers_alone_is_the_column_itself() -> None:
    contract = FeatureContract((FeatureSpec("a", "number"), FeatureSpec("b", "number")))
    x = make_x([[1.0, 2.0], [3.0, 4.0]])

    assert contract.matrix(x) is x.numbers


def test_a_matrix_stands_in_the_order_of_names() -> None:
    x = NUMBERS.columns([{"amount": 0.5, "many": 7, "on": True}, {"amount": 1.5, "many": -2, "on": False}])

    assert [[0.5, 7.0, 1.0], [1.5, -2.0, 0.0]] == NUMBERS.matrix(x).tolist()
