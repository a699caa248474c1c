"""The families of models that are proven, and the classes that each holds while it learns: the support list itself.

A class is here because tests/contracts/test_models.py teaches, restores and scores it in several configurations.
`catalog` reads the list; nothing else does.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from types import ModuleType
from typing import Any, Final

from river import (
    anomaly,
    compose,
    drift,
    ensemble,
    forest,
    linear_model,
    metrics,
    multiclass,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    proba,
    stats,
    tree,
)
from river._river_rust.drift import AdaptiveWindowing
from river.ensemble import streaming_random_patches
from river.forest import adaptive_random_forest
from river.optim import initializers, losses, schedulers
from river.sketch import histogram
from river.tree import padded, splitter
from river.tree.nodes import arf_htc_nodes, arf_htr_nodes, branch, hatc_nodes, hatr_nodes, htc_nodes, htr_nodes
from river.tree.splitter import (
    ebst_splitter,
    exhaustive_splitter,
    gaussian_splitter,
    nominal_splitter_classif,
    nominal_splitter_reg,
    qo_splitter,
)
from river.utils import VectorDict


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are proven together.

    Attributes:
        name: What people call it.
        heads: Classes that make it this family: a model belongs when it holds one of them.
        parts: Further classes of River that a freshly built model of it may hold.
        creates: Classes and functions that its models create or hold while they learn; for the codec's table.
        samples: Makes objects whose attributes no class declares or assigns, as its models hold them; the same.
    """

    name: str
    heads: tuple[type, ...]
    parts: tuple[type, ...] = ()
    creates: tuple[Any, ...] = ()
    samples: Callable[[], tuple[Any, ...]] = tuple


def classes_in(*modules: ModuleType) -> tuple[type, ...]:
    """Return the classes that are defined in `modules`."""
    return tuple(
        kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
    )


def _half_spaces() -> tuple[Any, ...]:
    rng = random.Random(0)  # noqa: S311 - a shape, not a secret
    made: Callable[..., Any] = padded.make_padded_tree
    return (made({"x": (0.0, 1.0)}, height=1, padding=0.0, rng=rng, r_mass=0, l_mass=0),)


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
    *classes_in(ebst_splitter, exhaustive_splitter, gaussian_splitter, qo_splitter, histogram),
    nominal_splitter_classif.NominalSplitterClassif,
    nominal_splitter_reg.NominalSplitterReg,
    ebst_splitter.EBSTNode._update_estimator_univariate,
    nominal_splitter_reg.NominalSplitterReg._update_estimator_univariate,
    qo_splitter.Slot._update_estimator_univariate,
)

_DRIFT_DETECTORS = (drift.ADWIN, AdaptiveWindowing, drift.NoDrift)
_MEMBER_DEFAULTS = (
    linear_model.LinearRegression,
    optim.SGD,
    initializers.Zeros,
    losses.Squared,
    schedulers.Constant,
    splitter.TEBSTSplitter,
    VectorDict,
)
_MEMBER_METRICS = (metrics.Accuracy, metrics.ConfusionMatrix, metrics.MAE, metrics.MSE, metrics.RMSE, stats.Mean)

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
        "nearest neighbours",
        (neighbors.KNNClassifier, neighbors.KNNRegressor),
        (neighbors.LazySearch,),
    ),
    Family(
        "Hoeffding trees",
        (tree.HoeffdingTreeClassifier, tree.HoeffdingTreeRegressor),
        _TREE_SPLITTERS,
        (*_TREE_STATISTICS, *classes_in(branch, htc_nodes, htr_nodes), *_SPLITTER_NODES),
    ),
    Family(
        "Hoeffding adaptive trees",
        (tree.HoeffdingAdaptiveTreeClassifier, tree.HoeffdingAdaptiveTreeRegressor),
        (*_DRIFT_DETECTORS, NormalDist, *_TREE_SPLITTERS),
        (*_TREE_STATISTICS, *classes_in(branch, hatc_nodes, hatr_nodes), *_SPLITTER_NODES),
    ),
    Family(
        "random forests",
        (forest.ARFClassifier, forest.ARFRegressor),
        (*_DRIFT_DETECTORS, *_MEMBER_METRICS, *_TREE_SPLITTERS, stats.Var),
        (
            *_TREE_STATISTICS,
            *classes_in(adaptive_random_forest, arf_htc_nodes, arf_htr_nodes, branch),
            *(*_SPLITTER_NODES, *_MEMBER_DEFAULTS),
        ),
    ),
    Family(
        "bagging",
        (
            ensemble.ADWINBaggingClassifier,
            ensemble.BaggingClassifier,
            ensemble.BaggingRegressor,
            ensemble.LeveragingBaggingClassifier,
        ),
        _DRIFT_DETECTORS,
    ),
    Family(
        "half-space trees",
        (anomaly.HalfSpaceTrees,),
        creates=classes_in(padded),
        samples=_half_spaces,
    ),
    Family(
        "one-class",
        (anomaly.OneClassSVM,),
        (losses.Hinge, optim.SGD, initializers.Zeros, schedulers.Constant, VectorDict),
    ),
    Family(
        "random patches",
        (ensemble.SRPClassifier, ensemble.SRPRegressor),
        (*_DRIFT_DETECTORS, *_MEMBER_METRICS),
        classes_in(streaming_random_patches),
    ),
)
"""In the order in which they are shown. A model of two families (a pipeline, a tree of linear models) needs both."""
