"""What a demo came to: as the JSON of `--summary`, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tailrace.demo.glance import CourseState, accuracy_of
from tailrace.domain.books import Balance, Books
from tailrace.domain.status import MemberStatus, Quantiles

_BEFORE_S = 4  # seconds before the drift that "before it" is about
_BACK_AT = 0.95  # of the accuracy before the drift: then it counts as recovered


@dataclass(frozen=True, slots=True)
class Recovery:
    """What the drift did to the accuracy.

    Attributes:
        back_after_s: Seconds from the drift until it was about as good as before; None: it was not, yet.
    """

    before: float
    lowest: float
    at_end: float
    back_after_s: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A demo that has ended; counts are of what the topics hold.

    Attributes:
        accuracy, baseline: Of everything served, and of the best trivial guess.
        first_prediction_s: From a log that answers to the first prediction that was read back.
        notes: What could not be looked at for the books.
        stays: What stays behind and what can be done with it, in words.
    """

    events: int
    predictions: int
    books: Books
    accuracy: float | None
    baseline: float | None
    label_to_influence: Quantiles | None
    snapshots: int
    first_prediction_s: float | None
    recovery: Recovery | None = None
    notes: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()

    def part(self, line: str, part: str) -> int:
        """Return one number of the books; 0 where the books do not have the line."""
        balance = self._balance(line)
        return balance.parts.get(part, 0) if balance is not None else 0

    @property
    def labels(self) -> int:
        """Labels that came in."""
        balance = self._balance("labels")
        return balance.total if balance is not None else 0

    @property
    def learned(self) -> int:
        """Examples in the model."""
        return self.part("examples", "learned")

    @property
    def is_balanced(self) -> bool:
        """Whether all that came in is accounted for: four lines, each holds, and the events are those of the topic."""
        counted = self._balance("events")
        is_whole = {balance.line for balance in self.books.balances} >= {"events", "scored", "labels", "examples"}
        return self.books.holds and is_whole and counted is not None and counted.total == self.events

    def to_plain(self) -> dict[str, Any]:
        """Return what `--summary` writes."""
        quantiles = self.label_to_influence
        return {
            "events": self.events,
            "predictions": self.predictions,
            "labels": self.labels,
            "learned": self.learned,
            "duplicates": self.part("labels", "duplicate"),
            "waiting": self.part("scored", "waiting"),
            "balanced": self.is_balanced,
            "accuracy": _rounded(self.accuracy, 4),
            "baseline": _rounded(self.baseline, 4),
            "label_to_influence_ms": {
                "p50": _rounded(quantiles.p50_ms if quantiles else None, 1),
                "p99": _rounded(quantiles.p99_ms if quantiles else None, 1),
            },
            "snapshots": self.snapshots,
            "first_prediction_s": _rounded(self.first_prediction_s, 3),
        }

    def in_words(self) -> str:
        """Return it for people."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        first = self.first_prediction_s
        yield f"{self.events:,} events came in, {self.predictions:,} predictions went out" + (
            f", the first of them {first:.1f} s after the log answered." if first is not None else "."
        )
        learned = f"the model learned from {self.learned:,} examples while it served"
        yield f"{self.labels:,} labels followed, late; {learned}."
        if self.accuracy is not None and self.baseline is not None:
            yield (
                f"Of what was served {self.accuracy:.0%} was right; "
                f"the best trivial guess would have been right in {self.baseline:.0%}."
            )
        yield from self._recovery_lines()
        if self.label_to_influence is not None:
            quantiles = self.label_to_influence
            yield (
                f"A label changed the predictions after {quantiles.p50_ms:.0f} ms, "
                f"99 of 100 within {quantiles.p99_ms:.0f} ms."
            )
        if self.snapshots:
            yield f"{self.snapshots} snapshot{'s were' if self.snapshots > 1 else ' was'} written on the way."
        yield ""
        yield "Everything is accounted for:" if self.is_balanced else "NOT everything is accounted for:"
        yield from (f"  {_in_words(balance)}" for balance in self.books.balances)
        if self.books.learned_twice:
            yield f"  {len(self.books.learned_twice)} events were learned twice"
        yield from (f"  note: {note}" for note in self.notes)
        if self.stays:
            yield ""
            yield from self.stays

    def _recovery_lines(self) -> Iterator[str]:
        recovery = self.recovery
        if recovery is None:
            return
        fell = f"When the pages began to look different, it fell from {recovery.before:.0%} to {recovery.lowest:.0%}"
        if recovery.back_after_s is None:
            yield f"{fell}; it was at {recovery.at_end:.0%} in the end."
        else:
            yield (
                f"{fell}, and was back {recovery.back_after_s} s after the change; "
                f"it was at {recovery.at_end:.0%} in the end."
            )

    def _balance(self, line: str) -> Balance | None:
        return next((balance for balance in self.books.balances if balance.line == line), None)


def best_baseline(member: MemberStatus) -> float | None:
    """Return the accuracy of the trivial guess that is hardest to beat."""
    quality = accuracy_of(member.quality)
    return max(quality.baselines.values(), default=None) if quality is not None else None


def recovery_of(course: CourseState, drift_at_s: float, end_s: float) -> Recovery | None:
    """Return what the drift did; None where too little came before or after it."""
    drift, end = int(drift_at_s), int(end_s)
    before = course.between(drift - _BEFORE_S, drift).share
    lowest = course.lowest(drift)
    at_end = course.between(end - _BEFORE_S, end + 1).share
    if before is None or lowest is None or at_end is None or end < drift + _BEFORE_S:
        return None
    return Recovery(before, lowest, at_end, _back_after_s(course, drift, end, before * _BACK_AT, lowest))


def _back_after_s(course: CourseState, drift: int, end: int, wanted: float, lowest: float) -> int | None:
    has_fallen = False
    for second in range(drift, end):
        share = course.between(second, second + 2).share
        if share is None:
            continue
        has_fallen = has_fallen or share <= lowest
        if has_fallen and share >= wanted:
            return second + 2 - drift
    return None


def _in_words(balance: Balance) -> str:
    parts: Mapping[str, int] = {part: count for part, count in balance.parts.items() if count}
    made = " + ".join(f"{count:,} {part}" for part, count in parts.items()) or "0"
    return f"{balance.total:,} {balance.line} = {made}" + (
        "" if balance.holds else f", and {balance.difference:,} unexplained"
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
