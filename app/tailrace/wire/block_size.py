"""How many bytes rows take in a block, so that blocks are cut before they are encoded.

Sizes are estimated from above: a block that is cut by them is never larger than the limit and `BLOCK_OVERHEAD_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tailrace.domain.contract import FeatureContract, TargetContract

BLOCK_OVERHEAD_BYTES: Final = 16 << 10
"""Everything in a block that is not a row: names, vector, counts."""

_NUMBER_BYTES: Final = 8
_STRING_OVERHEAD_BYTES: Final = 3
_EXAMPLE_NUMBERS: Final = 10  # kind, time, y, four positions of records, broker time, position of the state, y_pred


def largest_block_bytes(max_message_bytes: int) -> int:
    """Return how large the rows of a block may be together: half of the topic's largest message, less the rest."""
    return max_message_bytes // 2 - BLOCK_OVERHEAD_BYTES


def size_per_row(contract: FeatureContract, target: TargetContract) -> int:
    """Return the bytes of one row in a training block, without its id and its texts.

    A scored row is smaller by a few numbers, so that what fits into `scored` fits into `training`.
    """
    layout = contract.layout
    numbers = _EXAMPLE_NUMBERS + target.width
    features = len(layout.number_names) + len(layout.integer_names)
    bits = -(-len(layout.names) // 8)
    return (numbers + features) * _NUMBER_BYTES + bits + len(layout.string_names) * _STRING_OVERHEAD_BYTES + 1


def row_sizes(per_row: int, ids: Sequence[str], strings: Sequence[tuple[str, ...]]) -> list[int]:
    """Return the bytes of each row.

    Args:
        per_row: What `size_per_row` gives.
        strings: `XColumns.strings`: the categories and texts of each row.
    """
    return [per_row + _utf8(event_id) + sum(map(_utf8, texts)) for event_id, texts in zip(ids, strings, strict=True)]


def cut(sizes: Sequence[int], limit_bytes: int, max_rows: int) -> Iterator[slice]:
    """Yield the rows of each block, in order; a row that alone is larger gets a block of its own."""
    start = total = 0
    for row, size in enumerate(sizes):
        if row > start and (total + size > limit_bytes or row - start >= max_rows):
            yield slice(start, row)
            start, total = row, 0
        total += size
    if sizes:
        yield slice(start, len(sizes))


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
