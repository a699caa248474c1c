"""Positions: offset and row as one integer that orders like the log."""

from __future__ import annotations

import pytest

from tailrace.domain.positions import ROWS_PER_MESSAGE, end_of, offset_of, parse, position_of, row_of, show


def test_a_position_gives_back_its_offset_and_row() -> None:
    position = position_of(7, 3)

    assert (offset_of(position), row_of(position)) == (7, 3)


def test_what_lies_before_a_position_ends_behind_the_message_that_was_begun() -> None:
    assert (0, 7, 8) == (end_of(0), end_of(position_of(7)), end_of(position_of(7, 1)))


def test_positions_order_by_offset_and_then_by_row() -> None:
    assert position_of(1) < position_of(1, 1) < position_of(1, ROWS_PER_MESSAGE - 1) < position_of(2)


def test_a_position_is_shown_as_offset_and_row() -> None:
    assert show(position_of(7, 3)) == "7:3"


@pytest.mark.parametrize(("text", "position"), [("7:3", position_of(7, 3)), ("7", position_of(7))])
def test_a_position_is_read_as_it_is_shown_or_as_an_offset_alone(text: str, position: int) -> None:
    assert parse(text) == position


def test_other_text_is_no_position() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse("seven")
