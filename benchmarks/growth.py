"""The long axes: does an event cost more after ten million, over 64 partitions, beside a million that wait?

    python -m benchmarks.growth [--events N] [--partitions N] [--waiting N]

Each argument is the last point of its axis. Writes `growth.md` and `growth.json` to `benchmarks/results/`; `make bench`
takes the figures of this axis from there. With ten million events it takes about 25 minutes and 25 GB of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from benchmarks import growth_axes, lineup, report
from benchmarks.broker import broker, kafka_version, launcher, say
from benchmarks.configuration import Loop
from benchmarks.environments import OURS, python_of
from benchmarks.examples import Example, examples
from benchmarks.growth_axes import Axis
from benchmarks.protocol import READY, Measured
from benchmarks.report import Setting
from benchmarks.running import our_tasks, run, started
from benchmarks.topics import Inputs, Watcher, create, delete, fill, pour

EVENTS = 100_000
"""At every point of the axes along which their number does not grow."""

STEP_MS = 36
"""Between two events in event time: ten million are four days, of which Kafka keeps seven; 100,000 are an hour, the
horizon, so that what the join remembers has its full size after 300,000."""

_SECONDS_PER_EVENT = 0.001
_BEYOND_S = 60.0
_MEASURED = next(each for each in lineup.QUICK if each.parts)


def main() -> int:
    """Run every axis; return the exit code."""
    asked = _arguments()
    launch = launcher()
    points: dict[str, list[tuple[int, float, int]]] = {}
    try:
        with broker(launch) as bootstrap:
            asyncio.run(_measure(bootstrap, asked, points))
    except launch.LaunchError as problem:
        say(str(problem))
        return 4
    found = {"points": points, "grown": grown(points), "memory_per_waiting_bytes": _per_waiting(points)}
    lines = _report(found)
    print("\n".join(lines))
    report.FOLDER.mkdir(parents=True, exist_ok=True)
    setting = Setting(asked.events, 1, 0.0, kafka_version(), asked.remark)
    plain = {"machine": setting.machine(), "remark": asked.remark, **found}
    (report.FOLDER / "growth.json").write_bytes(orjson.dumps(plain, option=orjson.OPT_INDENT_2))
    (report.FOLDER / "growth.md").write_text(
        "\n".join(["# Growth", "", *report.circumstances(setting)[1:], "", *lines, ""])
    )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").partition("\n")[0])
    for axis in (growth_axes.EVENTS, growth_axes.PARTITIONS, growth_axes.WAITING):
        parser.add_argument(f"--{axis.name}", type=int, default=axis.points[-1], help="the last point of this axis")
    parser.add_argument("--remark", default="", help="a sentence about the machine, for the report")
    return parser.parse_args()


async def _measure(bootstrap: str, asked: argparse.Namespace, points: dict[str, list[tuple[int, float, int]]]) -> None:
    say("warming up")
    await _over_events(bootstrap, growth_axes.EVENTS.points[0])
    for axis, measure in (
        (growth_axes.EVENTS, _over_events),
        (growth_axes.PARTITIONS, _over_partitions),
        (growth_axes.WAITING, _beside_waiting),
    ):
        for point in _up_to(axis, getattr(asked, axis.name)):
            cpu_us, memory_bytes = await measure(bootstrap, point)
            points.setdefault(axis.name, []).append((point, cpu_us, memory_bytes))
            say(f"  {axis.name} {point:>12,}: {cpu_us:6.1f} us CPU an event, {memory_bytes / 1e6:,.0f} MB")


def _up_to(axis: Axis, last: int) -> list[int]:
    return [point for point in axis.points if point < last] + [last]


async def _over_events(bootstrap: str, count: int) -> tuple[float, int]:
    inputs = await fill(bootstrap, f"growth-{uuid4().hex[:8]}", count, 1, step_ms=STEP_MS)
    outcome = await run(_MEASURED, bootstrap, inputs, count * _SECONDS_PER_EVENT + _BEYOND_S)
    await delete(bootstrap, inputs.events, inputs.labels)
    return outcome.cpu_us, outcome.memory_bytes


async def _over_partitions(bootstrap: str, partitions: int) -> tuple[float, int]:
    inputs = await fill(bootstrap, f"growth-{uuid4().hex[:8]}", EVENTS, partitions, step_ms=STEP_MS)
    contender = replace(_MEASURED, partitions=partitions)
    outcome = await run(contender, bootstrap, inputs, EVENTS * _SECONDS_PER_EVENT + _BEYOND_S)
    await delete(bootstrap, inputs.events, inputs.labels)
    return outcome.cpu_us, outcome.memory_bytes


async def _beside_waiting(bootstrap: str, waiting: int) -> tuple[float, int]:
    """Let events wait without labels, then measure what others cost that are labelled."""
    name = f"bench_{uuid4().hex[:8]}"
    inputs = Inputs(f"{name}-events", f"{name}-labels", EVENTS, 1)
    await create(bootstrap, inputs.events, inputs.labels)
    loop = Loop(bootstrap, name, inputs.events, inputs.labels, more="join.max_waiting = 4000000")
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        config = loop.write(Path(folder))
        contender = replace(_MEASURED, fills_late=True, options={"is_behind": True})
        (task,) = our_tasks(contender, config, EVENTS)
        async with contextlib.AsyncExitStack() as stack:
            child = await stack.enter_async_context(started(python_of(OURS), contender.module, task))
            watch = await stack.enter_async_context(Watcher(bootstrap))
            await child.says(READY, _BEYOND_S)
            await child.told()
            await child.says(READY, _BEYOND_S)
            within_s = (waiting + EVENTS) * _SECONDS_PER_EVENT + _BEYOND_S
            before = replace(inputs, count=waiting)
            await pour(bootstrap, before, _renamed(waiting), is_labelled=False)
            await watch.holds(f"{name}.predictions", 1, waiting, within_s)
            await asyncio.sleep(5.0)  # the join takes in what is scored
            await child.told()
            await pour(bootstrap, inputs)
            await watch.holds(f"{name}.predictions", 1, waiting + EVENTS, within_s)
            await _learned(watch, f"{name}.training", within_s)
            await child.told()
            measured: Measured = await child.measured()
    return measured.cpu_s / EVENTS * 1e6, measured.memory_bytes


async def _learned(watch: Watcher, topic: str, within_s: float) -> None:
    """Wait until the training log is quiet."""
    async with asyncio.timeout(within_s):
        before = -1
        while (now := await watch.written(topic, 1)) != before:
            before = now
            await asyncio.sleep(3.0)


def _renamed(count: int) -> Iterator[Example]:
    for example in examples(count):
        yield replace(example, id=f"w{example.id}")


def grown(points: dict[str, list[tuple[int, float, int]]]) -> dict[str, float]:
    """Return axis → most over least CPU; and of memory the last point of the events over the one before."""
    found = {name: max(us for _, us, _ in rows) / min(us for _, us, _ in rows) for name, rows in points.items()}
    rows = points.get(growth_axes.EVENTS.name, [])
    if len(rows) > 1:
        found[growth_axes.MEMORY.name] = rows[-1][2] / rows[-2][2]
    return found


def _per_waiting(points: dict[str, list[tuple[int, float, int]]]) -> float | None:
    rows = points.get(growth_axes.WAITING.name, [])
    if len(rows) < 2:
        return None
    return (rows[-1][2] - rows[0][2]) / (rows[-1][0] - rows[0][0])


def _report(found: dict[str, Any]) -> list[str]:
    lines = ["| axis | point | CPU us/event | memory MB |", "|---|---|---|---|"]
    for name, rows in found["points"].items():
        lines += [f"| {name} | {point:,} | {us:.1f} | {size / 1e6:,.0f} |" for point, us, size in rows]
    lines += ["", "| target | value | limit |  |", "|---|---|---|---|"]
    for axis in growth_axes.AXES:
        value = found["grown"].get(axis.name)
        met = "not measured" if value is None else "met" if value <= axis.limit else "**not met**"
        lines.append(f"| {axis.title} | {'' if value is None else f'{value:.2f}'} | {axis.limit:g} | {met} |")
    per = found["memory_per_waiting_bytes"]
    return [*lines, "", f"A waiting event takes {per:,.0f} bytes of memory."] if per is not None else lines


if __name__ == "__main__":
    sys.exit(main())
