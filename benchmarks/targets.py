"""The targets: each with its limit and how it is computed. All ratios are of contenders of one round of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import growth_axes, latency, lineup
from benchmarks.figures import Figures, NotMeasured
from benchmarks.latency import Latency
from benchmarks.running import Outcome

AT_MOST, AT_LEAST = "at most", "at least"
REFOLD, REFOLD_COMPILED, BARE_LEARN = "refold", "refold, compiled", "bare learn_one"


@dataclass(frozen=True)
class Target:
    """One promise.

    Attributes:
        bound: Whether the value may be at most or must be at least the limit.
        is_quick: Whether `--quick` measures it.
        quick_limit: What counts there: rounds are short and few, and CI's machine is shared.
    """

    name: str
    bound: str
    limit: float
    value: Callable[[Figures], float]
    unit: str = "x"
    is_quick: bool = False
    quick_limit: float | None = None

    def verdict(self, figures: Figures, *, is_quick: bool = False) -> Verdict:
        """Return what became of it."""
        limit = self.quick_limit if is_quick and self.quick_limit is not None else self.limit
        try:
            value = self.value(figures)
        except NotMeasured as why:
            return Verdict(self.name, None, self.bound, limit, self.unit, None, str(why))
        is_met = value <= limit if self.bound == AT_MOST else value >= limit
        return Verdict(self.name, value, self.bound, limit, self.unit, is_met, "")


@dataclass(frozen=True)
class Verdict:
    """What became of a target.

    Attributes:
        value: None: not measured, `why` says the reason.
        met: Likewise.
    """

    name: str
    value: float | None
    bound: str
    limit: float
    unit: str
    met: bool | None
    why: str

    def plain(self) -> dict[str, Any]:
        """Return it for `latest.json`."""
        plain = {"name": self.name, "value": self.value, "limit": self.limit, "met": self.met}
        return plain | {"bound": self.bound, "unit": self.unit} | ({"why": self.why} if self.why else {})


def _cpu(one: str, other: str) -> Callable[[Figures], float]:
    return lambda figures: figures.ratio(_cpu_us, _cpu_us, one, other)


def _rate(one: str, other: str) -> Callable[[Figures], float]:
    return lambda figures: figures.ratio(_rate_of, _rate_of, one, other)


def _cpu_us(run: Outcome) -> float:
    return run.cpu_us


def _rate_of(run: Outcome) -> float:
    return run.rate


def _scorer(one: str) -> Callable[[Figures], float]:
    """Return the CPU of the process that scores over that of transport alone."""
    return lambda figures: figures.ratio(lambda run: run.cpu_us_of(0), _cpu_us, one, lineup.TRANSPORT)


def _ms(of: Callable[[Latency], float | None], name: str) -> Callable[[Figures], float]:
    return lambda figures: median(figures.latency(of, name))


def _p50(run: Latency) -> float:
    return run.p50_ms


def _p99(run: Latency) -> float:
    return run.p99_ms


def _influence(run: Latency) -> float | None:
    return run.influence_p99_ms


def _p99_of_aiokafka(figures: Figures) -> float:
    pairs = figures.pairs(figures.latencies, lineup.LOOP, lineup.AIOKAFKA)
    return median(ours.p99_ms / plain.p99_ms for ours, plain in pairs)


def _p99_of_snapshot(figures: Figures) -> float:
    pairs = figures.pairs(figures.latencies, latency.LARGE, latency.LARGE_STILL)
    return median(busy.p99_ms - still.p99_ms for busy, still in pairs)


def _refold_of_bare(figures: Figures) -> float:
    return median(ours.rate / bare.rate for ours, bare in figures.pairs(figures.refolds, REFOLD, BARE_LEARN))


def _refold_compiled(figures: Figures) -> float:
    return median(figures.refolded(_rate_of, REFOLD_COMPILED))


_COMPILED, _UNMODIFIED = lineup.LOOP_COMPILED, lineup.LOOP

TARGETS = (
    Target(
        "compiled: CPU per event over bare River",
        AT_MOST, 0.9, _cpu(_COMPILED, lineup.RIVER), is_quick=True, quick_limit=3.0,
    ),
    Target(
        "unmodified River: CPU per event over bare River",
        AT_MOST, 1.9, _cpu(_UNMODIFIED, lineup.RIVER), is_quick=True, quick_limit=5.0,
    ),
    Target("stock Faust's CPU over compiled", AT_LEAST, 25.0, _cpu(lineup.FAUST, _COMPILED)),
    Target("CPU of the best peer that keeps its join over compiled", AT_LEAST, 5.0, _cpu(lineup.QUIX_STATE, _COMPILED)),
    Target("plain confluent's CPU over compiled", AT_LEAST, 1.5, _cpu(lineup.CONFLUENT, _COMPILED)),
    Target("stock Faust's CPU over unmodified River", AT_LEAST, 10.0, _cpu(lineup.FAUST, _UNMODIFIED)),
    Target(
        "CPU of the best peer that keeps its join over unmodified River",
        AT_LEAST, 2.5, _cpu(lineup.QUIX_STATE, _UNMODIFIED),
    ),
    Target("unmodified River: CPU over plain confluent", AT_MOST, 1.5, _cpu(_UNMODIFIED, lineup.CONFLUENT)),
    Target("scoring role, compiled: CPU over transport alone", AT_MOST, 1.4, _scorer(lineup.APART_COMPILED)),
    Target("scoring role, unmodified River: CPU over transport alone", AT_MOST, 1.4, _scorer(lineup.APART)),
    Target(
        "two processes, unmodified River: events/s over one",
        AT_LEAST, 1.3, _rate(lineup.APART, _UNMODIFIED),
    ),
    Target("two processes, compiled: CPU over one", AT_MOST, 1.15, _cpu(lineup.APART_COMPILED, _COMPILED)),
    Target(
        "8 scorers of 16 partitions: CPU per event over one scorer",
        AT_MOST, 1.15, _cpu(lineup.EIGHT_SCORERS, lineup.ONE_SCORER),
    ),
    Target("500 events/s: event to prediction, p50", AT_MOST, 2.0, _ms(_p50, lineup.LOOP), "ms"),
    Target("500 events/s: event to prediction, p99", AT_MOST, 6.0, _ms(_p99, lineup.LOOP), "ms"),
    Target("500 events/s: p99 over plain aiokafka's", AT_MOST, 1.2, _p99_of_aiokafka),
    Target("label to influence in one process, p99", AT_MOST, 50.0, _ms(_influence, lineup.LOOP), "ms"),
    Target("label to influence by snapshots, p99", AT_MOST, 1_500.0, _ms(_influence, lineup.APART), "ms"),
    Target(
        "label to influence by a follower of the log, p99",
        AT_MOST, 100.0, _ms(_influence, latency.FOLLOWING), "ms",
    ),
    Target("half the greatest rate, linger 5 ms: p99", AT_MOST, 100.0, _ms(_p99, latency.HALF), "ms"),
    Target("a snapshot of 10 MB: what p99 grows by", AT_MOST, 10.0, _p99_of_snapshot, "ms"),
    Target(
        "refold of River over bare learn_one, examples/s",
        AT_LEAST, 0.9, _refold_of_bare, is_quick=True, quick_limit=0.6,
    ),
    Target("refold, compiled", AT_LEAST, 300_000.0, _refold_compiled, "examples/s"),
    *(
        Target(f"growth: {axis.title}", AT_MOST, axis.limit, lambda figures, name=axis.name: figures.grown(name))
        for axis in growth_axes.AXES
    ),
)  # fmt: skip


def verdicts(figures: Figures, *, is_quick: bool) -> list[Verdict]:
    """Return what became of every target, or of those that `--quick` measures."""
    asked: Iterable[Target] = (target for target in TARGETS if target.is_quick or not is_quick)
    return [target.verdict(figures, is_quick=is_quick) for target in asked]
