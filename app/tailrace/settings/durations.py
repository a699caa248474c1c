"""Durations as people write them, "30s" or "1h", and as Tailrace keeps them: whole milliseconds."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator

_UNIT_MS: Final[dict[str, int]] = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FORM: Final = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)")

LONGEST_MS: Final = 3_650 * _UNIT_MS["d"]
"""Ten years. Sums of a few durations and a time of this era stay far inside 64 bits."""

ALLOWED: Final = 'a duration such as "500ms", "30s", "5m", "1h" or "7d", up to "3650d"'


def parse_duration(text: object) -> int:
    """Return the milliseconds of "500ms", "30s", "5m", "1h" or "7d".

    Raises:
        ValueError: It is not such a text, or longer than ten years.
    """
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("not a duration")
    duration_ms = int(match[1]) * _UNIT_MS[match[2]]
    if duration_ms > LONGEST_MS:
        raise ValueError("longer than ten years")
    return duration_ms


def parse_positive_duration(text: object) -> int:
    """Like `parse_duration`, but zero is a ValueError too."""
    duration_ms = parse_duration(text)
    if duration_ms == 0:
        raise ValueError("zero")
    return duration_ms


def show_duration(duration_ms: int) -> str:
    """Return the shortest text that `parse_duration` reads as this."""
    for unit in ("d", "h", "m", "s"):
        if duration_ms and duration_ms % _UNIT_MS[unit] == 0:
            return f"{duration_ms // _UNIT_MS[unit]}{unit}"
    return f"{duration_ms}ms"


DurationMs: TypeAlias = Annotated[int, BeforeValidator(parse_duration)]
"""Milliseconds; written as text with a unit."""

PositiveMs: TypeAlias = Annotated[int, BeforeValidator(parse_positive_duration)]
"""Milliseconds, at least one; written as text with a unit."""
