"""The support list: families of models that are proven, and the classes that each holds while it learns.

Proven means that tests/contracts/test_models.py shows for every family and several configurations: the same
predictions and the same digest after restores at random points and under different hash seeds, and a state that
scoring does not change. What is not on the list is refused, unless the loop says `experimental = true`; then the
codec's table holds every class of River's model packages, and nothing is promised about equal digests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from types import ModuleType
from typing import Any, Final

from river import base, compose, drift, linear_model, multiclass, naive_bayes, optim, preprocessing, proba, stats, tree
from river._river_rust.drift import AdaptiveWindowing
from river.optim import initializers, losses, schedulers
from river.sketch import histogram
from river.tree import splitter
from river.tree.nodes import branch, hatc_nodes, hatr_nodes, htc_nodes, htr_nodes
from river.tree.splitter import (
    ebst_splitter,
    exhaustive_splitter,
    gaussian_splitter,
    nominal_splitter_classif,
    nominal_splitter_reg,
    qo_splitter,
)
from river.utils import VectorDict

from tailrace.domain.models.allowed import MODULES
from tailrace.domain.models.rules import parts_of

BINARY, MULTICLASS, REGRESSION = "binary", "multiclass", "regression"
TASKS: Final = (BINARY, MULTICLASS, REGRESSION)


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are proven together.

    Attributes:
        name: What people call it.
        heads: Classes that make it this family: a model belongs when it holds one of them.
        parts: Further classes of River that a freshly built model of it may hold.
        creates: Classes and functions that its models create or hold while they learn; for the codec's table.
    """

    name: str
    heads: tuple[type, ...]
    parts: tuple[type, ...] = ()
    creates: tuple[Any, ...] = ()


def _classes_in(*modules: ModuleType) -> tuple[type, ...]:
    return tuple(
        kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
    )


_TREE_STATISTICS = (proba.Gaussian, stats.Mean, stats.Var)
_TREE_SPLITTERS = (
    splitter.EBSTSplitter,
    splitter.ExhaustiveSplitter,
    splitter.GaussianSplitter,
    splitter.HistogramSplitter,
    splitter.QOSplitter,
    splitter.TEBSTSplitter,
    qo_splitter.FeatureQuantizer,
)
_SPLITTER_NODES = (
    *_classes_in(ebst_splitter, exhaustive_splitter, gaussian_splitter, qo_splitter, histogram),
    nominal_splitter_classif.NominalSplitterClassif,
    nominal_splitter_reg.NominalSplitterReg,
    ebst_splitter.EBSTNode._update_estimator_univariate,
    nominal_splitter_reg.NominalSplitterReg._update_estimator_univariate,
    qo_splitter.Slot._update_estimator_univariate,
)

FAMILIES: Final = (
    Family(
        "transformers",
        (
            compose.Pipeline,
            compose.TransformerUnion,
            compose.SelectType,
            preprocessing.FeatureHasher,
            preprocessing.MaxAbsScaler,
            preprocessing.MinMaxScaler,
            preprocessing.Normalizer,
            preprocessing.OneHotEncoder,
            preprocessing.StandardScaler,
        ),
        creates=(stats.AbsMax, stats.Max, stats.Min),
    ),
    Family(
        "linear models",
        (
            linear_model.LinearRegression,
            linear_model.LogisticRegression,
            linear_model.PAClassifier,
            linear_model.PARegressor,
            linear_model.Perceptron,
            linear_model.SoftmaxRegression,
            multiclass.OneVsRestClassifier,
        ),
        (
            *(optim.AdaDelta, optim.AdaGrad, optim.AdaMax, optim.Adam, optim.AMSGrad, optim.Momentum),
            *(optim.NesterovMomentum, optim.RMSProp, optim.SGD),
            *(initializers.Constant, initializers.Normal, initializers.Zeros),
            *(losses.Absolute, losses.Cauchy, losses.CrossEntropy, losses.EpsilonInsensitiveHinge, losses.Hinge),
            *(losses.Huber, losses.Log, losses.Quantile, losses.Squared),
            *(schedulers.Constant, schedulers.InverseScaling, schedulers.Optimal),
            VectorDict,
        ),
    ),
    Family(
        "naive Bayes",
        (naive_bayes.BernoulliNB, naive_bayes.ComplementNB, naive_bayes.GaussianNB, naive_bayes.MultinomialNB),
        creates=_TREE_STATISTICS,
    ),
    Family(
        "Hoeffding trees",
        (tree.HoeffdingTreeClassifier, tree.HoeffdingTreeRegressor),
        _TREE_SPLITTERS,
        (*_TREE_STATISTICS, *_classes_in(branch, htc_nodes, htr_nodes), *_SPLITTER_NODES),
    ),
    Family(
        "Hoeffding adaptive trees",
        (tree.HoeffdingAdaptiveTreeClassifier, tree.HoeffdingAdaptiveTreeRegressor),
        (drift.ADWIN, AdaptiveWindowing, NormalDist, *_TREE_SPLITTERS),
        (*_TREE_STATISTICS, *_classes_in(branch, hatc_nodes, hatr_nodes), *_SPLITTER_NODES),
    ),
)
"""In the order in which they are shown. A model of two families (a pipeline, a tree of linear models) needs both."""

_SUPPORTED: Final = frozenset(kind for family in FAMILIES for kind in (*family.heads, *family.parts))

_NO_PARTS_OF_MODELS: Final = (
    "river.api",
    "river.bandit",
    "river.checks",
    "river.datasets",
    "river.evaluate",
    "river.stream",
)


