"""What two states of one model differ in, in the model's own terms: weights of linear parts, splits of trees.

Reads models and changes nothing. A part that has neither weights nor splits is left to its answers: `effect_of`
compares what two models said to the same rows, whatever they are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from river import base

MOST_NAMED: Final = 10
"""Weights, splits and trees that a comparison names, the most telling first; the rest is counted."""

_MOST_PARTS: Final = 1_000  # of one model; an ensemble of more is compared in its first ones

_INSIDE: Final = ("model", "classifier", "regressor")
"""Attributes in which River's wrappers keep the model that they wrap."""


@dataclass(frozen=True, slots=True)
class WeightChange:
    """One weight of a linear part.

    Attributes:
        name: Of the feature as the part sees it, with its class where there is one weight per class; "intercept".
        before, after: 0 where the part does not know the feature.
    """

    part: str
    name: str
    before: float
    after: float

    @property
    def size(self) -> float:
        """How far it moved."""
        return abs(self.after - self.before)


@dataclass(frozen=True, slots=True)
class TreeShape:
    """A tree at one moment.

    Attributes:
        height: Edges from the root to the deepest leaf; 0 for a single leaf.
        splits: Each inner node in words, e.g. "age ≤ 30 at depth 1", from the root down.
    """

    nodes: int
    leaves: int
    height: int
    splits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TreeChange:
    """One tree at two moments.

    Attributes:
        added, removed: Splits that only the later or only the earlier one has.
    """

    part: str
    before: TreeShape
    after: TreeShape
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDifference:
    """What two models differ in.

    Attributes:
        weights: Those that changed most, at most MOST_NAMED.
        weights_known, weights_changed: Of both models together.
        trees: Those that changed, the one with most changed splits first, at most MOST_NAMED.
        trees_known, trees_changed: Of both models together.
    """

    weights: tuple[WeightChange, ...]
    weights_known: int
    weights_changed: int
    trees: tuple[TreeChange, ...]
    trees_known: int
    trees_changed: int

    def sentences(self) -> Iterator[str]:
        """Yield it for people."""
        if not self.weights_known and not self.trees_known:
            yield "this kind of model has no weights or splits to name; its answers tell what changed"
        if self.weights_known:
            yield f"{self.weights_changed} of {self.weights_known} weights changed"
        for weight in self.weights:
            yield f"{weight.part}: the weight of {weight.name} went from {weight.before:.6g} to {weight.after:.6g}"
        if self.trees_known:
            yield f"{self.trees_changed} of {self.trees_known} tree{'s' * (self.trees_known != 1)} changed"
        for tree in self.trees:
            yield from _tree_sentences(tree)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a difference comes to on the same rows.

    Attributes:
        rows: Rows that both models were asked about.
        differ: Rows to which they gave another class, or another number; an answer and none differ too.
        mean_change: Mean absolute change of the probabilities, or of the numbers where there are none, over the rows
            that both answered; None where there is no such row.
    """

    rows: int
    differ: int
    mean_change: float | None


def difference_of(before: Any, after: Any) -> ModelDifference:
    """Compare two states of one model, part by part."""
    weights = _changed_weights(_weights_of(before), _weights_of(after))
    trees = _changed_trees(_trees_of(before), _trees_of(after))
    moved = sorted((each for each in weights if each.size), key=lambda each: (-each.size, each.part, each.name))
    grown = sorted(
        (each for each in trees if each.before != each.after),
        key=lambda each: -len(each.added) - len(each.removed),
    )
    return ModelDifference(
        tuple(moved[:MOST_NAMED]), len(weights), len(moved), tuple(grown[:MOST_NAMED]), len(trees), len(grown)
    )


def effect_of(
    before: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    after: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> Effect:
    """Compare the answers to the same rows: (y_pred of n rows, proba of n × width), NaN where there is none."""
    (y_before, proba_before), (y_after, proba_after) = before, after
    same = (y_before == y_after) | (np.isnan(y_before) & np.isnan(y_after))
    has_proba = proba_before.size > 0 and not np.isnan(proba_before).all()
    changes = np.abs(proba_after - proba_before) if has_proba else np.abs(y_after - y_before)
    known = changes[~np.isnan(changes)]
    return Effect(len(same), int(len(same) - same.sum()), float(known.mean()) if known.size else None)


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _parts_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a model by a name that does not depend on what was learned."""
    todo = [(type(model).__name__, model)]
    seen = 0
    while todo and seen < _MOST_PARTS:
        name, part = todo.pop(0)
        seen += 1
        yield name, part
        todo += [(f"{name}.{inner}" if "." in name else inner, each) for inner, each in _inner(part)]


