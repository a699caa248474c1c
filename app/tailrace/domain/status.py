"""One immutable picture of a loop, for CLI, API and console.

Every process tells about itself once a second (`MemberStatus`, the heartbeat on `<loop>.status`); whoever wants to
see the loop puts the last heartbeats together (`verdicts.picture` → `LoopStatus`). Nothing in it is a feature, a
target or an id of a record.
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
"""How often a member tells about itself."""


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


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict with its reason in words.

    Attributes:
        about: What it is about, e.g. "score", "pages/3", "learn", "model".
    """

    about: str
    verdict: Verdict
    reason: str


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
class MemberStatus:
    """The heartbeat of one process.

    Attributes:
        member: A name that no other process uses; holds no host name.
        version: Of Tailrace.
        counters: What it counted since it began, e.g. "events_scored".
        digests: Of the state that it folds, at the last few agreed positions.
        proof: Of the last verification in the background, where this process begins them.
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

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        return worst(finding.verdict for finding in self.findings)


BEHIND_S: Final = 5.0
"""Less is what work on batches and heartbeats takes, and is called keeping up."""

_DOING: Final[Mapping[Role, str]] = {Role.SCORE: "Scoring", Role.JOIN: "Joining", Role.LEARN: "Learning"}


def in_one_sentence(status: LoopStatus, behind_s: Mapping[Role, float], state_age_s: float | None) -> str:
    """Return the picture as one sentence that a person can act on: what is behind and why, what serves, what to do.

    Args:
        behind_s: Role → age of the oldest record that it has not done; a role without such records may be missing.
        state_age_s: For how long there has been something in the log that the serving state does not hold; None: no
            state serves.
    """
    if not status.members:
        return "Nothing runs: no process was heard in the last minute; do start one with `tailrace run`."
    role = _slowest(status, behind_s)
    finding = _worst_about(status, role) if role is not None else _worst_of_all(status)
    said = [_of_work(role, behind_s, finding), _of_state(state_age_s)]
    if role is None and finding is not None:
        said.append(f"but {finding.about}: {_parted(finding.reason)[0]}")
    if finding is not None:
        said.append(f"do {_advice(role, finding)}")
    return f"{'; '.join(said)}."


def _slowest(status: LoopStatus, behind_s: Mapping[Role, float]) -> Role | None:
    """Return the role that fares worst, of those the one that is furthest behind; None: all keep up."""

    def rank(role: Role) -> tuple[int, float]:
        found = _worst_about(status, role)
        return (0 if found is None else list(Verdict).index(found.verdict)), behind_s.get(role, 0.0)

    role = max(_DOING, key=rank)
    bad, seconds = rank(role)
    return role if bad or seconds >= BEHIND_S else None


def _worst_about(status: LoopStatus, role: Role) -> Finding | None:
    """Return the worst finding about a role or one of its partitions that is not well; findings are worst first."""
    return next(
        (
            each
            for each in status.findings
            if each.verdict is not Verdict.OK and each.about.partition(" ")[0] == role.value
        ),
        None,
    )


def _worst_of_all(status: LoopStatus) -> Finding | None:
    return next((each for each in status.findings if each.verdict is not Verdict.OK), None)


def _of_work(role: Role | None, behind_s: Mapping[Role, float], finding: Finding | None) -> str:
    if role is None:
        return "Scoring, joining and learning keep up"
    seconds = behind_s.get(role, 0.0)
    why = "there is more to do than was done yet" if finding is None else _parted(finding.reason)[0]
    if seconds >= BEHIND_S:
        return f"{_DOING[role]} is {seconds:.0f} s behind because {why}"
    return f"{_DOING[role]} is {why}" if _is_settling(why) else f"{_DOING[role]} has no backlog, and yet: {why}"


def _is_settling(reason: str) -> bool:
    return reason.partition(":")[0] in {state.value for state in RoleState} - {RoleState.FAILED.value}


def _of_state(state_age_s: float | None) -> str:
    if state_age_s is None:
        return "no process serves predictions"
    if state_age_s < 1:
        return "predictions are served from a state that is up to date"
    return f"predictions are served from a state {state_age_s:.0f} s old"


def _advice(role: Role | None, finding: Finding) -> str:
    own = _parted(finding.reason)[1]
    if own:
        return own
    if role is None:
        return "look at `tailrace status`, which shows where"
    if finding.reason.startswith(("falls behind", "nobody reads")):
        return f"start one more process with `tailrace run --role {role}`"
    if _is_settling(finding.reason):
        return "wait, and if this lasts look at `tailrace doctor`"
    return "look at `tailrace doctor`, then at the log of that process"


def _parted(reason: str) -> tuple[str, str]:
    """Return what a reason says and what it advises, which stands behind a semicolon."""
    said, _, advised = reason.partition("; ")
    return said, advised


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
