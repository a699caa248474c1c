"""Proof: digests of states at positions, as whoever folds records them, and what comparing two of them tells.

Processes that fold one log take digests at *agreed* positions, without asking each other: the ends of blocks in
which the count of examples passes a multiple of EVERY_EXAMPLES. Each such position has a level: it is of level k where
a multiple of 2^k times as many is passed. A process takes those of a level that it can afford and of all higher ones,
so that a quick and a slow process have every position of the slow one in common.

Invariant: which positions are agreed, and their levels, follows from the log alone. Only the level from which on a
process takes them depends on its clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tailrace.domain.positions import Position

EVERY_EXAMPLES: Final = 16
"""Examples between agreed positions of level 0; a loop with few labels has one within hours."""

MOST_SHARE: Final = 0.01
"""Of the time of a process that digests may take, about; while one is taken learning waits and scoring does not."""

SHORTEST_S: Final = 1.0
"""Between two digests on average, however quick they are: a heartbeat carries them once a second."""

KEPT: Final = 64
"""Digests of one line that are remembered until those of the others come: those of a minute at least."""

TOLD: Final = 4
"""Digests that a heartbeat carries, the last ones."""

_DIRECTORY: Final = "branches"  # the part that names the branches held; two processes may hold different ones
_HIGHEST_LEVEL: Final = 40


@dataclass(frozen=True, slots=True)
class Digests:
    """What a fold came to at a position.

    Attributes:
        lineage: Of the loop's fold: only digests of one lineage are compared.
        log_id: Of the log that was folded.
        position: Of the state, exclusive; the end of a block.
        parts: Name of a part of the state → SHA-256 of its canonical bytes.
    """

    lineage: str
    log_id: str
    position: Position
    parts: Mapping[str, str]

    def is_comparable(self, other: Digests) -> bool:
        """Return whether both are of the same state, so that they must be equal."""
        return (self.lineage, self.log_id, self.position) == (other.lineage, other.log_id, other.position)


def level_of(before: int, after: int) -> int:
    """Return the level of the position at which the count of examples went from `before` to `after`; -1: not agreed."""
    level = -1
    size = EVERY_EXAMPLES
    while level < _HIGHEST_LEVEL and before // size != after // size:
        level += 1
        size *= 2
    return level


def differing(mine: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the parts that both have and that differ, in order.

    The directory of branches counts only where both hold the same ones: a process holds those that its libraries fold.
    """
    common = mine.keys() & theirs.keys()
    if mine.keys() != theirs.keys():
        common -= {_DIRECTORY}
    return tuple(sorted(name for name in common if mine[name] != theirs[name]))


@dataclass(slots=True)
class Pace:
    """From which level on a process takes digests, so that they cost it little.

    Attributes:
        level: Rises while digests come too often for what they cost, falls while they could come twice as often.
    """

    level: int = 0
    _taken_s: float | None = None

    def took(self, cost_s: float, now_s: float) -> None:
        """Say that a digest was taken.

        Args:
            now_s: On a clock that never goes back.
        """
        if self._taken_s is not None:
            wanted_s = max(SHORTEST_S, cost_s / MOST_SHARE)
            since_s = now_s - self._taken_s
            if since_s < wanted_s:
                self.level = min(self.level + 1, _HIGHEST_LEVEL)
            elif since_s > 4 * wanted_s and self.level:
                self.level -= 1
        self._taken_s = now_s


@dataclass(frozen=True, slots=True)
class Divergence:
    """Two processes folded one log and came to different states.

    Attributes:
        position: The first at which both took digests and these differ.
        equal_at: The last before it at which they were equal; None: there was none.
        member: Who came to something else.
        parts: Those that differ.
    """

    position: Position
    equal_at: Position | None
    member: str
    parts: tuple[str, ...]


@dataclass(slots=True)
class Comparison:
    """Compares one's own digests with those that others tell, whichever come first.

    Attributes:
        equal: Positions that were compared and found equal, counted per other member.
        equal_at: The greatest of them.
    """

    equal: int = 0
    equal_at: Position | None = None
    _mine: dict[Position, Digests] = field(default_factory=dict)
    _theirs: dict[tuple[Position, str], Digests] = field(default_factory=dict)

    def mine(self, digests: Digests) -> Divergence | None:
        """Take a digest of one's own; return the difference to what others have told, if there is one."""
        self._mine[digests.position] = digests
        _forget(self._mine)
        told = [(member, each) for (position, member), each in self._theirs.items() if position == digests.position]
        found = [self._compared(member, each) for member, each in told]
        return next((each for each in found if each is not None), None)

    def theirs(self, member: str, told: Iterable[Digests]) -> Divergence | None:
        """Take what another member tells; what it told before is passed over."""
        for digests in sorted(told, key=lambda each: each.position):
            key = (digests.position, member)
            if key in self._theirs:
                continue
            self._theirs[key] = digests
            _forget(self._theirs)
            if digests.position in self._mine and (found := self._compared(member, digests)) is not None:
                return found
        return None

    def _compared(self, member: str, theirs: Digests) -> Divergence | None:
        mine = self._mine[theirs.position]
        if not mine.is_comparable(theirs):
            return None
        parts = differing(mine.parts, theirs.parts)
        if parts:
            return Divergence(theirs.position, self.equal_at, member, parts)
        self.equal += 1
        self.equal_at = max(theirs.position, self.equal_at or 0)
        return None


@dataclass(frozen=True, slots=True)
class ProofStatus:
    """What the last verification in the background came to.

    Attributes:
        time_ms: When it ended.
        position: Up to which the log was folded again.
        problem: Why it found something else, or could not be done; "": everything is equal.
        proven, known: Snapshots in the index that were folded again and found equal, and all of them.
    """

    time_ms: int
    position: Position
    proven: int
    known: int
    problem: str = ""

    @property
    def share(self) -> float | None:
        """Of the snapshots in the index, those that are proven, 0..1; None while there are none."""
        return self.proven / self.known if self.known else None


_Key = TypeVar("_Key")


def _forget(kept: dict[_Key, Digests]) -> None:
    while len(kept) > KEPT:
        del kept[next(iter(kept))]
