"""Which faults strike, each known by its kind and how many there were before: so that a failing seed can be trimmed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

KINDS: Final = {
    "role": "there is a process besides scorers, joiners and the learner",
    "kill": "a process is replaced: killed, or left to live on as a zombie",
    "upgrade": "the new learner has other libraries",
    "clock": "the clocks of all processes jump by an hour, or back",
    "act": "people do something",
    "overtaken": "a request is overtaken by the next one",
    "asked_twice": "a request is sent twice",
    "vandal": "an index record is damaged, replayed, forged or deleted",
    "sent_twice": "a record of the learner is sent again",
    "block_again": "a block of a joiner is sent again",
    "mark_waits": "a partition takes no mark of a joiner now, and is told the newest one later",
    "put_fails": "the store takes no snapshot",
    "put_is_lost": "the store acknowledges a snapshot and loses it",
    "put_is_cut": "the store cuts a snapshot",
    "bit_flips": "the store flips a bit of a snapshot",
    "listing_is_stale": "the store's listing is stale",
    "get_fails": "the store does not answer",
    "get_flips": "a bit of a snapshot flips on its way from the store",
}
"""Kind of fault → what it is, in words."""


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
        assert kind in KINDS
        if self.rng.random() >= chance:
            return False
        self._drawn[kind] += 1
        return self.is_left(f"{kind}:{self._drawn[kind]}")

    def is_left(self, name: str) -> bool:
        """Say whether a fault that would strike is left by the trim, and note it if so."""
        if self.trim.faults is not None and name not in self.trim.faults:
            return False
        self.struck.append(name)
        return True
