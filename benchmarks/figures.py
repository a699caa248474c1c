"""What a run measured, and what it could not measure and why: everything that targets and tables are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.latency import Latency
from benchmarks.running import Outcome


class NotMeasured(Exception):
    """A figure is not there; the message says why."""


@dataclass
class Figures:
    """The figures of one run.

    Attributes:
        runs: Contender → one outcome for each round; None: it failed in that round.
        latencies: Scenario → one for each round.
        refolds: Name → one outcome for each round.
        growth: Name of an axis → how much more the most costly point costs than the least, as a ratio.
        failures: Contender, scenario or axis → why there is nothing of it, or of one round.
        versions: Contender → package → version.
    """

    runs: dict[str, list[Outcome | None]] = field(default_factory=dict)
    latencies: dict[str, list[Latency | None]] = field(default_factory=dict)
    refolds: dict[str, list[Outcome | None]] = field(default_factory=dict)
    growth: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def ratio(self, of: Callable[[Outcome], float], over: Callable[[Outcome], float], *names: str) -> float:
        """Return the median over the rounds of one contender's figure over another's of the same round."""
        return median(self.ratios(of, over, *names))

    def ratios(
        self, of: Callable[[Outcome], float], over: Callable[[Outcome], float], first: str, second: str
    ) -> list[float]:
        """Return it round by round.

        Raises:
            NotMeasured: There is no round in which both ran.
        """
        return [of(one) / over(other) for one, other in self.pairs(self.runs, first, second)]

    def pairs(self, kind: dict[str, list[Any]], first: str, second: str) -> list[tuple[Any, Any]]:
        """Return what two of `runs`, `latencies` or `refolds` came to, of each round that has both.

        Raises:
            NotMeasured: There is no such round.
        """
        found = [
            (one, other)
            for one, other in zip(self._of(kind, first), self._of(kind, second), strict=False)
            if one is not None and other is not None
        ]
        if not found:
            raise NotMeasured(f"no round has both {first} and {second}")
        return found

    def refolded(self, of: Callable[[Outcome], float], name: str) -> list[float]:
        """Return a figure of a refold, round by round."""
        return [of(run) for run in self._of(self.refolds, name) if run is not None]

    def latency(self, of: Callable[[Latency], float | None], name: str) -> list[float]:
        """Return a figure of a scenario, round by round.

        Raises:
            NotMeasured: There is none.
        """
        found = [of(run) for run in self._of(self.latencies, name) if run is not None]
        known = [value for value in found if value is not None]
        if not known:
            raise NotMeasured(f"no label of {name!r} was found again in a state")
        return known

    def grown(self, axis: str) -> float:
        """Return the growth along an axis.

        Raises:
            NotMeasured: It was not asked for, or failed.
        """
        if axis not in self.growth:
            raise NotMeasured(self.failures.get(axis, "only `make bench-growth` measures it"))
        return self.growth[axis]

    def _of(self, kind: dict[str, list[Any]], name: str) -> Sequence[Any]:
        found = kind.get(name, ())
        if not any(run is not None for run in found):
            raise NotMeasured(self.failures.get(name, f"{name} did not run"))
        return found
