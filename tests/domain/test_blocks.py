"""Gathering rows of many scored blocks into columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.builders import make_scored_block, make_x

from tailrace.domain.blocks import Dropped, Rows, ScoredBlock, XColumns, row_bytes, text_bytes
from tailrace.domain.errors import ContractError


def rows_of(pairs: Sequence[tuple[ScoredBlock, int]]) -> Rows:
    return Rows([block for block, _ in pairs], [row for _, row in pairs])


def test_rows_come_in_the_order_given_whatever_block_they_are_of() -> None:
    first = make_scored_block(("a", 1), ("b", 2), ("c", 3), source_offsets=[5, 6, 7], source_partition=0)
    second = make_scored_block(("d", 4), ("e", 5), source_offsets=[8, 9], source_partition=1, state_position=70)

    rows = rows_of([(first, 2), (second, 1), (first, 0), (first, 1)])

    assert rows.ids() == ["c", "e", "a", "b"]
    assert rows.times_ms().tolist() == [3, 5, 1, 2]
    assert rows.source_partitions().tolist() == [0, 1, 0, 0]
    assert rows.source_offsets().tolist() == [7, 9, 5, 6]
    assert rows.state_positions().tolist() == [0, 70, 0, 0]
    assert rows.served().proba.tolist() == [[0.2], [0.1], [0.0], [0.1]]
    assert rows.served().y_pred.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert rows.x().numbers.tolist() == [[20.0], [10.0], [0.0], [10.0]]


def test_rows_of_one_block_are_gathered() -> None:
    block = make_scored_block(("a", 1), ("b", 2), ("c", 3))

    rows = rows_of([(block, 2), (block, 0)])

    assert rows.ids() == ["c", "a"]
    assert rows.x().numbers.tolist() == [[20.0], [0.0]]


def test_neighbours_of_one_block_and_of_two_are_gathered() -> None:
    first, second = make_scored_block(("a", 1), ("b", 2), ("c", 3)), make_scored_block(("d", 4), ("e", 5))

    assert rows_of([(first, 1), (first, 2)]).times_ms().tolist() == [2, 3]
    assert rows_of([(first, 1), (first, 2), (second, 0), (second, 1)]).times_ms().tolist() == [2, 3, 4, 5]


def test_rows_that_end_where_neighbours_would_are_gathered_in_their_order() -> None:
    block = make_scored_block(("a", 1), ("b", 2), ("c", 3), ("d", 4))

    assert rows_of([(block, 0), (block, 0), (block, 2)]).times_ms().tolist() == [1, 1, 3]


def test_one_row_is_gathered() -> None:
    rows = rows_of([(make_scored_block(("a", 1), ("b", 2)), 1)])

    assert rows.times_ms().tolist() == [2]
    assert rows.x().numbers.tolist() == [[10.0]]


def test_no_rows_are_empty_columns() -> None:
    rows = rows_of([])

    assert rows.ids() == []
    assert rows.times_ms().tolist() == []
    assert rows.served().proba.shape == (0, 0)
    assert (rows.x().numbers.shape, rows.x().integers.shape, rows.x().strings) == ((0, 0), (0, 0), [])


def test_strings_and_integers_are_gathered() -> None:
    x = XColumns(np.empty((2, 0)), np.array([[1], [2]]), [("x",), ("y",)])
    block = make_scored_block(("a", 1), ("b", 2), x=x)

    gathered = rows_of([(block, 1), (block, 0)]).x()

    assert gathered.integers.tolist() == [[2], [1]]
    assert gathered.strings == [("y",), ("x",)]
    assert gathered.absent is None


def test_rows_of_blocks_in_which_nothing_is_absent_are_marked_as_present() -> None:
    full = make_scored_block(("a", 1), x=make_x([[1.0, 2.0]]))
    holed = make_scored_block(("b", 1), x=make_x([[0.0, 4.0]], absent=[[True, False]]))

    gathered = rows_of([(full, 0), (holed, 0)]).x()

    assert gathered.absent is not None
    assert gathered.absent.tolist() == [[False, False], [True, False]]


def test_absence_counts_features_of_every_type() -> None:
    x = XColumns(np.array([[1.0]]), np.array([[2]]), [("x", "y")])
    full = make_scored_block(("a", 1), x=x)
    holed = make_scored_block(("b", 1), x=replace(x, absent=np.array([[False, True, False, False]])))

    gathered = rows_of([(full, 0), (holed, 0)]).x()

    assert gathered.absent is not None
    assert gathered.absent.tolist() == [[False] * 4, [False, True, False, False]]


def test_rows_of_two_contracts_have_no_common_columns() -> None:
    rows = rows_of(
        [(make_scored_block(("a", 1), contract_id="old"), 0), (make_scored_block(("b", 1), contract_id="new"), 0)]
    )

    assert rows.ids() == ["a", "b"]
    with pytest.raises(ContractError, match="new, old"):
        rows.x()


def test_the_length_of_dropped_rows_is_that_of_their_ids() -> None:
    none = np.empty(0, dtype=np.int64)

    assert len(Dropped([], none, none, none)) == 0


def test_a_row_is_estimated_from_above() -> None:
    block = make_scored_block(("a", 1), x=make_x([[1.0, 2.0]]))

    assert row_bytes(block) >= 10 * 8 + 3 * 8
    assert text_bytes(["ä" * 10, "\U0001f30a"]) >= 2 * 10 + 4 + 2
