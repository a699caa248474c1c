"""Shorter ways to River's own answers and states, for the pipeline that most loops have: a scaler, then one model.

The arithmetic is River's, operation by operation, on River's own objects, so that answers, states and digests are
equal to the last bit; only the steps between are left out. River's scaler looks every feature up nine times to learn
it and twice more to transform it; a linear model makes three dictionaries to learn a row; and both find out anew for
every row what is the same for all rows of a batch. A shortcut is good until the model is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import base, compose, linear_model, optim, preprocessing

from tailrace.domain.records import Features, Value


class ScaledLearner:
    """Teaches a pipeline of `StandardScaler` and one model many complete rows at once.

    Attributes:
        learned: Rows learned by the last call; after an error the number of the row at which the model raised.
    """

    def __init__(self, scaler: Any, final: Any) -> None:
        self.learned = 0
        self._scaler = scaler
        self._final = final

    def learn_rows(self, names: Sequence[str], rows: Iterable[Iterable[Value]], ys: Iterable[Any]) -> None:
        """Do `StandardScaler.learn_one`, then `transform_one`, then the model's `learn_one` for each row.

        The state is written back at the end: after an error it is useless, as the model's is.

        Args:
            names: Of the values of every row.
        """
        scaler = self._scaler
        counts: list[int] = [scaler.counts.get(name, 0) for name in names]
        means: list[Any] = [scaler.means[name] for name in names]
        variances: list[Any] = [scaler.vars[name] for name in names]
        self.learned = 0
        if is_linear(self._final) and _has_weights(self._final, names):
            self._learn_linear(names, rows, ys, counts, means, variances)
        else:
            self._learn_any(names, rows, ys, counts, means, variances)
        if not self.learned:
            return
        for name, count, mean, variance in zip(names, counts, means, variances, strict=True):
            scaler.counts[name], scaler.means[name], scaler.vars[name] = count, mean, variance

    def _learn_any(
        self,
        names: Sequence[str],
        rows: Iterable[Iterable[Value]],
        ys: Iterable[Any],
        counts: list[int],
        means: list[Any],
        variances: list[Any],
    ) -> None:
        learn_one, places = self._final.learn_one, range(len(names))
        for row, y in zip(rows, ys, strict=True):
            scaled: Features = {}
            value: Any
            for place, name, value in zip(places, names, row, strict=True):
                counts[place] = count = counts[place] + 1
                mean, variance = means[place], variances[place]
                distance = value - mean
                mean += distance / count
                centred = value - mean
                variance += (distance * centred - variance) / count
                means[place], variances[place] = mean, variance
                scaled[name] = centred / variance**0.5 if variance else 0.0
            learn_one(scaled, y)
            self.learned += 1

    def _learn_linear(
        self,
        names: Sequence[str],
        rows: Iterable[Iterable[Value]],
        ys: Iterable[Any],
        counts: list[int],
        means: list[Any],
        variances: list[Any],
    ) -> None:
        """The same, with the steps of `GLM.learn_one` and `SGD.step` in place of their calls."""
        model, optimizer, places = self._final, self._final.optimizer, range(len(names))
        weights: list[float] = [model._weights[name] for name in names]  # noqa: SLF001 - River's own name
        intercept, iterations, most = model.intercept, optimizer.n_iterations, model.clip_gradient
        gradient_of, rate_of, intercept_rate_of = model.loss.gradient, optimizer.lr.get, model.intercept_lr.get
        for row, y in zip(rows, ys, strict=True):
            scaled: list[float] = []
            dot = 0.0
            value: Any
            for place, weight, value in zip(places, weights, row, strict=True):
                counts[place] = count = counts[place] + 1
                mean, variance = means[place], variances[place]
                distance = value - mean
                mean += distance / count
                centred = value - mean
                variance += (distance * centred - variance) / count
                means[place], variances[place] = mean, variance
                part = centred / variance**0.5 if variance else 0.0
                scaled.append(part)
                dot += weight * part
            gradient = float(max(min(gradient_of(y, dot + intercept), most), -most))
            intercept -= intercept_rate_of(iterations) * gradient
            rate = rate_of(iterations)
            weights = [weight - rate * (gradient * part) for weight, part in zip(weights, scaled, strict=True)]
            iterations += 1
            self.learned += 1
        model.intercept, optimizer.n_iterations = intercept, iterations
        model._weights.update(dict(zip(names, weights, strict=True)))  # noqa: SLF001


def answers_of(model: Any, names: Sequence[str], numbers: NDArray[np.float64]) -> list[float] | None:
    """Return the answers of a linear model behind a scaler to many rows at once; None: there is no shortcut.

    Args:
        names: Of the columns.
        numbers: Rows × columns; they lack nothing.

    Returns:
        For each row the probability of True that `predict_proba_one` gives, or the number that `predict_one` gives.
    """
    if learner_of(model) is None:
        return None
    scaler, final = model.steps.values()
    if not is_linear(final) or not _has_weights(final, names) or not scaler.counts.keys() >= set(names):
        return None
    variances = [scaler.vars[name] for name in names]
    if not min(variances, default=0.0) >= 0.0:
        return None  # River's own way says what it says of a root that is no number.
    raw = np.zeros(len(numbers))
    with np.errstate(all="ignore"):
        for name, variance, column in zip(names, variances, numbers.T, strict=True):
            scaled = (column - scaler.means[name]) / variance**0.5 if variance else np.zeros(len(column))
            raw += final._weights[name] * scaled  # noqa: SLF001 - a weight of infinity gives no number, at 0 too
        raw += final.intercept
    try:
        return list(map(final.loss.mean_func, raw.tolist()))
    except ArithmeticError:
        return None  # Some losses raise at one row or other (`Poisson`); River's own way says at which.


def learner_of(model: Any) -> ScaledLearner | None:
    """Return what comes to the same state as `model.learn_one`; None: there is no shortcut."""
    if type(model) is not compose.Pipeline:
        return None
    scaler, *others = model.steps.values()
    if len(others) != 1 or not isinstance(others[0], base.Classifier | base.Regressor):
        return None  # Detectors too: what is taught here is taught with a target.
    return ScaledLearner(scaler, others[0]) if _is_plain(scaler) else None


def _is_plain(step: Any) -> bool:
    return type(step) is preprocessing.StandardScaler and step.with_std and step.window_size is None


def is_linear(step: Any) -> bool:
    """Tell whether a step is a linear model that takes plain steps of gradient descent, without penalties."""
    return (
        type(step) in {linear_model.LogisticRegression, linear_model.LinearRegression}
        and type(step.optimizer) is optim.SGD
        and not step.l1
        and not step.l2
    )


def _has_weights(model: Any, names: Sequence[str]) -> bool:
    weights = model._weights  # noqa: SLF001
    return all(name in weights for name in names)
