"""Tailrace: `tailrace run` in this process with its defaults; with all roles, or with some of them."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks import protocol
from benchmarks.protocol import Measured, Task
from benchmarks.sampling import Samples
from tailrace.domain.status import Role
from tailrace.main import Process, RunningLoop
from tailrace.main.loops import ALL_ROLES
from tailrace.settings import load
from tailrace.streams.collector import calm_collector
from tailrace.telemetry.logs import configure

_POLL_S = 0.002
_START_WITHIN_S = 60.0
_BEGIN_WITHIN_S = 240.0


class Run:
    """One process of ours, from its first record on.

    Attributes:
        sampled: Package → CPU seconds, where `options.is_sampled` asks for it.
    """

    def __init__(self, task: Task) -> None:
        roles = task.options.get("roles")
        self.roles = tuple(map(Role, roles)) if roles else ALL_ROLES
        self.sampled: dict[str, float] = {}
        self._task = task
        self._samples = Samples() if task.options.get("is_sampled") else None
        self._process = Process(load(Path(task.options["config"])), roles=self.roles, prepare_topics=True)

    async def measure(self) -> Measured:
        """Run until everything is done, or until a line comes.

        Raises:
            TimeoutError: Nothing came.
        """
        process, task = self._process, self._task
        protocol.say({"is": protocol.READY})
        await asyncio.to_thread(protocol.await_line)
        line = asyncio.ensure_future(asyncio.to_thread(protocol.await_line))
        await process.start()
        try:
            loop = await self._loop()
            # A share of the records is done when the runner says so.
            is_alone = task.count and not task.options.get("is_share")
            if not is_alone:
                async with asyncio.timeout(_START_WITHIN_S):
                    await self._until(lambda: all(is_ready for is_ready, _ in process.readiness().values()))
                protocol.say({"is": protocol.READY})
            if task.options.get("is_behind"):  # what comes before this line is not measured
                await line
                line = asyncio.ensure_future(asyncio.to_thread(protocol.await_line))
            begun_s, begun_cpu_s = await self._begun(line)
            if self._samples is not None:
                self._samples.begin()
            if is_alone:
                await self._until(lambda: self._is_handled(loop))
                ended_s = protocol.now_s()
                if self._samples is not None:
                    self.sampled = self._samples.end(protocol.cpu_s() - begun_cpu_s)
                protocol.say_handled()
                await line
            else:
                await line
                ended_s = protocol.now_s()
            return self._measured(loop, begun_s, ended_s, protocol.cpu_s() - begun_cpu_s)
        finally:
            await process.stop()

    async def _loop(self) -> RunningLoop:
        await self._until(lambda: bool(self._process.loops))
        (loop,) = self._process.loops.values()
        return loop

    async def _begun(self, line: asyncio.Future[None]) -> tuple[float, float]:
        """Return clock and CPU of the moment before the first record."""
        async with asyncio.timeout(_BEGIN_WITHIN_S if self._task.count else None):
            while True:
                moment = protocol.now_s(), protocol.cpu_s()
                if line.done() or any(self._counters("tailrace_consumed_records_total", "topic").values()):
                    return moment
                await asyncio.sleep(_POLL_S)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():  # noqa: ASYNC110 - its counters are what anybody may read
            await asyncio.sleep(_POLL_S)

    def _is_handled(self, loop: RunningLoop) -> bool:
        counts, count = loop.recorder.counts, self._task.count
        if Role.LEARN in self.roles and counts["learned"] < count:
            return False
        if Role.JOIN in self.roles and counts["labels_joined"] < count:
            return False
        if Role.SCORE not in self.roles:
            return True
        if _scored(counts) < count:
            return False
        # Counted when the scored blocks of a batch are acknowledged too.
        sent = self._counters("tailrace_produced_records_total", "topic").get(loop.domain.topics.predictions, 0.0)
        return sent >= count

    def _measured(self, loop: RunningLoop, begun_s: float, ended_s: float, used_s: float) -> Measured:
        counts = loop.recorder.counts
        live = loop.models.live
        figures = live.quality.figures() if live is not None else ()
        log_loss = next((each.value for each in figures if (each.metric, each.window) == ("log_loss", "all")), None)
        stages = self.sampled or self._counters("tailrace_stage_seconds_total", "stage")
        learned = counts["learned"] if not counts["dead_letters"] else -counts["dead_letters"]
        return Measured(begun_s, ended_s, used_s, _scored(counts), learned, log_loss=log_loss, stages=stages)

    def _counters(self, name: str, label: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in self._process.instruments.registry.collect():
            for sample in metric.samples:
                if sample.name == name:
                    found[sample.labels[label]] = found.get(sample.labels[label], 0.0) + sample.value
        return found


def _scored(counts: Counter[str]) -> int:
    # A model that knows nothing yet may abstain: the event is answered and learned all the same.
    return counts["events_scored"] + counts["events_abstained"]


def main(task: Task) -> None:
    """Run it once."""
    configure("error", "console")
    calm_collector()  # as `tailrace run` does
    run = Run(task)
    asyncio.run(run.measure()).say()


if __name__ == "__main__":
    main(Task.asked())
    sys.stdout.flush()
