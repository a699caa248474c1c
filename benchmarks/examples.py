"""The examples of every contender: seeded events of twenty numbers with a label each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FEATURES = tuple(f"f{number:02}" for number in range(20))
MODEL = "StandardScaler() | LogisticRegression()"
_SEED = 1


@dataclass(frozen=True, slots=True)
class Example:
    """One event and its label."""

    id: str
    x: dict[str, float]
    y: bool


def examples(count: int) -> Iterator[Example]:
    """Yield the examples; the same ones at every call."""
    rows = np.random.default_rng(_SEED).normal(size=(count, len(FEATURES)))
    targets = rows[:, :5].sum(axis=1) > 0
    for number, (row, y) in enumerate(zip(rows.tolist(), targets.tolist(), strict=True)):
        yield Example(f"e{number:07}", dict(zip(FEATURES, row, strict=True)), y)
