"""How far dead letters are dealt with is a set of offsets, kept as a position and a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.domain.errors import CodecError
from tailrace.wire.letter_progress import MAX_TEXT_CHARS, LetterProgress

stretches = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=12)


@given(stretches)
def test_exactly_what_was_noted_is_done_and_comes_back_from_its_text(noted: list[tuple[int, int]]) -> None:
    progress, offsets = LetterProgress(), set()
    for start, length in noted:
        progress = progress.with_done(start, start + length)
        offsets |= set(range(start, start + length))

    again = LetterProgress.parse(progress.position, progress.text)

    assert again == progress
    assert offsets == {offset for offset in range(40) if progress.is_done(offset)}
    assert progress.position not in offsets


def test_the_position_is_the_first_letter_that_waits() -> None:
    progress = LetterProgress(10).with_done(12, 14).with_done(20, 21)

    assert (10, "2+2,6+1") == (progress.position, progress.text)
    assert LetterProgress(14, ((20, 21),)) == progress.with_done(10, 12)


def test_a_text_that_cannot_be_committed_is_too_long() -> None:
    longest = LetterProgress(0, tuple((offset, offset + 1) for offset in range(1, MAX_TEXT_CHARS // 2, 2)))

    assert (MAX_TEXT_CHARS - 1, False) == (len(longest.text), longest.is_too_long)
    assert longest.with_done(9_999, 10_000).is_too_long


@pytest.mark.parametrize("text", ["x", "1", "1+", "+1", "1+1,", "-1+2", "1+1 ", "1+1,,2+2"])
def test_what_another_program_committed_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match="none that Tailrace wrote"):
        LetterProgress.parse(0, text)
