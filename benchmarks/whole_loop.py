"""The contender: `tailrace run` with its defaults, all three roles in this process, on real Kafka."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks.meter import Measured, Moment
from tailrace.main import Process, RunningLoop
from tailrace.settings import load
from tailrace.streams.worker import calm_collector
from tailrace.telemetry.logs import configure

_POLL_S = 0.002
START_WITHIN_S = 60.0


async def measure(config: Path, count: int, within_s: float) -> Measured:
    """Run a process from the first record to the last label learned.

    Raises:
        TimeoutError: It took too long.
    """
    process = Process(load(config), prepare_topics=True)
    await process.start()
    try:
        begun = Moment.now()
        async with asyncio.timeout(START_WITHIN_S):
            while not _has_begun(process):
                begun = Moment.now()
                await asyncio.sleep(_POLL_S)
        (loop,) = process.loops.values()
        async with asyncio.timeout(within_s):
            while _learned(loop) < count or _predicted(process, loop) < count:  # noqa: ASYNC110 - its counters are what anybody may read
                await asyncio.sleep(_POLL_S)
        ended = Moment.now()
        _check(loop, count)
        assert loop.models.live is not None
        (log_loss,) = (
            figure.value
            for figure in loop.models.live.quality.figures()
            if (figure.metric, figure.window) == ("log_loss", "all")
        )
        return Measured(count, ended.clock_s - begun.clock_s, ended.cpu_s - begun.cpu_s, log_loss, _stages(process))
    finally:
        await process.stop()


def _has_begun(process: Process) -> bool:
    """Tell whether an agent was given any record."""
    return any(value > 0 for value in _by_label(process, "tailrace_consumed_records_total", "topic").values())


def _learned(loop: RunningLoop) -> int:
    return loop.recorder.counts["learned"]


def _predicted(process: Process, loop: RunningLoop) -> float:
    name = "tailrace_produced_records_total"
    topic = loop.domain.topics.predictions
    return process.instruments.registry.get_sample_value(name, {"loop": loop.domain.name, "topic": topic}) or 0.0


def _check(loop: RunningLoop, count: int) -> None:
    counts = loop.recorder.counts
    found = {name: counts[name] for name in ("events_scored", "labels_joined", "learned", "dead_letters")}
    expected = {"events_scored": count, "labels_joined": count, "learned": count, "dead_letters": 0}
    if found != expected:
        message = f"the loop came to {found}, expected was {expected}"
        raise AssertionError(message)


def _stages(process: Process) -> dict[str, float]:
    return _by_label(process, "tailrace_stage_seconds_total", "stage")


def _by_label(process: Process, name: str, label: str) -> dict[str, float]:
    return {
        sample.labels[label]: sample.value
        for metric in process.instruments.registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


def main(config: Path, count: int, within_s: float) -> None:
    """Run it once."""
    configure("warning", "console")
    calm_collector()  # as `tailrace run` does
    asyncio.run(measure(config, count, within_s)).report()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
