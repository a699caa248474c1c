"""Plays a demo: a log, a worker, a feeder, a screen; ends all of them, and makes the books.

What is started is stopped, whatever happens. The first Ctrl-C ends in order, the second at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

from tailrace import main
from tailrace.demo import place as places
from tailrace.demo.feeder import Feeder, Rhythm
from tailrace.demo.glance import CourseState, Glance, accuracy_of, judged_of
from tailrace.demo.kafka import LAUNCHER, Broker
from tailrace.demo.place import Place
from tailrace.demo.progress import check, is_done, ready, served
from tailrace.demo.screen import Screen
from tailrace.demo.script import AFTERTHOUGHT_S, DELAY_S, Script
from tailrace.demo.summary import Summary, best_baseline, recovery_of
from tailrace.demo.watch import Watch
from tailrace.domain.errors import LogError
from tailrace.domain.status import MemberStatus
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading, opened
from tailrace.opening import open_log, topics_of
from tailrace.settings import Settings
from tailrace.streams.log import TopicPartition, TopicState
from tailrace.wire.topics import LoopTopics

T = TypeVar("T")

PARTITIONS: Final = 4
DRIFT_AT_S: Final = 60.0
"""When nobody says how long the demo takes."""

SHOWN_EVERY_S: Final = 0.25
REACH_WITHIN_S: Final = 10.0
LEARNED_WITHIN_S: Final = 15.0
INTERRUPTED: Final = 130

_SETTLED_S: Final = 0.3  # nothing moves for so long: all that was on its way has arrived


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a person asked for.

    Attributes:
        seconds: Of events; None: until it is ended.
        keep: Folder that stays; None: a temporary one.
        http: Where HTTP listens; None: the usual port or a free one.
        bootstrap: Address of a Kafka that is there already.
        own_kafka: Start one.
        program: How this command is called here, for what to try next.
    """

    seconds: float | None = None
    rate_per_s: float = 80.0
    seed: int = 1
    keep: Path | None = None
    http: str | None = None
    bootstrap: str | None = None
    own_kafka: bool = False
    program: str = "tailrace"

    @property
    def drift_at_s(self) -> float:
        """When the pages begin to look different."""
        return DRIFT_AT_S if self.seconds is None else self.seconds / 2


def play(options: DemoOptions, screen: Screen) -> Summary | None:
    """Play one demo; None when it was ended before it had begun.

    Raises:
        TailraceError: The log cannot be had or used, or a folder or address.
    """
    return asyncio.run(_Demo(options, screen).play())


class _EndedError(Exception):
    """The demo was ended before it had begun."""


