"""The picture of a loop, from its log alone: heartbeats, what the groups committed, where the topics end.

Nothing is asked of any process, so that it works for every fleet, and when nothing runs at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from tailrace.domain.errors import CodecError
from tailrace.domain.headlines import Headline, headline_of
from tailrace.domain.snapshots import Manifest, only_branch_of
from tailrace.domain.status import (
    LoopStatus,
    MemberStatus,
    ModelStatus,
    PartitionStatus,
    Role,
    RoleStatus,
    SnapshotStatus,
    Verdict,
)
from tailrace.domain.verdicts import GONE_MS, SILENT_MS, LagSample, LagWindowState, picture
from tailrace.inspection.manifests import newest_snapshot
from tailrace.inspection.reading import Reading
from tailrace.opening import topics_of
from tailrace.settings import LoopSettings, Settings
from tailrace.streams.log import Range, Record, TopicPartition
from tailrace.wire.avro_codec import decode_status
from tailrace.wire.topics import LoopTopics

log = structlog.get_logger(__name__)

HEARTBEATS_READ: Final = 20_000
"""Records of the status topic that are looked at, from its end: a minute of 300 members."""

CHAMPION: Final = "champion"  # as domain.branches calls it, which loads River

ROLES: Final = (Role.SCORE, Role.JOIN, Role.LEARN)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one group has come in one partition, whoever reads it.

    Attributes:
        members: Who says that it reads the partition; those that fell silent only where nobody else says so.
        committed: Next offset that the group committed; None: it never did.
        lag_records: Records between what is done and the end, by the owner's word, else by the commit.
        lag_seconds: Age of the oldest record that is not done, by its Kafka time; 0 without lag; None: not known.
    """

    role: Role
    topic: str
    partition: int
    members: tuple[str, ...]
    committed: int | None
    next_offset: int
    end_offset: int
    lag_records: int
    lag_seconds: float | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A loop at one moment."""

    status: LoopStatus
    progress: tuple[Progress, ...]
    groups: Mapping[Role, str]

    @property
    def headline(self) -> Headline:
        """What stands first."""
        return headline_of(self.status)


async def picture_of(
    reading: Reading, name: str, loop: LoopSettings, now_ms: int, heartbeats_read: int = HEARTBEATS_READ
) -> Picture:
    """Look at one loop.

    Args:
        heartbeats_read: Records of the status topic that are looked at, from its end.

    Raises:
        LogError: A topic of it does not exist.
    """
    topics = topics_of(name, loop)
    inputs = inputs_of(topics)
    held = {topic: await reading.ranges(topic) for of_role in inputs.values() for topic in of_role}
    members = _with_verdicts(await heartbeats(reading, topics, heartbeats_read), now_ms)
    expected = {role: {topic: len(held[topic]) for topic in of_role} for role, of_role in inputs.items()}
    if reading.settings.snapshots.by == "follower":
        expected[Role.FOLLOW] = {}
    status = picture(name, members, now_ms, expected)
    if status.model is None:
        status = _as_of_snapshot(status, await newest_snapshot(reading, topics), reading.settings)
    groups = {role: group_of(name, role) for role in ROLES}
    progress = []
    for role in ROLES:
        committed = {at: commit.offset for at, commit in (await reading.committed(groups[role])).items()}
        for topic in inputs[role]:
            for partition, offsets in held[topic].items():
                one = _progress(role, partition, offsets, committed.get(partition), status)
                progress.append(await _with_age(reading, one, offsets, now_ms))
    return Picture(status, tuple(progress), groups)


def inputs_of(topics: LoopTopics) -> dict[Role, tuple[str, ...]]:
    """Return the topics that each role reads in its group."""
    return {
        Role.SCORE: (topics.events,),
        Role.JOIN: (topics.scored, topics.labels, topics.relabelled),
        Role.LEARN: (topics.training,),
    }


def group_of(loop: str, role: Role) -> str:
    """Return the consumer group of a role."""
    return f"tailrace.{loop}.{role.value}"


async def heartbeats(reading: Reading, topics: LoopTopics, most: int = HEARTBEATS_READ) -> list[list[MemberStatus]]:
    """Return the heartbeats that are still there, per member that has not left, oldest first; at most the newest."""
    ((partition, held),) = (await reading.ranges(topics.status)).items()
    heard: dict[str, list[MemberStatus]] = {}
    async for record in reading.records(partition, Range(max(held.start, held.end - most), held.end)):
        key = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            heard.pop(key, None)
        elif (heartbeat := _heartbeat(record)) is not None:
            heard.setdefault(key, []).append(heartbeat)
    return list(heard.values())


def _heartbeat(record: Record) -> MemberStatus | None:
    assert record.value is not None, "a tombstone is no heartbeat"
    try:
        # The broker's time: by a clock that is an hour behind, a member that is well would be long gone.
        return replace(decode_status(record.value), time_ms=record.timestamp)
    except CodecError as problem:
        log.warning("heartbeat passed over", topic=record.topic, offset=record.offset, why=str(problem))
        return None


def _with_verdicts(heard: Iterable[list[MemberStatus]], now_ms: int) -> list[MemberStatus]:
    """Return each member's last heartbeat, its partitions judged by the ones before it."""
    found = []
    for heartbeats in heard:
        last = heartbeats[-1]
        if now_ms - last.time_ms < GONE_MS:
            windows = _windows(heartbeats)
            roles = tuple(_judged(role, windows) for role in last.roles)
            found.append(replace(last, roles=roles))
    return found


