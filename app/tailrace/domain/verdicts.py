"""Verdicts about partitions and loops: ok, warn or fail, each with its reason in words; `headlines` puts them in one.

A partition is judged by a window of samples instead of by a limit on its lag, as LinkedIn's Burrow does: whoever
keeps up is fine at any lag, whoever does not move is not at any. The member that saw the samples judges, and the
verdict travels in its heartbeat. Ages are differences of the members' clocks and the reader's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tailrace.domain.positions import show
from tailrace.domain.proof import Comparison, ProofStatus
from tailrace.domain.status import (
    Condition,
    Finding,
    LoopStatus,
    MemberStatus,
    PartitionStatus,
    Quality,
    Role,
    RoleState,
    RoleStatus,
    ServingStatus,
    SnapshotStatus,
    Verdict,
)

SILENT_MS: Final = 5_000
"""A member that was not heard for so long is probably gone; Kafka may still have to notice."""

GONE_MS: Final = 60_000
"""A member that was not heard for so long is left out of the picture."""

LAG_SAMPLES: Final = 30
"""Heartbeats that the verdict about a partition rests on."""

STALLED_MS: Final = 10_000
"""No progress for so long, with something to do all the time, is a stall."""

LATE_SNAPSHOTS: Final = 3
"""Intervals without a snapshot, while the model moved, after which somebody should look."""

ENOUGH_SAMPLES: Final = 500
"""Labels before a model is compared with a baseline in words."""

MAX_LISTED: Final = 8
"""Partitions that one sentence names."""

HIGHER_IS_BETTER: Final = frozenset({"accuracy", "roc_auc"})

_WORK: Final = (Role.SCORE, Role.JOIN, Role.LEARN)
_OPTIONAL: Final = (Role.FOLLOW,)  # work that need not be done, unless the settings say that it is
_SETTLING: Final = frozenset({RoleState.STARTING, RoleState.RESTORING, RoleState.WAITING, RoleState.DRAINING})
_GERUNDS: Final = {Role.SCORE: "scoring", Role.JOIN: "joining", Role.LEARN: "learning", Role.FOLLOW: "following"}
_WORST_FIRST: Final = (Verdict.FAIL, Verdict.WARN, Verdict.OK)


class LagSample(NamedTuple):
    """How far a partition was at one moment."""

    time_ms: int
    next_offset: int
    end_offset: int

    @property
    def lag(self) -> int:
        """Records between the two."""
        return max(self.end_offset - self.next_offset, 0)


class LagWindowState:
    """The last samples of one partition."""

    def __init__(self) -> None:
        self._samples: deque[LagSample] = deque(maxlen=LAG_SAMPLES)

    def add(self, sample: LagSample) -> None:
        """Take one sample, about once a heartbeat."""
        self._samples.append(sample)

    def status(self, topic: str, partition: int, lag_seconds: float | None = None) -> PartitionStatus:
        """Return where the partition is, with the verdict of this window."""
        verdict, reason = judge_lag(self._samples)
        if not self._samples:
            return PartitionStatus(topic, partition, 0, None, None, lag_seconds, verdict, reason)
        last = self._samples[-1]
        return PartitionStatus(
            topic, partition, last.next_offset, last.end_offset, last.lag, lag_seconds, verdict, reason
        )


def judge_lag(samples: Sequence[LagSample]) -> tuple[Verdict, str]:
    """Judge one partition by its last samples, oldest first.

    Returns:
        FAIL when it stalled, WARN when its lag rose from the first half to the second throughout, else OK.
    """
    if not samples:
        return Verdict.OK, "not read yet"
    first, last = samples[0], samples[-1]
    span_ms = last.time_ms - first.time_ms
    if last.lag == 0:
        return Verdict.OK, "idle" if last.end_offset == first.end_offset else "no lag"
    moved = next((sample for sample in reversed(samples) if _is_other(sample, last)), None)
    since_ms = last.time_ms - (moved.time_ms if moved else first.time_ms)
    if since_ms >= STALLED_MS:
        return Verdict.FAIL, f"stalled: no progress for {since_ms // 1_000} s, {last.lag} records behind"
    half = len(samples) // 2
    lags = [sample.lag for sample in samples]
    if span_ms >= STALLED_MS and min(lags[half:]) > max(lags[:half]):
        return Verdict.WARN, f"falls behind: {first.lag} → {last.lag} records in {span_ms // 1_000} s"
    return Verdict.OK, f"{last.lag} records behind, keeping up"


def picture(
    loop: str, members: Iterable[MemberStatus], now_ms: int, expected: Mapping[Role, Mapping[str, int]]
) -> LoopStatus:
    """Put the last heartbeats of a loop together.

    Args:
        members: The last heartbeat of each member.
        expected: Role → topic → number of partitions that must have an owner.
    """
    heard = sorted((each for each in members if now_ms - each.time_ms < GONE_MS), key=lambda each: each.member)
    with_model = [each for each in heard if each.model is not None]
    furthest = max(with_model, key=_learned_position, default=None)
    alive = [each for each in heard if now_ms - each.time_ms < SILENT_MS]
    findings = [*_of_members(heard, now_ms), *_of_roles(heard, alive, expected), *_of_partitions(alive or heard)]
    snapshot = max((each.snapshot for each in heard if each.snapshot), key=lambda each: each.position, default=None)
    proof = max((each.proof for each in heard if each.proof), key=lambda each: each.time_ms, default=None)
    if furthest is not None:
        findings += [*_of_snapshot(furthest, snapshot, now_ms), *_of_quality(furthest.quality)]
    findings += [*_of_digests(heard), *_of_proof(proof)]
    latencies = [each.label_to_influence for each in heard if each.label_to_influence is not None]
    return LoopStatus(
        loop=loop,
        time_ms=now_ms,
        members=tuple(heard),
        findings=tuple(sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.verdict))),
        counters=dict(sum((Counter(each.counters) for each in heard), Counter())),
        model=furthest.model if furthest else None,
        quality=next((each.quality for each in [*([furthest] if furthest else []), *heard] if each.quality), ()),
        snapshot=snapshot,
        label_to_influence=max(latencies, key=lambda each: each.samples, default=None),
        proof=proof,
        serving=max((each.serving for each in alive if each.serving), key=_age_s, default=None),
    )


def _age_s(serving: ServingStatus) -> tuple[float, int]:
    return serving.age_seconds or 0.0, -serving.position


def _code(role: Role, state: str) -> Condition:
    return Condition(f"{_GERUNDS[role]}_{state}")


def _is_other(sample: LagSample, last: LagSample) -> bool:
    # A sample without lag also ends a stall: there was nothing to do at that moment.
    return sample.next_offset != last.next_offset or sample.lag == 0


def _learned_position(member: MemberStatus) -> tuple[int, bool]:
    # Of two with the same position the learner knows more: it judges, and takes the snapshots.
    position = member.model.position if member.model else -1
    return position, any(role.role is Role.LEARN for role in member.roles)


def _of_members(heard: Sequence[MemberStatus], now_ms: int) -> list[Finding]:
    if not heard:
        reason = "no process was heard in the last minute; start one with `tailrace run`"
        return [Finding("loop", Verdict.FAIL, reason, Condition.NO_PROCESS)]
    return [
        Finding(
            each.member,
            Verdict.WARN,
            f"was last heard {(now_ms - each.time_ms) // 1_000} s ago",
            Condition.PROCESS_SILENT,
        )
        for each in heard
        if now_ms - each.time_ms >= SILENT_MS
    ]


def _of_roles(
    heard: Sequence[MemberStatus], alive: Sequence[MemberStatus], expected: Mapping[Role, Mapping[str, int]]
) -> list[Finding]:
    if not heard:
        return []
    work = [*_WORK, *(role for role in _OPTIONAL if role in expected or _doing(role, heard))]
    return [
        # What a silent member said counts only where nobody else does its work: its partitions may have moved on.
        finding
        for role in work
        for finding in _of_role(role, _doing(role, alive) or _doing(role, heard), expected.get(role, {}))
    ]


def _doing(role: Role, members: Sequence[MemberStatus]) -> list[RoleStatus]:
    return [each for member in members for each in member.roles if each.role is role]


def _of_role(role: Role, mine: Sequence[RoleStatus], topics: Mapping[str, int]) -> list[Finding]:
    stopped = _code(role, "stopped")
    if not mine:
        reason = f"no process does it; start one with `tailrace run --role {role}`"
        return [Finding(role, Verdict.FAIL, reason, stopped)]
    failed = [
        Finding(role, Verdict.FAIL, each.reason or "failed", stopped) for each in mine if each.state is RoleState.FAILED
    ]
    settling = [each for each in mine if each.state in _SETTLING]
    running = [each for each in mine if each.state is RoleState.RUNNING]
    if not running:
        return failed or [Finding(role, Verdict.WARN, _in_words(settling[0]), _code(role, "starting"))]
    unowned = _of_owners(role, mine, topics, is_settling=bool(settling))
    told = [Finding(role, Verdict.WARN, each.reason, _code(role, "hindered")) for each in running if each.reason]
    calm = [Finding(role, Verdict.OK, f"{len(running)} of {len(mine)} running")]
    return failed + (told + unowned or calm)


def _of_owners(
    role: Role, mine: Sequence[RoleStatus], topics: Mapping[str, int], *, is_settling: bool
) -> list[Finding]:
    owners = Counter((each.topic, each.partition) for one in mine for each in one.partitions)
    findings = []
    for topic, count in topics.items():
        nobody = [partition for partition in range(count) if not owners[topic, partition]]
        twice = [partition for partition in range(count) if owners[topic, partition] > 1]
        if nobody:
            verdict = Verdict.WARN if is_settling else Verdict.FAIL
            reason = f"nobody reads {topic} {_numbers(nobody)}"
            findings.append(Finding(role, verdict, reason, Condition.PARTITIONS_UNREAD))
        if twice:
            reason = f"two processes say they read {topic} {_numbers(twice)}"
            findings.append(Finding(role, Verdict.WARN, reason, Condition.PARTITIONS_READ_TWICE))
    return findings


def _of_partitions(heard: Sequence[MemberStatus]) -> list[Finding]:
    return [
        Finding(
            f"{role.role} {each.topic}/{each.partition}",
            each.verdict,
            each.reason,
            _code(role.role, "stalled" if each.verdict is Verdict.FAIL else "behind"),
        )
        for member in heard
        for role in member.roles
        for each in role.partitions
        if each.verdict is not Verdict.OK and role.role in _GERUNDS
    ]


def _of_snapshot(member: MemberStatus, snapshot: SnapshotStatus | None, now_ms: int) -> list[Finding]:
    model = member.model
    if snapshot is None or model is None:
        return []
    age_ms = now_ms - snapshot.time_ms
    if model.position <= snapshot.position or age_ms < LATE_SNAPSHOTS * snapshot.every_ms:
        return [Finding("snapshot", Verdict.OK, f"number {snapshot.number} at {show(snapshot.position)}")]
    reason = f"the last one is {age_ms // 1_000} s old, one is due every {snapshot.every_ms // 1_000} s"
    return [Finding("snapshot", Verdict.WARN, reason, Condition.SNAPSHOT_LATE)]


def _of_digests(heard: Sequence[MemberStatus]) -> list[Finding]:
    """Compare what members say they came to at the same positions."""
    findings = []
    for first, member in enumerate(heard):
        comparison = Comparison()
        for digests in member.digests:
            comparison.mine(digests)
        for other in heard[first + 1 :]:
            found = comparison.theirs(other.member, other.digests)
            if found is not None:
                parts = ", ".join(found.parts)
                reason = f"differs from that of {other.member} at {show(found.position)} in {parts}; `tailrace verify`"
                about, told = f"digest of {member.member}", f"{reason} says which is right"
                findings.append(Finding(about, Verdict.FAIL, told, Condition.DIGESTS_DIFFER))
    return findings


def _of_proof(proof: ProofStatus | None) -> list[Finding]:
    if proof is None:
        return []
    if proof.problem:
        return [Finding("proof", Verdict.FAIL, proof.problem, Condition.SNAPSHOT_NOT_PROVEN)]
    return [
        Finding("proof", Verdict.OK, f"{proof.proven} of {proof.known} snapshots proven, to {show(proof.position)}")
    ]


def _of_quality(quality: Sequence[Quality]) -> list[Finding]:
    return [
        Finding(
            "model",
            Verdict.WARN,
            f"{each.metric} ({each.window}) is {each.value:.4g}, {name} has {other:.4g}",
            Condition.MODEL_WORSE_THAN_BASELINE,
        )
        for each in quality
        for name, other in each.baselines.items()
        if each.value is not None and each.samples >= ENOUGH_SAMPLES and not _beats(each.metric, each.value, other)
    ]


def _beats(metric: str, value: float, baseline: float) -> bool:
    return value > baseline if metric in HIGHER_IS_BETTER else value < baseline


def _in_words(role: RoleStatus) -> str:
    return f"{role.state}: {role.reason}" if role.reason else role.state.value


def _numbers(partitions: Sequence[int]) -> str:
    listed = ", ".join(map(str, partitions[:MAX_LISTED]))
    more = " …" if len(partitions) > MAX_LISTED else ""
    return f"partition{'s' if len(partitions) > 1 else ''} {listed}{more}"
