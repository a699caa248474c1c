"""The arithmetic of compiled pipelines: River's, operation by operation, over columns of numbers.

Every function learns or answers rows strictly one after the other and is compiled by numba where the extra `fast` is
installed; without it the same functions run in plain Python, over memory views, and come to the same bits: no
operation is fused, reordered or approximated, and square root and exponential are those of the platform.

Arrays, for f features, p columns made of them and k classes; of float64 where nothing else is said:
    x           n × f, finite; a category stands as the number of its value.
    y           n targets: 0 or 1, the index of a class, or the number.
    source      p int64: the feature that each column is made of.
    scalers     p int64: how: `NO_SCALER`, `STANDARD`, `MIN_MAX`, or `ONE_HOT`, which is 1 where the feature is `codes`.
    codes       p.
    first       p: means, or the least values, of the scaler.
    second      p: variances, or the greatest values.
    own         `COUNT` rows learned, `INTERCEPT`, `MOST_L1` (the greatest L1 penalty so far), `KNOWN` classes.
    weights     p, of softmax k × p. `a` and `b` are what stands beside each weight: cumulated L1 penalty, or z and n
                of FTRL.
    settings    What the constructors of River's classes were given, by the numbers below.
    steps       k: how often each class's weights were moved.
    order       k int64: the classes in the order in which they were met.
    scaled      p, scratch.

Functions that learn return how many rows they learned: fewer than n where the next one makes a number infinite. The
state is useless then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, TypeVar

import numpy as np

KERNELS_VERSION: Final = "1"
"""Raised whenever the kernels would come to other numbers; part of the lineage of a compiled branch."""

COUNT, INTERCEPT, MOST_L1, KNOWN = 0, 1, 2, 3
OWN: Final = 4

NO_SCALER, STANDARD, MIN_MAX, ONE_HOT = 0, 1, 2, 3
LOG, SQUARED, HINGE = 0, 1, 2
SGD, FTRL = 0, 1

RATE, INTERCEPT_RATE, L1, L2, CLIP = 0, 1, 2, 3, 4
WEIGHT_POS, WEIGHT_NEG, THRESHOLD = 5, 6, 7
ALPHA, BETA, FTRL_L1, FTRL_L2 = 8, 9, 10, 11
C = 12
SETTINGS: Final = 13

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


def numba_or_none() -> Any:
    """Return the module numba, None where it is not installed or cannot be loaded."""
    try:
        return import_module("numba")
    except Exception:  # noqa: BLE001 - what a broken installation raises is anything: the kernels run without it
        return None


def compiler_of(numba: Any) -> Callable[[_Kernel], _Kernel]:
    """Return what compiles a kernel, on its first call and for later processes too where a cache can be written."""

    def compile_(kernel: _Kernel) -> _Kernel:
        if numba is None:
            return kernel
        try:
            made: _Kernel = numba.njit(cache=True)(kernel)
        except RuntimeError:  # no folder to keep it in: it is compiled by every process
            made = numba.njit(kernel)
        _save_where_it_can_be(made)
        return made

    return compile_


def _save_where_it_can_be(kernel: Any) -> None:
    """Have a kernel that is compiled, and cannot be kept for the next process, run: numba gives up on a full disk."""
    kept = getattr(kernel, "_cache", None)
    if kept is None:
        return

    def save(*what: Any) -> None:
        with suppress(OSError):
            type(kept).save_overload(kept, *what)

    kept.save_overload = save


_NUMBA: Final = numba_or_none()
HAS_COMPILER: Final = _NUMBA is not None
compiled = compiler_of(_NUMBA)


def run(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Call a kernel with C-contiguous arrays and numbers; where it is plain Python, the arrays become memory views.

    Items of a memory view are Python's floats, faster than NumPy's and silent where they overflow.
    """
    if hasattr(kernel, "py_func"):
        return kernel(*arguments)
    return kernel(*(each.data if isinstance(each, np.ndarray) else each for each in arguments))


