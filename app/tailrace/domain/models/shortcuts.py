"""A shorter way to River's own state, for the pipeline that most loops have: a scaler, then one model.

The arithmetic is River's, operation by operation, on River's own objects, so that states and digests are equal to
the last bit; only the steps between are left out. River's scaler looks every feature up nine times to learn it and
twice more to transform it. A shortcut is good until the model is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from river import base, compose, preprocessing

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

        The scaler's state is written back at the end: after an error it is useless, as the model's is.

        Args:
            names: Of the values of every row.
        """
        scaler, learn_one = self._scaler, self._final.learn_one
        counts: list[int] = [scaler.counts.get(name, 0) for name in names]
        means: list[Any] = [scaler.means[name] for name in names]
        variances: list[Any] = [scaler.vars[name] for name in names]
        places = range(len(names))
        self.learned = 0
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
        if not self.learned:
            return
        for name, count, mean, variance in zip(names, counts, means, variances, strict=True):
            scaler.counts[name], scaler.means[name], scaler.vars[name] = count, mean, variance


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
