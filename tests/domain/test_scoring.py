"""What a model's answers mean, and that a model that raises disturbs no other row."""

from __future__ import annotations

import math
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import base, compose, dummy, linear_model, multiclass, preprocessing, tree

from tailrace.domain.blocks import XColumns
from tailrace.domain.categories import CategoriesState
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.features import FeatureSpec
from tailrace.domain.records import Code, Features, Rejection, Stage, Task
from tailrace.domain.scoring import last_step, score, score_columns

BINARY = TargetContract(Task.BINARY)
COLOURS = TargetContract(Task.MULTICLASS, classes=("red", "green", "blue"))
NUMBER = TargetContract(Task.REGRESSION)
SCORE = TargetContract(Task.ANOMALY)


class Panic(BaseException):
    """Like the panics of River's compiled parts: no Exception."""


class Answering(base.Classifier):
    """Answers what the row says under "answer", or raises it."""

    def learn_one(self, x: Any, y: Any) -> None:
        """Learn nothing."""

    def predict_proba_one(self, x: Any, **_kwargs: Any) -> Any:
        if isinstance(x["answer"], BaseException):
            raise x["answer"]
        return x["answer"]


class Naming(Answering):
    """Names a class of its own beside the probabilities."""

    def predict_one(self, x: Any, **_kwargs: Any) -> Any:
        return x["class"]


class OnlyNaming(base.Classifier):
    """Knows no probabilities."""

    def learn_one(self, x: Any, y: Any) -> None:
        """Learn nothing."""

    def predict_one(self, x: Any, **_kwargs: Any) -> Any:
        return x["class"]


class Numbering(base.Regressor):
    """Answers what the row says."""

    def learn_one(self, x: Any, y: Any) -> None:
        """Learn nothing."""

    def predict_one(self, x: Any) -> Any:
        return x["answer"]


class Detecting(base.AnomalyDetector):
    """Gives the score that the row says."""

    def learn_one(self, x: Any) -> None:
        """Learn nothing."""

    def score_one(self, x: Any) -> Any:
        return x["answer"]


def answers(*given: Any, key: str = "answer") -> list[Features]:
    return [{key: answer} for answer in given]


def served(model: Any, rows: list[Features], target: TargetContract) -> tuple[list[Any], list[Any]]:
    """Return y_pred and proba with None for NaN, so that they can be compared."""
    found = score(model, rows, target).served
    plain = [None if math.isnan(y) else y for y in found.y_pred.tolist()]
    return plain, [[None if math.isnan(p) else p for p in row] for row in found.proba.tolist()]


def test_the_probability_of_true_and_the_likelier_class_are_served() -> None:
    y_pred, proba = served(Answering(), answers({False: 0.3, True: 0.7}, {True: 0.2, False: 0.8}), BINARY)

    assert [1.0, 0.0] == y_pred
    assert [[0.7], [0.2]] == proba


def test_a_tie_goes_to_the_class_that_the_model_names_first() -> None:
    """As in River's predict_one."""
    rows = answers({False: 0.5, True: 0.5}, {True: 0.5, False: 0.5})

    assert [0.0, 1.0] == served(Answering(), rows, BINARY)[0]
    assert [Answering().predict_one(x) for x in rows] == [False, True]


def test_true_has_probability_zero_where_the_answer_does_not_name_it() -> None:
    assert ([0.0], [[0.0]]) == served(Answering(), answers({False: 1.0}), BINARY)


@pytest.mark.parametrize("answer", [{}, None, {True: math.nan, False: 0.5}, {True: math.inf}, {"other": 1.0}])
def test_a_model_without_a_usable_answer_abstains(answer: Any) -> None:
    found = score(Answering(), answers(answer), BINARY)

    assert [] == found.failed
    assert np.isnan(found.served.y_pred).all()
    assert np.isnan(found.served.proba).all()


def test_a_class_that_the_contract_does_not_know_is_ignored() -> None:
    assert ([1.0], [[0.2]]) == served(Answering(), answers({"other": 0.7, True: 0.2, False: 0.1}), BINARY)
    y_pred, proba = served(Answering(), answers({"other": 0.7, "blue": 0.2, "red": 0.1}), COLOURS)
    assert ([2.0], [[0.1, None, 0.2]]) == (y_pred, proba)


def test_every_named_class_has_its_probability_and_the_others_have_none() -> None:
    y_pred, proba = served(Answering(), answers({"green": 0.6, "red": 0.4}, {}), COLOURS)

    assert [1.0, None] == y_pred
    assert [[0.4, 0.6, None], [None, None, None]] == proba


