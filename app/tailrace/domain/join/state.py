"""Where one partition's join stands: positions, watermarks, marks and memory; and the vector that says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tailrace.domain.blocks import Lowest, Vector
from tailrace.domain.join.batch import JoinSpec
from tailrace.domain.join.memory import EarlyLabels, Forwards, Identities, Identity
from tailrace.domain.join.room import WaitingRoom
from tailrace.domain.positions import Position
from tailrace.domain.records import Label, Mark
from tailrace.domain.times import NEVER, EventTimeMs, JoinTimes

_FEW_MOVES: Final = 4
_EARLY_PER_MOVE: Final = 1_000
"""A move more may be carried for so many early labels, since all are looked through to find those not needed."""


@dataclass(slots=True)
class JoinState:
    """The state of one partition's join, without what is not yet written.

    Attributes:
        scored_next, labels_next, relabelled_next: Everything before was read.
        scored_watermark, labels_watermark: The greatest time before those positions.
        marks: Per other labels partition, the greatest watermark that its marks have told.
        idle_moves: (labels offset, watermark moved to), those that recovery or no block yet needs to know, and
            some more, up to `most_moves`, so that early labels are not looked through for each.
        acknowledged: Log offset of the last own block; a row settled now lies after it.
    """

    times: JoinTimes
    marks: dict[int, EventTimeMs]
    forwards: Forwards
    scored_next: Position = 0
    labels_next: int = 0
    relabelled_next: int = 0
    scored_watermark: EventTimeMs = NEVER
    labels_watermark: EventTimeMs = NEVER
    idle_moves: deque[tuple[int, EventTimeMs]] = field(default_factory=deque)
    most_moves: int = _FEW_MOVES
    identities: WaitingRoom = field(default_factory=Identities)
    early: EarlyLabels = field(default_factory=EarlyLabels)
    acknowledged: int = 0

    @classmethod
    def empty(
        cls, spec: JoinSpec, identities: WaitingRoom | None = None, early: EarlyLabels | None = None
    ) -> JoinState:
        """Return the state before anything was read; or with what a waiting room of its own kept."""
        others = [other for other in range(spec.partitions) if other != spec.partition]
        return cls(
            spec.times,
            dict.fromkeys(others, NEVER),
            Forwards(dict.fromkeys(others, 0)),
            identities=identities if identities is not None else Identities(),
            early=early if early is not None else EarlyLabels(),
        )

    def heard(self) -> EventTimeMs:
        """Return the time that every labels partition has passed, as far as is known here."""
        return min(self.labels_watermark, *self.marks.values()) if self.marks else self.labels_watermark

    def find(self, label: Label, watermark_ms: EventTimeMs) -> Identity | None:
        """Return the identity that a label belongs to, judged by the watermark just before the label."""
        identity = self.identities.newest(label.id)
        times, time_ms = self.times, label.time_ms
        reach = (max(watermark_ms, time_ms)) - times.horizon_ms - times.recall_ms
        while identity is not None:
            if reach <= identity.time_ms <= time_ms + times.skew_ms:
                return identity
            identity = identity.older
        return None

    def is_repeated(self, identity: Identity | None, time_ms: EventTimeMs, before: EventTimeMs) -> bool:
        """Whether an event's id is still in use, or its identity is known, with the scored watermark at `before`.

        An identity beyond `before` does not count: recovery knows identities that came after the event.
        """
        reuse_ms = self.times.reuse_ms
        while identity is not None:
            known_ms = identity.time_ms
            if known_ms == time_ms or known_ms <= before <= known_ms + reuse_ms:
                return True
            identity = identity.older
        return False

    def is_orphan(self, label: Label) -> bool:
        """Whether no event that this label belongs to can come any more."""
        return self.scored_watermark > label.time_ms + self.times.disorder_ms + self.times.skew_ms

    def marked(self, mark: Mark) -> None:
        """Take what another labels partition has passed; a mark that came before changes nothing."""
        if mark.partition in self.marks:
            self.marks[mark.partition] = max(self.marks[mark.partition], mark.watermark_ms)
            self.forwards.cover(mark.partition, mark.next_offset)

    def move_labels(self) -> bool:
        """Move the labels watermark up to the scored one; return whether it moved."""
        if self.labels_watermark >= self.scored_watermark:
            return False
        self.labels_watermark = self.scored_watermark
        if self.idle_moves and self.idle_moves[-1][0] == self.labels_next:
            self.idle_moves.pop()  # The greater move at the same place says it all.
        self.idle_moves.append((self.labels_next, self.labels_watermark))
        return True

    def settle(self, identity: Identity, state: int, y: float, revision: int = 0) -> None:
        """Give a waiting identity its outcome; its row comes after the last own block."""
        self.identities.settle(identity, state, y, revision, self.acknowledged)

    def forget(self) -> None:
        """Forget identities that no later input and no recovery from here can ask for."""
        times = self.times
        # By the watermark at the lowest waiting position: recovery reads events again from there.
        events_ask = self._scored_low().watermark_ms - times.reuse_ms
        labels_ask = min(self.heard(), self._labels_low().watermark_ms) - times.horizon_ms - times.recall_ms
        self.identities.forget(min(events_ask, labels_ask))

    def vector(self, counts: Mapping[str, int]) -> Vector:
        """Return where this state stands, and what happened since the vector before it."""
        labels_low = self._labels_low()
        relabelled_low, covered = self.forwards.lowest(self.relabelled_next)
        vector = Vector(
            scored_next=self.scored_next,
            labels_next=self.labels_next,
            relabelled_next=self.relabelled_next,
            scored_low=self._scored_low(),
            labels_low=labels_low,
            relabelled_low=relabelled_low,
            relabelled_covered=covered,
            scored_watermark_ms=self.scored_watermark,
            labels_watermark_ms=self.labels_watermark,
            marks_ms=dict(self.marks),
            idle_moves=tuple(self.idle_moves),
            oldest_row=self.identities.oldest_row(self.acknowledged),
            counts=counts,
        )
        # Each move stands in at least one vector, however far the labels have been read on since.
        while self.idle_moves and self.idle_moves[0][0] < labels_low.position:
            self.idle_moves.popleft()
        if len(self.idle_moves) > self.most_moves:
            self.idle_moves = deque(self.early.moves_needed(self.idle_moves))
            self.most_moves = 2 * len(self.idle_moves) + _FEW_MOVES + self.early.count // _EARLY_PER_MOVE
        return vector

    def _scored_low(self) -> Lowest:
        return self.identities.lowest(Lowest(self.scored_next, self.scored_watermark))

    def _labels_low(self) -> Lowest:
        return self.early.lowest(Lowest(self.labels_next, self.labels_watermark))
