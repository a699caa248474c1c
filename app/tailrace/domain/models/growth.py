"""Bounds on what Hoeffding trees hold, so that their snapshots never become impossible.

River bounds a tree by the size of its Python objects, which differs after a restore, and every so many examples, which
crafted data passes by. Here the same routine (Kirkby, 2007, Improving Hoeffding Trees, section 3.3: the least promising
leaves stop looking for splits) goes by a count of entries, which is a function of the state alone, and runs after every
split and whenever a tree has learned another PERIOD of weight. A tree within its bounds grows exactly as River's.

Values that one leaf keeps apart are bounded for each feature. Splitters that keep every value (E-BST, exhaustive) take
no new split candidates at the bound; the counts of those that they have stay exact. Quantised ones double their radius.
Nominal ones know no further categories, and a branch gets no further children.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterable
from math import floor
from typing import Any, Final

from river import multiclass, tree
from river.ensemble.streaming_random_patches import BaseSRPEnsemble
from river.forest.adaptive_random_forest import BaseForest
from river.tree.hoeffding_tree import HoeffdingTree
from river.tree.nodes.branch import DTBranch, NominalMultiwayBranch, NumericMultiwayBranch
from river.tree.splitter import EBSTSplitter, ExhaustiveSplitter, GaussianSplitter, HistogramSplitter, QOSplitter
from river.tree.splitter.ebst_splitter import EBSTNode
from river.tree.splitter.exhaustive_splitter import ExhaustiveNode
from river.tree.splitter.nominal_splitter_classif import NominalSplitterClassif
from river.tree.splitter.nominal_splitter_reg import NominalSplitterReg

MODEL_SIZE_MIB: Final = 100.0
"""What all trees of one model may hold, in MiB at ENTRY_BYTES each; River's default for one tree."""

ENTRY_BYTES: Final = 256
"""What one entry comes to in memory, about: three objects; a snapshot takes less."""

PERIOD: Final = 1_000
"""Weight of examples between two looks at a tree that does not split."""

MOST_VALUES: Final = 1_000
"""Values of one feature that one leaf keeps apart."""

MOST_CHILDREN: Final = 256
"""Children that one branch has or gets: each example without a branch of its own is shown to all of them."""

MOST_MONDRIAN_NODES: Final = 100_000
"""Nodes of all trees of a Mondrian forest; each keeps the range of every feature."""

_EBST_NODE: Final[Callable[..., Any]] = EBSTNode
_EXHAUSTIVE_NODE: Final[Callable[..., Any]] = ExhaustiveNode
_LEAF_ENTRIES: Final = 8
_SPLITTER_ENTRIES: Final = 2
_CLASSES: Final = 20
"""Trees that one-against-the-rest is taken to make; it makes one for each class, once it has seen it."""


def bound_trees() -> None:
    """Put the bounds in place, in this process; doing it again changes nothing."""
    for kind, name, bounded in _BOUNDED:
        setattr(kind, name, bounded)


def share_of_size(model_parts: Iterable[Any]) -> float:
    """Return the MiB that each tree of a model may hold, from the parts of the model as it is built."""
    return MODEL_SIZE_MIB / max(1, sum(map(_trees_of, model_parts)))


def _trees_of(part: Any) -> int:
    kind = type(part)
    if issubclass(kind, (BaseForest, BaseSRPEnsemble)):
        return int(2 * part.n_models)  # A tree may grow in the background of each.
    if issubclass(kind, multiclass.OneVsRestClassifier):
        return _CLASSES
    return int(issubclass(kind, HoeffdingTree))


def _bare_entries(leaf: Any) -> int:
    """Return what a leaf holds in any case: counts or means, a model."""
    model = getattr(leaf, "_leaf_model", None)
    counts = len(leaf.stats) if isinstance(leaf.stats, dict) else 1
    return _LEAF_ENTRIES + counts + len(getattr(model, "weights", ()))


