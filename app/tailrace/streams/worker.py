"""The worker: Faust's agents on channels, their sources, and the order in which all of it starts and stops.

Start: producers and readers, agents, followers, sources, heartbeat. Stop: the reverse, so that sources stop fetching
first and finish what is in flight while everything behind them still works.

Faust gives agents, the service tree, supervision and life cycle. It does not consume: a Source puts whole record
batches on a channel. An agent that raises ends the process (CrashingSupervisor); the log says where to go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import faust
import mode
import structlog
from faust.app.base import BootStrategy
from mode import Service, ServiceT

from tailrace.domain.errors import LogError, LogUnavailable, UnexplainedState
from tailrace.streams.collector import Sweeps, calm_collector
from tailrace.streams.http_server import Tls, serve
from tailrace.streams.log import Log, RecordBatch, Source, SourceSpec, TopicPartition
from tailrace.telemetry.failures import told

log = structlog.get_logger(__name__)

STOP_WITHIN_S = 9.0
"""A stop that takes longer is cut: at-least-once makes that safe."""

_CHANNEL_BATCHES = 64  # a bound above what the sources keep in flight; they are the ones that bound


class Agent(Protocol):
    """What an agent of ours is: a service with a Faust agent function."""

    def attach(self, source: Source) -> None: ...
    async def run(self, batches: AsyncIterable[RecordBatch]) -> None: ...
    async def on_assigned(self, generation: int, partitions: frozenset[TopicPartition]) -> None: ...
    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None: ...


@dataclass(frozen=True, slots=True)
class Lane:
    """One agent and what it reads."""

    name: str
    agent: Any  # an Agent that is a Service; Python has no type for both
    spec: SourceSpec


class _NoKafka(BootStrategy):
    enable_kafka = False


class FaustHost(faust.App):
    """A Faust app that hosts agents and the web server, and never speaks to Kafka itself."""

    BootStrategy = _NoKafka

    def _create_directories(self) -> None:
        """Make none: Faust would make folders for its tables where the process was started."""

    async def on_stop(self) -> None:
        """Close the event loop of a consumer thread that Faust makes and never starts."""
        await super().on_stop()
        thread = getattr(self._consumer, "_thread", None)
        if thread is not None and not thread.thread_loop.is_running():
            thread.thread_loop.close()


def make_host(
    name: str,
    http: tuple[str, int] | None,
    api: Callable[..., Any] | None,
    tls: Tls | None = None,
    no_http: Callable[[], bytes] | None = None,
) -> FaustHost:
    """Make the Faust app of a worker; `api` is served at `http`, nothing is when either is None.

    Args:
        no_http: Returns the answer to what is no request; None: uvicorn's own.
    """
    app = FaustHost(
        name,
        broker="kafka://127.0.0.1:1",  # never connected to
        store="memory://",
        autodiscover=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        agent_supervisor=mode.CrashingSupervisor,
        web_enabled=http is not None and api is not None,
    )
    if http is not None and api is not None:
        serve(app, api, http, tls, no_http)
    return app


class Worker(Service):
    """The lanes of one process.

    Args:
        before: Services that agents work with; started first, stopped last.
        behind: Services that tell about the work; started last, stopped before the producers.
    """

    def __init__(
        self,
        log_: Log,
        host: FaustHost,
        lanes: Sequence[Lane],
        *,
        before: Sequence[ServiceT] = (),
        behind: Sequence[ServiceT] = (),
    ) -> None:
        super().__init__()
        self.host = host
        self.lanes = lanes
        self.sources: dict[str, Source] = {}
        self._before = before
        self._behind = behind
        for lane in lanes:
            self._wire(log_, lane)

    async def on_start(self) -> None:
        """Start everything, in order; mode stops it in the reverse order."""
        for service in self._before:
            await self.add_runtime_dependency(service)
        self.host.finalize()
        await self.add_runtime_dependency(self.host)
        self.host.flow_control.resume()
        for lane in self.lanes:
            await self.add_runtime_dependency(lane.agent)
        for service in self._behind:
            await self.add_runtime_dependency(service)
        for source in self.sources.values():
            await self.add_runtime_dependency(source)

    def _wire(self, log_: Log, lane: Lane) -> None:
        channel = self.host.channel(maxsize=_CHANNEL_BATCHES)
        self.host.agent(channel, name=lane.name)(_function(lane.agent))

        async def put(batch: RecordBatch) -> None:
            await channel.put(batch)  # type: ignore[arg-type]  # Faust's channels say Event and take any value

        source = log_.source(lane.spec, put, lane.agent)
        lane.agent.attach(source)
        self.sources[lane.name] = source


def _function(agent: Agent) -> Callable[..., Any]:
    async def run(batches: AsyncIterable[RecordBatch]) -> None:
        await agent.run(batches)

    return run


class ProcessWorker(mode.Worker):
    """Runs a service as the process: signals, the deadline of a stop, the exit code."""

    def __init__(self, *services: ServiceT) -> None:
        super().__init__(*services, redirect_stdouts=False, override_logging=False, quiet=True, daemon=True)
        self._signals = 0

    def _on_sigint(self) -> None:
        self._on_stop_signal(signal.SIGINT)

    def _on_sigterm(self) -> None:
        self._on_stop_signal(signal.SIGTERM)

    def _on_sigusr1(self) -> None:
        """Do nothing: mode would print every task's stack, values included."""

    def _on_sigusr2(self) -> None:
        """Do nothing: mode would start a debugger."""

    def _on_stop_signal(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:
            log.warning("second signal, ending at once")
            _end_now(128 + number)
        log.info("stopping: finishing what is in flight", signal=number.name)
        self._stop_within(0)
        self._schedule_shutdown(number)

    def end(self) -> None:
        """Stop in order, without a signal: something failed."""
        self._stop_within(75)
        self._schedule_shutdown(signal.SIGTERM)

    def _stop_within(self, code: int) -> None:
        watch = threading.Timer(STOP_WITHIN_S, _cut_off, (code,))
        watch.daemon = True
        watch.start()

    async def _sentinel_task(self) -> None:
        """Give callbacks one turn; mode would wait a second."""
        await asyncio.sleep(0)


def _cut_off(code: int) -> None:
    log.warning("stop took too long and was cut; what was not committed is read again", after_s=STOP_WITHIN_S)
    _end_now(code)


def _end_now(code: int) -> None:
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)


def run(service: Any) -> int:
    """Run a service until a signal ends it, or its `on_failure` is called.

    Returns:
        0 after an orderly stop, 75 after a state that nobody can explain: start again. Where the log
        cannot be used as it is, the service's `failure` says so.
    """
    calm_collector()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = ProcessWorker(service, Sweeps())
    service.on_failure = worker.end
    raised: BaseException | None = None
    try:
        worker.execute_from_commandline()
    except SystemExit:
        if worker.crash_reason is None:
            return 0
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # noqa: BLE001  # the outermost edge: mode raises the crash again, it is told below
        log.debug("the worker raised", error=told(error))
        raised = error
    reason = worker.crash_reason or raised
    assert reason is not None, "an orderly end has returned"
    if isinstance(reason, LogError) and not isinstance(reason, UnexplainedState | LogUnavailable):
        service.failure = reason
        log.critical("ended: the log cannot be used as it is", why=str(reason))
    else:
        log.critical("ended by an unexplained state; start again", error=told(reason))
    return 75
