"""Prequential quality: how good the *served* predictions were, judged when their labels enter the log.

Each example is judged by the prediction that was recorded when it was served, never by one made now; a model that
memorised the last minutes gains nothing. Examples at which the model abstained are counted and left out, as River
leaves them out. Names of metrics are River's, in snake case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Final, NamedTuple

import numpy as np

from tailrace.domain.blocks import Floats, Served
from tailrace.domain.evaluation.baselines import load_baselines, new_baselines
from tailrace.domain.evaluation.metrics import (
    WINDOW,
    HitRate,
    MeanLoss,
    Metric,
    RocAuc,
    RootMeanLoss,
    ScoreAuc,
    cross_entropies,
    log_losses,
    number_errors,
    squared_errors,
)
from tailrace.domain.records import Task

ALL: Final = "all"
ROLLING: Final = "rolling"

BIGGER_IS_BETTER: Final = frozenset({"accuracy", "roc_auc"})


class Judged(NamedTuple):
    """The losses of one slice: none of an anomaly task, since a score is right or wrong only beside others.

    Attributes:
        rows: The rows of the slice that were judged.
        losses: One number in [0, 1] for each of them: the 0/1 error, or the bounded error of a number.
    """

    rows: Sequence[int]
    losses: Sequence[float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric over one window.

    Attributes:
        window: ALL or ROLLING.
        value: None before anything was judged.
        samples: Examples it rests on.
        baselines: Baseline → the same metric of it; only those that have one.
    """

    metric: str
    window: str
    value: float | None
    samples: int
    baselines: Mapping[str, float] = field(default_factory=dict)

    @property
    def best_baseline(self) -> str | None:
        """The baseline that is hardest to beat; None where there is none."""
        pick = max if self.metric in BIGGER_IS_BETTER else min
        return pick(self.baselines, key=self.baselines.__getitem__, default=None)


