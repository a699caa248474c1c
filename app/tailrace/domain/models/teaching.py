"""How a model is taught one example: detectors learn x alone, whatever the label says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from river import base, compose

from tailrace.domain.records import Features

Teacher: TypeAlias = Callable[[Features, Any], Any]
"""Takes x and the target as River models take it."""


def teacher_of(model: Any) -> Teacher:
    """Return what teaches `model` one example; good until the model is replaced."""
    learn_one: Callable[..., Any] = model.learn_one
    if not is_detector(model):
        return learn_one

    def learn_x(x: Features, _y: Any) -> None:
        learn_one(x)

    return learn_x


def is_detector(model: object) -> bool:
    """Tell whether `model`, or the last step of a pipeline, is an anomaly detector that learns without targets."""
    while isinstance(model, compose.Pipeline):
        model = next(reversed(model.steps.values()))
    return isinstance(model, base.AnomalyDetector) and not isinstance(model, base.Classifier | base.Regressor)
