"""How far the dead letters of one partition have been dealt with, as an offset and a text that Kafka can commit.

Letters are chosen by code and age, so what is done is no prefix. The offset is that of the first letter that still
waits, which makes the group's lag an upper bound of what does; the text names the stretches beyond it that are done.

Invariant: stretches are sorted, do not touch, and lie beyond the position.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import Final

from tailrace.domain.errors import CodecError

MAX_TEXT_CHARS: Final = 4000
"""Kafka takes 4,096 bytes of text beside a committed offset by default."""

_TEXT: Final = re.compile(r"(\d{1,19}\+\d{1,19}(,\d{1,19}\+\d{1,19})*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LetterProgress:
    """What is done of one partition.

    Attributes:
        position: Everything below it is done.
        done: Stretches (start, end) beyond it that are done too.
    """

    position: int = 0
    done: tuple[tuple[int, int], ...] = ()

    def is_done(self, offset: int) -> bool:
        """Tell whether a letter was dealt with."""
        return offset < self.position or any(start <= offset < end for start, end in self.done)

    def with_done(self, start: int, end: int) -> LetterProgress:
        """Return the progress once the letters start .. end - 1 are done too."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted(chain([(0, self.position)], self.done, [(start, end)])):
            if merged and low <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        (_, position), *done = merged
        return LetterProgress(position, tuple(done))

    @property
    def text(self) -> str:
        """The stretches, each as its distance from the one before it and its length."""
        parts, at = [], self.position
        for start, end in self.done:
            parts.append(f"{start - at}+{end - start}")
            at = end
        return ",".join(parts)

    @property
    def is_too_long(self) -> bool:
        """Whether the text is longer than what can be committed."""
        return len(self.text) > MAX_TEXT_CHARS

    @classmethod
    def parse(cls, position: int, text: str) -> LetterProgress:
        """Read what was committed.

        Raises:
            CodecError: Another program committed it.
        """
        if not _TEXT.fullmatch(text):
            raise CodecError("the position of the dead letters is none that Tailrace wrote; delete the consumer group")
        progress, at = cls(position), position
        for part in filter(None, text.split(",")):
            distance, length = map(int, part.split("+"))
            at += distance + length
            progress = progress.with_done(at - length, at)
        return progress
