"""Compiled pipelines come to River's numbers, and keep every promise of a fold."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contracts.compiled_pipelines import CLASSES, PIPELINES, Lockstep, compiled, names_of, numbers, rows, spec_of

from tailrace.domain.models import kernels
from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.fused import FusedCodec
from tailrace.domain.models.plans import Feature

REPOSITORY = Path(__file__).parents[2]
NAMED = [pytest.param(task, text, id=f"{task}: {text}") for task, text in PIPELINES]
WIDTH = 6


@pytest.mark.parametrize(("task", "text"), NAMED)
def test_predictions_and_weights_equal_rivers(task: str, text: str) -> None:
    x, y = rows(task, 400, WIDTH)
    both = Lockstep(task, text, numbers(WIDTH))

    both.ask(both.named(x[:3]))
    for start in range(0, 400, 57):
        both.block(x[start : start + 57], y[start : start + 57], 10)
    both.weights()

    assert 400 == both.model.count
    assert both.apart.most <= 1e-12


def test_a_kernel_runs_although_what_was_compiled_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a full disk reaches whoever calls: it would end a start, or learning, once for each kernel in another."""
    caching = pytest.importorskip("numba.core.caching")
    compiled_here = kernels.compiler_of(kernels.numba_or_none())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.Cache, "save_overload", full)

    @compiled_here
    def inner(x: float) -> float:
        return x + 1.0

    @compiled_here
    def outer(x: float) -> float:
        return inner(x) * 2.0

    assert 6.0 == outer(2.0)


@pytest.mark.parametrize(("task", "text"), NAMED)
def test_restores_and_slices_leave_no_trace(task: str, text: str) -> None:
    spec = spec_of(task, text)
    x, y = rows(task, 200, WIDTH)
    codec = FusedCodec(lambda: compiled(spec, numbers(WIDTH)))
    straight, restored = compiled(spec, numbers(WIDTH)), compiled(spec, numbers(WIDTH))
    straight.learn_many(x, y)

    cuts, start = random.Random(text), 0
    while start < len(y):
        stop = start + cuts.randrange(1, 30)
        restored.learn_many(x[start:stop], y[start:stop])
        body = codec.encode({"model": restored})
        restored = codec.decode(body)["model"]
        assert body == codec.encode({"model": restored})
        restored.answer_many(x[:3])
        start = stop

    assert codec.encode(straight) == codec.encode(restored)


MIXED = (
    *(Feature("age", float), Feature("colour", str, ("blue", "green", "red", "other"))),
    *(Feature("kind", str, ("a", "b", "never")), Feature("on", bool)),
)
ONE_HOT = "(SelectType(str) | OneHotEncoder())"


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("binary", f"{ONE_HOT} + (SelectType(float, int) | StandardScaler()) | LogisticRegression(l2=0.001)"),
        ("binary", f"(SelectType(float, int) | MinMaxScaler()) + {ONE_HOT} | LogisticRegression(l1=0.0001)"),
        ("binary", f"{ONE_HOT} + SelectType(float) | LogisticRegression(optimizer=FTRLProximal(l1=0.01))"),
        ("binary", f"{ONE_HOT} + (SelectType(float, int) | StandardScaler()) | PAClassifier(C=0.1)"),
        ("multiclass", f"{ONE_HOT} + (SelectType(float, int) | StandardScaler()) | SoftmaxRegression(l2=0.001)"),
        ("regression", f"{ONE_HOT} + (SelectType(float, int) | StandardScaler()) | LinearRegression()"),
    ],
)
def test_categories_are_one_hot_as_rivers_are_once_it_has_met_them(task: str, text: str) -> None:
    rng = random.Random(text)
    both = Lockstep(task, text, MIXED)
    targets = {"binary": [0.0, 1.0], "multiclass": [0.0, 1.0, 2.0], "regression": [-0.5, 0.25, 1.0]}[task]

    for block in range(8):
        met = 1 + block // 2  # values come one after the other, and some rows have none
        rows_ = [
            {
                "age": rng.gauss(40, 9),
                **({"colour": rng.choice(MIXED[1].values[:met])} if rng.random() < 0.8 else {}),
                "kind": rng.choice("ab"),
                "on": rng.random() < 0.4,
            }
            for _ in range(40)
        ]
        both.learn(rows_, [rng.choice(targets) for _ in rows_], answered=6)
    both.ask([{"age": 1.0, "colour": "blue", "kind": "never", "on": True}])
    both.weights()

    assert both.apart.most <= 1e-12
    exported = both.model.to_river()
    assert all("never" not in name for weights in named_weights(exported) for name in weights)


def named_weights(model: Any) -> list[dict[str, float]]:
    weights = list(model.steps.values())[-1].weights
    return list(weights.values()) if isinstance(next(iter(weights.values())), dict) else [weights]


def digests() -> str:
    """What every pipeline comes to."""
    found = []
    for task, text in PIPELINES:
        model = compiled(spec_of(task, text), numbers(WIDTH))
        x, y = rows(task, 300, WIDTH, seed=2)
        model.learn_many(x, y)
        answers = model.answer_many(x)
        body = FusedCodec(lambda model=model: model).encode(model)
        found.append(digest_of(body + answers.y_pred.tobytes() + answers.proba.tobytes()))
    return " ".join(found)


@pytest.mark.skipif(
    find_spec("numba") is None and "TAILRACE_REQUIRE_NUMBA" not in os.environ,
    reason="numba is not installed; make compiled runs this",
)
def test_plain_python_comes_to_the_bits_of_compiled_code() -> None:
    assert find_spec("numba") is not None
    code = "from tests.contracts.test_compiled import digests; print(digests())"
    environment = {"PYTHONPATH": f"{REPOSITORY / 'app'}:{REPOSITORY}", **os.environ}

    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "NUMBA_DISABLE_JIT": disabled},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for disabled in ("0", "1")
    }

    assert 1 == len(found)


def test_every_class_of_a_task_has_its_index() -> None:
    spec = spec_of("multiclass", "SoftmaxRegression()")
    one, many = compiled(spec, numbers(2)), compiled(spec, numbers(2))
    x, y = rows("multiclass", 50, 2)

    for row, target in zip(x, y, strict=True):
        one.learn_one(dict(zip(names_of(2), row.tolist(), strict=True)), CLASSES["multiclass"][int(target)])
    many.learn_many(x, y)

    assert np.array_equal(one.answer_many(x).proba, many.answer_many(x).proba, equal_nan=True)