def _inner(part: Any) -> Iterator[tuple[str, Any]]:
    held = vars(part) if hasattr(part, "__dict__") else {}
    if isinstance(part, base.Ensemble):
        yield from ((f"{type(part).__name__}.{number}", each) for number, each in enumerate(part))
        return
    for steps in ("steps", "transformers", "classifiers"):
        if isinstance(held.get(steps), Mapping):
            yield from ((str(name), each) for name, each in held[steps].items())
    for name in _INSIDE:
        if isinstance(held.get(name), base.Base) and "classifiers" not in held:
            yield f"{type(part).__name__}.{type(held[name]).__name__}", held[name]


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _weights_of(model: Any) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for part, each in _parts_of(model):
        weights = getattr(each, "weights", None)
        if not isinstance(weights, Mapping):
            continue
        found |= {(part, name): weight for name, weight in _named(weights)}
        intercept = getattr(each, "intercept", None)
        if isinstance(intercept, int | float):
            found[part, "intercept"] = float(intercept)
    return found


def _named(weights: Mapping[Any, Any]) -> Iterator[tuple[str, float]]:
    for name, weight in weights.items():
        if isinstance(weight, Mapping):
            yield from ((f"{inner} (class {name})", float(each)) for inner, each in weight.items())
        else:
            yield str(name), float(weight)


def _changed_weights(
    before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float]
) -> list[WeightChange]:
    return [
        WeightChange(part, name, before.get((part, name), 0.0), after.get((part, name), 0.0))
        for part, name in {**before, **after}
    ]


# ── trees ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _trees_of(model: Any) -> dict[str, TreeShape]:
    return {part: _shape_of(each._root) for part, each in _parts_of(model) if hasattr(each, "_root")}  # noqa: SLF001 - River names no root


def _shape_of(root: Any) -> TreeShape:
    if root is None:
        return TreeShape(0, 0, 0, ())
    nodes = leaves = height = 0
    splits = []
    todo = [(root, 0)]
    while todo:
        node, depth = todo.pop(0)
        nodes, height = nodes + 1, max(height, depth)
        children = getattr(node, "children", None) or []
        leaves += not children
        if children:
            splits.append(f"{_split_in_words(node)} at depth {depth}")
        todo += [(child, depth + 1) for child in children]
    return TreeShape(nodes, leaves, height, tuple(splits))


def _split_in_words(node: Any) -> str:
    threshold = getattr(node, "threshold", None)
    if isinstance(threshold, int | float):
        return f"{node.feature} ≤ {threshold:.6g}"
    value = getattr(node, "value", None)
    return f"{node.feature}" if value is None else f"{node.feature} = {value}"


def _changed_trees(before: Mapping[str, TreeShape], after: Mapping[str, TreeShape]) -> list[TreeChange]:
    nothing = TreeShape(0, 0, 0, ())
    changes = []
    for part in {**before, **after}:
        one, other = before.get(part, nothing), after.get(part, nothing)
        added = tuple(split for split in other.splits if split not in one.splits)
        removed = tuple(split for split in one.splits if split not in other.splits)
        changes.append(TreeChange(part, one, other, added, removed))
    return changes


def _tree_sentences(tree: TreeChange) -> Iterator[str]:
    before, after = tree.before, tree.after
    yield (
        f"{tree.part}: {before.nodes} nodes, {before.leaves} leaves and height {before.height} became "
        f"{after.nodes}, {after.leaves} and {after.height}"
    )
    for what, splits in (("new", tree.added), ("gone", tree.removed)):
        if splits:
            more = f", and {len(splits) - MOST_NAMED} more" if len(splits) > MOST_NAMED else ""
            yield f"{tree.part}: {what} splits: {'; '.join(splits[:MOST_NAMED])}{more}"
