"""What processes of the product are made of, apart from what they do."""

from __future__ import annotations

from tests.simulation.branching import lineage_of
from tests.simulation.broker import SimSink
from tests.simulation.kept import SNAPSHOTS
from tests.simulation.keys import SimSigner, SimTrustFile
from tests.simulation.world import World

from tailrace.streams.snapshot_index import SnapshotIndex


def index_of(world: World, version: str, sink: SimSink | None = None) -> SnapshotIndex:
    """Return an index of snapshots as a process of a version makes it."""
    return SnapshotIndex(
        SNAPSHOTS,
        lineage=lineage_of(version),
        versions={"fold": version},
        store=world.vault,
        trusted=SimTrustFile(),
        sink=sink,
        signer=SimSigner() if sink is not None else None,
        on_refused=world.count_refusal,
    )
