"""Tells about this process on `<loop>.status`, so that any fleet can be seen through the log alone.

Once a second, and when a role is in another state: who is told by a probe that all is ready finds the same here a tenth
of a second later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import nan

from mode import Service

from tailrace.domain.branches import CHAMPION
from tailrace.domain.errors import LogUnavailable
from tailrace.domain.proof import Digests, ProofStatus
from tailrace.domain.status import (
    HEARTBEAT_MS,
    MemberStatus,
    ModelStatus,
    PartitionStatus,
    Quality,
    Role,
    RoleStatus,
    ServingStatus,
    SnapshotStatus,
)
from tailrace.streams.followers import Models
from tailrace.streams.log import Outgoing, Sink, Source, TopicPartition
from tailrace.streams.role import RoleReport
from tailrace.telemetry.recorder import Recorder
from tailrace.wire.avro_codec import encode_status

_APART_S = 0.1  # Between two heartbeats at least, however often states change.


@dataclass(frozen=True, slots=True)
class Voice:
    """One role of this process, and the group member behind it."""

    report: RoleReport
    source: Source


@dataclass(frozen=True, slots=True)
class Beating:
    """What a heartbeat is made of.

    Attributes:
        newest_snapshot: The last one this process wrote or restored.
        quality: The quality that the live state holds; () when this process does not learn.
        digests: At the last few agreed positions; () when this process folds nothing.
        proof: Of the last verification that this process began; None: it began none.
        serving: How old the state is that serves; None: this process does not score, or has none yet.
        books: Line → its total under the line's own name, and its parts, over the whole log; {} where nobody learns.
        sinks: What the roles of this process send with.
        remarks: Role → what is to be said of it although it runs; "" when all is well.
    """

    member: str
    loop: str
    version: str
    pid: int
    started_ms: int
    now_ms: Callable[[], int]
    models: Models
    recorder: Recorder
    newest_snapshot: Callable[[], SnapshotStatus | None]
    quality: Callable[[], tuple[Quality, ...]]
    digests: Callable[[], tuple[Digests, ...]]
    proof: Callable[[], ProofStatus | None]
    serving: Callable[[], ServingStatus | None]
    books: Callable[[], Mapping[str, Mapping[str, int]]]
    sinks: Sequence[Sink] = ()
    remarks: Mapping[Role, Callable[[], str]] = field(default_factory=dict)


class Heartbeat(Service):
    """Sends heartbeats, and a tombstone on leaving."""

    def __init__(self, sink: Sink, topic: str, beating: Beating) -> None:
        super().__init__()
        self._sink = sink
        self._partition = TopicPartition(topic, 0)
        self._beating = beating
        self._voices: list[Voice] = []
        self._changed = asyncio.Event()
        self._oldest_ms: dict[TopicPartition, int] = {}

    def add(self, voice: Voice) -> None:
        """Tell about a role from now on."""
        self._voices.append(voice)
        voice.report.on_change = self._changed.set

    @Service.task
    async def _beat(self) -> None:
        while not self.should_stop:
            self._changed.clear()
            picture = self.picture()
            self._record(picture)
            await self._send(encode_status(picture))
            await self.sleep(_APART_S)
            await self.wait_first(self._changed.wait(), timeout=HEARTBEAT_MS / 1_000 - _APART_S)

    async def on_stop(self) -> None:
        """Say that this member has left, if that can still be said."""
        with suppress(LogUnavailable):
            await self._send(None)

    def picture(self) -> MemberStatus:
        """Return what this process would tell now."""
        made = self._beating
        return MemberStatus(
            member=made.member,
            loop=made.loop,
            version=made.version,
            time_ms=made.now_ms(),
            started_ms=made.started_ms,
            pid=made.pid,
            roles=tuple(self._role(voice) for voice in self._voices),
            counters=dict(made.recorder.counts),
            model=self._model(),
            quality=made.quality(),
            snapshot=made.newest_snapshot(),
            label_to_influence=made.recorder.label_to_influence_quantiles(),
            digests=made.digests(),
            proof=made.proof(),
            serving=made.serving(),
        )

    def _record(self, picture: MemberStatus) -> None:
        recorder = self._beating.recorder
        for voice, role in zip(self._voices, picture.roles, strict=True):
            source = voice.source
            paused = Counter(partition.topic for partition in source.paused)
            held: Counter[str] = Counter()
            for partition, batches in source.in_flight.items():
                held[partition.topic] += batches
            recorder.reading(role.role, role.partitions, picture.time_ms, paused=paused, held=held)
        sinks = self._beating.sinks
        recorder.producing(
            waiting_bytes=sum(sink.waiting_bytes for sink in sinks), renewals=sum(sink.renewals for sink in sinks)
        )
        if picture.serving is not None:
            recorder.serving(picture.serving)
        recorder.books(self._beating.books())
        self._record_quality(picture.quality)

    def _record_quality(self, quality: Sequence[Quality]) -> None:
        recorder = self._beating.recorder
        for each in quality:
            if each.samples:
                value = nan if each.value is None else each.value  # In place of a value that it had before.
                recorder.quality(CHAMPION, each.window, {each.metric: value}, each.samples)
            for baseline, value in each.baselines.items():
                recorder.baseline(baseline, each.window, {each.metric: value})

    async def _send(self, value: bytes | None) -> None:
        await self._sink.send(self._partition, [Outgoing(self._beating.member.encode(), value)])

    def _role(self, voice: Voice) -> RoleStatus:
        lags = voice.source.lag()
        partitions = tuple(
            self._partition_status(voice, partition, lags.get(partition)) for partition in sorted(voice.source.assigned)
        )
        report = voice.report
        remark = self._beating.remarks.get(report.role)
        reason = report.reason or (remark() if remark is not None else "")
        return RoleStatus(report.role, report.state, reason, partitions)

    def _partition_status(self, voice: Voice, partition: TopicPartition, lag: int | None) -> PartitionStatus:
        end = voice.source.end_offset(partition)
        seconds = self._lag_seconds(partition, lag)
        next_offset = (end or 0) - (lag or 0)
        return PartitionStatus(partition.topic, partition.partition, next_offset, end, lag, seconds)

    def _lag_seconds(self, partition: TopicPartition, lag: int | None) -> float | None:
        """Return for how long this partition has not been caught up with; an upper bound of the oldest record's age."""
        if lag is None:
            return None
        now_ms = self._beating.now_ms()
        if lag == 0:
            self._oldest_ms.pop(partition, None)
            return 0.0
        return (now_ms - self._oldest_ms.setdefault(partition, now_ms)) / 1_000

    def _model(self) -> ModelStatus | None:
        models = self._beating.models
        if models.live is not None:
            state, newest = models.live, self._beating.newest_snapshot()
            champion = state.champion
            if champion is not None:
                digest = newest.digest if newest is not None else ""
                return ModelStatus(
                    CHAMPION, champion.lineage, state.position, champion.learned, champion.skipped, digest
                )
        serving = models.current()
        if serving is None:
            return None
        return ModelStatus(serving.name, serving.version, serving.position, 0)
