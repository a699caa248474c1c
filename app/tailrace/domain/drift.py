"""Drift: a signal that the loss of the served predictions has changed.

ADWIN (Bifet and Gavalda, 2007; River's form) watches one number between 0 and 1 per judged example: for classes the
0/1 error, for numbers a bounded error (`evaluation.prequential.Judged`), since its bound holds in [0, 1] only. The
score of an anomaly task has no loss, so nothing is watched there.

What a signal means is left to whoever reads it; nothing is retrained or reset but the detector itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from river import drift

from tailrace.domain.positions import Position


@dataclass(frozen=True, slots=True)
class DriftSignal:
    """The loss changed, seen at one example.

    Attributes:
        position: The example at which it was seen.
        before: Mean bounded loss since the signal before this one.
        after: Mean bounded loss of the recent examples.
    """

    position: Position
    before: float
    after: float

    @property
    def is_worse(self) -> bool:
        """Whether the loss rose."""
        return self.after > self.before


def new_adwin() -> Any:
    """Return a detector that has seen nothing, with River's settings."""
    return drift.ADWIN()  # type: ignore[no-untyped-call]


class LossDrift:
    """The detector of one loop; changed in place by the fold.

    Attributes:
        signals: How many signals there were.
        last: Position of the last one; -1: none.
    """

    def __init__(self) -> None:
        self.signals = 0
        self.last: Position = -1
        self._adwin: Any = new_adwin()
        self._count = 0
        self._total = 0.0

    @property
    def width(self) -> int:
        """How many examples the detector's window holds."""
        return int(self._adwin.width)

    def update_many(self, positions: Sequence[Position], losses: Sequence[float]) -> list[DriftSignal]:
        """Observe the bounded losses of judged examples, in the order of the log."""
        found: list[DriftSignal] = []
        adwin, count, total = self._adwin, self._count, self._total
        update = adwin.update
        for position, loss in zip(positions, losses, strict=True):
            update(loss)
            count += 1
            total += loss
            if adwin.drift_detected:
                found.append(DriftSignal(position, total / count, adwin.estimation))
                count, total = 0, 0.0
        self._count, self._total = count, total
        if found:
            self.signals += len(found)
            self.last = found[-1].position
        return found

    def dump(self) -> dict[str, Any]:
        """Return the plain form, for the codec."""
        return {
            "signals": self.signals,
            "last": self.last,
            "adwin": self._adwin,
            "count": self._count,
            "total": self._total,
        }

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> LossDrift:
        """Make a detector from its plain form."""
        made = cls()
        made.signals, made.last = plain["signals"], plain["last"]
        made._adwin, made._count, made._total = plain["adwin"], plain["count"], plain["total"]
        return made
