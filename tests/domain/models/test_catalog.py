"""The support list, and which model fits which task."""

from __future__ import annotations

from typing import Any

import pytest
from river import anomaly, compose, linear_model, preprocessing, tree
from tests.domain.models.parts import Mine

from tailrace.domain.models.catalog import describe, family_of, misfits, supported, uses_blas
from tailrace.domain.models.expression import parse
from tailrace.domain.models.families import FAMILIES


def model_of(text: str) -> Any:
    """Build a model."""
    return parse(text).build()


def test_a_supported_model_has_no_refusals() -> None:
    assert [] == supported(model_of("SelectType(float) | StandardScaler() | LogisticRegression()"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("AdPredictor()", "BaggingClassifier, BernoulliNB, ComplementNB"),
        ("SNARIMAX(p=1, d=0, q=0)", "SNARIMAX is not on the support list"),
        ("RobustScaler() | GaussianNB()", "use one of"),
        ("LinearRegression(initializer=optim.initializers.Normal(seed=1), loss=optim.losses.Poisson())", "Poisson"),
        ("LogisticRegression(optimizer=Nadam())", "Momentum"),
        ("HoeffdingAdaptiveTreeClassifier(seed=1, drift_detector=PageHinkley())", "use one of ADWIN"),
        ("HoeffdingTreeClassifier(binary_split=True)", "hash order"),
        ("StandardScaler() | HoeffdingTreeClassifier(binary_split=True)", "hash order"),
        ("ARFClassifier(seed=1, binary_split=True)", "hash order"),
        ("ARFClassifier(seed=1, metric=metrics.LogLoss())", "use one of Accuracy"),
        ("BaggingClassifier(GaussianNB(), n_models=101, seed=1)", "use n_models=10"),
        ("LeveragingBaggingClassifier(GaussianNB(), bagging_method='half', seed=1)", "use bagging_method='bag'"),
        ("KNNClassifier(engine=LazySearch(window_size=20001))", "use window_size=1000"),
        ("KNNClassifier(engine=LazySearch(), cleanup_every=10)", "leave it out"),
        ("MinMaxScaler(window_size=3) | GaussianNB()", "has not seen"),
        ("HalfSpaceTrees(n_trees=10, height=14, seed=1)", "use n_trees=10, height=8"),
        ("HalfSpaceTrees(height=100000, seed=1)", "use n_trees=10, height=8"),
        ("LODA(seed=1)", "use one of HalfSpaceTrees, OneClassSVM"),
    ],
)
def test_what_is_not_proven_is_refused_with_what_to_do(text: str, says: str) -> None:
    (reason,) = supported(model_of(text))

    assert says in reason


def test_one_reason_for_each_class() -> None:
    model = model_of("Binarizer() | Binarizer() | AdPredictor()")

    assert 2 == len(supported(model))


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("binary", "LogisticRegression()"),
        ("binary", "StandardScaler() | (MinMaxScaler() | GaussianNB())"),
        ("binary", "(StandardScaler() | MinMaxScaler()) + OneHotEncoder() | GaussianNB()"),
        ("multiclass", "OneVsRestClassifier(LogisticRegression())"),
        ("regression", "StandardScaler() | LinearRegression()"),
        ("anomaly", "HalfSpaceTrees(seed=1)"),
        ("anomaly", "StandardScaler() | (MinMaxScaler() | OneClassSVM())"),
    ],
)
def test_a_model_that_fits_its_task(task: str, text: str) -> None:
    assert [] == misfits(model_of(text), task)


@pytest.mark.parametrize(
    ("task", "text", "says"),
    [
        ("binary", "LinearRegression()", "needs a classifier, and the model ends in LinearRegression, a regressor"),
        ("regression", "StandardScaler() | GaussianNB()", "ends in GaussianNB, a classifier"),
        ("binary", "StandardScaler()", "ends in StandardScaler, a transformer"),
        ("binary", "HalfSpaceTrees(seed=1)", 'an anomaly detector, which goes with task = "anomaly"; end it in'),
        ("regression", "StandardScaler() | OneClassSVM()", 'which goes with task = "anomaly"; end it in'),
        (
            "anomaly",
            "StandardScaler() | LogisticRegression()",
            "needs an anomaly detector, and the model ends in Logis",
        ),
        ("anomaly", "GaussianScorer()", "learns by targets, which no task can use; end it in HalfSpaceTrees(seed=1)"),
        ("anomaly", "BaggingClassifier(HalfSpaceTrees(seed=1), seed=1)", "ends in BaggingClassifier, a classifier"),
        (
            "anomaly",
            "QuantileFilter(HalfSpaceTrees(seed=1), q=0.9)",
            "a filter, which decides by its own scores what is",
        ),
        ("anomaly", "MinMaxScaler()", "ends in MinMaxScaler, a transformer; end it in HalfSpaceTrees(seed=1)"),
        ("binary", "optim.SGD()", "ends in SGD, which predicts nothing"),
        ("multiclass", "LogisticRegression()", "OneVsRestClassifier(LogisticRegression()), or use SoftmaxRegression()"),
        ("binary", "BaggingClassifier(LinearRegression(), seed=1)", "ends in LinearRegression, a regressor"),
        ("multiclass", "SRPClassifier(LogisticRegression(), seed=1)", "OneVsRestClassifier(LogisticRegression())"),
        ("binary", "SGD() | LogisticRegression()", "SGD is no transformer"),
        ("ranking", "LogisticRegression()", "write one of binary, multiclass, regression, anomaly"),
    ],
)
def test_a_model_that_does_not_fit_its_task_is_refused_in_words(task: str, text: str, says: str) -> None:
    (reason,) = misfits(model_of(text), task)

    assert says in reason


def test_the_codecs_classes_are_those_of_the_families_that_the_model_holds() -> None:
    bayes, linear = family_of(model_of("GaussianNB()")), family_of(model_of("LogisticRegression()"))

    assert {"Gaussian", "Mean", "Var"} == {kind.__name__ for kind in bayes}
    assert () == linear


def test_an_experimental_model_may_hold_any_class_of_rivers_models() -> None:
    found = family_of(model_of("ARFClassifier(seed=1)"), experimental=True)

    assert {"BaseTreeClassifier", "RandomLeafNaiveBayesAdaptive"} <= {kind.__name__ for kind in found}
    assert not any(kind.__module__.startswith("river.datasets") for kind in found)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (linear_model.LogisticRegression(), False),
        (compose.Pipeline(preprocessing.LDA(seed=1), linear_model.LogisticRegression()), True),
        (linear_model.BayesianLinearRegression(), True),
        (compose.Pipeline(preprocessing.StandardScaler(), Mine()), True),
        (Mine(), True),
        (tree.HoeffdingTreeClassifier(), False),
        (anomaly.HalfSpaceTrees(seed=1), False),
        (anomaly.OneClassSVM(), False),
        (anomaly.LocalOutlierFactor(), True),
    ],
)
def test_models_that_multiply_matrices_are_known(model: Any, expected: bool) -> None:
    assert expected == uses_blas(model)


def test_every_family_is_described_in_one_line() -> None:
    assert len(FAMILIES) == len(describe())
    assert "naive Bayes: BernoulliNB, ComplementNB, GaussianNB, MultinomialNB" in describe()
