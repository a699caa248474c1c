"""The support list: families of models that are proven, and the classes that each holds while it learns.

Proven means that tests/contracts/test_models.py shows for every family and several configurations: the same
predictions and the same digest after restores at random points and under different hash seeds, and a state that
scoring does not change. What is not on the list is refused, unless the loop says `experimental = true`; then the
codec's table holds every class of River's model packages, and nothing is promised about equal digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, Final

from river import anomaly, base, compose, ensemble, forest, metrics, neighbors, optim, preprocessing, tree
from river.neighbors.base import BaseNN

from tailrace.domain.models.allowed import MODULES
from tailrace.domain.models.families import FAMILIES, Family, classes_in
from tailrace.domain.models.rules import parts_of
from tailrace.domain.models.teaching import is_detector

BINARY, MULTICLASS, REGRESSION, ANOMALY = "binary", "multiclass", "regression", "anomaly"
TASKS: Final = (BINARY, MULTICLASS, REGRESSION, ANOMALY)

MOST_MEMBERS: Final = 100
"""Models of one ensemble."""

MOST_NEIGHBOURS: Final = 20_000
"""Examples that one search keeps."""

MOST_HALF_SPACES: Final = 100_000
"""Nodes of all half-space trees of one model; they are there from the first example on."""

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
    for role in _ROLES:
        if isinstance(part, role):
            names = sorted(kind.__name__ for kind in _SUPPORTED if issubclass(kind, role))
            return f"one of {', '.join(names)}"
    return "a supported part"


_ROLES: Final[tuple[type, ...]] = (
    base.Classifier,
    base.Regressor,
    base.AnomalyDetector,
    base.Transformer,
    base.DriftDetector,
    optim.base.Optimizer,
    BaseNN,
    metrics.base.Metric,
)


def _splits_in_two(part: object) -> bool:
    # By its class: River lets a pipeline pass as an instance of what its last step is.
    splits = issubclass(type(part), (tree.HoeffdingTreeClassifier, forest.ARFClassifier))
    return splits and bool(vars(part)["binary_split"])


def _has_window(part: object) -> bool:
    return type(part) is preprocessing.MinMaxScaler and part.window_size is not None


def _draws_in_vain(part: object) -> bool:
    return type(part) is ensemble.LeveragingBaggingClassifier and part.bagging_method in {"me", "half"}


def _forgets_classes(part: object) -> bool:
    return type(part) is neighbors.KNNClassifier and part.cleanup_every != 0


def _has_many_members(part: object) -> bool:
    return getattr(part, "n_models", 0) > MOST_MEMBERS


def _has_many_half_spaces(part: object) -> bool:
    return type(part) is anomaly.HalfSpaceTrees and part.n_trees * 2 ** min(part.height + 1, 64) > MOST_HALF_SPACES


def _has_a_wide_window(part: object) -> bool:
    return type(part) is neighbors.LazySearch and part.window_size > MOST_NEIGHBOURS


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
    (
        _draws_in_vain,
        (
            "LeveragingBaggingClassifier with bagging_method 'me' or 'half' raises at the first example in this "
            "version of River; use bagging_method='bag', 'wt' or 'subag'"
        ),
    ),
    (
        _forgets_classes,
        "KNNClassifier with cleanup_every raises in this version of River; leave it out: classes are never forgotten",
    ),
    (
        _has_many_members,
        f"an ensemble of more than {MOST_MEMBERS} models makes snapshots that cannot be kept; use n_models=10",
    ),
    (
        _has_many_half_spaces,
        (
            f"HalfSpaceTrees of more than {MOST_HALF_SPACES:,} nodes (n_trees times 2 to the height + 1) makes "
            "snapshots that cannot be kept; use n_trees=10, height=8"
        ),
    ),
    (
        _has_a_wide_window,
        f"LazySearch compares every event with all that it keeps; use window_size=1000, at most {MOST_NEIGHBOURS}",
    ),
)
"""Settings that make a supported class unequal to itself, unusable or boundless → the reason."""


def family_of(model: object, *, experimental: bool = False) -> tuple[Any, ...]:
    """Return the classes and functions that models like `model` hold while they learn, for the codec's table."""
    kinds = {type(part) for part in parts_of(model)}
    found = [each for family in FAMILIES if kinds & {*family.heads} for each in family.creates]
    return (*found, *(_river_classes() if experimental else ()))


def samples_of(model: object) -> list[Any]:
    """Return objects as models like `model` come to hold them, for the codec's table."""
    kinds = {type(part) for part in parts_of(model)}
    return [each for family in FAMILIES if kinds & {*family.heads} for each in family.samples()]


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
    return [kind for kind in classes_in(*seen.values()) if "<" not in kind.__qualname__]


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
    if problems := [problem for inner in _wrapped_by(head) for problem in misfits(inner, task)]:
        return problems
    name = type(head).__name__
    wanted = _WANTED.get(task, base.Classifier)
    if is_detector(head) if task == ANOMALY else isinstance(head, wanted):
        if task == MULTICLASS and not getattr(head, "_multiclass", False):
            problem = f"{name} knows two classes only, and the task is multiclass"
            step = f"wrap it as OneVsRestClassifier({name}()), or use SoftmaxRegression() or GaussianNB()"
            return [f"{problem}; {step}"]
        return []
    return [
        f"the task is {task}, which needs {_role(wanted)}, and the model ends in {name}, {_what(head)}; {_TRY[task]}"
    ]


def _wrapped_by(head: object) -> Iterator[object]:
    """Yield the model that an ensemble is made of, which must fit as the ensemble does."""
    if isinstance(head, base.Wrapper) and isinstance(head, base.Ensemble):
        yield head._wrapped_model


_TRY: Final = {
    BINARY: "end it in LogisticRegression() or HoeffdingTreeClassifier()",
    MULTICLASS: "end it in SoftmaxRegression(), GaussianNB() or HoeffdingTreeClassifier()",
    REGRESSION: "end it in LinearRegression() or HoeffdingTreeRegressor()",
    ANOMALY: "end it in HalfSpaceTrees(seed=1), after MinMaxScaler(), or in OneClassSVM(), after StandardScaler()",
}

_WANTED: Final[dict[str, type]] = {REGRESSION: base.Regressor, ANOMALY: base.AnomalyDetector}


def _role(kind: type) -> str:
    return "an anomaly detector" if kind is base.AnomalyDetector else f"a {kind.__name__.lower()}"


def _what(head: object) -> str:
    for kind in (base.Classifier, base.Regressor, base.Transformer):
        if isinstance(head, kind):
            return _role(kind)
    if isinstance(head, base.AnomalyDetector):
        return 'an anomaly detector, which goes with task = "anomaly"'
    if isinstance(head, base.SupervisedAnomalyDetector):
        return "an anomaly detector that learns by targets, which no task can use"
    if isinstance(head, base.AnomalyFilter):
        return "a filter, which decides by its own scores what is learned, and may end by learning nothing"
    return "which predicts nothing"


_BLAS_MODULES: Final = (
    "river.anomaly.gaussian", "river.anomaly.loda", "river.anomaly.lof", "river.anomaly.pad", "river.bandit",
    "river.covariance", "river.facto", "river.feature_extraction.kernel_approx",
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
