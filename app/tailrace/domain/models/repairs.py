"""Methods of River that scoring or a fold must not call as they are, and what takes their place.

- `NominalSplitterClassif.cond_proba` looks a class up in a default dict, and so leaves an entry behind for every class
  that was never seen with this feature. The order of those entries steers sums when a leaf splits: a tree that served
  would grow otherwise than one that did not.
- Forests and random patches make their members, and draw random numbers for them, when they are asked before they have
  learned. Here an ensemble that has learned nothing says nothing.
- Adaptive trees and nearest neighbours go through a set of classes. The order of a set of texts differs between
  processes, and steers ties and last digits. Here classes are sorted.
- Where an alternate tree of an adaptive tree has split, River takes its leaves for one leaf, and raises.
- A Mondrian tree that splits above a branch renumbers what lies below it by calling itself, and raises where crafted
  values have made a thousand levels; every later example that splits there would raise too.

Each replacement returns the same number wherever River's is the same twice. Growth of trees is bounded in `growth`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from river import ensemble, forest, neighbors, tree
from river.tree.mondrian.mondrian_tree_nodes import MondrianNode
from river.tree.nodes import hatc_nodes, hatr_nodes
from river.tree.nodes.branch import DTBranch
from river.tree.splitter.nominal_splitter_classif import NominalSplitterClassif
from river.utils.math import softmax
from river.utils.norm import normalize_values_in_dict

from tailrace.domain.models.growth import bound_trees

Answer = dict[Any, float]
_Method = Callable[..., Any]

RIVERS_NEIGHBOURS: Final[_Method] = neighbors.KNNClassifier.predict_proba_one
"""What `_votes_of_neighbours` takes the place of; tests hold one against the other."""


def apply_repairs() -> None:
    """Put the replacements in place, in this process; doing it again changes nothing."""
    for kind, name, replacement in _REPLACEMENTS:
        setattr(kind, name, replacement)
    bound_trees()


def _share_of_value(self: NominalSplitterClassif, att_val: Any, target_val: Any) -> float:
    """Return the share of the class `target_val` that had `att_val`; 0.0 where nothing was seen."""
    weights = self._att_dist_per_class.get(target_val)
    if not weights or att_val not in weights:
        return 0.0
    total = sum(weights.values())
    return float(weights[att_val] / total) if total else 0.0


def _votes_of_tree(self: Any, x: Any) -> Answer:
    """Add the answers of all leaves that `x` reaches, alternate trees included."""
    votes: Answer = dict.fromkeys(sorted(self.classes), 0.0)
    root = self._root
    if root is None:
        return votes
    leaves: Any = root.traverse(x) if isinstance(root, DTBranch) else [root]
    for leaf in leaves:
        for name, share in (leaf.prediction(x, tree=self) or {}).items():
            votes[name] = votes.get(name, 0.0) + share
    return dict(normalize_values_in_dict(votes))


def _leaves_reached(self: Any, x: Any, until_leaf: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - River's shape
    """Return the leaves that `x` reaches, those of alternate trees before the one of the tree itself."""
    found: list[Any] = []
    node = self
    for node in self.walk(x, until_leaf=until_leaf):
        beside: Any = getattr(node, "_alternate_tree", None)
        if isinstance(beside, DTBranch):
            found += _leaves_reached(beside, x, until_leaf)
        elif beside is not None:
            found.append(beside)
    return [*found, node]


def _renumber(self: Any, depth: int) -> None:
    """Give a node and everything below it their depths."""
    todo: list[tuple[Any, int]] = [(self, depth)]
    while todo:
        node, depth = todo.pop()
        node.depth = depth
        if not node.is_leaf:
            todo += [(child, depth + 1) for child in node.children]


def _votes_of_neighbours(self: Any, x: Any) -> Answer:
    """Let the nearest neighbours vote, by their distance where they are weighted."""
    found, distances = self._nn.search((x, None), n_neighbors=self.n_neighbors)
    names = sorted(self.classes)
    if not found:
        return dict.fromkeys(names, 1 / len(names)) if names else {}
    votes: Answer = dict.fromkeys(names, 0.0)
    if distances[0] == 0:
        votes[found[0][1]] = 1.0
        return votes
    for (_, name), distance in zip(found, distances, strict=True):
        votes[name] += 1.0 / distance if self.weighted else 1.0
    if self.softmax:
        return dict(softmax(votes))
    total = sum(votes.values())
    return {name: weight / total for name, weight in votes.items()}


def _after_learning(rivers: _Method, nothing: Callable[[], Any]) -> _Method:
    """Return `rivers` method for an ensemble that has members; one without any answers `nothing`."""

    @functools.wraps(rivers)
    def answer(self: Any, x: Any) -> Any:
        return rivers(self, x) if self.data else nothing()

    return answer


def _zero() -> float:
    return 0.0


_REPLACEMENTS: Final[tuple[tuple[type, str, _Method], ...]] = (
    (NominalSplitterClassif, "cond_proba", _share_of_value),
    (tree.HoeffdingAdaptiveTreeClassifier, "predict_proba_one", _votes_of_tree),
    (hatc_nodes.AdaBranchClassifier, "traverse", _leaves_reached),
    (hatr_nodes.AdaBranchRegressor, "traverse", _leaves_reached),
    (MondrianNode, "update_depth", _renumber),
    (neighbors.KNNClassifier, "predict_proba_one", _votes_of_neighbours),
    (forest.ARFClassifier, "predict_proba_one", _after_learning(forest.ARFClassifier.predict_proba_one, dict)),
    (forest.ARFRegressor, "predict_one", _after_learning(forest.ARFRegressor.predict_one, _zero)),
    (ensemble.SRPClassifier, "predict_proba_one", _after_learning(ensemble.SRPClassifier.predict_proba_one, dict)),
    (ensemble.SRPRegressor, "predict_one", _after_learning(ensemble.SRPRegressor.predict_one, _zero)),
)
"""Class, name of its method, what takes its place."""