def _split_entries(leaf: Any) -> int:
    """Return what a leaf holds for the splits that it looks for: nothing when it looks for none."""
    if not leaf.is_active():
        return 0
    return sum(_SPLITTER_ENTRIES + _values_of(splitter) for splitter in leaf.splitters.values())


def _leaves_of(root: Any) -> list[Any]:
    """Return every leaf of a tree and of all its alternate trees."""
    found: list[Any] = []
    todo = [root]
    while todo:
        node = todo.pop()
        beside = getattr(node, "_alternate_tree", None)
        if beside is not None:
            todo.append(beside)
        if isinstance(node, DTBranch):
            todo.extend(reversed(node.children))
        else:
            found.append(node)
    return found


def _values_of(splitter: Any) -> int:
    count = _COUNTS.get(type(splitter))
    return count(splitter) if count is not None else len(vars(splitter))


_COUNTS: Final[dict[type, Callable[[Any], int]]] = {
    EBSTSplitter: lambda splitter: int(splitter._values),
    tree.splitter.TEBSTSplitter: lambda splitter: int(splitter._values),
    ExhaustiveSplitter: lambda splitter: int(splitter._values),
    GaussianSplitter: lambda splitter: len(splitter._att_dist_per_class),
    HistogramSplitter: lambda splitter: sum(map(len, splitter.hists.values())),
    QOSplitter: lambda splitter: len(splitter._quantizer),
    NominalSplitterClassif: lambda splitter: sum(map(len, splitter._att_dist_per_class.values())),
    NominalSplitterReg: lambda splitter: len(splitter._statistics),
}
"""Splitter → how many entries it holds."""


def _keep_size(self: Any) -> None:
    """Let the most promising leaves look for splits as far as the tree's size allows, and stop the others.

    Takes the place of `HoeffdingTree._enforce_size_limit`. Where the leaves alone fill half of the size, none splits.
    """
    leaves = _leaves_of(self._root)
    size = int(self.max_size * 2**20) // ENTRY_BYTES
    bare = sum(map(_bare_entries, leaves))
    self._growth_allowed = bare <= size // 2
    room = size - bare
    for leaf in sorted(leaves, key=lambda leaf: leaf.calculate_promise(), reverse=True):
        entries = _split_entries(leaf)
        fits = self._growth_allowed and entries <= room
        room -= entries if fits else 0
        if fits and not leaf.is_active() and leaf.depth < self.max_depth:
            leaf.activate()
            self._n_active_leaves += 1
            self._n_inactive_leaves -= 1
        elif not fits and leaf.is_active():
            leaf.deactivate()
            self._n_active_leaves -= 1
            self._n_inactive_leaves += 1


def _looking_at_size(rivers: Callable[..., None]) -> Callable[..., None]:
    """Return `rivers` learn_one, and a look at the size after each PERIOD of weight."""

    @functools.wraps(rivers)
    def learn_one(self: Any, x: Any, y: Any, *, w: float = 1.0) -> None:
        before = self._train_weight_seen_by_model
        rivers(self, x, y, w=w)
        if before // PERIOD != self._train_weight_seen_by_model // PERIOD:
            self._enforce_size_limit()

    return learn_one


def _learn_value(self: Any, att_val: Any, target_val: Any, w: float) -> None:
    """Take one value into an E-BST; past MOST_VALUES it counts on its side of the split candidates, and is none."""
    if att_val is None:
        return
    node, child = None, self._root
    is_left = False
    while child is not None:
        node = child
        if att_val == node.att_val:
            node._update_estimator(node, target_val, w)
            return
        is_left = att_val < node.att_val
        if is_left:
            node._update_estimator(node, target_val, w)
        child = node._left if is_left else node._right
    if self._values < MOST_VALUES:
        _attach(self, node, _EBST_NODE(att_val, target_val, w), is_left=is_left)
        self._values += 1