def test_the_class_is_the_models_own_where_it_names_one() -> None:
    """Some models do not serve the likeliest class."""
    rows: list[Features] = [{"answer": {False: 0.9, True: 0.1}, "class": True}]  # type: ignore[dict-item]
    colours: list[Features] = [{"answer": {"red": 0.9, "blue": 0.1}, "class": "blue"}]  # type: ignore[dict-item]

    assert ([1.0], [[0.1]]) == served(Naming(), rows, BINARY)
    assert ([2.0], [[0.9, None, 0.1]]) == served(Naming(), colours, COLOURS)


def test_a_model_that_names_a_class_and_has_no_usable_probabilities_abstains() -> None:
    rows: list[Features] = [{"answer": {}, "class": True}, {"answer": {True: math.nan}, "class": True}]  # type: ignore[dict-item]

    assert ([None, None], [[None], [None]]) == served(Naming(), rows, BINARY)


def test_a_model_of_numbers_that_raises_is_rejected_alone() -> None:
    found = score(Numbering(), [*answers(1.0), {}, *answers(2.0)], NUMBER)

    assert [1] == [row for row, _ in found.failed]
    assert [1.0, 2.0] == found.served.y_pred[[0, 2]].tolist()


def test_a_model_without_probabilities_serves_its_class_alone() -> None:
    assert ([1.0, 0.0], [[None], [None]]) == served(OnlyNaming(), answers(True, False, key="class"), BINARY)
    y_pred, proba = served(OnlyNaming(), answers("blue", None, "other", key="class"), COLOURS)
    assert ([2.0, None, None], [[None] * 3] * 3) == (y_pred, proba)


def test_numbers_are_served_as_they_are_and_infinite_ones_are_not() -> None:
    y_pred, proba = served(Numbering(), answers(1.5, -2, math.inf, math.nan, None), NUMBER)

    assert [1.5, -2.0, None, None, None] == y_pred
    assert [[]] * 5 == proba


def test_a_detector_is_asked_for_its_score() -> None:
    y_pred, proba = served(Detecting(), answers(0, 0.75, -3.5, math.nan, math.inf), SCORE)

    assert [0.0, 0.75, -3.5, None, None] == y_pred
    assert [[]] * 5 == proba


def test_a_detector_that_raises_rejects_that_row_alone() -> None:
    found = score(Detecting(), [*answers(1.0), {}, *answers(2.0)], SCORE)

    assert [1] == [row for row, _ in found.failed]
    assert [1.0, 2.0] == found.served.y_pred[[0, 2]].tolist()


@pytest.mark.parametrize("target", [BINARY, COLOURS])
@pytest.mark.parametrize("error", [ValueError("secret"), Panic("secret"), CancelledError("secret")])
def test_a_row_at_which_the_model_raises_is_rejected_alone(target: TargetContract, error: BaseException) -> None:
    """Its neighbours are served; what the model said is not repeated, it may hold features."""
    sure: dict[Any, float] = {target.river(1.0): 1.0}

    found = score(Answering(), answers(sure, error, sure), target)

    detail = f"the model raised {type(error).__name__} while it predicted; it must answer every row that the contract accepts"
    assert [(1, Rejection(Code.MODEL_FAILED, Stage.PREDICT, detail))] == found.failed
    assert [False, True, False] == np.isnan(found.served.y_pred).tolist()
    assert (3, target.width) == found.served.proba.shape


@pytest.mark.parametrize("target", [BINARY, COLOURS])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_ends_the_process_passes_through(target: TargetContract, stop: BaseException) -> None:
    with pytest.raises(type(stop)):
        score(Answering(), answers(stop), target)


@pytest.mark.parametrize("target", [BINARY, COLOURS, NUMBER])
def test_no_rows_make_empty_columns(target: TargetContract) -> None:
    found = score(Numbering() if target is NUMBER else Answering(), [], target)

    assert ((0,), (0, target.width)) == (found.served.y_pred.shape, found.served.proba.shape)


