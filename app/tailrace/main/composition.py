"""How the objects of one loop are made and joined: the agents with everything they work with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TypedDict
from uuid import uuid4

from mode import ServiceT

import tailrace
from tailrace.domain.books import EQUATIONS
from tailrace.domain.errors import SettingsError
from tailrace.domain.learning import Fold
from tailrace.domain.positions import row_of
from tailrace.domain.snapshots import Refusal
from tailrace.domain.status import Quality, Role, RoleState, ServingStatus
from tailrace.main.loops import LoopDomain, clock_ms, now_ms, versions
from tailrace.main.proving import verify_command_of
from tailrace.main.signing_key import make_key_if_none
from tailrace.main.timed_store import TimedStore
from tailrace.opening import event_decoder, label_decoder, open_keys, open_store
from tailrace.settings import Settings
from tailrace.stores.key_folder import KeyFolder, Signer
from tailrace.stores.signing import verify_command
from tailrace.stores.snapshot_store import SnapshotStore
from tailrace.streams.agreed_digests import AgreedDigests
from tailrace.streams.announcements import Announcements
from tailrace.streams.commands import Commands, CommandsParts
from tailrace.streams.dead_letters import DeadLetters
from tailrace.streams.follow_agent import FollowAgent, FollowParts
from tailrace.streams.followers import Follower, Models
from tailrace.streams.freshness import Freshness, LogEnd
from tailrace.streams.heartbeat import Beating, Heartbeat, Voice
from tailrace.streams.join_agent import JoinAgent, JoinParts, JoinTopics
from tailrace.streams.join_writer import Keeping
from tailrace.streams.learn_agent import LearnAgent, LearnParts
from tailrace.streams.log import Log, Reader, Sink, Source, SourceSpec
from tailrace.streams.other_learners import OtherLearners
from tailrace.streams.prover import Prover, Proving
from tailrace.streams.restoring import Restoring
from tailrace.streams.role import RoleReport
from tailrace.streams.score_agent import ScoreAgent, ScoreParts
from tailrace.streams.snapshot_index import SnapshotIndex
from tailrace.streams.snapshot_writer import SnapshotWriter
from tailrace.streams.standby import NoStandby
from tailrace.streams.training_log import TrainingLog
from tailrace.streams.worker import Lane
from tailrace.telemetry.recorder import ProcessRecorder, Recorder
from tailrace.telemetry.traces import Tracing
from tailrace.wire.avro_codec import Signed
from tailrace.wire.prediction_codec import PredictionEncoder
from tailrace.wire.topics import LARGEST_MESSAGE_BYTES

# From one small batch to the next on Kafka: what a label changes is still seen within some tens of milliseconds, and
# small batches do not crowd out scoring.
_JOIN_PACE_S = 0.01
_LEARN_PACE_S = 0.005


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
    follow: FollowAgent | None = None
    follower: Follower | None = None
    heartbeat: Heartbeat | None = None

    def readiness(self) -> dict[str, tuple[bool, str]]:
        """Return role → (is it ready, why not)."""
        ready = {RoleState.RUNNING, RoleState.WAITING}
        found = {
            f"{self.domain.name}.{role.value}": (report.state in ready, report.reason or report.state.value)
            for role, report in self.reports.items()
        }
        if Role.SCORE not in self.reports and self.follower is not None:
            is_ready = self.models.current() is not None
            found[f"{self.domain.name}.api"] = (is_ready, "" if is_ready else "the newest published state is loaded")
        return found

    def give_voices(self, sources: Mapping[str, Source]) -> None:
        """Let the heartbeat tell about every role and the group member behind it."""
        assert self.heartbeat is not None, "a loop is composed before it is told about"
        for role, report in self.reports.items():
            self.heartbeat.add(Voice(report, sources[self.domain.group(role)]))


@dataclass(frozen=True)
class Member:
    """What this process is, for all of its loops.

    Attributes:
        name: A name that no other process uses; holds no host name.
        recorder: Of what concerns no loop.
        instance_id: Static membership, only when configured.
        tracing: Sends spans; None: nothing is traced.
    """

    name: str
    roles: Sequence[Role]
    settings: Settings
    started_ms: int
    recorder: ProcessRecorder
    instance_id: str | None = None
    tracing: Tracing | None = None

    def new_owner(self) -> str:
        """Return a name that nobody has used."""
        return f"{self.name}-{uuid4().hex[:12]}"


def keeping_of(domain: LoopDomain) -> Keeping:
    """Return where the waiting records of a loop are kept.

    Raises:
        SettingsError: The settings ask for the disk, and the extra is not installed.
    """
    settings = domain.settings.join
    starts_on_disk = settings.store == "disk"
    if find_spec("rocksdict") is None:
        if starts_on_disk:
            problem = (
                f'loops.{domain.name}.join.store: "disk" needs the package rocksdict, which is not installed; '
                'install Tailrace with its extra `disk`, or write "memory"'
            )
            raise SettingsError([problem])
        return Keeping()
    from tailrace.stores.waiting_folders import WaitingFolders  # noqa: PLC0415 - what it imports is an extra

    folders = WaitingFolders(settings.folder / domain.name)
    return Keeping(folders, starts_on_disk, settings.max_on_disk)


class Composition:
    """Makes the services of one loop.

    Attributes:
        before: Services that the agents work with.
        lanes: The agents and what they read.
        behind: Services that tell about the work.
    """

    def __init__(self, member: Member, opened: Log, reader: Reader, loop: RunningLoop) -> None:
        domain = loop.domain
        self.before: list[ServiceT] = []
        self.lanes: list[Lane] = []
        self.behind: list[ServiceT] = []
        self._member = member
        self._opened = opened
        self._reader = reader
        self._loop = loop
        self._sink: Sink = opened.sink(f"{domain.name}.internal")
        self._sinks = [self._sink]
        self._fold: Fold = domain.fold()
        self._store: SnapshotStore = TimedStore(open_store(member.settings), member.recorder.store_request)
        self._keys: KeyFolder = open_keys(member.settings)
        self._training = TrainingLog(reader, self._sink, domain.topics.training)
        self._partitions: dict[str, int] = {}
        self._announcements = Announcements(
            self._sink, loop=domain.name, topic=domain.topics.model_events, now_ms=now_ms
        )
        self._signing_index = self._index(domain, self._sink, Signer(self._keys))
        self._snapshot_writer: SnapshotWriter | None = None
        self._digests: list[AgreedDigests] = []
        self._remarks: dict[Role, Callable[[], str]] = {}
        self._freshness: Freshness | None = None
        self._traces = None if member.tracing is None else member.tracing.of(domain.name)
        loop.recorder.configured(
            task=domain.settings.task.value, contract=domain.contract.id, lineage=domain.branch.lineage
        )

    async def make(self) -> None:
        """Make everything that the member's roles need."""
        domain, topics = self._loop.domain, self._loop.domain.topics
        for name in (topics.scored, topics.dead_events, topics.dead_labels):
            self._partitions[name] = await self._reader.partitions(name)
        self.before.append(self._sink)
        makers = {
            Role.SCORE: self._score,
            Role.JOIN: self._join,
            Role.FOLLOW: self._follow,
            Role.LEARN: self._learn,  # after FOLLOW, whose state it may take over
        }
        for role in [role for role in makers if role in self._member.roles]:
            self._loop.reports[role] = RoleReport(role, self._loop.recorder)
            self._loop.reports[role].set(RoleState.STARTING)
            makers[role](domain)
        if Role.API in self._member.roles and self._loop.follower is None:
            self._follower(domain)
        prover = self._prover(domain)
        if prover is not None:
            self.behind.append(prover)
        self._loop.heartbeat = self._heartbeat(domain, prover)
        self.behind.append(self._loop.heartbeat)

    def _score(self, domain: LoopDomain) -> None:
        loop, topics = self._loop, domain.topics
        predictions = self._opened.sink(f"{domain.name}.predictions")
        self._remarks[Role.SCORE] = self._follower(domain).remark
        self._freshness = freshness = Freshness(loop.recorder, now_ms)
        loop.models.on_learned = freshness.learned
        self.behind.append(LogEnd(self._reader, self._training.partition, freshness))
        loop.score = ScoreAgent(
            ScoreParts(
                decoder=event_decoder(domain.settings),
                encoder=PredictionEncoder(topics.events, domain.target),
                target=domain.target,
                models=loop.models,
                predictions=predictions,
                scored=self._sink,
                predictions_topic=topics.predictions,
                scored_topic=topics.scored,
                scored_partitions=self._partitions[topics.scored],
                max_block_bytes=LARGEST_MESSAGE_BYTES // 2,
                dead_letters=self._dead_letters(domain, topics.dead_events),
                recorder=loop.recorder,
                freshness=freshness,
                report=loop.reports[Role.SCORE],
                now_ms=now_ms,
                traces=self._traces,
            )
        )
        self._sinks.append(predictions)
        self.before.append(predictions)
        group = domain.group(Role.SCORE)
        # Half of the disorder is the producers' own; the other half may come of reading many partitions.
        abreast_ms = max(1_000, domain.settings.disorder // 2)
        spec = SourceSpec(group, (topics.events,), abreast_ms=abreast_ms, **self._membership(Role.SCORE))
        self.lanes.append(Lane(group, loop.score, spec))

    def _follower(self, domain: LoopDomain) -> Follower:
        """Make what keeps the newest published state ready to serve."""
        loop, reader = self._loop, self._opened.reader()
        loop.follower = Follower(
            reader=reader,
            index=self._index(domain),
            fold=self._fold,
            models=loop.models,
            training=self._training,
            configured=domain.branch,
            on_refused=loop.recorder.snapshot_refused,
        )
        self.before += [reader, loop.follower]
        return loop.follower

    def _join(self, domain: LoopDomain) -> None:
        loop, topics = self._loop, domain.topics
        loop.join = JoinAgent(
            JoinParts(
                topics=JoinTopics(topics.labels, topics.scored, topics.relabelled),
                group=domain.group(Role.JOIN),
                spec=domain.join_spec,
                contract_id=domain.contract.id,
                labels=label_decoder(domain.settings),
                training=self._training,
                sink=self._sink,
                reader=self._reader,
                dead_letters=self._dead_letters(domain, topics.dead_labels),
                recorder=loop.recorder,
                report=loop.reports[Role.JOIN],
                new_owner=self._member.new_owner,
                clock_ms=clock_ms,
                idle_after_ms=domain.settings.idle_after,
                keeping=keeping_of(domain),
                traces=self._traces,
            )
        )
        spec = SourceSpec(
            domain.group(Role.JOIN),
            (topics.scored, topics.labels, topics.relabelled),
            co_partitioned=True,
            start_paused=True,
            commit_every_s=0.0,
            pace_s=_JOIN_PACE_S,
            **self._membership(Role.JOIN),
        )
        self.lanes.append(Lane(spec.group, loop.join, spec))

    def _learn(self, domain: LoopDomain) -> None:
        loop = self._loop
        asked = CommandsParts(
            topic=domain.topics.commands,
            loop=domain.name,
            reader=self._reader,
            verify=self._verify,
            announcements=self._announcements,
            recorder=loop.recorder,
        )
        make_key_if_none(self._keys)
        writer, index = self._writer(domain), self._signing_index
        digests = AgreedDigests(self._fold, time.monotonic)
        self._digests.append(digests)
        others = OtherLearners(
            reader=self._reader,
            status_topic=domain.topics.status,
            member=self._member.name,
            lineage=self._fold.lineage,
            announcements=self._announcements,
            recorder=loop.recorder,
        )
        self.before.append(others)
        loop.learn = LearnAgent(
            LearnParts(
                fold=self._fold,
                configured=domain.branch,
                commands=lambda start, log_id: Commands(asked, start=start, log_id=log_id),
                training=self._training,
                reader=self._reader,
                index=index,
                restoring=Restoring(self._fold, self._training, index, loop.recorder, loop.reports[Role.LEARN]),
                standby=loop.follow or NoStandby(),
                writer=writer,
                digests=digests,
                others=others,
                models=loop.models,
                announcements=self._announcements,
                recorder=loop.recorder,
                report=loop.reports[Role.LEARN],
                new_owner=self._member.new_owner,
                now_ms=now_ms,
                refold_after_ms=self._member.settings.snapshots.every
                if domain.settings.corrections == "refold"
                else None,
                traces=self._traces,
            )
        )
        learn = loop.learn
        self._remarks[Role.LEARN] = lambda: "; ".join(filter(None, (learn.remark(), writer.remark())))
        spec = SourceSpec(
            domain.group(Role.LEARN),
            (domain.topics.training,),
            start_paused=True,
            pace_s=_LEARN_PACE_S,
            **self._membership(Role.LEARN),
        )
        self.lanes.append(Lane(spec.group, loop.learn, spec))

    def _follow(self, domain: LoopDomain) -> None:
        loop, index = self._loop, self._signing_index
        loop.follow = FollowAgent(
            FollowParts(
                fold=self._fold,
                models=loop.models,
                serves=not {Role.SCORE, Role.API}.isdisjoint(self._member.roles),
                training=self._training,
                reader=self._reader,
                index=index,
                restoring=Restoring(self._fold, self._training, index, loop.recorder, loop.reports[Role.FOLLOW]),
                writer=self._writer(domain),
                announcements=self._announcements,
                recorder=loop.recorder,
                report=loop.reports[Role.FOLLOW],
                takes_snapshots=self._member.settings.snapshots.by == "follower",
                member=self._member.name,
                status_topic=domain.topics.status,
                clock_s=time.monotonic,
            )
        )
        self._digests.append(loop.follow.digests)
        self._remarks[Role.FOLLOW] = loop.follow.remark
        spec = SourceSpec(
            domain.group(Role.FOLLOW),
            (domain.topics.training,),
            start_paused=True,
            pace_s=_LEARN_PACE_S,
            **self._membership(Role.FOLLOW),
        )
        self.lanes.append(Lane(spec.group, loop.follow, spec))

    def _writer(self, domain: LoopDomain) -> SnapshotWriter:
        """Return the writer of snapshots, the same one for learning and following in one process."""
        if self._snapshot_writer is None:
            loop, snapshots = self._loop, self._member.settings.snapshots
            by_follower = snapshots.by == "follower"
            self._snapshot_writer = SnapshotWriter(
                loop=domain.name,
                fold=self._fold,
                index=self._signing_index,
                announcements=self._announcements,
                recorder=loop.recorder,
                versions=versions(),
                store_address=self._store.address,
                publish_ms=snapshots.publish,
                snapshot_ms=snapshots.every,
                clock_ms=clock_ms,
                now_ms=now_ms,
                writes=lambda: _writes(loop, by_follower=by_follower),
                may_write=(lambda: _may_write(loop)) if by_follower else None,
                traces=self._traces,
            )
        return self._snapshot_writer

    def _prover(self, domain: LoopDomain) -> Prover | None:
        """Return what verifies in the background; None where this process takes no snapshots, or nothing does."""
        settings, loop = self._member.settings, self._loop
        if not settings.verify.every or self._snapshot_writer is None:
            return None
        by_follower = settings.snapshots.by == "follower"
        proving = Proving(
            command=verify_command_of(settings, domain.name),
            environment={**os.environ, "PYTHONHASHSEED": "random"},
            folder=settings.folder,
            every_ms=settings.verify.every,
            is_mine=lambda: _is_prover(loop, by_follower=by_follower),
            announcements=self._announcements,
            recorder=loop.recorder,
            now_ms=now_ms,
        )
        return Prover(proving)

    def _heartbeat(self, domain: LoopDomain, prover: Prover | None) -> Heartbeat:
        loop, writer = self._loop, self._snapshot_writer
        beating = Beating(
            member=self._member.name,
            loop=domain.name,
            version=tailrace.__version__,
            pid=os.getpid(),
            started_ms=self._member.started_ms,
            now_ms=now_ms,
            models=loop.models,
            recorder=loop.recorder,
            newest_snapshot=lambda: None if writer is None else writer.newest,
            quality=lambda: quality_of(loop.models),
            digests=lambda: tuple(told for each in self._digests for told in each.told),
            proof=lambda: None if prover is None else prover.proof,
            serving=self._serving,
            books=lambda: books_of(loop.models),
            sinks=self._sinks,
            remarks=self._remarks,
        )
        return Heartbeat(self._sink, domain.topics.status, beating)

    def _serving(self) -> ServingStatus | None:
        position = self._loop.models.serving_position
        return None if self._freshness is None or position is None else self._freshness.status(position)

    def _verify(self, signed: Signed, at_ms: int) -> Refusal | None:
        trusted = self._keys.trusted.current()
        return verify_command(trusted, signed.payload, signed.signature, signed.key_id, at_ms)

    def _index(self, domain: LoopDomain, sink: Sink | None = None, signer: Signer | None = None) -> SnapshotIndex:
        return SnapshotIndex(
            domain.topics.snapshots,
            lineage=domain.lineage,
            versions=versions(),
            store=self._store,
            trusted=self._keys.trusted,
            sink=sink,
            signer=signer,
            on_refused=self._loop.recorder.snapshot_refused,
            on_loaded=lambda seconds: self._loop.recorder.snapshot_phase("load", seconds),
        )

    def _dead_letters(self, domain: LoopDomain, topic: str) -> DeadLetters:
        return DeadLetters(
            self._sink,
            self._loop.recorder,
            topic=topic,
            partitions=self._partitions[topic],
            loop=domain.name,
            member=self._member.name,
        )

    def _membership(self, role: Role) -> _Membership:
        static = self._member.instance_id
        return {
            "session_timeout_ms": self._member.settings.kafka.session_timeout,
            "instance_id": None if static is None else f"{static}-{role.value}",
        }


class _Membership(TypedDict):
    session_timeout_ms: int
    instance_id: str | None


def quality_of(models: Models) -> tuple[Quality, ...]:
    """Return the quality that the live state holds; nothing where this process does not learn."""
    if models.live is None:
        return ()
    return tuple(
        Quality(figure.metric, figure.window, figure.value, figure.samples, dict(figure.baselines))
        for figure in models.live.quality.figures()
    )


def books_of(models: Models) -> Mapping[str, Mapping[str, int]]:
    """Return the lines of the books that the live state can fill: over the whole log, up to its position."""
    state = models.live
    if state is None or row_of(state.position):  # in the middle of a block its rows are not all accounted for
        return {}
    lines: dict[str, dict[str, int]] = {
        line: {part: state.outcomes[part] for part in EQUATIONS[line] if part in state.outcomes}
        for line in ("scored", "labels")
    }
    champion = state.champion
    if champion is not None:
        examples = {part: getattr(champion, part) for part in EQUATIONS["examples"]}
        lines["examples"] = {"examples": state.counts.examples, **examples}
    return lines


def _writes(loop: RunningLoop, *, by_follower: bool) -> bool:
    """Say whether this process takes the snapshots now: the learner, or the follower that its group has chosen.

    A follower that has lent its state to a learner of this process leaves the work to it.
    """
    return not by_follower or (loop.follow is not None and loop.follow.is_writer)


async def _may_write(loop: RunningLoop) -> bool:
    return loop.follow is not None and await loop.follow.may_write()


def _is_prover(loop: RunningLoop, *, by_follower: bool) -> bool:
    """Say whether this process, of all of the loop, begins verifications: the one that takes the snapshots."""
    if by_follower:
        return loop.follow is not None and loop.follow.is_writer
    return loop.learn is not None and loop.learn.live_state is not None
