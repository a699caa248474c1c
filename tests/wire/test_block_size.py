"""Rows are measured before they are encoded, from above."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.records import Task
from tailrace.wire.avro_codec import encode_scored
from tailrace.wire.block_size import BLOCK_OVERHEAD_BYTES, cut, largest_block_bytes, row_sizes, size_per_row
from tests.builders import make_scored_block

TARGET = TargetContract(Task.BINARY)
CONTRACT = FeatureContract(
    (
        FeatureSpec("a", "number"),
        FeatureSpec("b", "boolean"),
        FeatureSpec("c", "text", missing="absent", max_length=9_000),
    )
)


@given(st.lists(st.text("aé漢", max_size=300), min_size=1, max_size=9))
def test_a_block_is_never_larger_than_its_rows_are_estimated_to_be(texts: list[str]) -> None:
    rows = [CONTRACT.read({"a": 1, "b": True, "c": text} if text else {"a": 1, "b": True}) for text in texts]
    ids = [f"é-{row}" for row in range(len(rows))]
    x = CONTRACT.columns(rows)  # type: ignore[arg-type]

    sizes = row_sizes(size_per_row(CONTRACT, TARGET), ids, x.strings)

    block = make_scored_block(*((event_id, 0) for event_id in ids), x=x)
    assert len(encode_scored(block)) <= sum(sizes) + BLOCK_OVERHEAD_BYTES


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 100), st.integers(1, 10))
def test_cuts_keep_every_row_in_order_and_every_limit(sizes: list[int], limit: int, max_rows: int) -> None:
    cuts = list(cut(sizes, limit, max_rows))

    assert list(range(len(sizes))) == [row for rows in cuts for row in range(len(sizes))[rows]]
    for rows in cuts:
        assert sum(sizes[rows]) <= limit or rows.stop - rows.start == 1
        assert rows.stop - rows.start <= max_rows
    for first, second in pairwise(cuts):
        is_full = first.stop - first.start == max_rows
        assert is_full or sum(sizes[first]) + sizes[second.start] > limit


def test_a_row_that_is_too_large_is_cut_out_alone() -> None:
    assert [slice(0, 1), slice(1, 2), slice(2, 3)] == list(cut([1, 99, 1], 10, 5))


@pytest.mark.parametrize("max_message_bytes", [1 << 20, 1_048_588])
def test_the_rows_of_a_block_take_at_most_half_a_message(max_message_bytes: int) -> None:
    assert largest_block_bytes(max_message_bytes) + BLOCK_OVERHEAD_BYTES == max_message_bytes // 2