def test_a_pipeline_counts_as_its_last_step() -> None:
    inner = tree.HoeffdingTreeClassifier()

    assert inner is last_step(inner)
    assert inner is last_step(preprocessing.StandardScaler() | inner)
    assert inner is last_step(compose.Pipeline(preprocessing.StandardScaler(), compose.Pipeline(inner)))


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(), BINARY),
        (
            lambda: preprocessing.StandardScaler() | multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
            COLOURS,
        ),
        (dummy.NoChangeClassifier, BINARY),
        (lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(), NUMBER),
    ],
)
def test_river_models_serve_what_their_predict_one_says(model: Callable[[], Any], target: TargetContract) -> None:
    learner = model()
    rows: list[Features] = [{"a": float(i % 7), "b": float(i % 5)} for i in range(60)]
    for i, x in enumerate(rows):
        learner.learn_one(x, target.river(float(i % 2)))

    y_pred = score(learner, rows, target).served.y_pred.tolist()

    assert [target.show(y) for y in y_pred] == [learner.predict_one(x) for x in rows]


def test_a_model_is_asked_about_open_categories_as_it_knows_them() -> None:
    categories = CategoriesState({"answer": 1})
    categories.learn({"answer": "known"})
    rows: list[Features] = [{"answer": "known"}, {"answer": "new"}]
    seen = []

    class Seeing(Numbering):
        def predict_one(self, x: Any) -> Any:
            seen.append(x["answer"])
            return 1.0

    score(Seeing(), rows, NUMBER, categories)

    assert ["known", "other"] == seen
    assert [{"answer": "known"}, {"answer": "new"}] == rows


NUMBERS = FeatureContract((FeatureSpec("a", "number"), FeatureSpec("b", "number", missing="absent")))
MIXED = FeatureContract((FeatureSpec("a", "number"), FeatureSpec("b", "integer")))


def asked(contract: FeatureContract, count: int, *, lacking: bool = False) -> XColumns:
    rng = np.random.default_rng(4)
    rows: list[Features] = [
        {"a": float(a), "b": int(b)} for a, b in zip(rng.normal(size=count), range(count), strict=True)
    ]
    if contract is NUMBERS:
        rows = [{"a": row["a"], "b": float(row["b"])} for row in rows]
    if lacking:
        del rows[0]["b"]
    return contract.columns(rows)


@pytest.mark.parametrize(
    ("contract", "lacking"), [(NUMBERS, False), (NUMBERS, True), (MIXED, False)], ids=["numbers", "absent", "integers"]
)
@pytest.mark.parametrize(
    ("target", "final"),
    [
        (BINARY, linear_model.LogisticRegression()),
        (NUMBER, linear_model.LinearRegression()),
        (BINARY, linear_model.PAClassifier()),
        (BINARY, tree.HoeffdingTreeClassifier(grace_period=10)),
    ],
    ids=["logistic", "linear", "passive-aggressive", "tree"],
)
def test_columns_are_answered_as_their_rows(
    contract: FeatureContract, lacking: bool, target: TargetContract, final: Any
) -> None:
    model = preprocessing.StandardScaler() | final.clone()
    for number, x in enumerate(contract.rows(asked(contract, 30))):
        model.learn_one(x, number % 3 == 0)
    x = asked(contract, 50, lacking=lacking)

    at_once, each = score_columns(model, contract, x, target), score(model, contract.rows(x), target)

    np.testing.assert_array_equal(at_once.served.y_pred, each.served.y_pred, strict=True)
    np.testing.assert_array_equal(at_once.served.proba, each.served.proba, strict=True)
    assert at_once.failed == each.failed == []


def test_a_half_is_false_and_no_number_says_nothing() -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for x in contract_rows(NUMBERS, [(1.0, 2.0), (2.0, 4.0)]):
        model.learn_one(x, True)
    model["LogisticRegression"].intercept = 0.0
    model["LogisticRegression"]._weights.update({"a": 0.0, "b": 0.0})
    half = NUMBERS.columns(contract_rows(NUMBERS, [(1.0, 2.0)]))
    model_of_none = preprocessing.StandardScaler() | linear_model.LinearRegression()
    model_of_none.learn_one({"a": 1.0, "b": 2.0}, 1.0)
    model_of_none["LinearRegression"].intercept = math.inf

    scores = score_columns(model, NUMBERS, half, BINARY)
    nothing = score_columns(model_of_none, NUMBERS, half, NUMBER)

    assert (scores.served.y_pred.tolist(), scores.served.proba.tolist()) == ([0.0], [[0.5]])
    assert math.isnan(nothing.served.y_pred[0])


def contract_rows(contract: FeatureContract, rows: list[tuple[float, ...]]) -> list[Features]:
    return [dict(zip(contract.names, row, strict=True)) for row in rows]
