"""The long axes: along which cost per event and memory must not grow, and how far they go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        points: What is measured, smallest first.
        limit: Of the most costly point over the least.
    """

    name: str
    title: str
    points: tuple[int, ...]
    limit: float


EVENTS = Axis(
    "events", "CPU per event from 10^4 to 10^7 events, most over least", (10_000, 100_000, 1_000_000, 10_000_000), 1.1
)
PARTITIONS = Axis("partitions", "CPU per event from 1 to 64 partitions, most over least", (1, 4, 16, 64), 1.1)
WAITING = Axis(
    "waiting", "CPU per event from 0 to 10^6 waiting events, most over least", (0, 10_000, 100_000, 1_000_000), 1.1
)
MEMORY = Axis("memory", "memory at the last point of the events over the one before", (), 1.1)

AXES = (EVENTS, PARTITIONS, WAITING, MEMORY)
