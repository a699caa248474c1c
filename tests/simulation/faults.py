"""Which faults strike, each known by its kind and how many there were before: so that a failing seed can be trimmed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Trim:
    """What of a seed is left: None leaves everything.

    Attributes:
        ids: Events and labels of other ids are not sent.
        faults: Names such as "kill:3"; others do not strike.
    """

    ids: frozenset[str] | None = None
    faults: frozenset[str] | None = None


WHOLE: Final = Trim()


@dataclass(slots=True)
class Faults:
    """Draws faults from a seed.

    Attributes:
        struck: Those that did strike, in order.
    """

    rng: Random
    trim: Trim = WHOLE
    struck: list[str] = field(default_factory=list)
    _drawn: Counter[str] = field(default_factory=Counter)

    def strikes(self, kind: str, chance: float) -> bool:
        """Say whether a fault strikes now."""
        if self.rng.random() >= chance:
            return False
        self._drawn[kind] += 1
        name = f"{kind}:{self._drawn[kind]}"
        if self.trim.faults is not None and name not in self.trim.faults:
            return False
        self.struck.append(name)
        return True
