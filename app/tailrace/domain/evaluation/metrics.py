"""Metrics of model quality, each over all examples and over the last thousand.

Folded in River's arithmetic order and equal to River's metric classes, alone and inside `utils.Rolling(…, 1000)`, to
the last digit: a mean is moved by 1/n of the difference (West, 1979), a rolling mean first gives back the oldest
loss and then takes the newest. Counts are exact in any order.

Losses come as lists, so that one call judges a slice of many examples.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from math import isnan, log
from sys import float_info
from typing import Any, Final, Protocol, Self

import numpy as np

from tailrace.domain.models.kernels import compiled

WINDOW: Final = 1_000
"""Examples that a rolling metric covers."""

_GIVEN_BACK: Final = 1.0 / (WINDOW - 1)
_TAKEN: Final = 1.0 / WINDOW
_LEAST: Final = 1e-15
_MOST: Final = 1 - 1e-15
_MANY: Final = 64  # losses from which on it pays to make arrays of them
_LARGEST: Final = float_info.max
_SQUARABLE: Final = 1e154

_THRESHOLDS: Final = (-1e-7, *(i / 9 for i in range(1, 9)), 1 + 1e-7)
"""Those of River's ROC AUC with its ten thresholds."""

_BINS: Final = len(_THRESHOLDS) + 1


class Metric(Protocol):
    """One metric."""

    @property
    def samples(self) -> int:
        """How many examples it rests on."""

    @property
    def value(self) -> float | None:
        """Over all examples; None while nothing was judged."""

    @property
    def rolling(self) -> float | None:
        """Over the last thousand; None while nothing was judged."""

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Self:
        """Make a metric from its plain form."""


def _moved_plainly(
    losses: Any, leaving: Any, filling: int, n: int, mean: float, recent: float
) -> tuple[int, float, float]:
    """Return count, mean and rolling mean after some losses, the first of which still fill the window.

    Written for both Python's lists and numba's arrays; both come to the same bits.
    """
    for loss in losses[:filling]:
        n += 1
        mean += 1.0 / n * (loss - mean)
        recent = mean
    for oldest, loss in zip(leaving, losses[filling:]):  # noqa: B905 - more may stand in the window than leaves it
        n += 1
        mean += 1.0 / n * (loss - mean)
        recent -= _GIVEN_BACK * (oldest - recent)
        recent += _TAKEN * (loss - recent)
    return n, mean, recent


_moved = compiled(_moved_plainly)


def warm() -> None:
    """Compile what judges many examples at once, where numba is installed."""
    MeanLoss().update_many([0.0] * _MANY)


class MeanLoss:
    """The mean of one loss: log loss, Brier score, cross entropy, MAE."""

    __slots__ = ("_mean", "_recent", "_window", "samples")

    def __init__(self) -> None:
        self.samples = 0
        self._mean = 0.0
        self._recent = 0.0
        self._window: deque[float] = deque(maxlen=WINDOW)

    def update_many(self, losses: Sequence[float]) -> None:
        """Take losses into account, in order."""
        window = self._window
        filling = max(WINDOW - len(window), 0)
        before = self.samples, self._mean, self._recent
        # What leaves the window is what stands in it already, then the first of these losses.
        if len(losses) >= _MANY and _moved is not _moved_plainly:
            taken = np.array(losses, np.float64)
            after = _moved(taken, np.concatenate([np.array(window, np.float64), taken]), filling, *before)
        else:
            after = _moved_plainly(losses, chain(window, losses), filling, *before)
        window.extend(losses)
        self.samples, self._mean, self._recent = after

    @property
    def value(self) -> float | None:
        """Over all examples."""
        return self._of(self._mean) if self.samples else None

    @property
    def rolling(self) -> float | None:
        """Over the last thousand."""
        return self._of(self._recent) if self.samples else None

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        window = np.array(self._window, "<f8").tobytes()
        return {"samples": self.samples, "mean": self._mean, "recent": self._recent, "window": window}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Self:
        """Make a metric from its plain form."""
        made = cls()
        made.samples, made._mean, made._recent = plain["samples"], plain["mean"], plain["recent"]
        made._window.extend(np.frombuffer(plain["window"], "<f8").tolist())
        return made

    def _of(self, mean: float) -> float:
        return mean


class RootMeanLoss(MeanLoss):
    """The square root of the mean of one loss: RMSE of squared errors."""

    __slots__ = ()

    def _of(self, mean: float) -> float:
        # Giving losses back leaves rounding behind, which may fall below zero when all of them are tiny.
        root: float = max(mean, 0.0) ** 0.5
        return root


