"""Event-time arithmetic: milliseconds since 1970, watermarks, and the spans that rule the join.

Nothing here reads a clock. A watermark is the greatest event time in one partition's prefix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

EventTimeMs: TypeAlias = int
TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns"]

NEVER: Final[EventTimeMs] = -(1 << 62)
"""The watermark of a partition in which nothing has been read."""

GREATEST_TIME_MS: Final[EventTimeMs] = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last time that RFC 3339 can write."""

_PER_SECOND: Final[dict[str, int]] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class JoinTimes:
    """The spans that decide what becomes of events and labels, all in milliseconds of event time.

    Attributes:
        horizon_ms: H, how long an event waits for its label.
        disorder_ms: D <= H, how far an event may lag behind the scored watermark before it is stale.
        skew_ms: S, how much earlier than its event a label may be dated.
        recall_ms: R, how long after its horizon an identity is still recognised, so that a label that comes
            then is called late, duplicate or conflicting instead of orphaned.
        corrections_ms: C <= R, how long after its horizon an event's label may still be corrected or withdrawn;
            0: never, whatever the revisions say.
    """

    horizon_ms: int
    disorder_ms: int
    skew_ms: int
    recall_ms: int
    corrections_ms: int = 0

    @property
    def reuse_ms(self) -> int:
        """K = H + R + D + S: how long an event id cannot be used again for another event."""
        return self.horizon_ms + self.recall_ms + self.disorder_ms + self.skew_ms


def time_of(value: object, unit: TimeUnit) -> EventTimeMs | None:
    """Read an event time: RFC 3339 text with an offset, or a number since 1970 in `unit`.

    Returns:
        Milliseconds, finer parts cut off towards the past; None when the value is neither.
    """
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not abs(value) <= GREATEST_TIME_MS * 1e6:
        return None
    if isinstance(value, float):
        # A float of seconds is exact to a microsecond only: 1700000000.001 is stored as ….00099993.
        value, unit = round(value * (1_000_000 / _PER_SECOND[unit])), "us"
    time_ms = value * 1_000 // _PER_SECOND[unit]
    return time_ms if 0 <= time_ms <= GREATEST_TIME_MS else None


def rfc3339(time_ms: EventTimeMs) -> str:
    """Write a time of the years 1 to 9999 as RFC 3339 in UTC, to the millisecond."""
    return f"{(_EPOCH + time_ms * _MILLISECOND).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def rfc3339_of(time_ms: EventTimeMs) -> str | None:
    """Write a time as `rfc3339` does; None where there is none, such as a watermark's start."""
    return rfc3339(time_ms) if 0 <= time_ms <= GREATEST_TIME_MS else None


def _from_text(text: str) -> EventTimeMs | None:
    # RFC 3339 is narrower than what fromisoformat reads: no week dates, no basic format, the offset written out.
    if not _RFC_3339.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    time_ms = (moment - _EPOCH) // _MILLISECOND
    return time_ms if 0 <= time_ms <= GREATEST_TIME_MS else None


_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MILLISECOND: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