def supported(model: object) -> list[str]:
    """Return why `model` is not on the support list: one sentence for each class or setting; empty when it is."""
    found: list[str] = []
    for part in parts_of(model, _SUPPORTED.__contains__):
        kind = type(part)
        if kind not in _SUPPORTED:
            found.append(
                f"{kind.__qualname__} is not on the support list: it is not proven that two folds with it are equal; "
                f"use {_like(part)}, or set experimental = true in the model's table to try it without that promise"
            )
        found.extend(reason for applies, reason in _SETTINGS if applies(part))
    return list(dict.fromkeys(found))


def _like(part: object) -> str:
    """Name supported classes that do the same as `part`."""
    for role in (base.Classifier, base.Regressor, base.Transformer, base.DriftDetector, optim.base.Optimizer):
        if isinstance(part, role):
            names = sorted(kind.__name__ for kind in _SUPPORTED if issubclass(kind, role))
            return f"one of {', '.join(names)}"
    return "a supported part"


def _splits_in_two(part: object) -> bool:
    # By its class: River lets a pipeline pass as an instance of what its last step is.
    return issubclass(type(part), tree.HoeffdingTreeClassifier) and bool(vars(part)["binary_split"])


def _has_window(part: object) -> bool:
    return type(part) is preprocessing.MinMaxScaler and part.window_size is not None


_SETTINGS: Final[tuple[tuple[Callable[[object], bool], str], ...]] = (
    (
        _splits_in_two,
        (
            "binary_split = True is not on the support list: two values of a category can be equally good, and then "
            "hash order decides; leave it out, or set experimental = true in the model's table"
        ),
    ),
    (
        _has_window,
        (
            "MinMaxScaler with a window_size is not on the support list: it raises when it scores a feature that it "
            "has not seen; use MinMaxScaler() or StandardScaler(window_size=…)"
        ),
    ),
)
"""Settings that make a supported class unequal to itself → the reason."""


def family_of(model: object, *, experimental: bool = False) -> tuple[Any, ...]:
    """Return the classes and functions that models like `model` hold while they learn, for the codec's table."""
    kinds = {type(part) for part in parts_of(model)}
    found = [each for family in FAMILIES if kinds & {*family.heads} for each in family.creates]
    return (*found, *(_river_classes() if experimental else ()))


def _river_classes() -> list[type]:
    """Return every class of the modules that River's model packages consist of."""
    seen: dict[str, ModuleType] = {}
    todo = list(MODULES.values())
    while todo:
        module = todo.pop()
        if module.__name__ not in seen and not module.__name__.startswith(_NO_PARTS_OF_MODELS):
            seen[module.__name__] = module
            inner = [each for each in vars(module).values() if isinstance(each, ModuleType)]
            todo.extend(each for each in inner if each.__name__.startswith("river."))
    return [kind for kind in _classes_in(*seen.values()) if "<" not in kind.__qualname__]


def misfits(model: Any, task: str) -> list[str]:
    """Return why `model` cannot serve `task`: one sentence for each reason; empty when it can."""
    if task not in TASKS:
        return [f"the task {task!r} is unknown; write one of {', '.join(TASKS)}"]
    head = model
    while type(head) is compose.Pipeline:
        *before, head = head.steps.values()
        for step in before:
            if not isinstance(step, (base.Transformer, base.AnomalyFilter)):
                name = type(step).__name__
                return [f"{name} is no transformer, and only the last step may be none; put StandardScaler() there"]
    name = type(head).__name__
    wanted = base.Regressor if task == REGRESSION else base.Classifier
    if isinstance(head, wanted):
        if task == MULTICLASS and not getattr(head, "_multiclass", False):
            problem = f"{name} knows two classes only, and the task is multiclass"
            step = f"wrap it as OneVsRestClassifier({name}()), or use SoftmaxRegression() or GaussianNB()"
            return [f"{problem}; {step}"]
        return []
    return [
        f"the task is {task}, which needs a {_role(wanted)}, and the model ends in {name}, {_what(head)}; {_TRY[task]}"
    ]


_TRY: Final = {
    BINARY: "end it in LogisticRegression() or HoeffdingTreeClassifier()",
    MULTICLASS: "end it in SoftmaxRegression(), GaussianNB() or HoeffdingTreeClassifier()",
    REGRESSION: "end it in LinearRegression() or HoeffdingTreeRegressor()",
}


def _role(kind: type) -> str:
    return kind.__name__.lower()


def _what(head: object) -> str:
    for kind in (base.Classifier, base.Regressor, base.Transformer):
        if isinstance(head, kind):
            return f"a {_role(kind)}"
    return "which predicts nothing"


_BLAS_MODULES: Final = (
    "river.anomaly", "river.bandit", "river.covariance", "river.facto", "river.feature_extraction.kernel_approx",
    "river.feature_extraction.vectorize", "river.linear_model.bayesian_lin_reg", "river.optim.newton",
    "river.preprocessing.gap_encoder", "river.preprocessing.lda", "river.preprocessing.random_projection",
    "river.proba.gaussian", "river.reco", "river.time_series", "river.neighbors",
)  # fmt: skip


def uses_blas(model: object) -> bool:
    """Tell whether `model` multiplies matrices with NumPy, whose last digits depend on the kind of processor.

    A class that is not River's may do anything, so it counts as one that does.
    """
    return any(
        kind.__module__.startswith(_BLAS_MODULES) or not kind.__module__.startswith("river.")
        for kind in (type(part) for part in parts_of(model))
    )


def describe(families: Iterable[Family] = FAMILIES) -> list[str]:
    """Return one line for each family: its name and its models."""
    return [f"{family.name}: {', '.join(kind.__name__ for kind in family.heads)}" for family in families]