@compiled
def _learn_scaled(
    source: Any, scalers: Any, codes: Any, x: Any, row: int, count: float, first: Any, second: Any, scaled: Any
) -> float:
    """Let the scalers learn a row, then scale it; return 0, or no finite number where their numbers are infinite."""
    total = 0.0
    for j in range(len(scaled)):
        value, scaler = x[row, source[j]], scalers[j]
        if scaler == STANDARD:
            distance = value - first[j]
            mean = first[j] + distance / count
            centred = value - mean
            variance = second[j] + (distance * centred - second[j]) / count
            first[j] = mean
            second[j] = variance
            total += variance - variance
            scaled[j] = centred / math.sqrt(variance) if variance > 0.0 else 0.0
        elif scaler == MIN_MAX:
            first[j] = min(first[j], value)
            second[j] = max(second[j], value)
            width = second[j] - first[j]
            scaled[j] = (value - first[j]) / width if width != 0.0 else 0.0
        elif scaler == ONE_HOT:
            scaled[j] = 1.0 if value == codes[j] else 0.0
        else:
            scaled[j] = value
    return total


@compiled
def _scaled(source: Any, scalers: Any, codes: Any, x: Any, row: int, first: Any, second: Any, scaled: Any) -> None:
    for j in range(len(scaled)):
        value, scaler = x[row, source[j]], scalers[j]
        if scaler == STANDARD:
            scaled[j] = (value - first[j]) / math.sqrt(second[j]) if second[j] > 0.0 else 0.0
        elif scaler == MIN_MAX:
            width = second[j] - first[j]
            scaled[j] = (value - first[j]) / width if width != 0.0 else 0.0
        elif scaler == ONE_HOT:
            scaled[j] = 1.0 if value == codes[j] else 0.0
        else:
            scaled[j] = value


@compiled
def _slope(loss: int, settings: Any, y: float, raw: float) -> float:
    """Return the derivative of a loss by the raw score."""
    if loss == SQUARED:
        return 2.0 * (raw - y)
    sign = 1.0 if y == 1.0 else -1.0
    z = raw * sign
    if loss == HINGE:
        return -sign if z <= settings[THRESHOLD] else 0.0
    weight: float = settings[WEIGHT_POS] if y == 1.0 else settings[WEIGHT_NEG]
    if z > 18.0:
        return weight * math.exp(-z) * -sign
    if z < -18.0:
        return weight * -sign
    return weight * -sign / (math.exp(z) + 1.0)


@compiled
def _ftrl_weight(settings: Any, weight: float, z: float, n: float) -> float:
    """Return the weight that FTRL-proximal makes of its sums (McMahan et al. 2013, algorithm 1)."""
    if abs(z) <= settings[FTRL_L1]:
        return weight
    sign = 1.0 if z > 0.0 else -1.0
    rate: float = 1.0 / ((settings[BETA] + math.sqrt(n)) / settings[ALPHA] + settings[FTRL_L2])
    shrunk: float = z - sign * settings[FTRL_L1]
    return -rate * shrunk


@compiled
def _penalised(weight: float, most: float, cumulated: float) -> float:
    """Return a weight after its L1 penalty (Tsuruoka et al. 2009, section 3.2)."""
    if weight > 0.0:
        return max(0.0, weight - (most + cumulated))
    if weight < 0.0:
        return min(0.0, weight + (most - cumulated))
    return weight


