"""Builds a branch beside the learner, as a command does that a person runs, and publishes it."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from tests.simulation.branching import fold_of, lineage_of
from tests.simulation.broker import SimReader, SimSink
from tests.simulation.kept import TRAINING
from tests.simulation.processes import index_of
from tests.simulation.virtual import Machine
from tests.simulation.world import LOG_ID, World

from tailrace.domain.branches import Branch, hash_of_id
from tailrace.domain.errors import SnapshotRefused, StoreUnavailable
from tailrace.domain.models.digest import digest_of, state_digest
from tailrace.domain.notices import BranchNotices, Notices
from tailrace.domain.positions import Position
from tailrace.domain.snapshots import Kind, Manifest, next_number
from tailrace.stores.snapshot_file import pack
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.warming import Warmed, Warming, WarmingFailed


class Built(NamedTuple):
    """What came of it, as the request for admission tells it."""

    position: Position
    digest: str
    skips: tuple[Position, ...]


class Builder:
    """One command that builds one branch."""

    def __init__(self, world: World, branch: Branch, ids: tuple[str, ...]) -> None:
        self._world = world
        self._branch = branch
        self._notices = Notices({branch.lineage: BranchNotices(set(), frozenset(map(hash_of_id, ids)))})
        self._version = branch.versions["fold"]
        self._fold = fold_of(world.rules, world.rng, self._version)
        self._machine = Machine()
        with self._machine.running():
            self._reader = SimReader(world, self._machine)
            sink = SimSink(world, self._machine)
            self._index = index_of(world, self._version, sink)
            self._warming = Warming(self._fold, TrainingLog(self._reader, None, TRAINING), self._index)

    def run(self) -> Generator[None, None, Built]:
        """Build the branch up to the present end of the log."""
        work = self._machine.launch(self._build(self._world.end_of(TRAINING)))
        try:
            while not work.done():
                self._machine.turn()
                yield
            return work.result()
        finally:
            self._machine.kill()

    async def _build(self, end: int) -> Built:
        await self._index.read(self._reader)
        try:
            warmed = await self._warming.begin(self._branch, self._notices, fresh=self._world.rng.random() < 0.5)
        except WarmingFailed:
            return Built(0, "", ())  # Its filter reaches beyond the log; they ask all the same.
        await self._warming.fold_to(warmed, end)
        if self._world.rng.random() < 0.5:
            await self._publish(warmed)
        digest = digest_of(self._fold.body_of(warmed.held))
        return Built(warmed.held.position, digest, tuple(warmed.skips))

    async def _publish(self, warmed: Warmed) -> None:
        state = warmed.state
        packed = pack(self._fold.parts_with(state, self._branch.lineage))
        manifest = Manifest(
            lineage=lineage_of(self._version),
            loop="loop",
            log_id=LOG_ID,
            kind=Kind.BRANCH,
            number=next_number(self._index.manifests, lineage_of(self._version), Kind.BRANCH),
            position=state.position,
            last_block_offset=state.last_offset if state.last_offset >= 0 else None,
            last_block_digest=state.last_digest or None,
            parts=packed.parts,
            state_digest=state_digest((part.name, part.digest) for part in packed.parts),
            previous_digest=None,
            counters={},
            versions={"fold": self._version},
            created_at_ms=self._world.now_ms(),
        )
        try:
            await self._index.put(manifest, packed)
        except (SnapshotRefused, StoreUnavailable):
            return  # It is built again, then.
