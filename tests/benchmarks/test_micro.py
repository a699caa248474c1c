"""What is compared with which commit, and what counts as grown."""

from __future__ import annotations

from benchmarks.micro.__main__ import MOST, SLACK, Counted, _rows, is_grown


def test_a_case_that_the_parent_does_not_have_has_no_ratio():
    (row,) = _rows(Counted({"fold": 10.0}, {}), Counted({}, {}))

    assert (None, 10.0) == (row["ratio"], row["now"])


def test_a_case_that_costs_more_has_grown():
    (row,) = _rows(Counted({"fold": 1.2e6}, {}), Counted({"fold": 1.0e6}, {}))

    assert row["ratio"] > MOST
    assert is_grown(row)


def test_one_more_move_of_a_buffer_is_no_growth():
    (row,) = _rows(Counted({"fold": 0.5e6 + SLACK}, {}), Counted({"fold": 0.5e6}, {}))

    assert not is_grown(row)


def test_ten_percent_of_a_large_case_are_allowed():
    (row,) = _rows(Counted({"fold": 1.1e7}, {}), Counted({"fold": 1.0e7}, {}))

    assert not is_grown(row)


def test_a_case_that_cannot_be_run_says_why():
    (row,) = _rows(Counted({}, {"compiled": "numba is not installed"}), Counted({}, {}))

    assert "numba is not installed" == row["why"]
