"""Hears what other processes come to that learn the same loop at the same time, and says when it is something else.

One process owns the training log, so there is no other one, but for a moment: a learner that was expelled from its
group and does not know it yet, or one that was put into another group by mistake. Both fold the same records, and
which of them count is decided by the log; so they come to equal states. Where they do not, nobody here can tell who is
right: the learner goes on, counts and announces the divergence, once for each other process, and says what to do.
Followers compare for themselves (`follow_agent`).
"""

from __future__ import annotations

import structlog
from mode import Service

from tailrace.domain.errors import LogError
from tailrace.domain.proof import Comparison, Digests, Divergence
from tailrace.domain.status import MemberStatus, Role, RoleState
from tailrace.streams.announcements import Announcements, in_words
from tailrace.streams.hearing import following, heartbeats_of_others
from tailrace.streams.log import Reader, TopicPartition
from tailrace.telemetry.recorder import Recorder

log = structlog.get_logger(__name__)

AGAIN_S = 10.0


class OtherLearners(Service):
    """Compares the digests of this learner with those of others.

    Args:
        member: The name of this process, whose own heartbeats say nothing new.
        status_topic: Where the others tell their digests.
        lineage: Of the loop's fold: only digests of one lineage are compared.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        status_topic: str,
        member: str,
        lineage: str,
        announcements: Announcements,
        recorder: Recorder,
    ) -> None:
        super().__init__()
        self._reader = reader
        self._partition = TopicPartition(status_topic, 0)
        self._member = member
        self._lineage = lineage
        self._announcements = announcements
        self._recorder = recorder
        self._comparison = Comparison()
        self._equal_told = 0
        self._told: set[str] = set()

    async def mine(self, digests: Digests) -> None:
        """Take a digest of this learner."""
        await self._compared(self._comparison.mine(digests))

    async def heard(self, status: MemberStatus) -> None:
        """Take what another process tells, if it learns."""
        if any(each.role is Role.LEARN and each.state is RoleState.RUNNING for each in status.roles):
            told = [each for each in status.digests if each.lineage == self._lineage]
            await self._compared(self._comparison.theirs(status.member, told))

    @Service.task
    async def _listen(self) -> None:
        while not self.should_stop:
            try:
                await self._hear_on()
            except LogError as problem:
                # Whoever only listens ends nothing that works.
                log.warning("heartbeats of other learners cannot be heard", why=str(problem), again_in_s=AGAIN_S)
                await self.sleep(AGAIN_S)

    async def _hear_on(self) -> None:
        held = await self._reader.range_of(self._partition)
        async with following(self._reader, self._partition, held.end) as batches:
            async for batch in batches:
                if self.should_stop:
                    return
                for status in heartbeats_of_others(batch, self._member):
                    await self.heard(status)

    async def _compared(self, found: Divergence | None) -> None:
        equal, self._equal_told = self._comparison.equal - self._equal_told, self._comparison.equal
        self._recorder.digests_compared(equal)
        if found is None or found.member in self._told:
            return
        self._told.add(found.member)
        self._recorder.diverged()
        log.error(
            "another process learns this loop and comes to another state",
            found=in_words(found),
            next="stop one of the two; `tailrace verify` says which of them is right",
        )
        await self._announcements.divergence(found)
