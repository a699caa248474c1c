"""Which branches a loop has and which of them serves, as the log says it now.

Begins at the newest snapshot that can be used here and reads on from it; without one it begins at the log's start.
Only claims and the learner's records are decoded: nothing is folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tailrace.domain.branches import Branch, BranchState
from tailrace.domain.errors import CodecError, ForeignLogError, LogError, SnapshotRefused
from tailrace.domain.learning import Fold
from tailrace.domain.notices import read_pointers
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.pointers import Pointers
from tailrace.domain.positions import offset_of
from tailrace.inspection.reading import Reading
from tailrace.opening import open_store, open_trust
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.training_log import TrainingLog
from tailrace.wire.topics import LoopTopics

_FIRST_OFFSET: Final = 0


@dataclass(slots=True)
class Lineup:
    """Branches and pointers of one loop; `read_on` brings them up to date.

    Attributes:
        next_offset: Of the training log; everything before is known.
        held: Lineage → the branch as the snapshot holds it that was begun at; those that can be folded here.
    """

    training: TrainingLog
    ownership: OwnershipState
    pointers: Pointers
    next_offset: int = 0
    held: Mapping[str, BranchState] = field(default_factory=dict)

    @property
    def log_id(self) -> str:
        """The name of the training log; "" before its first claim."""
        return self.ownership.log_id

    @property
    def champion(self) -> Branch | None:
        """The branch that serves; None before the first was admitted."""
        text = self.pointers.admitted.get(self.pointers.champion)
        return None if text is None else Branch.read(text)

    def branches(self) -> dict[str, Branch]:
        """Return the admitted branches by lineage, in the order in which they were admitted."""
        return {lineage: Branch.read(text) for lineage, text in self.pointers.admitted.items()}

    async def read_on(self) -> None:
        """Read what was appended since."""
        end = (await self.training.range()).end
        read_pointers(await self.training.no_blocks(self.next_offset, end), self.ownership, self.pointers)
        self.next_offset = max(end, self.next_offset)


@dataclass(frozen=True, slots=True)
class Loop:
    """What is needed to look at the branches of one loop.

    Attributes:
        fold: Made anew; no other state is used with it.
        versions: Of this process.
    """

    name: str
    topics: LoopTopics
    fold: Fold
    versions: Mapping[str, str]

    def index(self, reading: Reading) -> SnapshotIndex:
        """Return an index that only reads."""
        return SnapshotIndex(
            self.topics.snapshots,
            lineage=self.fold.lineage,
            versions=self.versions,
            store=open_store(reading.settings),
            trusted=open_trust(reading.settings),
        )


async def lineup_of(reading: Reading, loop: Loop) -> Lineup:
    """Return what the log says now.

    Raises:
        ForeignLogError: The log has lost its beginning, and no snapshot bridges the gap.
        LogError: The loop has no log yet.
    """
    await reading.ranges(loop.topics.training)  # says who makes the topic when it is not there
    index = loop.index(reading)
    await index.read(reading.reader)
    training = TrainingLog(reading.reader, None, loop.topics.training)
    held = await training.range()
    lineup = await _from_snapshot(index, loop.fold, training, held.end)
    if lineup is None:
        if held.start > _FIRST_OFFSET:
            raise ForeignLogError(
                f"{loop.topics.training} begins at offset {held.start} and no snapshot of these features and "
                "libraries can be used, so which branch serves cannot be told here; ask with the learner's "
                "configuration and versions, or restore the topic"
            )
        lineup = Lineup(training, OwnershipState(), Pointers())
    await lineup.read_on()
    if not lineup.log_id:
        raise LogError(f"{loop.topics.training} is empty: no learner has begun this loop; `tailrace run` does")
    return lineup


async def _from_snapshot(index: SnapshotIndex, fold: Fold, training: TrainingLog, end: int) -> Lineup | None:
    for manifest in index.newest():
        try:
            state = fold.restore(await index.load(manifest))
        except (SnapshotRefused, CodecError):
            continue
        if offset_of(state.position) <= end:
            return Lineup(training, state.ownership, state.pointers, offset_of(state.position), state.branches)
    return None
