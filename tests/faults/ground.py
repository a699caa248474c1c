"""The ground a fault is tried on: a loop on real brokers, its user, its workers, and what everyone may read of it.

A fault is told apart from the load and from the checks: it starts, stops, kills and damages, and asks the ground to
wait until all is quiet and to check.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.audit import Found, Violations
from tests.faults.checks import check
from tests.faults.invariants import nothing_is_committed_ahead
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.memory import beyond_bounds
from tests.faults.processes import Fleet, Refolder
from tests.faults.proxy import Proxy
from tests.faults.topics import Topics, prediction_source, why_not_quiet
from tests.faults.workload import DISORDER_MS, HORIZON_MS, SKEW_MS, Workload
from tests.log_forms import LogForm, load_launcher
from tests.scenarios.harness import InVain, Scenario

PARTITIONS = 4
QUIET_S = 60.0
SETTLED_S = 0.2
TOGETHER: Mapping[str, Sequence[str]] = {"all": ("score", "join", "learn")}
APART: Mapping[str, Sequence[str]] = {"score": ("score",), "join": ("join",), "learn": ("learn",)}
BROKER_SETTINGS = {"group.min.session.timeout.ms": "1000"}


def now_ms() -> int:
    """Return the wall clock, which the brokers of this machine share."""
    return time.time_ns() // 1_000_000


@dataclass
class Ground:
    """One loop under load.

    Attributes:
        brokers: The broker or brokers, that a fault may kill and restart.
        proxy: Between the workers and the broker, where it was asked for; user and checks go past it.
    """

    folder: Path
    rng: Random
    brokers: Any
    proxy: Proxy | None
    scenario: Scenario
    fleet: Fleet
    load: Load
    topics: Topics
    refolder: Refolder
    found: Found | None = None

    async def warm_up(self, events: int = 60) -> None:
        """Start every worker, send a first piece and wait until it has come through."""
        await self.fleet.start_all()
        await self.load.piece(events)
        await self.quiet()

    async def quiet(self, within_s: float = QUIET_S) -> None:
        """Wait until everything that was sent has come through, by the topics alone."""
        end_s = time.monotonic() + within_s
        while why := await why_not_quiet(self.topics, self.load.ends):
            self.fleet.complain_of_the_dead()
            if time.monotonic() > end_s:
                raise self.in_vain(f"after {within_s} s: {why}")
            await asyncio.sleep(0.1)

    def in_vain(self, words: str) -> InVain:
        """Return what to raise where something does not come in time; it tells the last lines of every worker.

        Raises:
            AssertionError: A worker has ended that nobody killed: that it was waited for in vain is no wonder then.
        """
        self.fleet.complain_of_the_dead()
        return InVain(f"{words}\n{self.tails()}")

    async def check(self, after: object = "", *, at_end: bool = False) -> Found:
        """Wait until all is quiet; then check what the topics and the store hold.

        Args:
            after: What was done before, for the message when something is found.
            at_end: Make every check, those that cost more with them.
        """
        try:
            await self.quiet()
            on_two, logs, pages = self.load.workload.on_two, self.fleet.logs, await self.pages()
            self.found = await check(
                self.topics, self.refolder, self.scenario, on_two, logs=logs, texts=pages, at_end=at_end
            )
            if at_end:
                assert not (beyond := beyond_bounds(self.fleet)), "\n".join(beyond)
        except AssertionError as failure:
            failure.add_note(f"after {after}")
            raise
        return self.found

    async def check_commits(self, after: object) -> None:
        """Check, while nothing is quiet, that scorers and joiners have committed no more than is done."""
        await self.topics.refresh()
        say = Violations()
        nothing_is_committed_ahead(Ledger(self.topics, self.load.workload.on_two), say, is_quiet=False)
        assert not say.total, "\n".join([f"after {after}:", *say.lines])

    async def pages(self) -> dict[str, str]:
        """Return /metrics of the worker that serves HTTP, as anybody may read it; nothing where none does."""
        address = self.scenario.settings.http
        if not address:
            return {}
        page = await asyncio.to_thread(_page, f"http://{address}/metrics")
        assert "tailrace_" in page, f"/metrics holds no metric of ours: {page[:200]}"
        return {"/metrics": page}

    async def finish(self) -> Found:
        """Send what is still due, let every horizon pass, and make every check."""
        await self.load.ending()
        return await self.check("the end", at_end=True)

    async def until(self, holds: Callable[[], bool], what: str, within_s: float) -> None:
        """Wait until something holds."""
        end_s = time.monotonic() + within_s
        while not holds():
            if time.monotonic() >= end_s:
                raise self.in_vain(f"waited {within_s} s in vain until {what}")
            await asyncio.sleep(0.05)

    def tails(self) -> str:
        """Return the last lines of every worker that runs."""
        return "".join(f"--- {name}\n{worker.tail()}" for name, worker in self.fleet.running.items())

    async def predicted_since(self, since_ms: int, until_ms: int | None = None) -> dict[int, list[int]]:
        """Return when predictions came in a span, by partition of their events, as the log has it."""
        found: dict[int, list[int]] = {partition: [] for partition in range(self.topics.partitions)}
        for column in await self.topics.read(self.scenario.domain.topics.predictions):
            for record in reversed(column.records):
                if record.timestamp < since_ms:
                    break
                if until_ms is None or record.timestamp <= until_ms:
                    found[prediction_source(record)[0]].append(record.timestamp)
        return found

    async def recovered(self, since_ms: int, partitions: Iterable[int] | None = None, within_s: float = 60.0) -> float:
        """Wait for a prediction of every partition that is newer than a moment; return the seconds to the last of them.

        There must be load, else there is nothing to predict.
        """
        wanted = set(range(self.topics.partitions) if partitions is None else partitions)
        first: dict[int, int] = {}
        end_s = time.monotonic() + within_s
        while wanted - first.keys():
            if time.monotonic() >= end_s:
                left = sorted(wanted - first.keys())
                raise self.in_vain(f"{within_s} s after the fault nothing of partitions {left} is predicted")
            await asyncio.sleep(0.05)
            for partition, times in (await self.predicted_since(since_ms)).items():
                if times and partition in wanted:
                    first.setdefault(partition, min(times))
        return (max(first.values()) - since_ms) / 1000

    async def recovered_after(self, killed_ms: int, within_s: float = 60.0) -> float:
        """Return what `recovered` does, after a kill or a stop: what was sent before it arrives until SETTLED_S later."""
        return SETTLED_S + await self.recovered(killed_ms + int(SETTLED_S * 1_000), within_s=within_s)

    async def appended(self, topic: str, since_ms: int, within_s: float = 60.0) -> float:
        """Wait for a record of a topic that is newer than a moment; return the seconds to the first of them."""
        end_s = time.monotonic() + within_s
        while True:
            for column in await self.topics.read(topic):
                newer = [record.timestamp for record in column.records if record.timestamp > since_ms]
                if newer:
                    return (min(newer) - since_ms) / 1000
            if time.monotonic() >= end_s:
                raise self.in_vain(f"{within_s} s after the fault nothing came to {topic}")
            await asyncio.sleep(0.05)


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10.0) as answer:
        return str(answer.read().decode())


@asynccontextmanager
async def ground(
    folder: Path,
    seed: int,
    *,
    teams: Mapping[str, Sequence[str]] = TOGETHER,
    brokers: int = 1,
    proxied: bool = False,
    partitions: int = PARTITIONS,
    session_timeout: str = "2s",
    broker_settings: Mapping[str, str] | None = None,
    workload: Callable[[Random, int, int], Workload] = Workload,
    **changes: Any,
) -> AsyncIterator[Ground]:
    """Start brokers and make a loop on them; workers are started by `warm_up`.

    Args:
        teams: The roles of each worker, by its name.
        brokers: 1, or 3 with three replicas of every partition.
        proxied: Workers reach the broker through `Ground.proxy`.
        workload: Makes what is sent, of a generator, a count of partitions and the time at which it begins.
        changes: As `write_config` takes them; `events` and `labels` without their topic.
    """
    rng = Random(seed)
    launcher = load_launcher()
    settings = BROKER_SETTINGS | dict(broker_settings or {})
    async with AsyncExitStack() as stack:
        proxy = Proxy.of(rng) if proxied else None
        if proxy is not None:
            stack.push_async_callback(proxy.stop)
        if brokers == 1:
            front = None if proxy is None else proxy.port
            broker = launcher.Broker(folder / "kafka", settings=settings, front=front)
        else:
            broker = launcher.Cluster(folder / "kafka", size=brokers, settings=settings)
        # Nothing is needed of them afterwards; an orderly stop of a cluster takes seconds.
        stack.callback(broker.kill)
        await asyncio.to_thread(broker.start)
        form = LogForm("kafka", f"kafka://{broker.bootstrap}", folder)
        kafka = {"session_timeout": session_timeout} | changes.pop("kafka", {})
        changes |= {
            side: {"topic": form.topic(side)} | changes[side] for side in ("events", "labels") if side in changes
        }
        scenario = await Scenario.make(
            form,
            folder,
            partitions=partitions,
            replicas=min(brokers, 3),
            kafka=kafka,
            **{
                "horizon": f"{HORIZON_MS}ms",
                "disorder": f"{DISORDER_MS}ms",
                "skew": f"{SKEW_MS}ms",
                "snapshots": {"every": "300ms", "publish": "200ms"},
            }
            | changes,
        )
        stack.push_async_callback(scenario.close)
        config = scenario.config
        if proxy is not None:
            await proxy.start(*broker.front_address)
            config = folder / "proxied.toml"
            config.write_text(scenario.config.read_text().replace(broker.bootstrap, f"127.0.0.1:{proxy.port}"))
        fleet = Fleet(config, teams, rng, folder)
        stack.callback(fleet.close)
        refolder = Refolder(scenario.config, folder)
        stack.callback(refolder.close)
        reader = form.open().reader()
        await reader.start()
        stack.push_async_callback(reader.stop)
        # Times begin well in the past, so that no event is ahead of the clock.
        load = Load(scenario, workload(rng, partitions, now_ms() - 7_200_000))
        yield Ground(
            folder, rng, broker, proxy, scenario, fleet, load, Topics(reader, scenario.domain, partitions), refolder
        )
