"""What every model must keep, whoever built it, so that the same log gives the same state everywhere.

Seeds are set wherever a class takes one. Parts whose state depends on hash order, object addresses or a generator
that nobody can seed are banned, each with what to use instead. The memory management of Hoeffding trees, which
decides by the size of Python objects, is out of reach; depth and size are bounded by us (`growth`). Nothing learns in
predict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

from river import anomaly, cluster, compose, feature_extraction, neighbors, rules, sketch, stats
from river.forest.aggregated_mondrian_forest import AMFLearner

from tailrace.domain.models.growth import MOST_MONDRIAN_NODES, share_of_size
from tailrace.domain.models.symbols import contents_of, is_plain, is_rust

NEVER_PERIOD: Final = 10**18
"""`memory_estimate_period` in examples: more than any log holds."""

DEFAULT_MAX_DEPTH: Final = 20
"""Depth of a Hoeffding tree when none is given; River's own default is Python's recursion limit of that moment."""

GREATEST_MAX_DEPTH: Final = 50
"""Deeper trees would come near Python's recursion limit while they learn."""

_BY_HASH = "it goes by hash(), which differs from process to process"
_NO_SEED = "it draws from a generator that cannot be seeded"

BANNED: Final[dict[type, tuple[str, str]]] = {
    compose.Select: (
        "it keeps its features in a set, whose order differs from process to process",
        "SelectType(float) or SelectType(str), and leave other features out of the loop's contract",
    ),
    sketch.Set: (_BY_HASH, "sketch.NUnique(seed=1)"),
    sketch.Counter: (_BY_HASH, "sketch.HeavyHitters()"),
    rules.AMRules: ("it names its rules by their addresses in memory", "HoeffdingTreeRegressor()"),
    anomaly.ThresholdFilter: (_NO_SEED, "the score itself, compared where predictions are consumed"),
    cluster.STREAMKMeans: (_NO_SEED, "another clustering outside of the loop"),
    cluster.CluStream: (_BY_HASH, "another clustering outside of the loop"),
    cluster.KMeans: (_BY_HASH, "another clustering outside of the loop"),
    neighbors.SWINN: (
        "it walks sets whose order a restore changes, and all of a process share one list of lonely neighbours",
        "engine=LazySearch(window_size=1000)",
    ),
    feature_extraction.RandomTreesEmbedding: (_NO_SEED, "RBFSampler(seed=1)"),
    stats.KolmogorovSmirnov: (_NO_SEED, "drift.ADWIN()"),
}
"""Class → why it cannot be folded, what to use instead."""


def banned(kind: type) -> str | None:
    """Return why `kind` may not be part of a model and what to use instead, or None when it may."""
    if kind not in BANNED:
        return None
    reason, instead = BANNED[kind]
    return f"{kind.__name__} cannot be part of a model: {reason}; use {instead}"


def takes_seed(kind: type) -> bool:
    """Tell whether the constructor of `kind` takes a seed that steers what it learns or predicts.

    The distributions of `river.proba` take one for sampling alone.
    """
    return not kind.__module__.startswith("river.proba") and "seed" in parameters_of(kind)


def has_memory_management(kind: type) -> bool:
    """Tell whether `kind` is a Hoeffding tree or a forest of them."""
    return "memory_estimate_period" in parameters_of(kind)


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of the constructor, in its order; none for River's compiled classes."""
    return {} if is_rust(kind) else dict(inspect.signature(kind).parameters)


def parts_of(model: object, enters: Callable[[type], bool] = lambda _: True) -> Iterator[Any]:
    """Yield every object in `model` once, itself included: steps, wrapped models, optimizers, a user's own objects.

    Containers, numbers, functions and generators are looked through and not yielded.

    Args:
        model: Only read.
        enters: Tells by its class whether to look into a part.
    """
    seen: dict[int, object] = {}
    todo = [model]
    while todo:
        part = todo.pop()
        kind: type = type(part)
        if id(part) in seen or isinstance(part, type):
            continue
        seen[id(part)] = part
        is_part = is_plain(kind) or is_rust(kind)
        if is_part:
            yield part
        if not is_part or enters(kind):
            todo.extend(reversed(contents_of(part)))


def bound_growth(model: object) -> None:
    """Put River's memory management of Hoeffding trees out of reach, bound their depth and share out their size.

    Mondrian trees get at most `growth.MOST_MONDRIAN_NODES`, all of a forest together.
    """
    parts = list(parts_of(model))
    size_mib = share_of_size(parts)
    for part in parts:
        if has_memory_management(type(part)):
            unbounded = part.max_depth is None or part.max_depth > GREATEST_MAX_DEPTH
            part.max_depth = DEFAULT_MAX_DEPTH if unbounded else part.max_depth
            part.memory_estimate_period = NEVER_PERIOD
            part.max_size = size_mib
        elif isinstance(part, AMFLearner):
            share = MOST_MONDRIAN_NODES // max(1, part.n_estimators)
            part.max_nodes = min(part.max_nodes or share, share)


def broken_rules(model: object) -> list[str]:
    """Return one sentence for each rule that `model` breaks: what was found, what to do. Empty when it breaks none."""
    found: list[str] = []
    for part in parts_of(model):
        kind = type(part)
        reason = banned(kind)
        if reason is not None:
            found.append(reason)
        elif takes_seed(kind) and getattr(part, "seed", None) is None:
            found.append(missing_seed(kind))
        elif kind is compose.Pipeline and not part.steps:
            found.append("a Pipeline without steps does nothing; give it steps, or leave it out")
    if compose.Pipeline._LEARN_UNSUPERVISED_DURING_PREDICT:
        found.append("compose.learn_during_predict is on: scoring would train the model; leave its context first")
    return list(dict.fromkeys(found))


def missing_seed(kind: type) -> str:
    """Return the sentence that asks for a seed."""
    return (
        f"{kind.__name__} takes a seed and has none: two folds of the same log would differ; "
        f"write {kind.__name__}(seed=1) or another fixed number"
    )
