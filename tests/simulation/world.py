"""The fake log, store and clock of one simulated loop, and who is assigned to what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from tests.simulation.inputs import Case, InputEvent, Topic, add_label, make_case
from tests.simulation.rules import Rules

from tailrace.domain.blocks import ScoredBlock, Served, TrainingBlock
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import Claim, Features, Forward, Label, Mark, Owner, Task
from tailrace.domain.snapshots import Manifest
from tailrace.stores.waiting_folders import WaitingFolders

CONTRACT: Final = FeatureContract((FeatureSpec("a", "number"), FeatureSpec("b", "number"), FeatureSpec("c", "number")))
TARGET: Final = TargetContract(Task.BINARY, positive="yes")
LOG_ID: Final = "log"
END_MS: Final = 1_000_000
"""The time of the last record of every input: it moves every watermark past everything."""

LogRecord: TypeAlias = Claim | TrainingBlock
Process: TypeAlias = Iterator[None]
"""An agent; it yields wherever its process may be killed or stopped for a while."""


class Seat(NamedTuple):
    """Work that one process at a time is assigned to."""

    role: str
    partition: int


class DeadLetter(NamedTuple):
    """A dead letter and the block that its header names."""

    place: tuple[int, int]
    code: str
    block: tuple[int, Owner, int]


class Stored(NamedTuple):
    """A snapshot as the index names it and as the store kept it."""

    manifest: Manifest
    content: bytes
    is_damaged: bool


@dataclass(slots=True)
class World:
    """Everything that outlives a process.

    Attributes:
        assigned: Seat → the process that the group coordinator believes in.
        committed: Seat of a scorer → next offset of its events.
        finished: Seat → proof that its process has nothing left to do.
        left: Partition → identities, waiting events and early labels in its join.
        rooms: Where the joins keep what waits on disk; None: in memory.
    """

    case: Case
    rng: Random
    rules: Rules
    scored: list[Topic[ScoredBlock]]
    relabelled: list[Topic[Forward | Mark]]
    log: Topic[LogRecord] = field(default_factory=Topic)
    letters: list[DeadLetter] = field(default_factory=list)
    snapshots: list[Stored] = field(default_factory=list)
    clock_ms: float = 0.0
    inputs_ended: bool = False
    assigned: dict[Seat, Owner] = field(default_factory=dict)
    committed: dict[Seat, int] = field(default_factory=dict)
    finished: dict[Seat, object] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)
    live_digest: str = ""
    live_outcomes: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    damaged_refused: int = 0
    rooms: WaitingFolders | None = None
    rooms_used: int = 0

    @classmethod
    def of(cls, seed: int, rules: Rules, rooms: WaitingFolders | None = None) -> World:
        """Make the world of a seed."""
        case = make_case(seed)
        rng = Random(seed * 31 + 7)
        return cls(
            case,
            rng,
            rules,
            scored=[Topic(gaps=Random(rng.random())) for _ in range(case.partitions)],
            relabelled=[Topic(gaps=Random(rng.random())) for _ in range(case.partitions)],
            rooms=rooms,
        )

    def owns(self, seat: Seat, name: Owner) -> bool:
        """Whether a commit of this process would succeed."""
        return self.assigned[seat] == name

    def ownership(self, end: int | None = None) -> OwnershipState:
        """Return who owns what before an offset of the log."""
        state = OwnershipState()
        for _ in self.accepted(None, end, state):
            pass
        return state

    def accepted(
        self, partition: int | None, end: int | None = None, state: OwnershipState | None = None
    ) -> Iterator[tuple[int, TrainingBlock]]:
        """Yield (offset, block) of the blocks that count before an offset, by the product's rule."""
        state = state or OwnershipState()
        for entry in self.log.read(0, end):
            record = entry.value
            if isinstance(record, Claim):
                state.claim(record)
            elif partition in (None, record.partition) and state.accept(record.partition, record.owner, record.number):
                yield entry.offset, record

    def end_inputs(self) -> None:
        """Append to every partition of `scored` and `labels` a pair that moves all watermarks past everything."""
        self.clock_ms = END_MS
        self.inputs_ended = True
        for partition in range(self.case.partitions):
            event_id = next(f"e{n}" for n in range(10**6, 10**7) if self.case.home(f"e{n}") == partition)
            self.scored[partition].append(score([InputEvent(event_id, END_MS)], [10**9 + partition], 0, self.rng))
            add_label(self.case.labels[partition], partition, Label(event_id, END_MS, 1.0, 0, 0, 0), END_MS)


def score(events: list[InputEvent], offsets: list[int], source: int, rng: Random) -> ScoredBlock:
    """Return a scored block; two attempts at one event differ in what they predict."""
    features = [Random(f"{event.id} {event.time_ms}") for event in events]
    rows: list[Features] = [{name: x.gauss(0.0, 3.0) for name in CONTRACT.names} for x in features]
    proba = np.array([[rng.random()] for _ in events])
    return ScoredBlock(
        contract_id=CONTRACT.id,
        log_id=LOG_ID,
        model="champion",
        version="lineage",
        state_position=0,
        source_partition=source,
        source_offsets=np.array(offsets, dtype=np.int64),
        ids=[event.id for event in events],
        times_ms=np.array([event.time_ms for event in events], dtype=np.int64),
        served=Served((proba[:, 0] > 0.5).astype(np.float64), proba),
        x=CONTRACT.columns(rows),
    )