def _windows(heartbeats: Iterable[MemberStatus]) -> dict[tuple[Role, str, int], LagWindowState]:
    windows: dict[tuple[Role, str, int], LagWindowState] = {}
    for heartbeat in heartbeats:
        for role in heartbeat.roles:
            for each in role.partitions:
                if each.end_offset is not None:
                    window = windows.setdefault((role.role, each.topic, each.partition), LagWindowState())
                    window.add(LagSample(heartbeat.time_ms, each.next_offset, each.end_offset))
    return windows


def _judged(role: RoleStatus, windows: Mapping[tuple[Role, str, int], LagWindowState]) -> RoleStatus:
    def judged(each: PartitionStatus) -> PartitionStatus:
        window = windows.get((role.role, each.topic, each.partition), LagWindowState())
        return window.status(each.topic, each.partition, each.lag_seconds)

    return replace(role, partitions=tuple(judged(each) for each in role.partitions))


def _progress(
    role: Role,
    partition: TopicPartition,
    held: Range,
    committed: int | None,
    status: LoopStatus,
) -> Progress:
    told = _told(role, partition, [each for each in status.members if status.time_ms - each.time_ms < SILENT_MS])
    told = told or _told(role, partition, status.members)
    # What a member completed is ahead of what its group committed, by up to a second of work.
    done = max([committed or held.start, *(each.next_offset for _, each in told)])
    lag = max(0, held.end - done)
    verdict, reason = _verdict(told, lag, status.time_ms)
    names = tuple(member.member for member, _ in told)
    return Progress(role, *partition, names, committed, done, held.end, lag, 0.0 if not lag else None, verdict, reason)


def _told(
    role: Role, partition: TopicPartition, members: Iterable[MemberStatus]
) -> list[tuple[MemberStatus, PartitionStatus]]:
    return [
        (member, each)
        for member in members
        for one in member.roles
        if one.role is role
        for each in one.partitions
        if (each.topic, each.partition) == partition
    ]


def _verdict(told: list[tuple[MemberStatus, PartitionStatus]], lag: int, now_ms: int) -> tuple[Verdict, str]:
    if told:
        member, last = told[-1]
        silent_ms = now_ms - member.time_ms
        if lag and silent_ms >= SILENT_MS:
            return Verdict.WARN, f"who reads it was last heard {silent_ms // 1_000} s ago"
        return last.verdict, last.reason
    if not lag:
        return Verdict.WARN, "nobody reads it; nothing waits"
    return Verdict.FAIL, f"nobody reads it; {lag} record{'s wait' if lag > 1 else ' waits'}"


def _as_of_snapshot(status: LoopStatus, newest: Manifest | None, settings: Settings) -> LoopStatus:
    """Where no process tells of a model, tell of the one that the next learner begins with."""
    if newest is None:
        return status
    learned, skipped = newest.counters.get("learned", 0), newest.counters.get("skipped", 0)
    digest, position = newest.state_digest, newest.position
    model = ModelStatus(CHAMPION, only_branch_of(newest), position, learned, skipped, digest)
    every_ms = settings.snapshots.every
    snapshot = SnapshotStatus(newest.number, position, newest.created_at_ms, newest.stored_bytes, every_ms, digest)
    return replace(status, model=model, snapshot=status.snapshot or snapshot)


async def _with_age(reading: Reading, progress: Progress, held: Range, now_ms: int) -> Progress:
    if not progress.lag_records:
        return progress
    partition = TopicPartition(progress.topic, progress.partition)
    oldest = await reading.first_record(partition, Range(max(progress.next_offset, held.start), held.end))
    if oldest is None:
        return progress
    return replace(progress, lag_seconds=max(0, now_ms - oldest.timestamp) / 1_000)