@compiled
def learn_linear(
    x: Any,
    y: Any,
    source: Any,
    scalers: Any,
    codes: Any,
    loss: int,
    optimizer: int,
    settings: Any,
    first: Any,
    second: Any,
    own: Any,
    weights: Any,
    a: Any,
    b: Any,
    scaled: Any,
) -> int:
    """Teach a scaler and a generalized linear model, as River's `GLM` learns one example."""
    rate, l1, l2, clip = settings[RATE], settings[L1], settings[L2], settings[CLIP]
    for row in range(len(y)):
        own[COUNT] += 1.0
        total = _learn_scaled(source, scalers, codes, x, row, own[COUNT], first, second, scaled)
        raw = 0.0
        for j in range(len(scaled)):
            raw += weights[j] * scaled[j]
        raw += own[INTERCEPT]
        if not math.isfinite(raw):
            return row
        slope = max(min(_slope(loss, settings, y[row], raw), clip), -clip)
        own[INTERCEPT] -= settings[INTERCEPT_RATE] * slope
        total += own[INTERCEPT]
        if l1 != 0.0:
            own[MOST_L1] += l1 * rate
        for j in range(len(scaled)):
            gradient = scaled[j] * slope + l2 * weights[j]
            if optimizer == FTRL:
                weights[j] = _ftrl_weight(settings, weights[j], a[j], b[j])
                square = gradient * gradient
                step = (math.sqrt(b[j] + square) - math.sqrt(b[j])) / settings[ALPHA]
                a[j] += gradient - step * weights[j]
                b[j] += square
                total += (a[j] - a[j]) + (b[j] - b[j])
            else:
                weights[j] -= rate * gradient
                if l1 != 0.0:
                    before = weights[j]
                    weights[j] = _penalised(before, own[MOST_L1], a[j])
                    a[j] += weights[j] - before
            total += weights[j] - weights[j]
        if not math.isfinite(total):
            return row
    return len(y)


@compiled
def learn_passive_aggressive(
    x: Any,
    y: Any,
    source: Any,
    scalers: Any,
    codes: Any,
    mode: int,
    settings: Any,
    first: Any,
    second: Any,
    own: Any,
    weights: Any,
    scaled: Any,
) -> int:
    """Teach a scaler and a passive-aggressive classifier, as River's `PAClassifier` learns one example."""
    for row in range(len(y)):
        own[COUNT] += 1.0
        total = _learn_scaled(source, scalers, codes, x, row, own[COUNT], first, second, scaled)
        raw, square = 0.0, 0.0
        for j in range(len(scaled)):
            raw += scaled[j] * weights[j]
            square += scaled[j] * scaled[j]
        raw += own[INTERCEPT]
        if not math.isfinite(raw + square):
            return row
        sign = 1.0 if y[row] == 1.0 else -1.0
        loss = max(1.0 - sign * raw, 0.0)
        step = 0.0
        if mode == 2:
            step = loss / (square + 0.5 / settings[C])
        elif square > 0.0:
            step = min(settings[C], loss / square)
        step *= sign
        for j in range(len(scaled)):
            weights[j] += step * scaled[j]
            total += weights[j] - weights[j]
        own[INTERCEPT] += settings[INTERCEPT_RATE] * step
        if not math.isfinite(total + own[INTERCEPT]):
            return row
    return len(y)


@compiled
def _class_scores(weights: Any, own: Any, order: Any, scaled: Any, proba: Any, row: int) -> float:
    """Write the probability of every known class; return the sum of raw scores, finite where all is well."""
    known = int(own[KNOWN])
    greatest, total, check = -math.inf, 0.0, 0.0
    for place in range(known):
        label = order[place]
        raw = 0.0
        for j in range(len(scaled)):
            raw += weights[label, j] * scaled[j]
        proba[row, label] = raw
        greatest = max(greatest, raw)
        check += raw - raw
    for place in range(known):
        label = order[place]
        proba[row, label] = math.exp(proba[row, label] - greatest)
        total += proba[row, label]
    for place in range(known):
        label = order[place]
        proba[row, label] /= total
    return check