class Quality:
    """The quality of one loop; changed in place by the fold.

    Attributes:
        abstained: Examples whose prediction said nothing.
        metrics: Metric → its values.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.abstained = 0
        self.metrics: dict[str, Any] = {name: made() for name, made in _METRICS[task].items()}
        self.baselines = new_baselines(task)
        self._spread = Spread()

    def update_many(self, y: Floats, served: Served) -> Judged:
        """Judge a slice of examples, in the order of the log."""
        ys: list[float] = y.tolist()
        if not ys:
            return Judged((), ())
        y_preds: list[float] = served.y_pred.tolist()
        self.baselines.update_many(ys)
        rows: Sequence[int] = range(len(ys))
        if isnan(sum(y_preds)):
            rows = [row for row, y_pred in enumerate(y_preds) if not isnan(y_pred)]
            self.abstained += len(ys) - len(rows)
            ys, y_preds = [ys[row] for row in rows], [y_preds[row] for row in rows]
        if self.task is Task.REGRESSION:
            return Judged(rows, self._judge_numbers(ys, y_preds))
        if self.task is Task.ANOMALY:
            self.metrics["roc_auc"].update_many(ys, y_preds)
            return Judged((), ())
        self._judge_probabilities(ys, _of_rows(served.proba, rows))
        hits = [y == y_pred for y, y_pred in zip(ys, y_preds, strict=True)]
        self.metrics["accuracy"].update_many(hits)
        return Judged(rows, [0.0 if hit else 1.0 for hit in hits])

    def figures(self) -> list[Figure]:
        """Return every metric over both windows, for people."""
        of_baselines = self.baselines.metrics
        found = []
        for name, metric in self.metrics.items():
            beside = {owner: named[name] for owner, named in of_baselines.items() if name in named}
            found.append(Figure(name, ALL, metric.value, metric.samples, _values(beside, ALL)))
            samples = min(metric.samples, WINDOW)
            found.append(Figure(name, ROLLING, metric.rolling, samples, _values(beside, ROLLING)))
        return found

    def summary(self) -> dict[str, Any]:
        """Return the figures as plain values: metric → window → value, samples, baselines, best baseline."""
        metrics: dict[str, Any] = {}
        for figure in self.figures():
            metrics.setdefault(figure.metric, {})[figure.window] = {
                "value": figure.value,
                "samples": figure.samples,
                "baselines": dict(figure.baselines),
                "best_baseline": figure.best_baseline,
            }
        return {"abstained": self.abstained, "metrics": metrics}

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {
            "task": self.task.value,
            "abstained": self.abstained,
            "metrics": {name: metric.dump() for name, metric in self.metrics.items()},
            "baselines": self.baselines.dump(),
            "spread": self._spread.dump(),
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Quality:
        """Make the quality from its plain form."""
        made = cls(Task(plain["task"]))
        made.abstained = plain["abstained"]
        made.metrics = {name: kind.load(plain["metrics"][name]) for name, kind in _METRICS[made.task].items()}
        made.baselines = load_baselines(plain["baselines"], made.task)
        made._spread = Spread(*plain["spread"])
        return made

    def _judge_probabilities(self, ys: list[float], proba: Floats) -> None:
        metrics = self.metrics
        if self.task is Task.MULTICLASS:
            named = ~np.isnan(proba).all(axis=1)
            right = proba[np.arange(len(ys)), np.array(ys, np.intp)]
            metrics["cross_entropy"].update_many(cross_entropies(right[named].tolist()))
            return
        ps: list[float] = proba[:, 0].tolist()
        if isnan(sum(ps)):
            # A model that names a class without a probability is judged by its classes alone.
            pairs = [(y, p) for y, p in zip(ys, ps, strict=True) if not isnan(p)]
            ys, ps = [y for y, _ in pairs], [p for _, p in pairs]
        metrics["log_loss"].update_many(log_losses(ys, ps))
        metrics["brier"].update_many(squared_errors(ys, ps))
        metrics["roc_auc"].update_many(ys, ps)

    def _judge_numbers(self, ys: list[float], y_preds: list[float]) -> list[float]:
        absolutes, squares = number_errors(ys, y_preds)
        self.metrics["mae"].update_many(absolutes)
        self.metrics["rmse"].update_many(squares)
        return self._spread.bounded(ys, absolutes)


class Spread:
    """How far targets lie from their running mean: the scale on which an error of a number is large or small."""

    def __init__(self, count: int = 0, mean: float = 0.0, distance: float = 0.0) -> None:
        self._count, self._mean, self._distance = count, mean, distance

    def bounded(self, ys: Sequence[float], errors: Sequence[float]) -> list[float]:
        """Return e / (e + s) for each absolute error e, where s is the mean distance of the targets before it."""
        found: list[float] = []
        count, mean, distance = self._count, self._mean, self._distance
        for y, error in zip(ys, errors, strict=True):
            share = error / (error + distance) if error else 0.0
            # Targets near the limit of 64 bits come to infinities, and so to no number, which `min` passes over.
            found.append(min(1.0, share))
            if count:
                distance += (abs(y - mean) - distance) / count
            count += 1
            mean += (y - mean) / count
        self._count, self._mean, self._distance = count, mean, distance
        return found

    def dump(self) -> list[Any]:
        """Return the plain form, for the codec."""
        return [self._count, self._mean, self._distance]


_METRICS: Final[Mapping[Task, Mapping[str, Any]]] = {
    Task.BINARY: {"log_loss": MeanLoss, "accuracy": HitRate, "brier": MeanLoss, "roc_auc": RocAuc},
    Task.MULTICLASS: {"cross_entropy": MeanLoss, "accuracy": HitRate},
    Task.REGRESSION: {"mae": MeanLoss, "rmse": RootMeanLoss},
    Task.ANOMALY: {"roc_auc": ScoreAuc},
}


def _of_rows(proba: Floats, rows: Sequence[int]) -> Floats:
    return proba if len(rows) == len(proba) else proba[np.array(rows, np.intp)]


def _values(metrics: Mapping[str, Metric], window: str) -> dict[str, float]:
    found = {owner: metric.value if window == ALL else metric.rolling for owner, metric in metrics.items()}
    return {owner: value for owner, value in found.items() if value is not None}
