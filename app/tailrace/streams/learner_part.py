"""The learner's part of the training log: claimed once a term, its records numbered in their order in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from tailrace.domain.errors import OwnershipLost
from tailrace.domain.notices import Notices, copy_of
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import Position
from tailrace.domain.records import LEARNER, LearnerRecord, Owner
from tailrace.streams.training_log import Confirm, TrainingLog, View

Make = Callable[[Owner, int], LearnerRecord]
"""Makes a record of its owner and number."""


class LearnerPart:
    """Appends skips, admissions and commands under one claim."""

    def __init__(self, training: TrainingLog, owner: Owner) -> None:
        self._training = training
        self._owner = owner
        self._appended = 0
        self._one_at_a_time = asyncio.Lock()

    async def claim(self, start: int, known: OwnershipState, confirm: Confirm) -> Notices:
        """Claim the part; return what its former owners' records from `start` on say.

        Args:
            known: As of `start`; not changed.

        Raises:
            OwnershipLost: Another member has the training log now.
        """
        claimed = await self._training.claim(LEARNER, self._owner, confirm, View(LEARNER, start, copy_of(known)))
        # After the claim: no record of a former owner can count any more.
        return await self._training.notices(start, claimed.offset, known)

    async def confirmed(self, start: int, known: OwnershipState, skips: Iterable[tuple[str, Position]]) -> Notices:
        """Return what the learner's records from `start` on say, once these skips are among them.

        Args:
            known: As of `start`; not changed.
            skips: Lineage and position of what was appended.

        Raises:
            OwnershipLost: One of them does not count: another member has claimed the part before it.
        """
        found = await self._training.notices(start, (await self._training.range()).end, known)
        if any(position not in found.of(branch).skips for branch, position in skips):
            raise OwnershipLost("another member has claimed the training log; what this one skips does not count")
        return found

    async def append(self, make: Make) -> LearnerRecord:
        """Append one record; return it once it is acknowledged."""
        async with self._one_at_a_time:
            self._appended += 1
            record = make(self._owner, self._appended)
            await self._training.append(record)
            return record
