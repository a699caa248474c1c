"""Baselines: trivial models that every served prediction should beat, judged by the same metrics.

`no_change` says the last target again; `prior` says the distribution of all targets so far, for numbers their mean;
`constant` gives every event the same score. The first two are River's dummy models, asked and taught in the order of
the log: each knows every label before the one it is asked about, which is more than a model in service can know. They
answer every example, also where the model abstained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from tailrace.domain.blocks import Floats
from tailrace.domain.evaluation.metrics import (
    HitRate,
    MeanLoss,
    Metric,
    RootMeanLoss,
    ScoreAuc,
    cross_entropies,
    log_losses,
    number_errors,
    squared_errors,
)
from tailrace.domain.records import Task

NO_CHANGE: Final = "no_change"
PRIOR: Final = "prior"
CONSTANT: Final = "constant"

_SCORE: Final = 0.5
_MANY: Final = 32  # targets from which on it pays to make arrays of them


class ClassBaselines:
    """Baselines of a binary or multiclass task."""

    def __init__(self, task: Task) -> None:
        self._binary = task is Task.BINARY
        self._last: float | None = None
        self._most: float | None = None
        self._counts: dict[float, int] = {}  # in the order in which classes were first seen: it decides ties
        self._total = 0
        self._unchanged, self._likeliest = HitRate(), HitRate()
        self._log_loss, self._brier = MeanLoss(), MeanLoss()

    @property
    def metrics(self) -> dict[str, dict[str, Metric]]:
        """Baseline → metric → its values."""
        prior: dict[str, Metric] = {"accuracy": self._likeliest}
        if self._binary:
            prior |= {"log_loss": self._log_loss, "brier": self._brier}
        else:
            prior["cross_entropy"] = self._log_loss
        return {NO_CHANGE: {"accuracy": self._unchanged}, PRIOR: prior}

    def update_many(self, ys: Sequence[float]) -> None:
        """Judge the baselines on each target, then show it to them."""
        if self._binary and len(ys) >= _MANY:
            self._update_binary(np.array(ys, np.float64))
            return
        unchanged: list[bool] = []
        likeliest: list[bool] = []
        ps: list[float] = []
        last, most, counts, total = self._last, self._most, self._counts, self._total
        binary = self._binary
        for y in ys:
            if total:
                unchanged.append(y == last)
                likeliest.append(y == most)
                count = counts.get(1.0 if binary else y)
                ps.append(_NAN_OR_ZERO[binary] if count is None else count / total)
            last = y
            total += 1
            counts[y] = count = counts.get(y, 0) + 1
            if y != most and (most is None or count >= counts[most]):
                most = _leader(counts, most, y)
        self._last, self._most, self._total = last, most, total
        self._unchanged.update_many(unchanged)
        self._likeliest.update_many(likeliest)
        self._judge(ys[len(ys) - len(ps) :], ps)

    def _update_binary(self, ys: Floats) -> None:
        """Do the same for many targets of two classes, by columns: counts are exact, and so are their shares."""
        first = next(iter(self._counts), float(ys[0]))
        seen = np.concatenate([[0.0 if self._last is None else self._last], ys])[:-1]
        trues = self._counts.get(1.0, 0) + np.concatenate([[0], np.cumsum(ys == 1.0)])
        totals = self._total + np.arange(len(ys) + 1)
        likeliest = np.where(2 * trues == totals, first, (2 * trues > totals).astype(np.float64))
        asked = slice(0 if self._total else 1, len(ys))
        for y in (first, *np.unique(ys).tolist()):
            self._counts.setdefault(y, 0)
        for y in self._counts:
            self._counts[y] = int(trues[-1] if y == 1.0 else totals[-1] - trues[-1])
        self._last, self._most, self._total = float(ys[-1]), float(likeliest[-1]), int(totals[-1])
        self._unchanged.update_many((seen == ys)[asked].tolist())
        self._likeliest.update_many((likeliest[:-1] == ys)[asked].tolist())
        self._judge(ys[asked].tolist(), (trues[:-1][asked] / totals[:-1][asked]).tolist())

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {
            "last": self._last,
            "most": self._most,
            "counts": list(self._counts.items()),
            "total": self._total,
            "metrics": dump_metrics(self.metrics),
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any], task: Task) -> ClassBaselines:
        """Make baselines from their plain form."""
        made = cls(task)
        made._last, made._most, made._total = plain["last"], plain["most"], plain["total"]
        made._counts = dict(plain["counts"])
        unchanged, prior = plain["metrics"][NO_CHANGE], plain["metrics"][PRIOR]
        made._unchanged = HitRate.load(unchanged["accuracy"])
        made._likeliest = HitRate.load(prior["accuracy"])
        made._log_loss = MeanLoss.load(prior["log_loss" if made._binary else "cross_entropy"])
        if made._binary:
            made._brier = MeanLoss.load(prior["brier"])
        return made

    def _judge(self, ys: Sequence[float], ps: list[float]) -> None:
        if self._binary:
            self._log_loss.update_many(log_losses(ys, ps))
            self._brier.update_many(squared_errors(ys, ps))
        else:
            self._log_loss.update_many(cross_entropies(ps))


class NumberBaselines:
    """Baselines of a regression task; as River's, the mean of nothing is 0."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._mean = 0.0
        self._total = 0
        self._unchanged = (MeanLoss(), RootMeanLoss())
        self._average = (MeanLoss(), RootMeanLoss())

    @property
    def metrics(self) -> dict[str, dict[str, Metric]]:
        """Baseline → metric → its values."""
        return {
            NO_CHANGE: {"mae": self._unchanged[0], "rmse": self._unchanged[1]},
            PRIOR: {"mae": self._average[0], "rmse": self._average[1]},
        }

    def update_many(self, ys: Sequence[float]) -> None:
        """Judge the baselines on each target, then show it to them."""
        means: list[float] = []
        mean, total = self._mean, self._total
        for y in ys:
            means.append(mean)
            total += 1
            mean += 1.0 / total * (y - mean)
        followed = ys if self._last is not None else ys[1:]
        lasts = [*ys[:-1]] if self._last is None else [self._last, *ys[:-1]]
        _judge_numbers(self._average, ys, means)
        _judge_numbers(self._unchanged, followed, lasts)
        self._mean, self._total, self._last = mean, total, ys[-1]

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {"last": self._last, "mean": self._mean, "total": self._total, "metrics": dump_metrics(self.metrics)}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> NumberBaselines:
        """Make baselines from their plain form."""
        made = cls()
        made._last, made._mean, made._total = plain["last"], plain["mean"], plain["total"]
        unchanged, average = plain["metrics"][NO_CHANGE], plain["metrics"][PRIOR]
        made._unchanged = MeanLoss.load(unchanged["mae"]), RootMeanLoss.load(unchanged["rmse"])
        made._average = MeanLoss.load(average["mae"]), RootMeanLoss.load(average["rmse"])
        return made


