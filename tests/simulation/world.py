"""The fake topics, store and clock of one simulated loop, who is assigned to what, and which faults strike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from tests.simulation.faults import WHOLE, Faults, Trim
from tests.simulation.inputs import END_ID, Case, InputEvent, Topic, add_label, make_case
from tests.simulation.kept import COMMANDS, SNAPSHOTS, TRAINING, ByteTopic, Kept, TrainingLog
from tests.simulation.rules import Rules
from tests.simulation.vault import Vault

from tailrace.domain.blocks import ScoredBlock, Served, TrainingBlock
from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.notices import LogRecord
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.positions import Position
from tailrace.domain.records import Claim, Features, Forward, Label, Mark, Owner, Request, Task
from tailrace.stores.waiting_folders import WaitingFolders

CONTRACT: Final = FeatureContract((FeatureSpec("a", "number"), FeatureSpec("b", "number"), FeatureSpec("c", "number")))
TARGET: Final = TargetContract(Task.BINARY, positive="yes")
LOG_ID: Final = "log"
END_MS: Final = 1_000_000
"""The time of the last record of every input: it moves every watermark past everything."""

CHAMPION: Final = "champion"
"""In place of the name of a part: who serves, and in which epoch."""

SERVES: Final = "serves"
"""In place of the name of a part: the lineage of what a server serves."""

Process: TypeAlias = Generator[None, None, None]
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


class Seen(NamedTuple):
    """What some process held of a branch, of the loop's own part or of a served model, to be compared in the end.

    Attributes:
        who: Says where the digest comes from.
        part: Name of the part of a state, or the lineage of a model that is served.
    """

    who: str
    position: Position
    part: str
    digest: str


def champion_text(champion: str, epoch: int) -> str:
    """Return what `Seen` keeps of a pointer."""
    return f"{champion} in epoch {epoch}"


@dataclass(slots=True)
class World:
    """Everything that outlives a process.

    Attributes:
        training: The training log; `log` is its topic.
        assigned: Seat → the process that the group coordinator believes in.
        committed: Seat of a scorer → next offset of its events.
        finished: Seat → proof that its process has nothing left to do.
        left: Partition → identities, waiting events and early labels in its join.
        jump_ms: How wrong the clocks of processes are now; nothing may depend on it.
        version: Of the libraries that a learner that begins now has.
        asked: Offset in the commands topic → what a person who may do so asked for.
        acts: How often people did something.
        genuine: Values in the snapshots topic that a learner wrote.
        rooms: Where the joins keep what waits on disk; None: in memory.
        seen: Digests of states wherever they came to be known.
    """

    case: Case
    rng: Random
    rules: Rules
    faults: Faults
    scored: list[Topic[ScoredBlock]]
    relabelled: list[Topic[Forward | Mark]]
    vault: Vault
    log: Topic[LogRecord] = field(default_factory=Topic)
    training: TrainingLog = field(init=False)
    commands: ByteTopic = field(default_factory=lambda: ByteTopic(COMMANDS))
    snapshots: ByteTopic = field(default_factory=lambda: ByteTopic(SNAPSHOTS))
    letters: list[DeadLetter] = field(default_factory=list)
    clock_ms: float = 0.0
    jump_ms: int = 0
    version: str = "1"
    inputs_ended: bool = False
    assigned: dict[Seat, Owner] = field(default_factory=dict)
    committed: dict[Seat, int] = field(default_factory=dict)
    finished: dict[Seat, object] = field(default_factory=dict)
    left: dict[int, int] = field(default_factory=dict)
    asked: dict[int, Request] = field(default_factory=dict)
    acts: int = 0
    genuine: set[bytes] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)
    live_outcomes: dict[str, int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    rooms: WaitingFolders | None = None
    rooms_used: int = 0

    def __post_init__(self) -> None:
        self.training = TrainingLog(self.log)

    @classmethod
    def of(cls, seed: int, rules: Rules, trim: Trim = WHOLE, rooms: WaitingFolders | None = None) -> World:
        """Make the world of a seed, or what is left of it."""
        case = make_case(seed, trim.ids)
        rng = Random(seed * 31 + 7)
        faults = Faults(Random(seed * 17 + 3), trim)
        case.others = tuple(role for role in case.others if faults.is_left(f"role:{role}"))
        return cls(
            case,
            rng,
            rules,
            faults,
            scored=[Topic(gaps=Random(rng.random())) for _ in range(case.partitions)],
            relabelled=[Topic(gaps=Random(rng.random())) for _ in range(case.partitions)],
            vault=Vault(faults),
            rooms=rooms,
        )

    # Clocks and members

    def now_ms(self) -> int:
        """Return the wall clock of a process, which may be wrong."""
        return max(0, 10_000_000 + int(self.clock_ms) + self.jump_ms)

    def broker_ms(self) -> int:
        """Return the broker's clock."""
        return 10_000_000 + int(self.clock_ms)

    def owns(self, seat: Seat, name: Owner) -> bool:
        """Whether a commit of this process would succeed."""
        return self.assigned.get(seat) == name

    @property
    def news(self) -> tuple[int, int, int]:
        """Everything that a process may wait for."""
        return self.log.next_offset, len(self.commands.kept), len(self.snapshots.kept)

    # Topics as bytes

    def end_of(self, topic: str) -> int:
        """Return one past the last offset."""
        return self.log.next_offset if topic == TRAINING else len(self._bytes_of(topic).kept)

    def records(self, topic: str, start: int, end: int) -> list[Kept]:
        """Return the records of [start, end)."""
        return self.training.records(start, end) if topic == TRAINING else self._bytes_of(topic).kept[start:end]

    def append(self, topic: str, key: bytes | None, value: bytes | None) -> int:
        """Append what a process of the product sent; return its offset."""
        if topic == TRAINING:
            assert value is not None, "the training log has no tombstones"
            return self.training.append_bytes(value, self.broker_ms())
        if topic not in {COMMANDS, SNAPSHOTS}:
            return 0  # News: nobody decides anything by it.
        return self._bytes_of(topic).append(key, value, self.broker_ms())

    def append_record(self, record: LogRecord) -> int:
        """Append what an agent of ours made to the training log; return its offset."""
        return self.training.append(record, self.broker_ms())

    def count_refusal(self, reason: str) -> None:
        """Count something that was refused, by its reason."""
        self.refused[reason] += 1

    def _bytes_of(self, topic: str) -> ByteTopic:
        return {COMMANDS: self.commands, SNAPSHOTS: self.snapshots}[topic]

    # Who owns what

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
            elif (
                isinstance(record, TrainingBlock)
                and partition in (None, record.partition)
                and state.accept(record.partition, record.owner, record.number)
            ):
                yield entry.offset, record

    def end_inputs(self) -> None:
        """Append to every partition of `scored` and `labels` a pair that moves all watermarks past everything."""
        self.clock_ms = END_MS
        self.inputs_ended = True
        for partition in range(self.case.partitions):
            event_id = next(f"e{n}" for n in range(END_ID, 10 * END_ID) if self.case.home(f"e{n}") == partition)
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
