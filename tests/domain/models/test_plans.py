"""Which pipelines are compiled, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest
from river import compose, linear_model, naive_bayes, optim, preprocessing

from tailrace.domain.models import kernels
from tailrace.domain.models.plans import Column, Feature, Plan, plan_of

FEATURES = (Feature("a", float), Feature("b", bool), Feature("colour", str, ("blue", "red")), Feature("note", str))
NUMBERS = FEATURES[:2]


def plan(model: Any, classes: tuple[Any, ...] = (False, True), features: tuple[Feature, ...] = NUMBERS) -> Plan:
    found = plan_of(model, features, classes)
    assert isinstance(found, Plan), found
    return found


def test_a_plan_holds_what_the_constructors_were_given() -> None:
    found = plan(
        preprocessing.MinMaxScaler()
        | linear_model.LogisticRegression(
            optim.SGD(0.5), loss=optim.losses.Log(weight_pos=3.0), l2=0.1, intercept_lr=0.2, clip_gradient=4.0
        )
    )

    assert ("linear", kernels.LOG, kernels.SGD) == (found.kind, found.loss, found.optimizer)
    assert (Column("a", 0, kernels.MIN_MAX), Column("b", 1, kernels.MIN_MAX)) == found.columns
    names = kernels.RATE, kernels.INTERCEPT_RATE, kernels.L1, kernels.L2, kernels.CLIP
    assert [0.5, 0.2, 0.0, 0.1, 4.0] == [found.settings[name] for name in names]
    assert (3.0, 1.0) == (found.settings[kernels.WEIGHT_POS], found.settings[kernels.WEIGHT_NEG])


def test_a_pipeline_of_a_model_alone_is_one_without_a_scaler() -> None:
    alone = compose.Pipeline(linear_model.LinearRegression())

    assert (Column("a", 0), Column("b", 1)) == plan(alone, ()).columns
    assert plan(alone, ()) == plan(linear_model.LinearRegression(), ())


def test_every_listed_value_of_a_category_has_a_column_in_the_order_of_rivers_unions() -> None:
    found = plan(
        (compose.SelectType(str) | preprocessing.OneHotEncoder())
        + (compose.SelectType(float, int) | preprocessing.StandardScaler())
        | linear_model.LogisticRegression(),
        features=FEATURES[:3],
    )

    assert (
        Column("a", 0, kernels.STANDARD),
        Column("b", 1, kernels.STANDARD),
        Column("colour_blue", 2, kernels.ONE_HOT, 0),
        Column("colour_red", 2, kernels.ONE_HOT, 1),
    ) == found.columns


def test_what_no_step_selects_is_left_out() -> None:
    found = plan(compose.SelectType(float) | linear_model.LogisticRegression(), features=FEATURES)

    assert (Column("a", 0),) == found.columns


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (preprocessing.OneHotEncoder(), "over categories with a list only, and a is none"),
        (compose.SelectType(str) | preprocessing.OneHotEncoder(), "and note is none"),
        (preprocessing.StandardScaler(), "over numbers as they come only, and colour is none"),
        (compose.SelectType(bytes), "0 columns"),
        (compose.SelectType(float) + compose.SelectType(float), "each with a name of its own"),
        (compose.SelectType(float, str), "colour is a text to the model"),
        (compose.SelectType(float) | preprocessing.OneHotEncoder(drop_zeros=True), "without arguments only"),
    ],
)
def test_what_comes_before_the_model_makes_columns_of_features_one_by_one(before: Any, said: str) -> None:
    found = plan_of(before | linear_model.LogisticRegression(), FEATURES, (False, True))

    assert isinstance(found, str)
    assert said in found


def test_softmax_knows_whether_its_task_is_binary() -> None:
    assert plan(linear_model.SoftmaxRegression()).is_binary
    assert not plan(linear_model.SoftmaxRegression(), ("a", "b", "c")).is_binary


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (naive_bayes.GaussianNB(), "GaussianNB is not compiled"),
        (
            preprocessing.StandardScaler() | preprocessing.MinMaxScaler() | linear_model.Perceptron(),
            "over numbers as they come only",
        ),
        (preprocessing.RobustScaler() | linear_model.Perceptron(), "RobustScaler is not compiled"),
        (preprocessing.StandardScaler(with_std=False) | linear_model.Perceptron(), "without arguments only"),
        (preprocessing.StandardScaler(window_size=9) | linear_model.Perceptron(), "without arguments only"),
        (linear_model.LogisticRegression(loss=optim.losses.BinaryFocalLoss()), "the loss BinaryFocalLoss"),
        (linear_model.LinearRegression(loss=optim.losses.Huber()), "the loss Huber"),
        (linear_model.LinearRegression(loss=optim.losses.Hinge()), "the loss Hinge"),
        (linear_model.LogisticRegression(loss=optim.losses.Squared()), "the loss Squared"),
        (linear_model.LogisticRegression(initializer=optim.initializers.Normal(seed=1)), "begin elsewhere"),
        (linear_model.LogisticRegression(optim.Adam()), "the optimizer Adam"),
        (linear_model.LogisticRegression(optim.FTRLProximal(), l1=0.1), "l1 beside FTRL"),
        (linear_model.LogisticRegression(optim.FTRLProximal(alpha=0.0)), "alpha and beta above 0"),
        (linear_model.LogisticRegression(optim.SGD(optim.schedulers.Optimal(optim.losses.Log()))), "schedule Optimal"),
        (linear_model.LogisticRegression(l2=float("inf")), "no finite number"),
        (linear_model.PAClassifier(mode=0), "mode=0"),
        (linear_model.PAClassifier(C=0.0), "C above 0"),
        (linear_model.SoftmaxRegression(loss=optim.losses.Log()), "the loss Log"),
    ],
)
def test_what_stays_rivers_is_told_in_one_sentence(model: Any, said: str) -> None:
    found = plan_of(model, NUMBERS, (False, True))

    assert isinstance(found, str)
    assert said in found
