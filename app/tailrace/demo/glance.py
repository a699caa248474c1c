"""What there is to see at one moment of a demo, and the course of the accuracy up to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tailrace.demo.watch import Seen
from tailrace.domain.status import MemberStatus, Quality

RECENT_S: Final = 3
"""What "just now" is: long enough for some two hundred labels at the usual rate."""


class Judged(NamedTuple):
    """Predictions whose label has come, and how many of them were right."""

    samples: int
    hits: int

    @property
    def share(self) -> float | None:
        """The accuracy; None of nothing."""
        return self.hits / self.samples if self.samples else None

    def since(self, before: Judged) -> Judged:
        """Return what came after an earlier moment."""
        return Judged(self.samples - before.samples, self.hits - before.hits)


@dataclass
class CourseState:
    """The accuracy by the second, from the first moment that was noted."""

    _marks: list[Judged] = field(default_factory=list)

    @property
    def now(self) -> Judged:
        """All of it."""
        return self._marks[-1]

    def note(self, at_s: float, judged: Judged) -> None:
        """Take the totals of a moment; moments come in order."""
        if not self._marks:
            self._marks.append(judged)
        second = int(at_s) + 1
        while len(self._marks) <= second:
            self._marks.append(self._marks[-1])
        self._marks[second] = judged

    def recent(self) -> Judged:
        """Return what was judged in the last seconds."""
        return self.now.since(self._marks[max(0, len(self._marks) - 1 - RECENT_S)])

    def between(self, start_s: int, end_s: int) -> Judged:
        """Return what was judged between two seconds."""
        last = len(self._marks) - 1
        return self._marks[min(max(end_s, 0), last)].since(self._marks[min(max(start_s, 0), last)])

    def seconds(self, last: int) -> list[float | None]:
        """Return the accuracy of each of the last seconds that are over."""
        pairs = zip(self._marks, self._marks[1:-1], strict=False)
        return [after.since(before).share for before, after in pairs][-last:]

    def lowest(self, start_s: int, width_s: int = 2) -> float | None:
        """Return the worst accuracy over a few seconds since a moment."""
        starts = range(start_s, len(self._marks) - width_s)
        found = [share for start in starts if (share := self.between(start, start + width_s).share) is not None]
        return min(found, default=None)


@dataclass(frozen=True)
class Glance:
    """One moment.

    Attributes:
        at_s, of_s: Seconds since the first event, and how many it will be; None: until it is ended.
        member: What the worker tells about itself.
        drift_at_s: When the pages begin to look different.
    """

    at_s: float
    of_s: float | None
    rate_per_s: float
    events: int
    labels: int
    predictions: int
    member: MemberStatus
    course: CourseState
    drift_at_s: float
    latest: Sequence[Seen] = ()
    truth: Mapping[str, bool] = field(default_factory=dict)

    @property
    def learned(self) -> int:
        """Examples in the model."""
        return self.member.model.learned if self.member.model is not None else 0

    @property
    def waiting(self) -> int:
        """Scored events of which the label has not come, and the horizon not passed."""
        counters = self.member.counters
        scored = counters.get("events_scored", 0) + counters.get("events_abstained", 0)
        settled = sum(count for name, count in counters.items() if name.startswith("event_joins_"))
        return max(0, scored - settled)

    @property
    def accuracy(self) -> Quality | None:
        """The accuracy of everything served so far."""
        return accuracy_of(self.member.quality)

    @property
    def has_drifted(self) -> bool:
        """Whether the pages look different by now."""
        return self.at_s >= self.drift_at_s

    @property
    def signals(self) -> int:
        """How often the learner noticed a drift."""
        return self.member.counters.get("drifts", 0)


def accuracy_of(quality: Sequence[Quality]) -> Quality | None:
    """Return the accuracy over everything."""
    return next((each for each in quality if each.metric == "accuracy" and each.window == "all"), None)


def judged_of(quality: Quality | None) -> Judged:
    """Return how many predictions were judged and how many were right."""
    if quality is None or quality.value is None:
        return Judged(0, 0)
    return Judged(quality.samples, round(quality.value * quality.samples))
