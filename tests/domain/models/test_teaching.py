"""A detector is shown x alone, every other model the target too."""

from __future__ import annotations

from typing import Any

import pytest
from river import anomaly, base, compose, linear_model, preprocessing, tree

from tailrace.domain.models.teaching import is_detector, teacher_of


class Both(base.AnomalyDetector, base.Classifier):
    """Scores, and learns by targets."""

    def __init__(self) -> None:
        self.learned: list[Any] = []

    def learn_one(self, _x: Any, y: Any) -> None:
        self.learned.append(y)

    def score_one(self, _x: Any) -> float:
        return 0.0


class Detecting(base.AnomalyDetector):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        self.learned: list[Any] = []

    def learn_one(self, x: Any) -> None:
        self.learned.append(x)

    def score_one(self, _x: Any) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (anomaly.HalfSpaceTrees(seed=1), True),
        (preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(seed=1), True),
        (compose.Pipeline(preprocessing.MinMaxScaler(), compose.Pipeline(anomaly.OneClassSVM())), True),
        (anomaly.GaussianScorer(), False),
        (preprocessing.StandardScaler() | linear_model.LogisticRegression(), False),
        (tree.HoeffdingTreeClassifier(), False),
        (preprocessing.StandardScaler(), False),
        (Both(), False),
    ],
    ids=repr,
)
def test_what_learns_without_targets_is_known(model: Any, expected: bool) -> None:
    assert expected == is_detector(model)


def test_a_detector_learns_x_alone() -> None:
    model = Detecting()

    teacher_of(model)({"a": 1.0}, True)

    assert [{"a": 1.0}] == model.learned


def test_what_learns_by_targets_is_given_them() -> None:
    model = Both()

    teacher_of(model)({"a": 1.0}, True)

    assert [True] == model.learned
