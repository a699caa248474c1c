"""What a fault is: a name, a story, two sizes; and what trying it came to.

Faults stand in `tests/faults/cases/`, one module for each kind; importing them fills `FAULTS`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.faults.checks import Found


class Size(StrEnum):
    """How often each fault is tried."""

    CI = "ci"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Trial:
    """What one run of a fault is given.

    Attributes:
        times: How often the fault is to happen.
        folder: Its own, empty; kept when the run fails.
    """

    times: int
    seed: int
    size: Size
    folder: Path


@dataclass
class Result:
    """What a fault came to, as a row of the table.

    Attributes:
        times: How often it happened.
        events: Accepted events that the checks covered.
        lost: Events and labels without an outcome; None: nobody counted, the story has checks of its own.
        twice: Identities that were learned twice; likewise.
        skipped: Why it was not tried, or not all of it; "" where it was.
        recoveries_s: Seconds from each fault, or its end, to the first new prediction, block or snapshot of what had
            failed; by the session timeout of the group, "2s" or "10s", by "heal" where a fault ends by itself, or by
            what came then.
        predictions: How many predictions came during each fault.
        notes: What was measured besides, in words.
    """

    times: int = 0
    events: int = 0
    lost: int | None = None
    twice: int | None = None
    skipped: str = ""
    recoveries_s: dict[str, list[float]] = field(default_factory=dict)
    predictions: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def recovered(self, kind: str, seconds: float) -> None:
        """Note one recovery."""
        self.recoveries_s.setdefault(kind, []).append(seconds)

    def add(self, found: Found) -> None:
        """Add what the checks of one ground counted at its end."""
        self.events += found.events
        self.lost = (self.lost or 0) + found.lost
        self.twice = (self.twice or 0) + found.twice

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


Story = Callable[[Trial], Awaitable[Result]]

LANES = 3
"""How many faults are tried at once: most of a fault is waiting."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        number: F01 …
        title: What breaks, in a few words.
        ci: How often in the size `ci`; `full` likewise.
        limit_s: What a run in the size `ci` may take at most; ten times as much in the other.
        lanes: How many may be tried at once while it is; fewer, where what is measured is how long something takes.
    """

    number: str
    title: str
    ci: int
    full: int
    limit_s: float
    lanes: int
    story: Story

    def times(self, size: Size) -> int:
        """Return how often it happens."""
        return self.ci if size is Size.CI else self.full


FAULTS: dict[str, Fault] = {}


def fault(
    number: str, title: str, *, ci: int, full: int, limit_s: float = 300.0, lanes: int = LANES
) -> Callable[[Story], Story]:
    """Put a story into the catalogue."""

    def add(story: Story) -> Story:
        assert number not in FAULTS, number
        FAULTS[number] = Fault(number, title, ci, full, limit_s, lanes, story)
        return story

    return add


def load_cases() -> dict[str, Fault]:
    """Import every module of `cases`; return the faults in the order of their numbers."""
    from tests.faults import cases

    for module in pkgutil.iter_modules(cases.__path__):
        importlib.import_module(f"tests.faults.cases.{module.name}")
    return dict(sorted(FAULTS.items()))