class ScoreBaselines:
    """The baseline of an anomaly task; its ROC AUC is a half."""

    def __init__(self) -> None:
        self._constant = ScoreAuc()

    @property
    def metrics(self) -> dict[str, dict[str, Metric]]:
        """Baseline → metric → its values."""
        return {CONSTANT: {"roc_auc": self._constant}}

    def update_many(self, ys: Sequence[float]) -> None:
        """Judge the baseline on each target."""
        self._constant.update_many(ys, [_SCORE] * len(ys))

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {"metrics": dump_metrics(self.metrics)}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> ScoreBaselines:
        """Make baselines from their plain form."""
        made = cls()
        made._constant = ScoreAuc.load(plain["metrics"][CONSTANT]["roc_auc"])
        return made


Baselines: TypeAlias = ClassBaselines | NumberBaselines | ScoreBaselines


def new_baselines(task: Task) -> Baselines:
    """Return the baselines of a task, which have seen nothing."""
    if task is Task.REGRESSION:
        return NumberBaselines()
    return ScoreBaselines() if task is Task.ANOMALY else ClassBaselines(task)


def load_baselines(plain: Mapping[str, Any], task: Task) -> Baselines:
    """Make the baselines of a task from their plain form."""
    if task is Task.REGRESSION:
        return NumberBaselines.load(plain)
    return ScoreBaselines.load(plain) if task is Task.ANOMALY else ClassBaselines.load(plain, task)


def dump_metrics(metrics: Mapping[str, Mapping[str, Metric]]) -> dict[str, Any]:
    """Return the plain form of metrics by baseline and name."""
    return {owner: {name: metric.dump() for name, metric in named.items()} for owner, named in metrics.items()}


_NAN_OR_ZERO: Final = {False: float("nan"), True: 0.0}
"""What River's prior says of a class it has not seen: nothing of one of many, zero of True."""


def _leader(counts: Mapping[float, int], most: float | None, y: float) -> float:
    # Called when y has just reached or passed the count of the likeliest class; ties go to the class first seen.
    if most is None or counts[y] > counts[most]:
        return y
    return next(name for name in counts if name in (most, y))


def _judge_numbers(pair: tuple[MeanLoss, RootMeanLoss], ys: Sequence[float], y_preds: Sequence[float]) -> None:
    absolutes, squares = number_errors(ys, y_preds)
    pair[0].update_many(absolutes)
    pair[1].update_many(squares)
