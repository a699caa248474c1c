"""Compiled models: what they refuse, and their states as bytes. What they learn is held against River's by contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.contracts.compiled_pipelines import Floats, compiled, names_of, numbers, rows, spec_of

from tailrace.domain.errors import CodecError
from tailrace.domain.models import kernels
from tailrace.domain.models.codec import StateCodec
from tailrace.domain.models.fused import FusedCodec, FusedModel, Refused, as_river

WIDTH = 3
ONE_OF_EACH = [
    ("binary", "StandardScaler() | LogisticRegression()"),
    ("binary", "LogisticRegression(optimizer=FTRLProximal())"),
    ("binary", "MinMaxScaler() | PAClassifier()"),
    ("regression", "StandardScaler() | LinearRegression(l1=0.001)"),
    ("multiclass", "StandardScaler() | SoftmaxRegression()"),
    ("multiclass", "SoftmaxRegression(optimizer=FTRLProximal())"),
]
HUGE = {
    "binary": [
        ("LogisticRegression(optimizer=SGD(1e200))", 1e200),
        ("LogisticRegression(optimizer=FTRLProximal())", 1e200),
        ("StandardScaler() | LogisticRegression()", 1e200),
        ("StandardScaler() | PAClassifier()", 1e200),
        ("StandardScaler() | SoftmaxRegression()", 1e200),
        ("PAClassifier()", 1e200),
    ],
    "regression": [("LinearRegression(optimizer=SGD(10.0))", 1e300)],
    "multiclass": [("SoftmaxRegression(optimizer=SGD(1e200))", 1e200)],
}


def model_of(task: str = "binary", text: str = "StandardScaler() | LogisticRegression()") -> FusedModel:
    return compiled(spec_of(task, text), numbers(WIDTH))


def taught(task: str, text: str, count: int = 20) -> tuple[FusedModel, Floats, Floats]:
    model = model_of(task, text)
    x, y = rows(task, count, WIDTH)
    model.learn_many(x, y)
    return model, x, y


def codec_of(task: str, text: str) -> FusedCodec:
    return FusedCodec(lambda: model_of(task, text))


@pytest.mark.parametrize(("task", "text"), ONE_OF_EACH)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_example_without_a_finite_number_is_refused_by_its_row(task: str, text: str, bad: float) -> None:
    model, x, y = taught(task, text)
    x[7, 1] = bad

    with pytest.raises(Refused) as caught:
        model.learn_many(x, y)

    assert 7 == caught.value.learned


@pytest.mark.parametrize("bad", [np.nan, -1.0, 3.0])
def test_a_target_that_is_no_class_is_refused_by_its_row(bad: float) -> None:
    model, x, y = taught("multiclass", "SoftmaxRegression()")
    y[4] = bad

    with pytest.raises(Refused) as caught:
        model.learn_many(x, y)

    assert 4 == caught.value.learned


@pytest.mark.parametrize(("task", "text", "number"), [(task, *each) for task, all_ in HUGE.items() for each in all_])
def test_an_example_that_makes_the_model_infinite_is_refused_by_its_row(task: str, text: str, number: float) -> None:
    model, x, y = taught(task, text)
    x[5:9] = number
    y[5:9] = 0.0, 1.0, 0.0, 1.0  # one of them surprises the model

    with pytest.raises(Refused) as caught:
        model.learn_many(x, y)

    assert 5 <= caught.value.learned < 9


@pytest.mark.parametrize(("task", "text"), ONE_OF_EACH)
def test_an_untaught_model_answers_as_rivers_does(task: str, text: str) -> None:
    model = model_of(task, text)
    x, _ = rows(task, 2, WIDTH)
    answers = model.answer_many(x)

    if task == "multiclass":
        assert np.isnan(answers.y_pred).all()
        assert np.isnan(answers.proba).all()
    else:
        river = as_river(model)
        features = dict(zip(names_of(WIDTH), x[0].tolist(), strict=True))
        expected = river.predict_one(features) if task == "regression" else river.predict_proba_one(features)[True]
        found = answers.y_pred[0] if task == "regression" else answers.proba[0, 0]
        assert expected == found


def test_a_binary_softmax_abstains_until_it_knows_a_class_and_gives_the_unknown_one_none() -> None:
    model = model_of("binary", "SoftmaxRegression()")
    x, _ = rows("binary", 3, WIDTH)
    before = model.answer_many(x)
    model.learn_many(x, np.zeros(3))
    after = model.answer_many(x)

    assert np.isnan(before.proba).all()
    assert [0.0, 0.0, 0.0] == after.proba[:, 0].tolist() == after.y_pred.tolist()


@pytest.mark.parametrize(("task", "text"), ONE_OF_EACH)
def test_rows_that_are_beyond_numbers_are_abstained_from(task: str, text: str) -> None:
    model, _, _ = taught(task, text)

    answers = model.answer_many(np.full((1, WIDTH), np.nan))

    assert np.isnan(answers.y_pred).all()
    assert np.isnan(answers.proba).all()


@pytest.mark.parametrize(("task", "text"), ONE_OF_EACH)
def test_a_state_is_the_same_bytes_again_and_answers_alike(task: str, text: str) -> None:
    model, x, _ = taught(task, text)
    codec = codec_of(task, text)

    again = codec.decode(codec.encode({"model": model, "learned": 20}))

    assert 20 == again["learned"] == again["model"].count
    assert codec.encode(model) == codec.encode(again["model"])
    assert model.answer_many(x).proba.tobytes() == again["model"].answer_many(x).proba.tobytes()


def broken(**changes: Any) -> dict[str, Any]:
    state = {name: array.copy() for name, array in taught("multiclass", "SoftmaxRegression()")[0].dump().items()}
    for name, (place, number) in changes.items():
        state[name][place] = number
    return state


@pytest.mark.parametrize(
    "plain",
    [
        1,
        {},
        {**broken(), "own": np.zeros(9)},
        {**broken(), "order": np.zeros(3)},
        {**broken(), "weights": [1.0]},
        broken(order=(0, 3)),
        broken(order=(0, -1)),
        broken(own=(kernels.COUNT, np.nan)),
        broken(own=(kernels.KNOWN, 4.0)),
        broken(own=(kernels.KNOWN, 1.5)),
        broken(own=(kernels.KNOWN, np.nan)),
        broken(own=(kernels.KNOWN, 2.0)),
        broken(steps=(0, 0.0)),
        broken(order=(0, 1)) | {"steps": np.array([0.0, 1.0, 1.0])},
    ],
)
def test_a_state_that_would_lead_kernels_astray_is_none(plain: Any) -> None:
    codec = codec_of("multiclass", "SoftmaxRegression()")
    body = StateCodec([]).encode({"model": plain})

    with pytest.raises(CodecError, match="does not fit"):
        codec.decode(body)


@pytest.mark.parametrize("plain", [1, {"lineage": "a"}])
def test_bytes_without_a_model_are_no_branch(plain: Any) -> None:
    with pytest.raises(CodecError, match="not a branch"):
        codec_of(*ONE_OF_EACH[0]).decode(StateCodec([]).encode(plain))


@pytest.mark.parametrize(("task", "text"), ONE_OF_EACH)
def test_warming_leaves_the_model_as_it_is(task: str, text: str) -> None:
    model = model_of(task, text)
    model.warm()

    assert 0 == model.count


def test_other_models_are_rivers_already() -> None:
    river = spec_of("binary", "LogisticRegression()").build()

    assert river is as_river(river)
