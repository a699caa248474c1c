"""The rounds: every contender once in each, one after another, so that ratios are of runs that lie close together."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson

from benchmarks import latency, lineup
from benchmarks.broker import REPOSITORY, say
from benchmarks.configuration import COMPILED, UNMODIFIED, compiling
from benchmarks.environments import OURS, InstallError, python_of, versions_of
from benchmarks.figures import Figures
from benchmarks.latency import Scenario
from benchmarks.lineup import Contender
from benchmarks.protocol import HANDLED, Task
from benchmarks.running import ContenderError, Outcome, run, started
from benchmarks.targets import BARE_LEARN, REFOLD, REFOLD_COMPILED
from benchmarks.topics import Inputs, fill

_SECONDS_PER_EVENT = 0.003  # slower than this, a contender is stuck
_SHORT = 10  # the part of the examples that slow contenders are given is one of so many
_WARM_RUNS = 3  # until Java has compiled what the broker does often
_REFOLDED = 5  # times the examples of the rounds, so that a compiled fold runs for a while
_QUICK_REFOLDED = 2

Found = TypeVar("Found")


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        parts: Of "loops", "latency", "refold".
        among: Words that a contender or scenario must have in its name.
    """

    events: int
    rounds: int
    parts: Sequence[str]
    among: str = ""
    is_quick: bool = False


