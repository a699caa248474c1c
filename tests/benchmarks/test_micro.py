"""What is compared with which commit, and what counts as grown."""

from __future__ import annotations

from benchmarks.micro.__main__ import MOST, Counted, _rows


def test_a_case_that_the_parent_does_not_have_has_no_ratio():
    (row,) = _rows(Counted({"fold": 10.0}, {}), Counted({}, {}))

    assert (None, 10.0) == (row["ratio"], row["now"])


def test_a_case_that_costs_more_has_grown():
    (row,) = _rows(Counted({"fold": 12.0}, {}), Counted({"fold": 10.0}, {}))

    assert row["ratio"] > MOST


def test_a_case_that_cannot_be_run_says_why():
    (row,) = _rows(Counted({}, {"compiled": "numba is not installed"}), Counted({}, {}))

    assert "numba is not installed" == row["why"]
