"""What checks come to: numbers for a table, and what is wrong in plain words.

A check says everything that it finds and raises nothing; whoever asked raises once, with all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

SAID_OF_EACH = 6
"""Violations of one invariant that are told in words; the others are counted."""


@dataclass
class Violations:
    """What was found to be wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    _said: dict[str, list[str]] = field(default_factory=dict)

    def say(self, invariant: str, words: str) -> None:
        """Note one violation of an invariant, by its number."""
        self.counts[invariant] += 1
        if len(said := self._said.setdefault(invariant, [])) < SAID_OF_EACH:
            said.append(words)

    def say_all(self, invariant: str, found: Iterable[str]) -> None:
        """Note each of several."""
        for words in found:
            self.say(invariant, words)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()

    @property
    def lines(self) -> list[str]:
        """All of it as lines: a bounded number, whatever was found."""
        found = []
        for invariant, said in sorted(self._said.items(), key=lambda each: int(each[0][1:])):
            found += [f"{invariant}: {words}" for words in said]
            if left := self.counts[invariant] - len(said):
                found.append(f"{invariant}: and {left} more")
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """What the checks counted.

    Attributes:
        events: Accepted, by source position.
        outcomes: Of identities: joined, implicit, dropped; and of labels that came later: corrected, withdrawn.
        dead: Labels that count as dead letters, by code.
        forwarded: Labels that came on another partition than their id's.
        labels: Records of the labels topic.
        lost_events: Source positions without scored row, prediction or dead letter, and identities whose horizon
            passed without a row.
        lost_labels: Source positions of labels that must have a row or a dead letter and have none.
        twice: Identities that were settled more than once by blocks that count, and labels that corrected them so.
    """

    events: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    forwarded: int = 0
    learned: int = 0
    labels: int = 0
    lost_events: int = 0
    lost_labels: int = 0
    twice: int = 0

    @property
    def lost(self) -> int:
        """Events and labels without an outcome."""
        return self.lost_events + self.lost_labels


class Violated(AssertionError):
    """A check found something wrong with what the topics and the store hold: no matter of time, nor of the machine."""


@dataclass
class Audit:
    """What was counted and what is wrong.

    Attributes:
        seconds: How long each part took.
    """

    found: Found = field(default_factory=Found)
    violations: Violations = field(default_factory=Violations)
    seconds: dict[str, float] = field(default_factory=dict)

    def complain(self) -> Found:
        """Return what was counted.

        Raises:
            Violated: Something is wrong; it says all of it.
        """
        if self.violations.total:
            found = self.found
            counts = f"{found.events} events and {found.labels} labels, {found.lost} lost, {found.twice} learned twice"
            lines = "\n  ".join(self.violations.lines)
            raise Violated(f"{self.violations.total} violations; {counts}\n  {lines}")
        return self.found