@dataclass
class Rounds:
    """Runs a plan.

    Attributes:
        has_failed: Whether a contender that is there failed; one that cannot be installed or compiled is only named.
    """

    plan: Plan
    figures: Figures
    has_failed: bool = False
    event_bytes: float = 0.0
    _inputs: dict[tuple[int, int], Inputs] = field(default_factory=dict)

    async def run(self, bootstrap: str, after: Callable[[int], None]) -> None:
        """Run every part, round by round; `after` is told the number of each round that is over."""
        self.figures.growth = _grown()
        asks_loops = "loops" in self.plan.parts
        everybody = lineup.QUICK if self.plan.is_quick else lineup.LINEUP
        contenders = self._able([each for each in everybody if asks_loops and self.plan.among in each.name])
        asks_latency = "latency" in self.plan.parts and not self.plan.is_quick
        asked = [each for each in latency.SCENARIOS if asks_latency and self.plan.among in each.name]
        scenarios = [each for each in asked if self._is_able(each.name, each.contender)]
        if asks_loops:
            await self._prepare(bootstrap, contenders)
        for number in range(1, self.plan.rounds + 1):
            say(f"round {number} of {self.plan.rounds}")
            for contender in contenders:
                await self._loop(contender, bootstrap)
            if "refold" in self.plan.parts:
                await self._refolds()
            for scenario in scenarios:
                await self._latency(scenario, bootstrap)
            after(number)

    def _able(self, contenders: Sequence[Contender]) -> list[Contender]:
        able = [contender for contender in contenders if self._is_able(contender.name, contender)]
        for contender in able:
            self.figures.versions[contender.name] = versions_of(contender.environment, contender.packages)
        return able

    def _is_able(self, name: str, contender: Contender) -> bool:
        why = compiling() if contender.compiled == COMPILED else ""
        try:
            python_of(contender.environment)
        except InstallError as problem:
            why = f"cannot be installed: {problem}"
        if why:
            self.figures.failures[name] = why
        return not why

    async def _prepare(self, bootstrap: str, contenders: Sequence[Contender]) -> None:
        for contender in contenders:
            if contender.uses_kafka and not contender.fills_late and self._key(contender) not in self._inputs:
                count, partitions = self._key(contender)
                say(f"filling topics: {count:,} events and labels over {partitions} partition(s)")
                made = await fill(bootstrap, f"bench-{count}-{partitions}", count, partitions)
                self._inputs[count, partitions] = made
                self.event_bytes = made.event_bytes
        say("warming up the broker")
        if (first := next((each for each in contenders if self._key(each) in self._inputs), None)) is not None:
            for _ in range(_WARM_RUNS):
                await run(first, bootstrap, self._inputs[self._key(first)], self._within_s(self.plan.events))

    def _key(self, contender: Contender) -> tuple[int, int]:
        count = max(1, self.plan.events // _SHORT) if contender.is_short else self.plan.events
        return count, contender.partitions

    async def _loop(self, contender: Contender, bootstrap: str) -> None:
        count, partitions = self._key(contender)
        inputs = self._inputs.get((count, partitions), Inputs("", "", count, partitions))
        found = await self._one(contender.name, lambda: run(contender, bootstrap, inputs, self._within_s(count)))
        self.figures.runs.setdefault(contender.name, []).append(found)
        if found is not None:
            say(f"  {contender.name:<40} {found.rate:>9,.0f}/s {found.cpu_us:>7.1f} us CPU{_remark(found)}")

    async def _refolds(self) -> None:
        for name, options in (
            (BARE_LEARN, {"is_bare": True}),
            (REFOLD, {"compiled": UNMODIFIED}),
            (REFOLD_COMPILED, {"compiled": COMPILED}),
        ):
            if name == REFOLD_COMPILED and (why := compiling()):
                self.figures.failures[name] = why
                continue
            found = await self._one(name, lambda options=options: self._refold(options))
            self.figures.refolds.setdefault(name, []).append(found)
            if found is not None:
                say(f"  {name:<40} {found.rate:>9,.0f}/s {found.cpu_us:>7.1f} us CPU")

    async def _refold(self, options: dict[str, object]) -> Outcome:
        count = self.plan.events * (_QUICK_REFOLDED if self.plan.is_quick else _REFOLDED)
        async with started(python_of(OURS), "refold", Task(count=count, options=options)) as child:
            await child.says(HANDLED, self._within_s(count) + 60.0)
            return Outcome(count, (await child.measured(),))

    async def _latency(self, scenario: Scenario, bootstrap: str) -> None:
        rate = scenario.rate
        if rate is None:
            runs = [run.rate for run in self.figures.runs.get(scenario.contender.name, ()) if run is not None]
            if not runs:
                self.figures.failures[scenario.name] = f"the greatest rate of {scenario.contender.name} is not known"
                self.figures.latencies.setdefault(scenario.name, []).append(None)
                return
            rate = runs[-1] / 2
        found = await self._one(scenario.name, lambda: latency.measure(scenario, bootstrap, rate))
        self.figures.latencies.setdefault(scenario.name, []).append(found)
        if found is not None:
            say(f"  {scenario.name:<40} p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms{_influence(found)}")

    async def _one(self, name: str, running: Callable[[], Awaitable[Found]]) -> Found | None:
        try:
            return await running()
        except (ContenderError, TimeoutError, OSError) as problem:
            self.figures.failures[name] = str(problem) or type(problem).__name__
            self.has_failed = True
            say(f"  {name:<40} failed: {problem!r}")
            return None

    def _within_s(self, count: int) -> float:
        return count * _SECONDS_PER_EVENT + 20.0


def _remark(found: Outcome) -> str:
    if found.is_balanced:
        return ""
    plain = [dataclasses.asdict(part) for part in found.parts]
    counts = [(part["scored"], part["learned"]) for part in plain]
    return f"  NOT BALANCED: scored, learned {counts}, written {found.written}, unique {found.unique}"


def _influence(found: latency.Latency) -> str:
    if found.influence_p99_ms is None:
        return ""
    return f", label to influence p50 {found.influence_p50_ms:.1f} ms, p99 {found.influence_p99_ms:.1f} ms"


def _grown() -> dict[str, float]:
    """Return what the last `make bench-growth` found; nothing where there was none."""
    kept = REPOSITORY / "benchmarks" / "results" / "growth.json"
    return orjson.loads(kept.read_bytes())["grown"] if kept.exists() else {}
