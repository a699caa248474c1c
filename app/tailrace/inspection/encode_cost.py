"""What one encoding of a model's state costs here, before there is any data: examples are made up from the contract.

Numbers are normal, texts repeat, and targets follow the first features, so that trees split. A real stream may make a
model larger or smaller; `tailrace doctor` measures the state of the newest snapshot on the newest events.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.errors import CodecError, is_stop
from tailrace.domain.models.spec import ModelSpec
from tailrace.domain.models.teaching import teacher_of
from tailrace.domain.records import Features, Task, Value

EXAMPLES: Final = 2_000
"""Examples that a model learns before it is measured, as far as the time allows."""

SLOW_ENCODE_S: Final = 0.25
"""A learner encodes at every publication and snapshot, and does not learn meanwhile."""

ADVICE: Final = (
    "use fewer or smaller trees, lengthen snapshots.every and snapshots.publish, or let a process with `--role follow` "
    "take the snapshots"
)

_ROUNDS: Final = 3
"""Encodings, of which the fastest counts: the others met with something else on the machine."""

_SPREAD: Final = 1_000.0
_WORDS: Final = 50


@dataclass(frozen=True, slots=True)
class EncodeCost:
    """What was measured.

    Attributes:
        examples: Made-up examples that the model had learned.
        learn_us: Of one example, in microseconds.
        problem: Why the state could not be measured; None: it could.
    """

    examples: int
    size_bytes: int
    encode_s: float
    learn_us: float
    problem: str | None = None

    @property
    def is_slow(self) -> bool:
        """Whether a process should not do this at every snapshot."""
        return self.encode_s > SLOW_ENCODE_S

    def in_words(self) -> str:
        """Return the measurement as a phrase."""
        if self.problem is not None:
            return self.problem
        return (
            f"{self.size_bytes:,} bytes, encoded in {self.encode_s * 1_000:.1f} ms, after {self.examples:,} made-up "
            f"examples of {self.learn_us:.0f} us"
        )


def encode_cost(
    spec: ModelSpec,
    contract: FeatureContract,
    target: TargetContract,
    *,
    examples: int = EXAMPLES,
    limit_s: float = float("inf"),
) -> EncodeCost:
    """Teach a fresh model made-up examples, and encode it.

    Args:
        spec: Fits the target's task.
        examples: How many it learns.
        limit_s: It learns no further example once this time has passed.
    """
    model = spec.build()
    teach = teacher_of(model)
    learned = 0
    begun = perf_counter()
    try:
        for x, y in made_up(contract, target, examples):
            teach(x, y)
            learned += 1
            if perf_counter() - begun > limit_s:
                break
    except BaseException as error:
        if is_stop(error):
            raise
        found = f"it raised {type(error).__name__} at made-up example {learned + 1}"
        return EncodeCost(learned, 0, 0.0, 0.0, f"{found}; select what it can read with SelectType")
    learn_us = (perf_counter() - begun) / learned * 1e6
    codec = spec.codec()
    size_bytes, took_s = 0, []
    try:
        for _ in range(_ROUNDS):
            begun = perf_counter()
            size_bytes = len(codec.encode(model))
            took_s.append(perf_counter() - begun)
    except CodecError as error:
        return EncodeCost(learned, 0, 0.0, learn_us, f"its state cannot be encoded: {error}")
    return EncodeCost(learned, size_bytes, min(took_s), learn_us)


def made_up(contract: FeatureContract, target: TargetContract, count: int) -> Iterator[tuple[Features, Any]]:
    """Yield `count` examples as the fold would give them to a model, the same ones each time."""
    rng = random.Random(1)  # noqa: S311 - examples, not secrets
    for _ in range(count):
        x: Features = {feature.name: _value(feature, rng) for feature in contract.features}
        yield x, target.river(_target(target, list(x.values())[:3], rng))


def _value(feature: FeatureSpec, rng: random.Random) -> Value:
    if feature.type == "boolean":
        return rng.random() < 0.5
    if feature.type == "category":
        return rng.choice(sorted(feature.values)) if feature.values else f"value{rng.randrange(_WORDS)}"
    if feature.type == "text":
        return f"text{rng.randrange(_WORDS)}"
    low = -_SPREAD if feature.minimum is None else feature.minimum
    high = max(low, low + 2 * _SPREAD) if feature.maximum is None else feature.maximum
    number = min(high, max(low, rng.gauss((low + high) / 2, (high - low) / 6)))
    return round(number) if feature.type == "integer" else number


def _target(target: TargetContract, values: list[Value], rng: random.Random) -> float:
    sign = sum((len(str(value)) % 2 if isinstance(value, str) else value > 0) for value in values)
    number = sign + rng.gauss(0, 0.3)
    if target.task is Task.REGRESSION:
        return number
    classes = 2 if target.task.has_two_targets else len(target.classes)
    return float(round(abs(number)) % classes)