@compiled
def learn_softmax(
    x: Any,
    y: Any,
    source: Any,
    scalers: Any,
    codes: Any,
    optimizer: int,
    settings: Any,
    class_weights: Any,
    first: Any,
    second: Any,
    own: Any,
    weights: Any,
    a: Any,
    b: Any,
    steps: Any,
    order: Any,
    scaled: Any,
    proba: Any,
) -> int:
    """Teach a scaler and a softmax regression, as River's `SoftmaxRegression` learns one example.

    `proba` is scratch of 1 × k.
    """
    for row in range(len(y)):
        own[COUNT] += 1.0
        total = _learn_scaled(source, scalers, codes, x, row, own[COUNT], first, second, scaled)
        if not math.isfinite(_class_scores(weights, own, order, scaled, proba, 0)):
            return row
        target = int(y[row])
        if steps[target] == 0.0:
            order[int(own[KNOWN])] = target
            own[KNOWN] += 1.0
            proba[0, target] = 0.0
        for place in range(int(own[KNOWN])):
            label = order[place]
            probability = max(min(proba[0, label], 1.0 - 1e-15), 1e-15)
            slope = class_weights[label] * (probability - (1.0 if label == target else 0.0))
            steps[label] += 1.0
            for j in range(len(scaled)):
                gradient = scaled[j] * slope + settings[L2] * weights[label, j]
                if optimizer == FTRL:
                    weights[label, j] = _ftrl_weight(settings, weights[label, j], a[label, j], b[label, j])
                    square = gradient * gradient
                    step = (math.sqrt(b[label, j] + square) - math.sqrt(b[label, j])) / settings[ALPHA]
                    a[label, j] += gradient - step * weights[label, j]
                    b[label, j] += square
                    total += (a[label, j] - a[label, j]) + (b[label, j] - b[label, j])
                else:
                    weights[label, j] -= settings[RATE] * gradient
                total += weights[label, j] - weights[label, j]
        if not math.isfinite(total):
            return row
    return len(y)


@compiled
def answer_linear(
    x: Any,
    source: Any,
    scalers: Any,
    codes: Any,
    is_binary: bool,  # noqa: FBT001 - kernels take arguments by place
    first: Any,
    second: Any,
    own: Any,
    weights: Any,
    scaled: Any,
    y_pred: Any,
    proba: Any,
) -> None:
    """Answer every row: `y_pred` (n) and, of classes, `proba` (n × 1); NaN where the model abstains."""
    for row in range(len(y_pred)):
        raw = own[INTERCEPT]
        if own[COUNT] > 0.0:
            _scaled(source, scalers, codes, x, row, first, second, scaled)
            raw = 0.0
            for j in range(len(scaled)):
                raw += weights[j] * scaled[j]
            raw += own[INTERCEPT]
        if not is_binary:
            y_pred[row] = raw if math.isfinite(raw) else math.nan
        elif math.isnan(raw):
            y_pred[row] = math.nan
            proba[row, 0] = math.nan
        else:
            probability = 0.0 if raw < -30.0 else 1.0
            if -30.0 <= raw <= 30.0:
                probability = 1.0 / (1.0 + math.exp(-raw))
            y_pred[row] = 1.0 if probability > 1.0 - probability else 0.0
            proba[row, 0] = probability


@compiled
def answer_softmax(
    x: Any,
    source: Any,
    scalers: Any,
    codes: Any,
    first: Any,
    second: Any,
    own: Any,
    weights: Any,
    order: Any,
    scaled: Any,
    y_pred: Any,
    proba: Any,
) -> None:
    """Answer every row: `y_pred` (n) and `proba` (n × k); NaN where the model abstains or does not know a class."""
    for row in range(len(y_pred)):
        y_pred[row] = math.nan
        for label in range(len(order)):
            proba[row, label] = math.nan
        if own[COUNT] == 0.0:
            continue
        _scaled(source, scalers, codes, x, row, first, second, scaled)
        if not math.isfinite(_class_scores(weights, own, order, scaled, proba, row)):
            for label in range(len(order)):
                proba[row, label] = math.nan
            continue
        best = order[0]
        for place in range(1, int(own[KNOWN])):
            if proba[row, order[place]] > proba[row, best]:
                best = order[place]
        y_pred[row] = best