def _learn_class_of_value(self: Any, att_val: Any, target_val: Any, w: float) -> None:
    """Take one value into an exhaustive splitter, as `_learn_value` does."""
    if att_val is None:
        return
    node, child = None, self._root
    is_left = False
    while child is not None:
        node = child
        if att_val == node.cut_point:
            node.class_count_left[target_val] += w
            return
        is_left = att_val < node.cut_point
        (node.class_count_left if is_left else node.class_count_right)[target_val] += w
        child = node._left if is_left else node._right
    if self._values < MOST_VALUES:
        _attach(self, node, _EXHAUSTIVE_NODE(att_val, target_val, w), is_left=is_left)
        self._values += 1


def _attach(splitter: Any, node: Any, leaf: Any, *, is_left: bool) -> None:
    if node is None:
        splitter._root = leaf
    elif is_left:
        node._left = leaf
    else:
        node._right = leaf


def _recounting(rivers: Callable[..., None]) -> Callable[..., None]:
    """Return `rivers` remove_bad_splits, which leaves fewer values behind, and count them."""

    @functools.wraps(rivers)
    def remove_bad_splits(self: Any, *args: Any, **kwargs: Any) -> None:
        rivers(self, *args, **kwargs)
        todo, count = [self._root], 0
        while todo:
            node = todo.pop()
            if node is not None:
                count += 1
                todo += [node._left, node._right]
        self._values = count

    return remove_bad_splits


def _learn_slot(self: Any, att_val: Any, target_val: Any, w: float) -> None:
    """Take one value into a quantised splitter; at MOST_VALUES slots become twice as wide."""
    if att_val is None:
        return
    quantizer = self._quantizer
    while len(quantizer) >= MOST_VALUES and floor(att_val / quantizer.radius) not in quantizer.hash:
        _widen(quantizer)
    quantizer.update(att_val, target_val, w)
    self.radius = quantizer.radius


def _widen(quantizer: Any) -> None:
    slots: dict[int, Any] = {}
    for index, slot in quantizer.hash.items():
        if index // 2 in slots:
            slots[index // 2] += slot
        else:
            slots[index // 2] = slot
    quantizer.hash = slots
    quantizer.radius *= 2


def _knowing_few(rivers: Callable[..., None], known: Callable[[Any], Container[Any]]) -> Callable[..., None]:
    """Return `rivers` update, which passes over categories beyond MOST_VALUES."""

    @functools.wraps(rivers)
    def update(self: Any, att_val: Any, target_val: Any, w: float) -> None:
        values: Any = known(self)
        if len(values) < MOST_VALUES or att_val in values:
            rivers(self, att_val, target_val, w)

    return update


def _most_branches(self: Any) -> int:
    """Return -1 while a branch may have another child."""
    count = len(self.children)
    return -1 if count < MOST_CHILDREN else count


_BOUNDED: Final[tuple[tuple[type, str, Any], ...]] = (
    (HoeffdingTree, "_enforce_size_limit", _keep_size),
    *(
        (kind, "learn_one", _looking_at_size(kind.learn_one))
        for kind in (
            tree.HoeffdingTreeClassifier,
            tree.HoeffdingTreeRegressor,
            tree.HoeffdingAdaptiveTreeClassifier,
            tree.HoeffdingAdaptiveTreeRegressor,
        )
    ),
    (EBSTSplitter, "_values", 0),
    (EBSTSplitter, "update", _learn_value),
    (EBSTSplitter, "remove_bad_splits", _recounting(EBSTSplitter.remove_bad_splits)),
    (ExhaustiveSplitter, "_values", 0),
    (ExhaustiveSplitter, "update", _learn_class_of_value),
    (QOSplitter, "update", _learn_slot),
    (
        NominalSplitterClassif,
        "update",
        _knowing_few(NominalSplitterClassif.update, lambda splitter: splitter._att_values),
    ),
    (NominalSplitterReg, "update", _knowing_few(NominalSplitterReg.update, lambda splitter: splitter._statistics)),
    (NominalMultiwayBranch, "max_branches", _most_branches),
    (NumericMultiwayBranch, "max_branches", _most_branches),
)
"""Class, name of its attribute, what takes its place."""
