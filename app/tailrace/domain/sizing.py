"""How many processes a rate takes: the measured cost of an event in each role, applied to a fleet.

    us an event of a role = fixed_us + feature_us * features + what the model itself costs
    cores of a role       = rate * us an event / 1e6
    processes of a role   = cores / BUSY, rounded up

Decides with figures that were measured on the machine of `benchmarks/results/sizing.json` and costs of the model that
the caller measured; leaves to others what another machine is worth. A loop has one learner at a time: its log has one
order. What exceeds a core there is said, not divided.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final, NamedTuple

from tailrace.domain.errors import ContractError


class Work(NamedTuple):
    """CPU of one role in microseconds an event, without the model."""

    fixed_us: float
    feature_us: float

    def of(self, features: int) -> float:
        """Return the cost with so many numbers an event."""
        return self.fixed_us + self.feature_us * features


SCORE: Final = Work(4.48, 0.255)
"""Read, decode, encode, send, commit; twice: a prediction, and a row of a block."""

JOIN: Final = Work(8.09, 0.077)
"""Read the block and the label, join them, append the example."""

LEARN: Final = Work(1.75, 0.043)
"""Read the block, judge what was served, announce and publish."""

BUSY: Final = 0.5
"""Of a core, at a steady rate: at half of what a process can do its latency is bounded, and it can catch up."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one event costs the model itself, in microseconds."""

    predict_us: float
    learn_us: float


@dataclass(frozen=True, slots=True)
class RoleSize:
    """One role of the fleet.

    Attributes:
        cores: Busy on average.
        processes: To start.
    """

    role: str
    event_us: float
    cores: float
    processes: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a rate takes.

    Attributes:
        roles: Score, join, learn.
        partitions: Of events and labels, at least: no process is without one.
        is_one_process: Whether one process with all roles is enough; then `roles` says what each adds to it.
        most_learned: Examples a second that the learner can learn, on a whole core.
        keeps_up: Whether it learns as fast as labels come.
    """

    roles: tuple[RoleSize, RoleSize, RoleSize]
    partitions: int
    is_one_process: bool
    most_learned: float
    keeps_up: bool

    @property
    def cores(self) -> float:
        """Busy on average, in all roles."""
        return sum(role.cores for role in self.roles)


def size(rate: float, features: int, model: ModelCost, labelled: float = 1.0) -> Fleet:
    """Return the fleet for a steady rate.

    Args:
        rate: Events a second.
        features: Numbers an event.
        labelled: Share of the events that get a label, 0 to 1.

    Raises:
        ContractError: A number is out of its range.
    """
    if rate <= 0 or features < 1 or not 0 <= labelled <= 1:
        raise ContractError(
            f"found rate {rate:g}, {features} features, share of labels {labelled:g}; allowed are a rate above 0, at "
            "least 1 feature, and a share from 0 to 1"
        )
    learn_us = LEARN.of(features) + model.learn_us
    score = _role("score", rate, SCORE.of(features) + model.predict_us)
    join = _role("join", rate, JOIN.of(features))
    learn = _role("learn", rate * labelled, learn_us)
    keeps_up = learn.cores <= 1.0
    learn = RoleSize("learn", learn_us, learn.cores, 1)
    return Fleet(
        roles=(score, join, learn),
        partitions=max(score.processes, join.processes),
        is_one_process=score.cores + join.cores + learn.cores <= BUSY,
        most_learned=1e6 / learn_us,
        keeps_up=keeps_up,
    )


def _role(name: str, rate: float, event_us: float) -> RoleSize:
    cores = rate * event_us / 1e6
    return RoleSize(name, event_us, cores, max(1, ceil(cores / BUSY)))
