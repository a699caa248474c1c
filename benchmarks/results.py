"""What the rounds came to: medians, ratios within each round, the table, and whether the targets are reached."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.meter import Measured

RIVER = "bare River"
LOOP = "Tailrace"
FAUST = "stock Faust"

OF_RIVER = 0.40
"""The whole durable loop reaches at least this share of bare River's rate in memory."""

TIMES_FAUST = 7.0
"""And at least so many times the rate of a stock Faust loop."""


@dataclass
class Results:
    """The runs of every contender, round by round.

    Attributes:
        event_bytes: Mean size of an event's value.
    """

    events: int
    partitions: int
    event_bytes: float
    runs: dict[str, list[Measured]] = field(default_factory=dict)

    def add(self, contender: str, measured: Measured) -> None:
        """Take in one run; every contender runs once per round, in the same order."""
        self.runs.setdefault(contender, []).append(measured)

    def ratio(self, of: Callable[[Measured], float], contender: str) -> float:
        """Return the median over the rounds of Tailrace's figure over the contender's of the same round."""
        return median(of(loop) / of(other) for loop, other in zip(self.runs[LOOP], self.runs[contender], strict=True))

    @property
    def of_river(self) -> float:
        """Rate of Tailrace as a share of bare River's."""
        return self.ratio(_rate, RIVER)

    @property
    def times_faust(self) -> float:
        """Rate of Tailrace in rates of the stock Faust loop."""
        return self.ratio(_rate, FAUST)

    def missed(self) -> list[str]:
        """Return a sentence for each target that is not reached."""
        found = []
        if self.of_river < OF_RIVER:
            found.append(f"{self.of_river:.2f} of bare River's rate; the target is {OF_RIVER:.2f}")
        if self.times_faust < TIMES_FAUST:
            found.append(f"{self.times_faust:.1f} times the stock Faust loop; the target is {TIMES_FAUST:.1f}")
        return found

    def stages(self) -> dict[str, float]:
        """Return the median CPU of each stage of Tailrace in microseconds an event, the rest last."""
        loops = self.runs[LOOP]
        names = sorted({name for run in loops for name in run.stages})
        found = {name: median(run.stages.get(name, 0.0) / run.events * 1e6 for run in loops) for name in names}
        return found | {"Kafka client, event loop, Faust": median(map(_cpu_us, loops)) - sum(found.values())}

    def table(self) -> str:
        """Return the report as Markdown."""
        first = (
            f"{self.events:,} events of {self.event_bytes:.0f} bytes and as many labels, {self.partitions} partition(s), "
            f"median of {len(self.runs[LOOP])} round(s); Python {platform.python_version()}"
        )
        lines = [first, "", *_row("", "events/s", "min", "max", "CPU us/event", "log loss"), _rule(6)]
        for name, runs in self.runs.items():
            rates = sorted(map(_rate, runs))
            loss = median(run.log_loss or 0.0 for run in runs)
            cells = (f"{median(rates):,.0f}", f"{rates[0]:,.0f}", f"{rates[-1]:,.0f}")
            lines += _row(name, *cells, f"{median(map(_cpu_us, runs)):.1f}", f"{loss:.3f}")
        lines += ["", *_row("Tailrace over", "rate", "target", "CPU"), _rule(4)]
        for name, value, target in ((RIVER, self.of_river, OF_RIVER), (FAUST, self.times_faust, TIMES_FAUST)):
            lines += _row(name, f"{value:.2f}", f"{target:.2f}", f"{self.ratio(_cpu_us, name):.2f}")
        lines += ["", *_row("stage of Tailrace", "CPU us/event"), _rule(2)]
        for name, value in self.stages().items():
            lines += _row(name, f"{value:.1f}")
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """Return all figures, for a file."""
        return {
            "events": self.events,
            "partitions": self.partitions,
            "event_bytes": self.event_bytes,
            "rate_of_river": self.of_river,
            "rate_times_faust": self.times_faust,
            "cpu_of_river": self.ratio(_cpu_us, RIVER),
            "stages_cpu_us": self.stages(),
            "targets": {"rate_of_river": OF_RIVER, "rate_times_faust": TIMES_FAUST},
            "missed": self.missed(),
            "runs": {name: [asdict(run) for run in runs] for name, runs in self.runs.items()},
        }


def _rate(run: Measured) -> float:
    return run.rate


def _cpu_us(run: Measured) -> float:
    return run.cpu_us


def _row(*cells: str) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
