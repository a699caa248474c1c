"""Why a model answered what it answered, in the terms of the model.

Linear models: weight × value of each input of the last step, which add up with the intercept to the model's raw
score; exact. Trees: the tests on the way to the leaf; exact. Any other model: what the answer would be without each
feature, one at a time (Robnik-Šikonja and Kononenko, 2008, section 3); a hint, since features that say the same hide
each other. Nothing here changes the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, Final

from river import base, compose, linear_model, tree
from river.tree.nodes.branch import DTBranch

from tailrace.domain.contract import TargetContract
from tailrace.domain.models.fused import as_river
from tailrace.domain.records import Features, Task
from tailrace.domain.scoring import last_step, score

REASONS_KEPT: Final = 20
"""Reasons that one explanation has, the strongest."""


class Method(StrEnum):
    """How the reasons of an explanation were found."""

    WEIGHTS = "weights"
    PATH = "path"
    OCCLUSION = "occlusion"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of an answer.

    Attributes:
        what: The input of the model, or the test on the way down a tree.
        effect: WEIGHTS: what it adds to the raw score. OCCLUSION: the answer minus the answer without it, of the
            probability of the served class or of the number. PATH: None.
    """

    what: str
    effect: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a model answered.

    Attributes:
        reasons: WEIGHTS and OCCLUSION: the strongest first. PATH: from the root down.
        base: WEIGHTS: what the answer is without any reason, mostly the intercept. Else None.
    """

    method: Method
    reasons: tuple[Reason, ...]
    base: float | None = None


def explain(model: Any, x: Features, target: TargetContract) -> Explanation:
    """Explain the answer of a model to one row."""
    model = as_river(model)
    head = last_step(model)
    if isinstance(head, linear_model.base.GLM):
        return _by_weights(head, _before_last(model, x))
    if isinstance(head, tree.HoeffdingTreeClassifier | tree.HoeffdingTreeRegressor):
        return Explanation(Method.PATH, tuple(_path(head, _before_last(model, x))))
    return Explanation(Method.OCCLUSION, _by_occlusion(model, x, target))


def _by_weights(head: Any, x: Mapping[str, Any]) -> Explanation:
    weights = head.weights
    found = [Reason(str(name), weights.get(name, 0.0) * value) for name, value in x.items() if weights.get(name)]
    # A one-class model's score is the sum without its intercept.
    base_score = 0.0 if isinstance(head, base.AnomalyDetector) else float(head.intercept)
    return Explanation(Method.WEIGHTS, _strongest(found), base_score)


def _path(head: Any, x: Mapping[str, Any]) -> Iterator[Reason]:
    node = head._root  # noqa: SLF001 - River has no public name for it
    while isinstance(node, DTBranch):
        try:
            index = node.branch_no(x)  # type: ignore[no-untyped-call]
            node, test = node.children[index], node.repr_branch(index)
        except KeyError:
            index, child = node.most_common_path()
            test = f"{node.repr_branch(index)} (absent: the way that most examples took)"
            node = child
        yield Reason(test)


def _by_occlusion(model: Any, x: Features, target: TargetContract) -> tuple[Reason, ...]:
    answer = _answer_of(model, target)
    whole, place = answer(x, None)
    found = []
    for name in x:
        without, _ = answer({other: value for other, value in x.items() if other != name}, place)
        if whole is not None and without is not None:
            found.append(Reason(name, whole - without))
    return _strongest(found)


def _answer_of(model: Any, target: TargetContract) -> Callable[[Features, int | None], tuple[float | None, int | None]]:
    """Return what asks a model: the probability of a class, of the served one where none is given, or the number."""

    def answer(x: Features, place: int | None) -> tuple[float | None, int | None]:
        served = score(model, [x], target).served
        y_pred = float(served.y_pred[0])
        if not isfinite(y_pred):
            return None, place
        if not served.proba.shape[1]:
            return y_pred, None
        place = int(y_pred) if place is None else place
        if target.task is Task.BINARY:
            proba = float(served.proba[0, 0])
            return (proba if place else 1.0 - proba), place
        return float(served.proba[0, place]), place

    return answer


def _before_last(model: Any, x: Features) -> Mapping[str, Any]:
    """Return what the steps before the last one make of a row, without learning from it."""
    found: Any = x
    while isinstance(model, compose.Pipeline):
        *before, model = model.steps.values()
        for step in before:
            if isinstance(step, base.Transformer):
                found = step.transform_one(found)
    return dict(found)


def _strongest(reasons: list[Reason]) -> tuple[Reason, ...]:
    ordered = sorted(reasons, key=lambda reason: (-abs(reason.effect or 0.0), reason.what))
    return tuple(ordered[:REASONS_KEPT])
