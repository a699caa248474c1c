"""The examples of every contender: seeded events of twenty numbers with a label each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

FEATURES = tuple(f"f{number:02}" for number in range(20))
MODEL = "StandardScaler() | LogisticRegression()"
_SEED = 1
_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class Example:
    """One event and its label."""

    id: str
    x: dict[str, Any]
    y: Any


def examples(count: int) -> Iterator[Example]:
    """Yield the examples; the first ones are the same whatever the count."""
    for first in range(0, count, _AT_ONCE):
        rows = np.random.default_rng(_SEED + first).normal(size=(_AT_ONCE, len(FEATURES)))[: count - first]
        targets = rows[:, :5].sum(axis=1) > 0
        for number, (row, y) in enumerate(zip(rows.tolist(), targets.tolist(), strict=True), start=first):
            yield Example(f"e{number:07}", dict(zip(FEATURES, row, strict=True)), y)
