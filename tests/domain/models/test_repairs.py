"""What takes the place of one method of River gives the same numbers."""

from __future__ import annotations

from river.tree.splitter.nominal_splitter_classif import NominalSplitterClassif

from tailrace.domain.models.repairs import apply_repairs


def test_the_share_of_a_value_is_rivers_and_a_look_leaves_nothing_behind() -> None:
    apply_repairs()
    splitter = NominalSplitterClassif()
    for value, target in [("de", 0), ("de", 0), ("fr", 0), ("fr", 1)]:
        splitter.update(value, target, 1.0)

    shares = [splitter.cond_proba("de", 0), splitter.cond_proba("de", 1), splitter.cond_proba("de", 2)]

    assert [2 / 3, 0.0, 0.0] == shares
    assert [0, 1] == list(splitter._att_dist_per_class)


def test_a_class_without_weight_has_no_share() -> None:
    apply_repairs()
    splitter = NominalSplitterClassif()
    splitter.update("de", 0, 0.0)

    assert 0.0 == splitter.cond_proba("de", 0)
