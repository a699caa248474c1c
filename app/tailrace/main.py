"""The composition root: settings become objects, objects a worker. The only file that knows everyone."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import faust
import numpy as np
import river
import scipy  # type: ignore[import-untyped]
import structlog
from mode import Service
from mode.services import ServiceT

import tailrace
from tailrace import opening
from tailrace.domain.contract import FeatureContract, TargetContract
from tailrace.domain.errors import LogError, SettingsError
from tailrace.domain.join import JoinLimits, JoinSpec
from tailrace.domain.learning import Fold, skeletons
from tailrace.domain.models.codec import CODEC_VERSION
from tailrace.domain.models.spec import FOLD_VERSION, ModelSpec, lineage_of
from tailrace.domain.status import Quality, Role, RoleState
from tailrace.opening import event_decoder, label_decoder, open_log, open_store
from tailrace.settings import LoopSettings, Settings, importer
from tailrace.streams import worker as workers
from tailrace.streams.announcements import Announcements
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.followers import Follower, Models
from tailrace.streams.heartbeat import Beating, Heartbeat, Voice
from tailrace.streams.join_agent import JoinAgent, JoinParts, JoinTopics
from tailrace.streams.learn_agent import LearnAgent, LearnParts
from tailrace.streams.log import Log, Reader, SourceSpec
from tailrace.streams.role import RoleReport
from tailrace.streams.score_agent import ScoreAgent, ScoreParts
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.snapshot_writer import SnapshotWriter
from tailrace.streams.topic_plan import TopicPlan, apply, plan
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.worker import Lane, Worker
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import ProcessRecorder, Recorder
from tailrace.web import server
from tailrace.wire.prediction_codec import PredictionEncoder
from tailrace.wire.topics import LARGEST_MESSAGE_BYTES, LoopTopics, topics_of

log = structlog.get_logger(__name__)

ALL_ROLES = (Role.SCORE, Role.JOIN, Role.LEARN)
"""What `tailrace run` does unless told otherwise."""

_LOG_POLL_S = 2.0  # how often a start that waits for the log asks again


def now_ms() -> int:
    """Return the wall clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def clock_ms() -> int:
    """Return a clock that never goes back, in milliseconds since some moment."""
    return time.monotonic_ns() // 1_000_000


def versions() -> Mapping[str, str]:
    """Return what two folds must have in common, and what a bug report should name."""
    return {
        "tailrace": tailrace.__version__,
        "fold": str(FOLD_VERSION),
        "codec": str(CODEC_VERSION),
        "river": str(vars(river)["__version__"]),
        "numpy": np.__version__,
        "scipy": str(scipy.__version__),
        "python": platform.python_version(),
        "faust": str(faust.__version__),
    }


@dataclass(frozen=True)
class LoopDomain:
    """The parts of one loop that decide and do nothing: the same for serving, learning, verifying and inspecting."""

    name: str
    settings: LoopSettings
    contract: FeatureContract
    target: TargetContract
    spec: ModelSpec
    lineage: str
    topics: LoopTopics

    @classmethod
    def of(cls, name: str, settings: LoopSettings, folder: Path | None = None) -> LoopDomain:
        """Make the domain objects of one loop.

        Args:
            folder: Of the configuration: where the module of a `module:function` is looked for first.

        Raises:
            SettingsError: The model cannot be built.
        """
        target, contract = settings.target, settings.contract
        champion = settings.champion
        build = importer(folder or Path.cwd())
        spec = ModelSpec.load(settings.task.value, champion.model, build, experimental=champion.experimental)
        lineage = lineage_of(
            spec,
            contract_id=contract.id,
            target={
                "task": target.task.value,
                "positive": target.positive,
                "negative": target.negative,
                "classes": list(target.classes),
            },
            start=0,
            settings={},
            cpu_class=platform.machine(),
        )
        return cls(
            name,
            settings,
            contract,
            target,
            spec,
            lineage,
            opening.topics_of(name, settings),
        )

    def fold(self) -> Fold:
        """Make the fold; one per process is enough."""
        return Fold(
            contract=self.contract,
            target=self.target,
            lineage=self.lineage,
            build_model=self.spec.build,
            codec=self.spec.codec(skeletons()),
        )

    def join_spec(self, partition: int, partitions: int) -> JoinSpec:
        """Return what the join of one partition is told."""
        return JoinSpec(
            partition,
            partitions,
            self.settings.times,
            self.settings.implicit_y,
            JoinLimits(max_waiting=self.settings.max_waiting),
        )

    def group(self, role: Role) -> str:
        """Return the consumer group of a role."""
        return f"tailrace.{self.name}.{role.value}"