class HitRate:
    """The share of examples whose class was right: accuracy."""

    __slots__ = ("_hits", "_recent", "_window", "samples")

    def __init__(self) -> None:
        self.samples = 0
        self._hits = 0
        self._recent = 0
        self._window: deque[bool] = deque(maxlen=WINDOW)

    def update_many(self, hits: Sequence[bool]) -> None:
        """Take examples into account; True: its class was right."""
        window, right = self._window, sum(hits[-WINDOW:])
        leaving = len(window) + len(hits) - WINDOW
        if leaving > 0:
            right -= sum(islice(window, leaving))
        self._recent += right
        self._hits += sum(hits)
        self.samples += len(hits)
        window.extend(hits)

    @property
    def value(self) -> float | None:
        """Over all examples."""
        return self._hits / self.samples if self.samples else None

    @property
    def rolling(self) -> float | None:
        """Over the last thousand."""
        return self._recent / len(self._window) if self.samples else None

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {"samples": self.samples, "hits": self._hits, "window": bytes(self._window)}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Self:
        """Make a metric from its plain form."""
        made = cls()
        made._window.extend(map(bool, plain["window"]))
        made.samples, made._hits, made._recent = plain["samples"], plain["hits"], sum(plain["window"])
        return made


class RocAuc:
    """The area under the ROC curve of a binary task, approximated at ten thresholds as River's `ROCAUC` does."""

    __slots__ = ("_counts", "_recent", "_window", "samples")

    def __init__(self) -> None:
        self.samples = 0
        self._counts = [0] * (2 * _BINS)
        self._recent = [0] * (2 * _BINS)
        self._window: deque[int] = deque(maxlen=WINDOW)

    def update_many(self, ys: Sequence[float], ps: Sequence[float]) -> None:
        """Take targets and probabilities of True into account, in order."""
        window = self._window
        # How many thresholds lie below p says on which side of each of them it is.
        cells = [bisect_left(_THRESHOLDS, p) + (_BINS if y else 0) for y, p in zip(ys, ps, strict=True)]
        leaving = max(len(window) + len(cells) - WINDOW, 0)
        for cell, count in Counter(cells).items():
            self._counts[cell] += count
            self._recent[cell] += count
        for cell, count in Counter(islice(chain(window, cells), leaving)).items():
            self._recent[cell] -= count
        window.extend(cells)
        self.samples += len(ys)

    @property
    def value(self) -> float | None:
        """Over all examples."""
        return _area(self._counts) if self.samples else None

    @property
    def rolling(self) -> float | None:
        """Over the last thousand."""
        return _area(self._recent) if self.samples else None

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {"samples": self.samples, "counts": list(self._counts), "window": bytes(self._window)}

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Self:
        """Make a metric from its plain form."""
        made = cls()
        made.samples, made._counts = plain["samples"], list(plain["counts"])
        made._window.extend(plain["window"])
        for cell in made._window:
            made._recent[cell] += 1
        return made


class ScoreAuc(RocAuc):
    """The same of scores of any size, which say little outside of 0 to 1, where the thresholds lie.

    Unusual events are rare: while all targets of a window are alike, it has no value (River's is 0).
    """

    __slots__ = ()

    @property
    def value(self) -> float | None:
        """Over all examples."""
        return _area(self._counts) if _has_both(self._counts) else None

    @property
    def rolling(self) -> float | None:
        """Over the last thousand."""
        return _area(self._recent) if _has_both(self._recent) else None


def log_losses(ys: Sequence[float], ps: Sequence[float]) -> list[float]:
    """Return the log loss of every probability of True."""
    return [
        -log(p if _LEAST < p < _MOST else _clamped(p)) if y else -log(1 - (p if _LEAST < p < _MOST else _clamped(p)))
        for y, p in zip(ys, ps, strict=True)
    ]


def squared_errors(ys: Sequence[float], ps: Sequence[float]) -> list[float]:
    """Return (p - y)² of every probability of True: the terms of the Brier score."""
    return [(p - y) * (p - y) for y, p in zip(ys, ps, strict=True)]


def cross_entropies(ps: Sequence[float]) -> list[float]:
    """Return the cross entropy of every probability that was given to the right class.

    NaN, a right class that the answer does not name, costs nothing: River sums over the classes that are named.
    """
    return [0.0 if isnan(p) else -log(_clamped(p)) for p in ps]


def number_errors(ys: Sequence[float], y_preds: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return absolute and squared errors; one too large for 64 bits counts as the largest number."""
    absolutes: list[float] = []
    squares: list[float] = []
    for y, y_pred in zip(ys, y_preds, strict=True):
        error = abs(y - y_pred)
        if error <= _SQUARABLE:
            absolutes.append(error)
            # As River writes it: a product would differ in the last digit on some machines.
            squares.append(error**2)
        else:
            absolutes.append(min(_LARGEST, error))  # in this order: no number counts as the largest, too
            squares.append(_LARGEST)
    return absolutes, squares


def _clamped(p: float) -> float:
    return max(min(p, _MOST), _LEAST)


def _has_both(counts: Sequence[int]) -> bool:
    return any(counts[:_BINS]) and any(counts[_BINS:])


def _area(counts: Sequence[int]) -> float:
    # Above threshold i are the probabilities that have more than i thresholds below them.
    false_counts, true_counts = np.array(counts[:_BINS]), np.array(counts[_BINS:])
    fprs, tprs = _shares_above(false_counts), _shares_above(true_counts)
    return float(-np.sum((fprs[1:] - fprs[:-1]) * (tprs[1:] + tprs[:-1]) / 2.0))


def _shares_above(counts: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    total = int(counts.sum())
    above = counts[::-1].cumsum()[::-1][1:]
    return above / total if total else np.zeros(len(above))
