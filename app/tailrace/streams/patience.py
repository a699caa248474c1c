"""When corrections have waited long enough for the serving branch to be built anew."""

from __future__ import annotations

from dataclasses import dataclass

from tailrace.domain.positions import Position

_LONGEST = 10  # times as long as quiet is waited for; corrections that never cease are applied too
_REST = 4  # times as long as building a branch anew took, so that it never keeps a core busy


@dataclass(slots=True)
class Patience:
    """Waits until no correction comes any more, but not for ever.

    Every method is told the time, in seconds of a clock that never goes back.

    Attributes:
        quiet_s: Without another correction.
    """

    quiet_s: float
    _last: Position = 0
    _last_s: float = 0.0
    _first_s: float | None = None
    _rest_until_s: float = 0.0

    def is_over(self, corrections_end: Position, now_s: float) -> bool:
        """Return whether corrections that wait are to be applied now.

        Args:
            corrections_end: Exclusive: the last one lies before it.
        """
        if self._first_s is None:
            self._first_s = now_s
        if corrections_end != self._last:
            self._last, self._last_s = corrections_end, now_s
        is_quiet = now_s - max(self._last_s, self._rest_until_s) >= self.quiet_s
        is_long = now_s - self._first_s >= _LONGEST * self.quiet_s
        return now_s >= self._rest_until_s and (is_quiet or is_long)

    def nothing_waits(self) -> None:
        """Note that every correction is applied, or that somebody decided against it."""
        self._first_s = None

    def applied(self, took_s: float, now_s: float) -> None:
        """Note that a branch was built anew, or that this was tried."""
        self._first_s = None
        self._rest_until_s = now_s + _REST * took_s
