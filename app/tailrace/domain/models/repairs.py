"""One method of River that scoring must not call as it is, and what takes its place.

`NominalSplitterClassif.cond_proba` looks a class up in a default dict, and so leaves an entry behind for every class
that was never seen with this feature. The order of those entries steers sums when a leaf splits: a tree that served
would grow otherwise than one that did not. The replacement returns the same number and leaves nothing behind.
"""

from __future__ import annotations

from typing import Any

from river.tree.splitter.nominal_splitter_classif import NominalSplitterClassif


def apply_repairs() -> None:
    """Put the replacement in place, in this process; doing it again changes nothing."""
    NominalSplitterClassif.cond_proba = _share_of_value  # type: ignore[method-assign]


def _share_of_value(self: NominalSplitterClassif, att_val: Any, target_val: Any) -> float:
    """Return the share of the class `target_val` that had `att_val`; 0.0 where nothing was seen."""
    weights = self._att_dist_per_class.get(target_val)
    if not weights or att_val not in weights:
        return 0.0
    total = sum(weights.values())
    return float(weights[att_val] / total) if total else 0.0
