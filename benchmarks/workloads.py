"""One process of ours beside bare River on other workloads: models, widths, kinds of features, targets, formats.

    python -m benchmarks.workloads [--events N] [--rounds R] [--only WORDS]

Writes `workloads.md` and `workloads.json` to `benchmarks/results/`, and `sizing.json`: what an event costs each role at
20 and at 200 numbers, from which the constants of `tailrace size` are taken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any
from uuid import uuid4

import orjson

from benchmarks import lineup, report
from benchmarks.broker import broker, kafka_version, launcher, say
from benchmarks.environments import OURS, python_of
from benchmarks.profile import ROLES, apart_run
from benchmarks.protocol import HANDLED, Task
from benchmarks.report import Setting
from benchmarks.running import ContenderError, Outcome, run, started
from benchmarks.topics import delete, fill
from benchmarks.workloads_lineup import BY_NAME, WORKLOADS, Workload

_EVENTS = 50_000
_SECONDS_PER_EVENT = 0.01
_BEYOND_S = 60.0
_OURS = next(each for each in lineup.QUICK if each.parts)
_SIZED = {20: "20 numbers, logistic regression", 200: "200 numbers, logistic regression"}


@dataclass(frozen=True)
class Row:
    """One workload: ours and bare River, medians over the rounds."""

    workload: str
    events: int
    event_bytes: float
    rate: float
    cpu_us: float
    bare_cpu_us: float
    cpu_over_bare: float
    is_balanced: bool


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads")
    parser.add_argument("--events", type=int, default=_EVENTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="workloads whose name has these words; writes no files")
    parser.add_argument("--sizing", action="store_true", help="the constants of `tailrace size` alone")
    parser.add_argument("--remark", default="", help="a sentence about the machine, for the report")
    asked = parser.parse_args()
    launch = launcher()
    try:
        with broker(launch) as bootstrap:
            rows, failures, roles = asyncio.run(_measure(bootstrap, asked))
    except launch.LaunchError as problem:
        say(str(problem))
        return 4
    setting = Setting(asked.events, asked.rounds, 0.0, kafka_version(), asked.remark)
    if asked.sizing:
        print(orjson.dumps(roles, option=orjson.OPT_INDENT_2).decode())
        _write("sizing.json", {"machine": setting.machine(), "remark": asked.remark, "roles": roles})
        return 0
    text = "\n".join(["# Workloads", "", *report.circumstances(setting)[1:], "", *_table(rows, failures), ""])
    print(text)
    if not asked.only:
        _write("workloads.json", {"machine": setting.machine(), "rows": [asdict(row) for row in rows]})
        _write("sizing.json", {"machine": setting.machine(), "remark": asked.remark, "roles": roles})
        (report.FOLDER / "workloads.md").write_text(text)
    return 3 if failures else 0


def _write(name: str, plain: dict[str, Any]) -> None:
    report.FOLDER.mkdir(parents=True, exist_ok=True)
    (report.FOLDER / name).write_bytes(orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


async def _measure(
    bootstrap: str, asked: argparse.Namespace
) -> tuple[list[Row], dict[str, str], dict[str, dict[str, float]]]:
    rows, failures = [], {}
    for workload in WORKLOADS:
        if asked.sizing or asked.only not in workload.name:
            continue
        try:
            row = await _row(bootstrap, workload, asked)
        except (ContenderError, TimeoutError) as problem:
            failures[workload.name] = str(problem) or type(problem).__name__
            say(f"  {workload.name:<40} failed: {problem!r}")
            continue
        rows.append(row)
        say(
            f"  {workload.name:<40} {row.rate:>9,.0f}/s {row.cpu_us:>7.1f} us CPU, {row.cpu_over_bare:.2f} x bare River"
        )
    return rows, failures, {} if asked.only else await sized(bootstrap, asked)


async def _row(bootstrap: str, workload: Workload, asked: argparse.Namespace) -> Row:
    count = workload.count(asked.events)
    name = f"workload-{uuid4().hex[:8]}"
    inputs = await fill(bootstrap, name, count, 1, made=workload.make(count), form=workload.form)
    contender = _contender(workload)
    bare, ours = [], []
    for _ in range(asked.rounds):
        bare.append(await _bare(workload, count))
        ours.append(await run(contender, bootstrap, inputs, count * _SECONDS_PER_EVENT + _BEYOND_S))
    await delete(bootstrap, inputs.events, inputs.labels)
    ratios = [one.cpu_us / other.cpu_us for one, other in zip(ours, bare, strict=True)]
    return Row(
        workload.name,
        count,
        inputs.event_bytes,
        median(each.rate for each in ours),
        median(each.cpu_us for each in ours),
        median(each.cpu_us for each in bare),
        median(ratios),
        all(each.is_balanced for each in ours),
    )


def _contender(workload: Workload) -> lineup.Contender:
    loop = {"features": workload.features, "model": workload.model, "task": workload.task, **workload.loop}
    return replace(_OURS, loop=loop)


async def _bare(workload: Workload, count: int) -> Outcome:
    task = Task(count=count, options={"workload": workload.name})
    async with started(python_of(OURS), "bare_workload", task) as child:
        await child.says(HANDLED, count * _SECONDS_PER_EVENT + _BEYOND_S)
        return Outcome(count, (await child.measured(),))


async def sized(bootstrap: str, asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return role → fixed and per-feature microseconds an event, without the model, of the three roles apart."""
    costs: dict[int, dict[str, float]] = {}
    for features, name in _SIZED.items():
        workload = BY_NAME[name]
        count = asked.events
        inputs = await fill(bootstrap, f"sizing-{uuid4().hex[:8]}", count, 1, made=workload.make(count))
        runs = [await apart_run(_contender(workload), bootstrap, inputs) for _ in range(asked.rounds)]
        costs[features] = {role: median(_own_us(each, part) for each in runs) for part, role in enumerate(ROLES)}
        say(f"  three processes, {features} numbers: {costs[features]}")
    (few, least), (many, most) = costs.items()
    slopes = {role: max(0.0, (most[role] - least[role]) / (many - few)) for role in ROLES}
    return {
        role: {"fixed_us": round(least[role] - slopes[role] * few, 2), "feature_us": round(slopes[role], 3)}
        for role in ROLES
    }


def _own_us(run: Outcome, part: int) -> float:
    """Return what an event costs one process, without the stages in which its model works."""
    stages = run.parts[part].stages
    model_s = stages.get("predict", 0.0) + stages.get("learn", 0.0)
    return (run.parts[part].cpu_s - model_s) / run.count * 1e6


def _table(rows: list[Row], failures: dict[str, str]) -> list[str]:
    lines = [
        "| workload | events | bytes | events/s | CPU us/event | bare River's | ratio | balanced |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.workload} | {row.events:,} | {row.event_bytes:,.0f} | {row.rate:,.0f} | {row.cpu_us:.1f} | "
        f"{row.bare_cpu_us:.1f} | {row.cpu_over_bare:.2f} | {'yes' if row.is_balanced else '**no**'} |"
        for row in rows
    ]
    return [*lines, *(f"| {name} | failed: {why} | | | | | | |" for name, why in failures.items())]


if __name__ == "__main__":
    sys.exit(main())