def loops_of(settings: Settings) -> list[LoopDomain]:
    """Return the domain objects of every loop."""
    return [LoopDomain.of(name, loop, settings.folder) for name, loop in settings.loops.items()]


@dataclass
class RunningLoop:
    """The objects of one loop in this process; for the demo and for tests that look inside."""

    domain: LoopDomain
    models: Models
    recorder: Recorder
    reports: dict[Role, RoleReport] = field(default_factory=dict)
    learn: LearnAgent | None = None
    join: JoinAgent | None = None
    score: ScoreAgent | None = None
    follower: Follower | None = None
    heartbeat: Heartbeat | None = None

    def readiness(self) -> dict[str, tuple[bool, str]]:
        """Return role → (is it ready, why not)."""
        ready = {RoleState.RUNNING, RoleState.WAITING}
        return {
            f"{self.domain.name}.{role.value}": (report.state in ready, report.reason or report.state.value)
            for role, report in self.reports.items()
        }


class Process(Service):
    """One Tailrace process: waits for the log, makes the worker, runs it.

    Args:
        roles: Which of the three agents run here.
        prepare_topics: Create missing topics; the embedded log and the demo do.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        roles: Sequence[Role] = ALL_ROLES,
        instance_id: str | None = None,
        prepare_topics: bool | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.roles = tuple(roles)
        self.member = f"member-{uuid4().hex[:8]}"
        self.loops: dict[str, RunningLoop] = {}
        self.instruments = Instruments()
        self.process_recorder = ProcessRecorder(self.instruments)
        self.worker: Worker | None = None
        self._instance_id = instance_id
        self._prepare_topics = settings.servers is None if prepare_topics is None else prepare_topics
        self._domains = loops_of(settings)
        self._started_ms = now_ms()
        self._beat_s = time.monotonic()
        self._waiting = "it has just started"

    @property
    def label(self) -> str:
        """For logs."""
        return f"tailrace {self.member}"

    # ── start ───────────────────────────────────────────────────────────────────────────────────────────────────

    @Service.task
    async def _live(self) -> None:
        opened = open_log(self.settings)
        reader = opened.reader()
        await self._await_log(opened)
        if self.should_stop:
            return
        await self.add_runtime_dependency(reader)
        for domain in self._domains:
            await self._await_topics(opened, domain)
        if self.should_stop:
            return
        api = server.build(
            self.readiness, server.beating(lambda: self._beat_s, time.monotonic), self.instruments.registry
        )
        host = workers.make_host(f"tailrace-{self.member}", self.settings.http_address, api)
        lanes: list[Lane] = []
        before: list[ServiceT] = []
        behind: list[ServiceT] = []
        for domain in self._domains:
            made = await self._compose(opened, reader, domain)
            lanes += made.lanes
            before += made.before
            behind += made.behind
        self.worker = Worker(opened, host, lanes, before=before, behind=behind)
        for domain in self._domains:
            heartbeat = self.loops[domain.name].heartbeat
            assert heartbeat is not None
            heartbeat.voices += [
                Voice(self.loops[domain.name].reports[role], self.worker.sources[domain.group(role)])
                for role in self.roles
            ]
        self.process_recorder.build(versions())
        await self.add_runtime_dependency(self.worker)
        self._waiting = ""
        log.info("running", member=self.member, roles=[role.value for role in self.roles], log=opened.address)

    @Service.task
    async def _beat(self) -> None:
        while not self.should_stop:
            begun = time.monotonic()
            await self.sleep(0.5)
            self._beat_s = time.monotonic()
            self.process_recorder.event_loop_lag(max(0.0, self._beat_s - begun - 0.5))
            self.process_recorder.ready(is_ready=all(is_ready for is_ready, _ in self.readiness().values()))

    def readiness(self) -> dict[str, tuple[bool, str]]:
        """Return what is ready, for the probe."""
        if self._waiting:
            return {"start": (False, self._waiting)}
        found: dict[str, tuple[bool, str]] = {}
        for loop in self.loops.values():
            found |= loop.readiness()
        return found

    async def _await_log(self, opened: Log) -> None:
        begun, admin = time.monotonic(), opened.admin()
        try:
            while not self.should_stop:
                try:
                    await admin.brokers()
                except LogError as problem:
                    waited = int(time.monotonic() - begun)
                    self._waiting = f"{opened.address} does not answer"
                    log.warning("waiting for the log", log=opened.address, since_s=waited, why=str(problem))
                    await self.sleep(_LOG_POLL_S)
                else:
                    return
        finally:
            await admin.close()

    async def _await_topics(self, opened: Log, domain: LoopDomain) -> None:
        admin = opened.admin()
        try:
            while not self.should_stop:
                found = await topic_plan_of(admin, domain)
                if self._prepare_topics and found.creations and not found.refusals:
                    await apply(admin, found)
                    continue
                if found.refusals:
                    raise SettingsError([f"loop {domain.name}: {refusal}" for refusal in found.refusals])
                missing = [creation.name for creation in found.creations]
                if not missing:
                    return
                self._waiting = f"topics are missing: {', '.join(missing)}"
                log.warning(
                    "waiting for topics",
                    missing=missing,
                    next="`tailrace topics apply --yes` creates them",
                    loop=domain.name,
                )
                await self.sleep(_LOG_POLL_S)
        finally:
            await admin.close()

    # ── composition ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _compose(self, opened: Log, reader: Reader, domain: LoopDomain) -> _Made:
        settings, topics = domain.settings, domain.topics
        recorder, models = Recorder(self.instruments, domain.name), Models()
        loop = RunningLoop(domain, models, recorder)
        self.loops[domain.name] = loop
        loop.reports = {role: RoleReport(role, recorder) for role in self.roles}
        for report in loop.reports.values():
            report.set(RoleState.STARTING)
        sink = opened.sink(f"{domain.name}.internal")
        made = _Made(before=[sink])
        fold, store = domain.fold(), open_store(self.settings)
        index = SnapshotIndex(topics.snapshots, lineage=domain.lineage, versions=versions(), sink=sink, store=store)
        training = TrainingLog(reader, sink, topics.training)
        partitions = {
            name: await reader.partitions(name) for name in (topics.scored, topics.dead_events, topics.dead_labels)
        }
        newest: Callable[[], Any] = lambda: None  # noqa: E731  # a heartbeat without a learner knows no snapshot

        if Role.SCORE in self.roles:
            predictions = opened.sink(f"{domain.name}.predictions")
            follow = opened.reader()
            loop.follower = Follower(
                reader=follow,
                index=SnapshotIndex(
                    topics.snapshots, lineage=domain.lineage, versions=versions(), sink=None, store=store
                ),
                fold=fold,
                models=models,
                on_refused=recorder.snapshot_refused,
            )
            loop.score = ScoreAgent(
                ScoreParts(
                    decoder=event_decoder(settings),
                    encoder=PredictionEncoder(topics.events, domain.target),
                    target=domain.target,
                    models=models,
                    predictions=predictions,
                    scored=sink,
                    predictions_topic=topics.predictions,
                    scored_topic=topics.scored,
                    scored_partitions=partitions[topics.scored],
                    max_block_bytes=LARGEST_MESSAGE_BYTES // 2,
                    dead_letters=self._dead_letters(sink, recorder, domain, topics.dead_events, partitions),
                    recorder=recorder,
                    report=loop.reports[Role.SCORE],
                    now_ms=now_ms,
                )
            )
            made.before += [predictions, follow, loop.follower]
            made.lanes.append(
                Lane(domain.group(Role.SCORE), loop.score, self._spec(domain, Role.SCORE, (topics.events,)))
            )
        if Role.JOIN in self.roles:
            loop.join = JoinAgent(
                JoinParts(
                    topics=JoinTopics(topics.labels, topics.scored, topics.relabelled),
                    spec=domain.join_spec,
                    contract_id=domain.contract.id,
                    labels=label_decoder(settings),
                    training=training,
                    sink=sink,
                    reader=reader,
                    dead_letters=self._dead_letters(sink, recorder, domain, topics.dead_labels, partitions),
                    recorder=recorder,
                    report=loop.reports[Role.JOIN],
                    new_owner=self._new_owner,
                    now_ms=now_ms,
                    idle_after_ms=settings.idle_after,
                )
            )
            inputs = (topics.scored, topics.labels, topics.relabelled)
            spec = self._spec(domain, Role.JOIN, inputs, co_partitioned=True, start_paused=True, commit_every_s=0.0)
            made.lanes.append(Lane(domain.group(Role.JOIN), loop.join, spec))
        if Role.LEARN in self.roles:
            announcements = Announcements(
                sink, loop=domain.name, topic=topics.model_events, version=domain.lineage[:12], now_ms=now_ms
            )
            writer = SnapshotWriter(
                loop=domain.name,
                fold=fold,
                index=index,
                announcements=announcements,
                recorder=recorder,
                versions=versions(),
                publish_ms=self.settings.snapshots.publish,
                snapshot_ms=self.settings.snapshots.every,
                clock_ms=clock_ms,
                now_ms=now_ms,
            )
            loop.learn = LearnAgent(
                LearnParts(
                    fold=fold,
                    training=training,
                    reader=reader,
                    index=index,
                    writer=writer,
                    models=models,
                    announcements=announcements,
                    recorder=recorder,
                    report=loop.reports[Role.LEARN],
                    new_owner=self._new_owner,
                    now_ms=now_ms,
                )
            )
            newest = lambda: writer.newest  # noqa: E731
            spec = self._spec(domain, Role.LEARN, (topics.training,), start_paused=True)
            made.lanes.append(Lane(domain.group(Role.LEARN), loop.learn, spec))
        loop.heartbeat = Heartbeat(
            sink,
            topics.status,
            Beating(
                member=self.member,
                loop=domain.name,
                version=tailrace.__version__,
                pid=os.getpid(),
                started_ms=self._started_ms,
                now_ms=now_ms,
                models=models,
                recorder=recorder,
                newest_snapshot=newest,
                quality=lambda: quality_of(models),
            ),
        )
        made.behind.append(loop.heartbeat)
        return made

    def _dead_letters(
        self, sink: Any, recorder: Recorder, domain: LoopDomain, topic: str, partitions: Mapping[str, int]
    ) -> DeadLetters:
        return DeadLetters(
            sink, recorder, topic=topic, partitions=partitions[topic], loop=domain.name, member=self.member
        )

    def _spec(self, domain: LoopDomain, role: Role, topics: tuple[str, ...], **more: Any) -> SourceSpec:
        static = f"{self._instance_id}-{role.value}" if self._instance_id else None
        return SourceSpec(
            domain.group(role),
            topics,
            session_timeout_ms=self.settings.kafka.session_timeout,
            instance_id=static,
            **more,
        )

    def _new_owner(self) -> str:
        return f"{self.member}-{uuid4().hex[:12]}"


@dataclass
class _Made:
    """Services of one loop, by when they start."""

    before: list[ServiceT] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    behind: list[ServiceT] = field(default_factory=list)


def quality_of(models: Models) -> tuple[Quality, ...]:
    """Return the quality that the live state holds; nothing where this process does not learn."""
    if models.live is None:
        return ()
    return tuple(
        Quality(figure.metric, figure.window, figure.value, figure.samples, dict(figure.baselines))
        for figure in models.live.quality.figures()
    )


async def topic_plan_of(admin: Any, domain: LoopDomain, replication: int | None = None) -> TopicPlan:
    """Compare the topics of one loop with those that exist."""
    topics = topics_of(
        domain.name,
        domain.topics.events,
        domain.topics.labels,
        horizon_ms=domain.settings.horizon,
    )
    found = await admin.describe([topic.name for topic in topics])
    return plan(topics, found, brokers=await admin.brokers(), replication=replication)


def run(settings: Settings, roles: Iterable[Role] = ALL_ROLES, *, instance_id: str | None = None) -> int:
    """Run a process until a signal ends it; return its exit code."""
    return workers.run(Process(settings, roles=tuple(roles), instance_id=instance_id))
