"""Scoring: a model's answers to rows of features, as the columns that are served and recorded.

Decides what an answer means: which class it names, when a model abstains, when a row is rejected. Leaves to others
which model is asked and where the answers go. Never changes the model.

The served class is the one that River's `predict_one` gives: where two classes tie, the one the model names first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from river import base, compose

from tailrace.domain.blocks import Floats, Served, XColumns
from tailrace.domain.categories import CategoriesState
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.errors import is_stop
from tailrace.domain.models.fused import FusedModel
from tailrace.domain.models.shortcuts import answers_of
from tailrace.domain.records import Code, Features, Rejection, Stage, Task

ClassName: TypeAlias = bool | str | int | float
Answer: TypeAlias = dict[ClassName, float]
Row: TypeAlias = tuple[float, Sequence[float]]
"""y_pred and proba of one row."""


NO_CATEGORIES: Final = CategoriesState()
"""Of a contract without open categories."""


class Model(Protocol):
    """What is asked of a River model here; classifiers are asked for `predict_proba_one`, detectors for `score_one`."""

    def predict_one(self, x: Features) -> Any:
        """Return the class or number that the model predicts."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What was answered to n rows.

    Attributes:
        served: n rows; those that failed or abstained hold NaN.
        failed: (row, rejection) of every row at which the model raised, in row order.
    """

    served: Served
    failed: list[tuple[int, Rejection]]


def score(
    model: Model, rows: Sequence[Features], target: TargetContract, categories: CategoriesState = NO_CATEGORIES
) -> Scores:
    """Ask the model about every row.

    A row at which the model raises is rejected; the rows beside it are not disturbed.

    Args:
        model: Fits the target's task: a River classifier, regressor or anomaly detector; a pipeline counts as its
            last step.
        rows: Features in sorted name order, typed by the contract; not changed.
        categories: What the model knows of open categories; the rest it sees as "other".
    """
    if isinstance(model, FusedModel):
        return _score_compiled(model, rows)
    rows = categories.view_rows(rows)
    if target.task.answers_numbers:
        return _score_numbers(_asked_for_numbers(model, target.task), rows)
    answering = _Answering(model, target)
    if answering.predict_one is None:
        return _score_by_proba(answering, rows)
    return _scores(answering.ask, rows, (nan, (nan,) * target.width))


def score_columns(
    model: Model,
    contract: FeatureContract,
    x: XColumns,
    target: TargetContract,
    categories: CategoriesState = NO_CATEGORIES,
) -> Scores:
    """Ask the model about accepted events: the same as `score` of their rows, all at once where the model allows it.

    Args:
        x: As `contract` reads them.
    """
    if isinstance(model, FusedModel):
        return _score_matrix(model, contract.matrix(x))
    if contract.only_numbers and x.absent is None:
        answers = answers_of(model, contract.names, x.numbers)
        if answers is not None:
            return _of_answers(np.array(answers, np.float64), target)
    return score(model, contract.rows(x), target, categories)


def _of_answers(answers: Floats, target: TargetContract) -> Scores:
    """Say what a linear model's answers mean: probabilities of True, or numbers."""
    known = np.isfinite(answers)
    if target.task.answers_numbers:
        return Scores(Served(np.where(known, answers, nan), np.empty((len(answers), 0))), [])
    # As River does it: at a half, the class that is named first is False.
    y_pred = np.where(known, answers > 1.0 - answers, nan)
    return Scores(Served(y_pred, np.where(known, answers, nan).reshape(-1, 1)), [])


def _score_matrix(model: FusedModel, x: Floats) -> Scores:
    """Ask a compiled model about rows of numbers (`FeatureContract.matrix`); it raises at none of them."""
    answers = model.answer_many(x)
    return Scores(Served(answers.y_pred, answers.proba), [])


def _score_compiled(model: FusedModel, rows: Sequence[Features]) -> Scores:
    matrices: list[Floats] = []
    failed: list[tuple[int, Rejection]] = []
    for row, x in enumerate(rows):
        try:
            matrices.append(model.matrix_of([x]))
        except (KeyError, TypeError, ValueError) as error:
            failed.append((row, _rejected(error)))
            matrices.append(np.full((1, len(model.plan.features)), nan))
    served = _score_matrix(model, np.concatenate([model.matrix_of([]), *matrices])).served
    missed = [row for row, _ in failed]
    served.y_pred[missed], served.proba[missed] = nan, nan
    return Scores(served, failed)


