"""Positions in block topics: which row of which message, as one integer that orders like the log.

A position is `offset * ROWS_PER_MESSAGE + row`. The position of a *state* or of a *vector* is exclusive:
everything before it is contained, nothing at or after it is.
"""

from __future__ import annotations

from typing import TypeAlias

Position: TypeAlias = int

ROW_BITS = 20
ROWS_PER_MESSAGE = 1 << ROW_BITS
"""No message holds more rows: blocks are cut by bytes long before."""


def position_of(offset: int, row: int = 0) -> Position:
    """Return the position of one row of one message."""
    return offset << ROW_BITS | row


def offset_of(position: Position) -> int:
    """Return the Kafka offset of the message that holds this position."""
    return position >> ROW_BITS


def row_of(position: Position) -> int:
    """Return the 0-based row within its message."""
    return position & (ROWS_PER_MESSAGE - 1)


def end_of(position: Position) -> int:
    """Return the offset behind the last message of which something lies before a position."""
    return offset_of(position) + (1 if row_of(position) else 0)


def show(position: Position) -> str:
    """Return `offset:row`, the form in predictions, status and command lines."""
    return f"{position >> ROW_BITS}:{position & (ROWS_PER_MESSAGE - 1)}"


def parse(text: str) -> Position:
    """Read `offset:row` or `offset`.

    Raises:
        ValueError: The text is neither.
    """
    offset, _, row = text.partition(":")
    return position_of(int(offset), int(row or "0"))
