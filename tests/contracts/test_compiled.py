"""Compiled pipelines come to River's numbers, and keep every promise of a fold."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.compiled_pipelines import CLASSES, PIPELINES, Lockstep, compiled, names_of, rows, spec_of

from tailrace.domain.models.digest import digest_of
from tailrace.domain.models.fused import FusedCodec

REPOSITORY = Path(__file__).parents[2]
NAMED = [pytest.param(task, text, id=f"{task}: {text}") for task, text in PIPELINES]
WIDTH = 6


@pytest.mark.parametrize(("task", "text"), NAMED)
def test_predictions_and_weights_equal_rivers(task: str, text: str) -> None:
    x, y = rows(task, 400, WIDTH)
    both = Lockstep(task, text, WIDTH)

    both.answer(x[:3])
    for start in range(0, 400, 57):
        both.block(x[start : start + 57], y[start : start + 57], 10)
    both.weights()

    assert 400 == both.model.count
    assert both.apart.most <= 1e-12


@pytest.mark.parametrize(("task", "text"), NAMED)
def test_restores_and_slices_leave_no_trace(task: str, text: str) -> None:
    spec = spec_of(task, text)
    x, y = rows(task, 200, WIDTH)
    codec = FusedCodec(lambda: compiled(spec, names_of(WIDTH)))
    straight, restored = compiled(spec, names_of(WIDTH)), compiled(spec, names_of(WIDTH))
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


def digests() -> str:
    """What every pipeline comes to."""
    found = []
    for task, text in PIPELINES:
        model = compiled(spec_of(task, text), names_of(WIDTH))
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
    one, many = compiled(spec, names_of(2)), compiled(spec, names_of(2))
    x, y = rows("multiclass", 50, 2)

    for row, target in zip(x, y, strict=True):
        one.learn_one(dict(zip(names_of(2), row.tolist(), strict=True)), CLASSES["multiclass"][int(target)])
    many.learn_many(x, y)

    assert np.array_equal(one.answer_many(x).proba, many.answer_many(x).proba, equal_nan=True)