class _Answering:
    """How one classifier is asked, found out once per call.

    Attributes:
        predict_one: None where the class follows from the probabilities, as River's classifiers have it by default.
        predict_proba: None where the model knows no probabilities.
        index: Class → its y_pred.
        columns: The classes whose probabilities are served, in order.
        unnamed: The probability of a class that the answer does not name.
    """

    def __init__(self, model: Any, target: TargetContract) -> None:
        last = type(last_step(model))
        own_class = getattr(last, "predict_one", None) is not base.Classifier.predict_one
        has_proba = getattr(last, "predict_proba_one", None) not in (None, base.Classifier.predict_proba_one)
        self.predict_one: Callable[[Features], Any] | None = model.predict_one if own_class or not has_proba else None
        self.predict_proba: Callable[[Features], Any] | None = model.predict_proba_one if has_proba else None
        binary = target.task is Task.BINARY
        self.columns: tuple[Any, ...] = (True,) if binary else target.classes
        self.unnamed = 0.0 if binary else nan
        self.index = {target.river(float(i)): float(i) for i in range(2 if binary else len(target.classes))}

    def known(self, answer: Answer) -> Answer:
        """Return the part of an answer that names classes of the contract."""
        return {name: p for name, p in answer.items() if name in self.index}

    def ask(self, x: Features) -> Row:
        """Return the class that the model names itself, and its probabilities where it knows any."""
        assert self.predict_one is not None
        width = len(self.columns)
        proba: Sequence[float] = (nan,) * width
        if self.predict_proba:
            answer = self.predict_proba(x)
            if not answer or not isfinite(sum(answer.values())):
                return nan, proba
            proba = [answer.get(name, self.unnamed) for name in self.columns]
        y_pred = self.index.get(self.predict_one(x))
        return (nan, (nan,) * width) if y_pred is None else (y_pred, proba)


def last_step(model: Any) -> Any:
    """Return the step of a pipeline that answers; a model that is no pipeline is its own."""
    while isinstance(model, compose.Pipeline):
        model = list(model.steps.values())[-1]
    return model


def _score_by_proba(answering: _Answering, rows: Sequence[Features]) -> Scores:
    # The way that nearly every classifier takes, once per event: no call per row but the model's own.
    predict, index, columns = answering.predict_proba, answering.index, answering.columns
    assert predict is not None
    unnamed = answering.unnamed
    y_pred: list[float] = []
    answers: list[Answer | None] = []
    failed: list[tuple[int, Rejection]] = []
    for x in rows:
        try:
            answer: Any = predict(x)
            if answer and isfinite(sum(answer.values())):
                best = max(answer, key=answer.get)
                if best not in index:
                    answer = answering.known(answer)
                    best = max(answer, key=answer.get, default=None)
            else:
                answer = best = None
        except BaseException as error:  # noqa: BLE001 - River's panics are no Exceptions; stops pass through
            failed.append((len(y_pred), _rejected(error)))
            answer = best = None
        y_pred.append(index.get(best, nan))
        answers.append(answer)
    proba = [answer.get(name, unnamed) if answer else nan for answer in answers for name in columns]
    shape = len(rows), len(columns)
    return Scores(Served(np.array(y_pred, np.float64), np.array(proba, np.float64).reshape(shape)), failed)


def _asked_for_numbers(model: Any, task: Task) -> Callable[[Features], Any]:
    ask: Callable[[Features], Any] = model.score_one if task is Task.ANOMALY else model.predict_one
    return ask


def _score_numbers(predict: Callable[[Features], Any], rows: Sequence[Features]) -> Scores:
    def ask(x: Features) -> Row:
        answer = predict(x)
        return (float(answer) if answer is not None and isfinite(answer) else nan), ()

    return _scores(ask, rows, (nan, ()))


def _scores(ask: Callable[[Features], Row], rows: Iterable[Features], nothing: Row) -> Scores:
    answers: list[Row] = []
    failed: list[tuple[int, Rejection]] = []
    for x in rows:
        try:
            answers.append(ask(x))
        except BaseException as error:  # noqa: BLE001 - River's panics are no Exceptions; stops pass through
            failed.append((len(answers), _rejected(error)))
            answers.append(nothing)
    y_pred = np.array([row[0] for row in answers], np.float64)
    proba = np.array([row[1] for row in answers], np.float64).reshape(len(answers), len(nothing[1]))
    return Scores(Served(y_pred, proba), failed)


def _rejected(error: BaseException) -> Rejection:
    """Name what the model raised; its message may hold feature values and is left out.

    Raises:
        BaseException: `error` itself, where it is a stop and not the model's answer.
    """
    if is_stop(error):
        raise error
    name = type(error).__name__
    detail = f"the model raised {name} while it predicted; it must answer every row that the contract accepts"
    return Rejection(Code.MODEL_FAILED, Stage.PREDICT, detail)
