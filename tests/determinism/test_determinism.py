"""The same log comes to the same bytes: under every hash seed, input format, order of keys and restore, by Python."""

from __future__ import annotations

import pytest
from tests.contracts.model_zoo import CONFIGURATIONS
from tests.determinism.cell import INPUTS
from tests.determinism.matrix import HASH_SEEDS, Ran, cells, differences, run
from tests.determinism.pythons import Python, found

EVENTS = 150
SOME = (
    "logistic, scaled and one-hot",
    "softmax",
    "Gaussian Bayes",
    "Hoeffding tree",
    "adaptive tree",
    "Hoeffding regression tree, categories",
    "neighbours",
    "forest",
    "bagging",
)
"""A configuration of every kind of family; `make determinism` takes them all, and more events."""


@pytest.mark.parametrize("python", found(), ids=lambda python: f"3.{python.minor}")
def test_every_cell_of_one_lineage_comes_to_the_same_digests(python: Python):
    """Guards sorted features, normalised numbers and seeds: without any of them a hash seed or an order of keys shows."""
    if python.why_not:
        pytest.skip(python.why_not)
    every = cells(list(SOME), EVENTS, orders=1, cuts=1)

    all_ran = [run(python.path, seed, cell) for seed, cell in every]

    assert {} == differences(all_ran)
    assert 1 + len(HASH_SEEDS) * len(INPUTS) == len(all_ran)
    assert set(SOME) == set(all_ran[0].digests)


def test_cells_that_disagree_are_named_by_model_and_digest():
    plain, other = cells(["softmax"], 10, orders=1, cuts=1)[:2]

    found_ = differences([Ran(*plain, {"softmax": "a"}), Ran(*other, {"softmax": "b"})])

    assert {"a", "b"} == set(found_["softmax"])


def test_the_configurations_that_are_named_exist():
    assert set(SOME) <= CONFIGURATIONS.keys()
