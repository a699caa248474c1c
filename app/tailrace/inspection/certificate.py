"""The certificate of a verification: what was folded again, what it came to, and where it leaves what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tailrace.domain.positions import Position, show


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the state at the end: digest here, and in the snapshot; "" where one has none."""

    name: str
    here: str
    snapshot: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a fold of one's own leaves what was recorded.

    Attributes:
        equal_to: The last recorded position before it that is equal; where the fold began without one.
        at: The first recorded position that differs.
        records, examples: Between the two.
        recorded_by: Who recorded the digest at `at`.
        parts: Those that differ there.
    """

    equal_to: Position
    at: Position
    records: int
    examples: int
    recorded_by: str
    parts: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """What it means, and what to do."""
        return (
            f"equal up to {show(self.equal_to)}, different at {show(self.at)}, between them {self.records} records "
            f"with {self.examples} examples: the digests of {', '.join(self.parts)} differ from those of "
            f"{self.recorded_by}, which is not what this log, this configuration and these libraries come to. Do not "
            "promote it; look for a machine or library that differs, then start a worker without the snapshot"
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """What a fold of one's own came to: the certificate.

    Attributes:
        branches: Lineage → model, of the branches that were folded.
        snapshot: Number of the snapshot that was compared; None: there is none of this lineage.
        start, end: Positions between which the log was folded; the end is exclusive.
        from_snapshot: The snapshot that the fold began with; None: the start of the log.
        digest: Of the state that was folded here; "" when the fold did not come through.
        compared: Recorded positions at which digests were compared.
        proven: Numbers of the snapshots in the index that are proven, by this fold or by one before it.
        proven_manifests: Digests of their manifests, in the same order.
        known: Snapshots in the index.
        problem: Why the two differ or cannot be compared, in words; "" when they are equal.
    """

    lineage: str
    log_id: str
    branches: Mapping[str, str]
    snapshot: int | None
    start: Position
    end: Position
    from_snapshot: int | None
    records: int
    examples: int
    digest: str
    snapshot_digest: str
    parts: tuple[Part, ...] = ()
    compared: int = 0
    difference: Difference | None = None
    proven: tuple[int, ...] = ()
    proven_manifests: tuple[str, ...] = ()
    known: int = 0
    problem: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether the snapshot is what the log says."""
        return not self.problem