class _Demo:
    def __init__(self, options: DemoOptions, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._ending = asyncio.Event()
        self._place: Place | None = None
        self._broker: Broker | None = None
        self._course = CourseState()
        self._member: MemberStatus | None = None

    async def play(self) -> Summary | None:
        with self._signals():
            self._place = place = Place.make(self._options.keep)
            try:
                return await self._in(place)
            except _EndedError:
                return None
            finally:
                self._screen.close()
                if self._broker is not None:
                    await self._broker.stop()
                place.remove()

    async def _in(self, place: Place) -> Summary:
        settings = await self._settings(place)
        async with self._log(settings) as reading:
            begun_s = _clock_s()
            ((name, loop),) = settings.loops.items()
            topics = topics_of(name, loop)
            partitions = await self._make_topics(reading, topics)
            first = sum(held.end for held in (await reading.ranges(topics.events)).values())
            watch = Watch(reading.reader, topics.predictions, _clock_s)
            async with reading.sink() as sink, _running(watch.run()):
                self._introduce(place, settings, topics)
                options = self._options
                feeder = Feeder(
                    sink,
                    topics,
                    partitions=partitions,
                    script=Script(options.seed + first, first=first, horizon_s=loop.horizon / 1_000),
                    rhythm=Rhythm(options.rate_per_s, options.drift_at_s, DELAY_S[1] + AFTERTHOUGHT_S),
                    now_ms=main.now_ms,
                )
                snapshots = await self._with_worker(settings, feeder, watch)
            return await self._sum_up(settings, snapshots, feeder, watch, begun_s)

    # ── log ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _settings(self, place: Place) -> Settings:
        options, run = self._options, ""
        http = places.free_address(options.http)
        log = places.EMBEDDED
        if options.own_kafka:
            self._screen.say("Starting Apache Kafka; the first time ever, Maven fetches it (43 MB).")
            self._broker = Broker(place.folder / "kafka")
            log = "kafka://" + await self._unless_ended(self._broker.start())
        elif options.bootstrap is not None:
            log, run = "kafka://" + options.bootstrap, uuid4().hex[:6]
        return place.settings(log, http, run)

    @asynccontextmanager
    async def _log(self, settings: Settings) -> AsyncIterator[Reading]:
        await self._unless_ended(_reach(settings))
        async with opened(settings, must_exist=False) as reading:
            yield reading

    async def _make_topics(self, reading: Reading, topics: LoopTopics) -> int:
        """Make the user's topics; the worker makes the others. Return how many partitions they have."""
        names = (topics.events, topics.labels)
        found = await reading.admin.describe(names)
        replicas = min(3, await reading.admin.brokers())
        await reading.admin.create([TopicState(name, PARTITIONS, replicas) for name in names if name not in found])
        counts = {found[name].partitions for name in names if name in found} or {PARTITIONS}
        if len(counts) > 1:
            raise LogError(f"{topics.events} and {topics.labels} have {counts} partitions; name another folder to keep")
        return counts.pop()

    # ── worker ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _with_worker(self, settings: Settings, feeder: Feeder, watch: Watch) -> int:
        """Run the worker while the feeder feeds it; return how many snapshots it wrote, the last one included."""
        process = main.Process(settings, prepare_topics=True)
        await process.start()
        try:
            await self._unless_ended(ready(process))
            (loop,) = process.loops.values()
            assert loop.heartbeat is not None
            feeding = asyncio.create_task(feeder.run(self._ending))
            try:
                while not feeding.done():
                    self._end_in_time(feeder)
                    self._look(loop.heartbeat.picture(), feeder, watch)
                    check(process)
                    await asyncio.wait((feeding,), timeout=SHOWN_EVERY_S)
                await feeding
            finally:
                feeding.cancel()
            await self._settle(process, loop, feeder, watch)
            self._look(loop.heartbeat.picture(), feeder, watch)
            self._screen.close()
        finally:
            await process.stop()
        check(process)
        return loop.recorder.counts["snapshots"]

    async def _settle(self, process: main.Process, loop: main.RunningLoop, feeder: Feeder, watch: Watch) -> None:
        """Wait until everything that was sent is scored, joined and learned."""
        assert loop.heartbeat is not None
        self._screen.say("Ending: labels that are on their way are still learned.")
        deadline_s, still_since_s, before = _clock_s() + LEARNED_WITHIN_S, _clock_s(), (0, 0)
        while (now_s := _clock_s()) < deadline_s:
            member = loop.heartbeat.picture()
            self._look(member, feeder, watch)
            check(process)
            moved = (sum(member.counters.values()), watch.count)
            is_still = moved == before and watch.count >= served(member) and is_done(member, feeder)
            if not is_still:
                still_since_s, before = now_s, moved
            elif now_s - still_since_s >= _SETTLED_S:
                return
            await asyncio.sleep(SHOWN_EVERY_S / 4)
        self._screen.say(
            f"Not everything was learned within {LEARNED_WITHIN_S:.0f} s; the log holds it for the next start."
        )

    def _look(self, member: MemberStatus, feeder: Feeder, watch: Watch) -> None:
        self._member = member
        self._course.note(feeder.elapsed_s, judged_of(accuracy_of(member.quality)))
        self._screen.show(
            Glance(
                at_s=feeder.elapsed_s,
                of_s=self._options.seconds,
                rate_per_s=self._options.rate_per_s,
                events=feeder.events,
                labels=feeder.labels,
                predictions=watch.count,
                member=member,
                course=self._course,
                drift_at_s=self._options.drift_at_s,
                latest=tuple(watch.latest),
                truth=feeder.truth,
            )
        )

    def _end_in_time(self, feeder: Feeder) -> None:
        if self._options.seconds is not None and feeder.elapsed_s >= self._options.seconds:
            self._ending.set()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _sum_up(
        self, settings: Settings, snapshots: int, feeder: Feeder, watch: Watch, begun_s: float
    ) -> Summary:
        assert self._member is not None
        ((name, loop),) = settings.loops.items()
        topics = topics_of(name, loop)
        # Another reading than the one that looked on: it sees what anyone would see now.
        async with opened(settings) as reading:
            account = await account_of(reading, name, loop)
            events, predictions = [await _count(reading, topic) for topic in (topics.events, topics.predictions)]
        quality = accuracy_of(self._member.quality)
        return Summary(
            events=events,
            predictions=predictions,
            books=account.books,
            accuracy=quality.value if quality is not None else None,
            baseline=best_baseline(self._member),
            label_to_influence=self._member.label_to_influence,
            snapshots=snapshots,
            first_prediction_s=None if watch.first_at_s is None else watch.first_at_s - begun_s,
            recovery=recovery_of(self._course, self._options.drift_at_s, feeder.ended_s),
            notes=account.notes,
            stays=tuple(self._stays(topics)),
        )

    def _stays(self, topics: LoopTopics) -> Iterator[str]:
        options, place = self._options, self._place
        assert place is not None
        if options.bootstrap is not None:
            yield f"The topics {topics.events}, {topics.labels} and {topics.loop}.* stay on {options.bootstrap}."
        if not place.is_kept:
            return
        yield f"It stays in {place.folder}: go there and try `{options.program} status`, or `books`, `verify`, `run`."
        if self._broker is not None:
            yield f"First start its Kafka again: `{sys.executable} {LAUNCHER} start --dir {self._broker.folder}`."

    def _introduce(self, place: Place, settings: Settings, topics: LoopTopics) -> None:
        program, say = self._options.program, self._screen.say
        say("Web pages come in, a model says which are phishing, labels follow late, and the model learns from each.")
        say(f"In {self._options.drift_at_s:.0f} s the pages begin to look different; watch it fall, and learn.")
        say()
        say(f"  log     {settings.log}  topics {topics.events}, {topics.labels} → {topics.predictions}")
        say(f"  http    http://{settings.http}/metrics  /readyz  /livez")
        say(
            f"  folder  {place.folder}  "
            + ("(stays)" if place.is_kept else "(removed at the end; --keep DIR keeps one)")
        )
        say()
        say("  In a second terminal:")
        say(f"    export TAILRACE_CONFIG={place.file}")
        for words in ("status --watch", "events tail", "dlq list", "books"):
            say(f"    {program} {words}")
        say()

    async def _unless_ended(self, awaited: Awaitable[T]) -> T:
        task = asyncio.ensure_future(awaited)
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((task, ending), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _EndedError
            return await task
        finally:
            for each in (task, ending):
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await each

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        if not self._ending.is_set():
            self._ending.set()
            return
        self._screen.close()
        if self._broker is not None:
            self._broker.kill()
        if self._place is not None:
            self._place.remove()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


async def _reach(settings: Settings) -> None:
    """Return once the log answers.

    Raises:
        LogUnavailable: It does not.
    """
    admin = open_log(settings, reach_within_s=REACH_WITHIN_S).admin()
    try:
        await admin.brokers()
    finally:
        await admin.close()


async def _count(reading: Reading, topic: str) -> int:
    count = 0
    for partition, held in (await reading.ranges(topic)).items():
        async for _ in reading.records(TopicPartition(*partition), held):
            count += 1
    return count


@asynccontextmanager
async def _running(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run something beside the block, and stop it with it."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _clock_s() -> float:
    return asyncio.get_running_loop().time()
