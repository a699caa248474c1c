"""Classes that the tests of this folder put into states and models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from river import base, linear_model


class Tally:
    """A plain object with a method that is kept as an attribute."""

    def __init__(self) -> None:
        self.count = 0
        self.step: Callable[[], None] = self.add

    def add(self) -> None:
        """Add one."""
        self.count += 1

    @property
    def double(self) -> int:
        """Twice the count."""
        return 2 * self.count

    @double.setter
    def double(self, value: int) -> None:
        self.half_set = value

    @staticmethod
    def nothing() -> None:
        """Do nothing."""


class Slotted:
    """An object with slots, one of which may be empty."""

    __slots__ = ("left", "right")

    def __init__(self, left: Any) -> None:
        self.left = left


@dataclass(frozen=True)
class Frozen:
    """A frozen record."""

    name: str
    values: list[int] = field(default_factory=list)


class Dynamic:
    """An object whose attributes nobody declared."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Numbers(list[int]):
    """A list in disguise, whose attributes are not all of it."""


class Mine(linear_model.LogisticRegression):
    """A user's own model."""


class Sampler(base.Transformer):
    """A transformer that takes a seed."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def transform_one(self, x: dict[Any, Any]) -> dict[Any, Any]:
        """Return `x`."""
        return x
