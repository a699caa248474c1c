"""One Tailrace process: it waits for the log, makes the worker, runs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

import structlog
from mode import Service

import tailrace
from tailrace.domain.errors import LogUnavailable, SettingsError, TailraceError
from tailrace.domain.evaluation import metrics
from tailrace.domain.status import Role
from tailrace.inspection import erasing
from tailrace.inspection.topics import specs_of
from tailrace.main.api import LoopBackend, tokens_of
from tailrace.main.composition import Composition, Member, RunningLoop
from tailrace.main.glass import Glass
from tailrace.main.loops import ALL_ROLES, LoopDomain, loops_of, now_ms, versions
from tailrace.opening import open_log
from tailrace.settings import Settings, free_port
from tailrace.stores.token_file import TokenFile
from tailrace.streams import worker as workers
from tailrace.streams.followers import Models
from tailrace.streams.http_server import Tls
from tailrace.streams.log import Log
from tailrace.streams.topic_plan import apply, plan_for
from tailrace.streams.topic_watch import TopicWatch
from tailrace.streams.worker import Worker
from tailrace.telemetry import logs
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.logs import LogFormat
from tailrace.telemetry.recorder import ProcessRecorder, Recorder
from tailrace.telemetry.traces import Tracing, open_tracing
from tailrace.web import server
from tailrace.web.api import Api
from tailrace.web.guard import Guard, Limits
from tailrace.web.measuring import Measured

log = structlog.get_logger(__name__)

_LOG_POLL_S = 2.0  # how often a start that waits for the log asks again
_BEAT_S = 0.5


class Process(Service):
    """One Tailrace process: waits for the log, makes the worker, runs it.

    Args:
        roles: Which of the three agents run here.
        prepare_topics: Create missing topics, the user's included; the embedded log and the demo do.

    Attributes:
        failure: Why the process cannot run, where a person has to do something; None: it can.
        on_failure: Called then; ends the process.
        watches: Of the topics of each loop.
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
        self.failure: TailraceError | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._prepare_topics = settings.servers is None if prepare_topics is None else prepare_topics
        self._domains = loops_of(settings)
        self.watches: list[TopicWatch] = []
        self._address = ""
        self._tracing = _tracing_of(settings, self.member)
        self._member = Member(
            self.member, self.roles, settings, now_ms(), self.process_recorder, instance_id, self._tracing
        )
        self._beat_s = time.monotonic()
        self._waiting = "it has just started"

    @property
    def label(self) -> str:
        """For logs."""
        return f"tailrace {self.member}"

    async def on_shutdown(self) -> None:
        """Send the spans that wait."""
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    # ── start ───────────────────────────────────────────────────────────────────────────────────────────────────

    @Service.task
    async def _live(self) -> None:
        try:
            await self._begin()
        except TailraceError as problem:
            self._fail(problem)

    def _fail(self, problem: TailraceError) -> None:
        self.failure = self.failure or problem
        self._waiting = str(problem)
        self.on_failure()

    async def _begin(self) -> None:
        http, api = self.settings.http_address, None
        if http is not None and free_port(*http) is None:
            problem = f"found {http[0]}:{http[1]}, which another process uses or this machine does not have"
            raise SettingsError([f'http: {problem}; choose a free port, or "" for no HTTP'])
        if http is not None and self.settings.api.enabled:
            glass = Glass(self.settings)
            await self.add_runtime_dependency(glass)
            api = self._api(glass)
        tls = _tls_of(self.settings)
        liveness = server.beating(lambda: self._beat_s, time.monotonic)
        pages = server.build(self.readiness, liveness, self.instruments.registry, api, only_local=self._is_alone)
        # Before anything is waited for: an orchestrator must see that the process lives.
        await self.add_runtime_dependency(
            workers.make_host(
                f"tailrace-{self.member}-web", http, Measured(pages, self.process_recorder), tls, server.no_http
            )
        )
        await self._compile()
        opened = open_log(self.settings)
        self._address = opened.address
        self._waiting = f"{opened.address} is asked and has not answered yet"
        await self._await_log(opened)
        for domain in self._domains:
            await self._await_topics(opened, domain)
        if self.should_stop:
            return
        reader = opened.reader()
        await self.add_runtime_dependency(reader)
        host = workers.make_host(f"tailrace-{self.member}", None, None)
        made = []
        for domain in self._domains:
            recorder = Recorder(self.instruments, domain.name)
            specs = specs_of(domain.name, domain.settings)
            self.watches.append(TopicWatch(opened, domain.name, specs, self._fail, recorder.topics))
            loop = RunningLoop(domain, Models(), recorder)
            composition = Composition(self._member, opened, reader, loop)
            await composition.make()
            self.loops[domain.name] = loop
            made.append(composition)
        self.worker = Worker(
            opened,
            host,
            [lane for each in made for lane in each.lanes],
            before=[service for each in made for service in each.before],
            behind=[*(service for each in made for service in each.behind), *self.watches],
        )
        for loop in self.loops.values():
            loop.give_voices(self.worker.sources)
        self.process_recorder.build(versions())
        await self.add_runtime_dependency(self.worker)
        self._waiting = ""
        log.info("running", member=self.member, roles=[role.value for role in self.roles], log=opened.address)

    async def _compile(self) -> None:
        """Let compiled models compile before anything is read, beside the probe's answers."""
        for domain in self._domains:
            if not domain.why_not_compiled:
                self._waiting = f"the model of {domain.name} is being compiled"
                await asyncio.to_thread(domain.warm)
                log.info("the model is compiled", loop=domain.name)
            elif domain.settings.champion.compiled == "auto":
                log.info("the model runs in River's own code", loop=domain.name, why=domain.why_not_compiled)
        await asyncio.to_thread(metrics.warm)

    @property
    def _is_alone(self) -> bool:
        """Whether only this machine can ask, and nothing stands before this process."""
        return self.settings.is_local and not self.settings.api.behind_tls_proxy

    def _api(self, glass: Glass) -> Api:
        """Make the HTTP API.

        Raises:
            SettingsError: Other machines may ask, and nobody has a token.
        """
        settings, file = self.settings, TokenFile(self.settings.keys.folder)
        found = file.current()
        if not settings.is_local and not found.tokens:
            why = found.problem or f"there is no token in {file.path}"
            step = "`tailrace tokens create --scope read` makes one; api.enabled = false leaves the probes and metrics"
            raise SettingsError([f"http: found {settings.http}, which other machines can reach, and {why}; {step}"])
        if found.problem:
            log.error("tokens cannot be used; every request is refused", why=found.problem)
        backend = LoopBackend(settings, self._domains, self._models_of, glass, lambda: self.should_stop)
        limits = Limits(settings.api.max_body, settings.api.rate, settings.api.max_streams)
        guard = Guard(tokens_of(file), limits, now_ms, time.monotonic, only_local=self._is_alone)
        return Api(backend, guard)

    def _models_of(self, name: str) -> Models | None:
        return self.loops[name].models if name in self.loops else None

    @Service.task
    async def _beat(self) -> None:
        while not self.should_stop:
            begun = time.monotonic()
            await self.sleep(_BEAT_S)
            self._beat_s = time.monotonic()
            self.process_recorder.event_loop_lag(max(0.0, self._beat_s - begun - _BEAT_S))
            self.process_recorder.ready(is_ready=all(is_ready for is_ready, _ in self.readiness().values()))

    def readiness(self) -> dict[str, tuple[bool, str]]:
        """Return what is ready, for the probe."""
        if self._waiting:
            return {"start": (False, self._waiting)}
        silent_s = max((watch.silent_s for watch in self.watches), default=0.0)
        if silent_s:
            hindrance = next((watch.hindrance for watch in self.watches if watch.hindrance), "")
            why = f"answers {hindrance}" if hindrance else f"has not answered for {silent_s:.0f} s; waiting for it"
            return {"log": (False, f"{self._address} {why}")}
        found = self._leaders()
        for loop in self.loops.values():
            found |= loop.readiness()
        return found

    def _leaders(self) -> dict[str, tuple[bool, str]]:
        """Return what is said of partitions without a leader.

        A topic of which some are left is still worked on; one of which none is left lets no role do its work.
        """
        lost, is_ready = [], True
        for look in [watch.last for watch in self.watches if watch.last is not None]:
            for name, numbers in look.without_leader.items():
                lost += [f"{name}/{number}" for number in numbers]
                is_ready = is_ready and len(numbers) < look.states[name].partitions
        if not lost:
            return {}
        return {"log": (is_ready, f"{self._address} has no leader for {', '.join(lost)}; what lies there waits")}

    async def _await_log(self, opened: Log) -> None:
        begun, admin = time.monotonic(), opened.admin()
        try:
            while not self.should_stop:
                try:
                    await admin.brokers()
                except LogUnavailable as problem:
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
                if await erasing.is_under_way(admin, domain.topics):
                    self._say_rewriting(domain)
                    await self.sleep(_LOG_POLL_S)
                    continue
                found = await plan_for(admin, specs_of(domain.name, domain.settings), self.settings.kafka.replication)
                if found.refusals:
                    raise SettingsError([f"loop {domain.name}: {refusal}" for refusal in found.refusals])
                if not found.creations:
                    return
                if self._prepare_topics:
                    await apply(admin, found)
                    return
                self._say_missing(domain, [creation.topic.name for creation in found.creations])
                await self.sleep(_LOG_POLL_S)
        finally:
            await admin.close()

    def _say_rewriting(self, domain: LoopDomain) -> None:
        self._waiting = f"the training log of {domain.name} is being written anew"
        log.warning(
            "waiting for the training log, which is being written anew",
            next="let `tailrace log rewrite --yes` end, or run it again where it was interrupted",
            loop=domain.name,
        )

    def _say_missing(self, domain: LoopDomain, missing: Sequence[str]) -> None:
        self._waiting = f"topics are missing: {', '.join(missing)}"
        users = [name for name in missing if name in {domain.topics.events, domain.topics.labels}]
        step = f"create {' and '.join(users)}, then " if users else ""
        log.warning(
            "waiting for topics",
            missing=missing,
            next=f"{step}`tailrace topics apply --yes` creates ours",
            loop=domain.name,
        )


