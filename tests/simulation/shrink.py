"""Makes a failing seed smaller: fewer ids in the inputs, fewer faults, and so a shorter schedule, that still fails.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on
Software Engineering 28(2), 2002, section 3.2) over the list of what a seed chose: ids and faults together. A part of
that list is left out; what still fails takes the place of the list; parts become smaller until nothing can go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.simulation.faults import KINDS, Trim
from tests.simulation.inputs import make_case
from tests.simulation.run import Result, run

MOST_RUNS: Final = 600

Choice = tuple[str, str]
"""("id", an id) or ("fault", its name)."""


@dataclass(frozen=True, slots=True)
class Smallest:
    """A failing world from which nothing more could be left out.

    Attributes:
        runs: That it took.
    """

    result: Result
    trim: Trim
    plant: str | None
    runs: int

    @property
    def command(self) -> str:
        """The one line that runs it again."""
        planted = f" --plant {self.plant}" if self.plant else ""
        ids = ",".join(_in_order(self.trim.ids or ())) or "none"
        faults = ",".join(self.result.faults) or "none"
        return f"python -m tests.simulation --seed {self.result.seed}{planted} --ids {ids} --faults {faults}"

    def in_words(self) -> str:
        """Return what happens in it, line by line."""
        case, result = make_case(self.result.seed, self.trim.ids), self.result
        lines = [f"{case.partitions} partitions, horizon {case.times.horizon_ms} ms, model {case.model}"]
        for number, events in enumerate(case.events):
            lines += [
                f"event {entry.value.id} at {entry.value.time_ms} ms on partition {number}, read from {entry.arrival_ms:.0f} ms on"
                for entry in events.entries
            ]
        for number, labels in enumerate(case.labels):
            lines += [
                f"label of {label.id} at {label.time_ms} ms on partition {number}: "
                f"{'withdrawn' if label.y is None else label.y}, revision {label.revision}, source {label.source or 'none'}"
                for entry in labels.entries
                if (label := entry.value) is not None
            ]
        lines += [f"{name}: {KINDS[name.partition(':')[0]]}" for name in result.faults]
        lines.append(f"after {result.steps} steps: {', '.join(result.problems)}")
        return "\n".join(lines)


def shrink(seed: int, plant: str | None = None, most_runs: int = MOST_RUNS) -> Smallest | None:
    """Return the smallest failing part of a seed that was found; None: the seed does not fail."""
    first = run(seed, plant)
    if not first.problems:
        return None
    search = _Search(seed, plant, most_runs, first)
    search.go()
    return Smallest(search.best, search.trim, plant, search.runs)


@dataclass(slots=True)
class _Search:
    seed: int
    plant: str | None
    most_runs: int
    best: Result
    runs: int = 1

    @property
    def trim(self) -> Trim:
        """What is left."""
        return Trim(self.best.ids, frozenset(self.best.faults))

    def go(self) -> None:
        """Take the best apart; begin again as long as something could go."""
        pieces = 2
        while self.runs < self.most_runs:
            choices = self._choices()
            if not choices or pieces > len(choices):
                return
            if any(self._fails(part) for part in _without_one_of(choices, pieces)):
                pieces = max(2, pieces - 1)
            elif pieces == len(choices):
                return
            else:
                pieces = min(len(choices), 2 * pieces)

    def _choices(self) -> list[Choice]:
        faults = [("fault", name) for name in self.best.faults]
        return [*faults, *(("id", event_id) for event_id in _in_order(self.best.ids))]

    def _fails(self, choices: Sequence[Choice]) -> bool:
        if self.runs >= self.most_runs:
            return False
        self.runs += 1
        ids = frozenset(name for kind, name in choices if kind == "id")
        faults = frozenset(name for kind, name in choices if kind == "fault")
        result = run(self.seed, self.plant, Trim(ids, faults))
        if not result.problems.keys() & self.best.problems.keys():
            return False
        self.best = result
        return True


def _without_one_of(choices: Sequence[Choice], pieces: int) -> Iterator[Sequence[Choice]]:
    edges = [round(len(choices) * n / pieces) for n in range(pieces + 1)]
    for start, stop in pairwise(edges):
        if start < stop:
            yield [*choices[:start], *choices[stop:]]


def _in_order(ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=lambda event_id: int(event_id[1:]))
