"""One immutable picture of a loop, for CLI, API and console.

Every process tells about itself at least once a second (`MemberStatus`, the heartbeat on `<loop>.status`); whoever
wants to see the loop puts the last heartbeats together (`verdicts.picture` → `LoopStatus`). Nothing in it is a
feature, a target or an id of a record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from tailrace.domain.errors import CodecError
from tailrace.domain.positions import Position
from tailrace.domain.proof import Digests, ProofStatus

HEARTBEAT_MS: Final = 1_000
"""Between two heartbeats of a member, at most."""


class Role(StrEnum):
    """What a process does for a loop."""

    SCORE = "score"
    JOIN = "join"
    LEARN = "learn"
    FOLLOW = "follow"
    API = "api"


class RoleState(StrEnum):
    """Where a role is in its life."""

    STARTING = "starting"
    RESTORING = "restoring"  # reads a snapshot, the log, or what a partition needs
    RUNNING = "running"
    WAITING = "waiting"  # for the broker, for topics, for another member
    DRAINING = "draining"  # finishes what is in flight and leaves
    FAILED = "failed"  # stays down and says why


class Verdict(StrEnum):
    """How good something is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Condition(StrEnum):
    """What is the matter: also the name of the alert and of the page of the runbook about it.

    In the order in which somebody should look: what comes first explains or outweighs what comes later.
    """

    NO_PROCESS = "no_process"
    DIGESTS_DIFFER = "digests_differ"
    SNAPSHOT_NOT_PROVEN = "snapshot_not_proven"
    SCORING_STOPPED = "scoring_stopped"
    JOINING_STOPPED = "joining_stopped"
    LEARNING_STOPPED = "learning_stopped"
    FOLLOWING_STOPPED = "following_stopped"
    PARTITIONS_UNREAD = "partitions_unread"
    SCORING_STALLED = "scoring_stalled"
    JOINING_STALLED = "joining_stalled"
    LEARNING_STALLED = "learning_stalled"
    FOLLOWING_STALLED = "following_stalled"
    PROCESS_SILENT = "process_silent"
    SCORING_STARTING = "scoring_starting"
    JOINING_STARTING = "joining_starting"
    LEARNING_STARTING = "learning_starting"
    FOLLOWING_STARTING = "following_starting"
    SCORING_HINDERED = "scoring_hindered"
    JOINING_HINDERED = "joining_hindered"
    LEARNING_HINDERED = "learning_hindered"
    FOLLOWING_HINDERED = "following_hindered"
    SCORING_BEHIND = "scoring_behind"
    JOINING_BEHIND = "joining_behind"
    LEARNING_BEHIND = "learning_behind"
    FOLLOWING_BEHIND = "following_behind"
    PARTITIONS_READ_TWICE = "partitions_read_twice"
    SNAPSHOT_LATE = "snapshot_late"
    MODEL_WORSE_THAN_BASELINE = "model_worse_than_baseline"
    ALL_WELL = "all_well"


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict with its reason in words.

    Attributes:
        about: What it is about, e.g. "score", "pages/3", "learn", "model".
    """

    about: str
    verdict: Verdict
    reason: str
    code: Condition = Condition.ALL_WELL


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How far one role has come in one partition.

    Attributes:
        next_offset: Everything before it is completed.
        end_offset: End of the partition as last seen; None: not known yet.
        lag_records: None while the end is not known.
        lag_seconds: Age of the oldest record that is not completed; None: not known.
    """

    topic: str
    partition: int
    next_offset: int
    end_offset: int | None
    lag_records: int | None
    lag_seconds: float | None
    verdict: Verdict = Verdict.OK
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role of one process.

    Attributes:
        reason: In words, why it is in this state; "" when there is nothing to say.
    """

    role: Role
    state: RoleState
    reason: str = ""
    partitions: tuple[PartitionStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The model that this process holds.

    Attributes:
        name: E.g. "champion".
        position: Of the state, exclusive.
        learned, skipped: Examples in the state and left out of it.
        digest: Of the state at its last snapshot; "" before the first.
    """

    name: str
    lineage: str
    position: Position
    learned: int
    skipped: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """One metric of the served predictions.

    Attributes:
        window: "all" or "rolling".
        value: None before there is one.
        samples: Labels it rests on.
        baselines: Name of a trivial model → the same metric of it.
    """

    metric: str
    window: str
    value: float | None
    samples: int
    baselines: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """The last complete snapshot that this process knows.

    Attributes:
        every_ms: The configured interval.
    """

    number: int
    position: Position
    time_ms: int
    size_bytes: int
    every_ms: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A latency, in milliseconds, over the last `samples` labels."""

    p50_ms: float
    p99_ms: float
    samples: int

    @classmethod
    def of(cls, latencies_ms: Collection[float]) -> Quantiles | None:
        """Return the nearest-rank quantiles; None of nothing."""
        if not latencies_ms:
            return None
        ordered = sorted(latencies_ms)
        return cls(_nearest_rank(ordered, 50), _nearest_rank(ordered, 99), len(ordered))


@dataclass(frozen=True, slots=True)
class ServingStatus:
    """How old the state is that answers in one process; each None: not known (yet).

    Attributes:
        position: Of the state, exclusive.
        age_seconds: For how long the training log has held records that the state does not contain; 0: none.
        lag_records: How many records of the training log those are; one may hold many examples.
        event_time_lag_seconds: Newest event that was scored minus newest event that the state has learned.
    """

    position: Position
    age_seconds: float | None = None
    lag_records: int | None = None
    event_time_lag_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """The heartbeat of one process.

    Attributes:
        member: A name that no other process uses; holds no host name.
        version: Of Tailrace.
        counters: What it counted since it began, e.g. "events_scored".
        digests: Of the state that it folds, at the last few agreed positions.
        proof: Of the last verification in the background, where this process begins them.
        serving: Of the state that answers, where this process scores and has one.
    """

    member: str
    loop: str
    version: str
    time_ms: int
    started_ms: int
    pid: int | None = None
    roles: tuple[RoleStatus, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    model: ModelStatus | None = None
    quality: tuple[Quality, ...] = ()
    snapshot: SnapshotStatus | None = None
    label_to_influence: Quantiles | None = None
    digests: tuple[Digests, ...] = ()
    proof: ProofStatus | None = None
    serving: ServingStatus | None = None


@dataclass(frozen=True, slots=True)
class LoopStatus:
    """A loop at one moment, as its members tell it.

    Attributes:
        members: Those that were heard lately, by name.
        findings: What was looked at, the worst first.
        counters: Of all members together, since each of them began.
        model, quality, snapshot, label_to_influence: Of the member that is furthest in the log; None or empty when
            no member told any.
        proof: The last one that any member told.
        serving: Of the process that serves from the oldest state.
    """

    loop: str
    time_ms: int
    members: tuple[MemberStatus, ...]
    findings: tuple[Finding, ...]
    counters: Mapping[str, int]
    model: ModelStatus | None
    quality: tuple[Quality, ...]
    snapshot: SnapshotStatus | None
    label_to_influence: Quantiles | None
    proof: ProofStatus | None = None
    serving: ServingStatus | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        return worst(finding.verdict for finding in self.findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts; of none it is OK."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.OK)


def to_plain(status: MemberStatus | LoopStatus) -> dict[str, Any]:
    """Return a status as dicts, lists, text, numbers and None alone: for the wire and for `-o json`."""
    plain: dict[str, Any] = _plain(asdict(status))
    return plain | {"verdict": status.verdict.value} if isinstance(status, LoopStatus) else plain


def from_plain(plain: Mapping[str, Any]) -> MemberStatus:
    """Read a heartbeat that `to_plain` made, of this version or another; fields that are not known are ignored.

    Raises:
        CodecError: A field is missing, or is not of its type.
    """
    try:
        return _read(
            MemberStatus,
            plain,
            roles=tuple(_role(role) for role in plain.get("roles", ())),
            model=_maybe(ModelStatus, plain.get("model")),
            quality=tuple(_read(Quality, quality) for quality in plain.get("quality", ())),
            snapshot=_maybe(SnapshotStatus, plain.get("snapshot")),
            label_to_influence=_maybe(Quantiles, plain.get("label_to_influence")),
            digests=tuple(_read(Digests, each) for each in plain.get("digests") or ()),
            proof=_maybe(ProofStatus, plain.get("proof")),
            serving=_maybe(ServingStatus, plain.get("serving")),
        )
    except (AttributeError, TypeError, ValueError) as cause:
        raise CodecError(f"a heartbeat cannot be read: {cause}; it is ignored, is another version running?") from cause


_T = TypeVar("_T")

_NOTHING: Final = type(None)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "Position": (int,),
    "int | None": (int, _NOTHING),
    "float | None": (float, int, _NOTHING),
    "Mapping[str, int]": (dict,),
    "Mapping[str, float]": (dict,),
    "Mapping[str, str]": (dict,),
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.value if isinstance(value, StrEnum) else value


def _role(plain: Mapping[str, Any]) -> RoleStatus:
    partitions = tuple(
        _read(PartitionStatus, each, verdict=Verdict(each.get("verdict", ""))) for each in plain.get("partitions", ())
    )
    role, state = Role(plain.get("role", "")), RoleState(plain.get("state", ""))
    return _read(RoleStatus, plain, role=role, state=state, partitions=partitions)


def _maybe(kind: type[_T], plain: Mapping[str, Any] | None) -> _T | None:
    return None if plain is None else _read(kind, plain)


def _read(kind: type[_T], plain: Mapping[str, Any], **ready: Any) -> _T:
    known = {each.name: str(each.type) for each in fields(kind) if each.name not in ready}  # type: ignore[arg-type]
    taken = {name: plain[name] for name in known if name in plain}
    for name, value in taken.items():
        if not isinstance(value, _TYPES[known[name]]) or isinstance(value, bool):
            raise TypeError(f"{name} is of type {type(value).__name__} instead of {known[name]}")
    return kind(**taken, **ready)


def _nearest_rank(ordered: Sequence[float], percent: int) -> float:
    return float(ordered[max(-(-len(ordered) * percent // 100) - 1, 0)])