def _tracing_of(settings: Settings, member: str) -> Tracing | None:
    if settings.tracing.endpoint is None:
        return None
    try:
        return open_tracing(
            settings.tracing.endpoint, settings.tracing.every, version=tailrace.__version__, member=member
        )
    except ImportError as missing:
        problem = (
            f"traces need a package that is not installed ({missing.name}); install Tailrace with its extra `otel`"
        )
        raise SettingsError([f"tracing.endpoint: {problem}, or remove the key"]) from missing


def _tls_of(settings: Settings) -> Tls | None:
    """Return the certificate and key that `http` is served with; None: it is served without TLS.

    Raises:
        SettingsError: They cannot be used.
    """
    certificate, key = settings.api.tls_cert_file, settings.api.tls_key_file
    if certificate is None or key is None:
        return None
    tls = Tls(certificate, key)
    if problem := tls.problem():
        allowed = "PEM files of a certificate, its chain with it, and of its key without a passphrase"
        raise SettingsError([f"api.tls_cert_file, api.tls_key_file: found {problem}; allowed: {allowed}"])
    return tls


def run(
    settings: Settings,
    roles: Iterable[Role] = ALL_ROLES,
    *,
    instance_id: str | None = None,
    log_level: str = "info",
    log_format: LogFormat = "auto",
) -> int:
    """Run a process until a signal ends it; return its exit code.

    Raises:
        TailraceError: It cannot run, and a person has to do something.
    """
    process = Process(settings, roles=tuple(roles), instance_id=instance_id)
    logs.configure(log_level, log_format, count=process.process_recorder.log_message)
    code = workers.run(process)
    if process.failure is not None:
        raise process.failure
    return code
