"""Judging many examples at once comes to the bits of judging one after the other."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from tailrace.domain.blocks import Served
from tailrace.domain.evaluation import metrics
from tailrace.domain.evaluation.baselines import ClassBaselines
from tailrace.domain.evaluation.metrics import WINDOW, MeanLoss
from tailrace.domain.evaluation.prequential import Quality
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.records import Task

SLICES = (1, 63, 64, 500, WINDOW - 1, WINDOW + 1, 2 * WINDOW + 7)


def bytes_of(judged: Any) -> bytes:
    return StateCodec([]).encode(judged.dump())


@pytest.fixture(params=["as it is here", "compiled"])
def moved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numba is not installed, what it would be given goes to the plain function as arrays."""
    if request.param == "compiled" and metrics._moved is metrics._moved_plainly:

        def on_arrays(losses: Any, leaving: Any, *given: Any) -> Any:
            assert isinstance(losses, np.ndarray)
            n, mean, recent = metrics._moved_plainly(losses.tolist(), leaving.tolist(), *given)
            return n, mean, recent

        monkeypatch.setattr(metrics, "_moved", on_arrays)


@pytest.mark.parametrize("size", SLICES)
def test_means_of_losses(moved: None, size: int) -> None:
    rng = random.Random(size)
    losses = [rng.choice([rng.random(), rng.expovariate(0.01), 0.0, 1e300]) for _ in range(3 * size)]
    sliced, each = MeanLoss(), MeanLoss()

    for start in range(0, len(losses), size):
        sliced.update_many(losses[start : start + size])
    for loss in losses:
        each.update_many([loss])

    assert bytes_of(each) == bytes_of(sliced)


@pytest.mark.parametrize("size", [32, 40, 500])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_baselines_of_two_classes(size: int, share: float) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        ys = [float(rng.random() < share) for _ in range(4 * size)]
        sliced, each = ClassBaselines(Task.BINARY), ClassBaselines(Task.BINARY)

        for start in range(0, len(ys), size):
            sliced.update_many(ys[start : start + size])
        for y in ys:
            each.update_many([y])

        assert bytes_of(each) == bytes_of(sliced)


def test_the_quality_of_a_loop(moved: None) -> None:
    rng = np.random.default_rng(1)
    y, p = (rng.random(1_500) < 0.3).astype(np.float64), rng.random(1_500)
    served = Served((p > 0.5).astype(np.float64), p.reshape(-1, 1))
    at_once, each = Quality(Task.BINARY), Quality(Task.BINARY)

    at_once.update_many(y, served)
    for row in range(len(y)):
        one = slice(row, row + 1)
        each.update_many(y[one], Served(served.y_pred[one], served.proba[one]))

    assert bytes_of(each) == bytes_of(at_once)


def test_warming_judges_nothing() -> None:
    metrics.warm()

    assert 0 == MeanLoss().samples
