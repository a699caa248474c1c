"""A branch is asked about every example as of the state that served it, and judged beside what was served."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from river import anomaly, linear_model, metrics
from tests.builders import make_corrections
from tests.log_builders import (
    BRANCH,
    begun,
    make_block,
    make_branch,
    make_claim,
    make_examples,
    make_fold,
    make_log,
    make_model,
)

from tailrace.domain.blocks import Examples, Served
from tailrace.domain.branches import Branch, Filter
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.learning import Fold
from tailrace.domain.notices import CorrectedTargets, Logged, Notices
from tailrace.domain.positions import position_of
from tailrace.domain.records import Task
from tailrace.domain.rehearsal import Comparison, Rehearsal


def served_at(examples: Examples, *positions: int) -> Examples:
    return replace(examples, state_positions=np.array(positions, np.int64))


def rehearsed(
    log: list[Logged],
    branch: Branch = BRANCH,
    fold: Fold | None = None,
    notices: Notices | None = None,
    at_most: int = 100,
    again: int = 0,
) -> Comparison:
    """Fold a log with a rehearsal of its blocks; `again`: as many records are folded twice, as after an error."""
    fold = fold or make_fold()
    rehearsal = Rehearsal(fold, branch)
    for record in reversed(log):
        if not hasattr(record.record, "after"):
            rehearsal.note(record.offset, record.record, at_most - rehearsal.noted)
    for part in (log[:again], log):
        state = begun(fold, branch)
        for record in part:
            rehearsal.fold(state, record, notices or Notices())
    return rehearsal.comparison()


def bare(examples: list[tuple[dict[str, float], float]]) -> object:
    model = make_model()
    for x, y in examples:
        model.learn_one(x, bool(y))
    return model


def test_an_example_is_answered_by_what_the_branch_had_learned_when_it_was_served() -> None:
    """
    Given a block whose second half was served in the middle of the first block, the answers are those of a bare model
    after three examples, and the first half's those of one that knows nothing: never those of a later state.
    """
    one = served_at(make_examples(6, 1), *[0] * 6)
    two = served_at(make_examples(4, 2), 0, 0, position_of(1, 3), position_of(1, 3))
    log = make_log(make_claim(), make_block(one), make_block(two, number=2))
    fold = make_fold()
    rows = {id(each): fold.contract.rows(each.x) for each in (one, two)}
    knows_three = bare(list(zip(rows[id(one)][:3], one.y[:3].tolist(), strict=True)))
    metric, judged = metrics.LogLoss(), []
    for examples, models in ((one, [make_model()] * 6), (two, [make_model()] * 2 + [knows_three] * 2)):
        for x, y, model in zip(rows[id(examples)], examples.y.tolist(), models, strict=True):
            judged.append(model.predict_proba_one(x))
            metric.update(bool(y), judged[-1])

    found = rehearsed(log, fold=fold)

    assert 10 == found.examples
    assert metric.get() == found.branch["log_loss"]


def test_an_example_is_answered_before_it_is_learned_whatever_state_it_names() -> None:
    """
    A row may name a state that lies behind its own block: one of a log that was since made again. Asked as of that
    state, the branch would have learned the example by then.
    """
    log = make_log(make_claim(), make_block(served_at(make_examples(6, 1), *[position_of(9)] * 6)))
    rows = make_fold().contract.rows(log[1].record.examples.x)
    metric = metrics.LogLoss()
    for x, y in zip(rows, log[1].record.examples.y.tolist(), strict=True):
        metric.update(bool(y), make_model().predict_proba_one(x))

    found = rehearsed(log)

    assert (6, metric.get()) == (found.examples, found.branch["log_loss"])


def test_what_was_served_is_judged_as_the_fold_judges_it() -> None:
    log = make_log(make_claim(), make_block(make_examples(20, 1)))
    fold = make_fold()
    state = begun(fold)
    fold.fold(state, log)

    found = rehearsed(log)

    assert {f.metric: f.value for f in state.quality.figures() if f.window == "all"} == found.served


def test_a_branch_that_answers_what_was_served_differs_in_nothing() -> None:
    blank = make_model()
    examples = make_examples(5, 1)
    answers = [blank.predict_proba_one(x)[True] for x in make_fold().contract.rows(examples.x)]
    served = Served(np.array([0.0] * 5), np.array(answers).reshape(-1, 1))

    found = rehearsed(make_log(make_claim(), make_block(replace(examples, served=served))))

    assert (0, 0.0) == (found.differing, found.difference)
    assert found.served == found.branch


def test_only_the_last_examples_are_asked_about() -> None:
    log = make_log(make_claim(), make_block(make_examples(6, 1)), make_block(make_examples(4, 2), number=2))

    assert 7 == rehearsed(log, at_most=7).examples
    assert 3 == rehearsed(log, at_most=3).examples


def test_blocks_that_do_not_count_and_examples_of_other_features_are_not_judged() -> None:
    log = make_log(
        make_claim(),
        make_block(make_examples(3, 1)),
        make_block(make_examples(4, 2), number=2, contract_id="older"),
        make_block(make_examples(5, 3), number=9),
        make_block(number=3, examples=make_examples(0)),
    )

    assert 3 == rehearsed(log).examples


def test_examples_that_the_branch_leaves_out_are_not_judged_and_corrected_ones_by_their_correction() -> None:
    """A source that is dropped because it lies is no judge either."""
    examples = replace(make_examples(4, 1, ys=[0.0] * 4, probabilities=[0.9] * 4), sources=["crowd", "", "", ""])
    said = make_corrections(("1-1", 1, 1.0), ("1-2", 2, None))
    log = make_log(make_claim(), make_block(examples, corrections=said))
    targets = CorrectedTargets(position_of(2))
    for offset, record, _ in log:
        targets.read(offset, record)
    branch = make_branch(filter=Filter(position_of(2), ("crowd",)))

    found = rehearsed(log, branch, notices=Notices(corrections=targets.found))

    assert 2 == found.examples
    assert 0.5 == found.served["accuracy"]


def test_a_stretch_that_is_folded_again_is_answered_and_judged_once() -> None:
    log = make_log(make_claim(), make_block(make_examples(6, 1)), make_block(make_examples(4, 2), number=2))

    assert rehearsed(log) == rehearsed(log, again=2)


def test_an_answer_that_is_missing_on_one_side_differs() -> None:
    served = Served(np.array([math.nan, 0.0]), np.array([[math.nan], [0.5]]))
    log = make_log(make_claim(), make_block(replace(make_examples(2, 1), served=served)))

    found = rehearsed(log)

    assert (2, 1, 0.0) == (found.examples, found.differing, found.difference)


def test_numbers_are_compared_by_their_distance() -> None:
    target = TargetContract(Task.REGRESSION)
    fold = make_fold(linear_model.LinearRegression, target)
    served = Served(np.array([2.0, 4.0]), np.zeros((2, 0)))
    examples = replace(make_examples(2, 1, ys=[3.0, 3.0]), served=served)

    found = rehearsed(make_log(make_claim(), make_block(examples)), fold=fold)

    assert (2, 3.0) == (found.differing, found.difference)
    assert {"mae": 1.0, "rmse": 1.0} == found.served
    assert (
        "of 2 examples off by 3 on average, what served off by 1 on average; 2 answers would differ" == found.in_words()
    )


def test_scores_are_compared_by_their_distance_and_judged_by_their_order() -> None:
    fold = make_fold(lambda: anomaly.HalfSpaceTrees(seed=1), TargetContract(Task.ANOMALY))
    served = Served(np.array([0.25, 0.75]), np.zeros((2, 0)))
    examples = replace(make_examples(2, 1, ys=[0.0, 1.0]), served=served)

    found = rehearsed(make_log(make_claim(), make_block(examples)), fold=fold)

    assert (2, 2, 0.5) == (found.examples, found.differing, found.difference)
    assert (
        "of 2 examples a ROC AUC of 0.500, what served a ROC AUC of 1.000; 2 answers would differ" == found.in_words()
    )


@pytest.mark.parametrize(
    ("served", "branch", "words"),
    [
        (0.832, 0.841, "of 10,000 examples 84.1 % right, what served 83.2 % right; 312 answers would differ"),
        (None, 0.5, "of 10,000 examples 50.0 % right, what served nothing to judge; 312 answers would differ"),
    ],
)
def test_a_comparison_is_told_in_one_sentence(served: float | None, branch: float | None, words: str) -> None:
    found = Comparison(Task.BINARY, 10_000, {"accuracy": served}, {"accuracy": branch}, 312, 0.1)

    assert words == found.in_words()
    assert "of 1 example " in replace(found, examples=1).in_words()


def test_without_examples_there_is_nothing_to_compare() -> None:
    found = rehearsed(make_log(make_claim()))

    assert (0, None) == (found.examples, found.difference)
    assert "no example of the log could be compared" == found.in_words()


def test_open_categories_are_seen_as_the_branch_knew_them() -> None:
    """Of a category with room for one value the second is "other", to the answer as to what is learned."""
    contract = FeatureContract((FeatureSpec("country", "category", most=1),))
    seen: list[str] = []

    class Seeing(linear_model.LinearRegression):
        def learn_one(self, x: dict[str, str], y: float) -> None:
            pass

        def predict_one(self, x: dict[str, str]) -> float:
            seen.append(x["country"])
            return 0.0

    fold = make_fold(Seeing, TargetContract(Task.REGRESSION), contract=contract)
    one, two = (
        replace(
            make_examples(1, seed),
            x=contract.columns([{"country": country}]),
            served=Served(np.zeros(1), np.zeros((1, 0))),
            state_positions=np.array([served], np.int64),
        )
        for seed, country, served in ((1, "de", 0), (2, "fr", position_of(2)))
    )
    blocks = (make_block(one, contract_id=contract.id), make_block(two, number=2, contract_id=contract.id))

    rehearsed(make_log(make_claim(), *blocks), fold=fold)

    assert ["de", "other"] == seen
