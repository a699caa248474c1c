"""Writes what a run came to: tables in Markdown, `latest.json`, and a picture; with versions and machine."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from benchmarks import lineup
from benchmarks.broker import REPOSITORY, say
from benchmarks.environments import InstallError, python_of
from benchmarks.figures import Figures
from benchmarks.latency import Latency
from benchmarks.running import Outcome
from benchmarks.targets import Verdict

FOLDER = REPOSITORY / "benchmarks" / "results"


@dataclass(frozen=True)
class Setting:
    """Under which circumstances a run was made.

    Attributes:
        remark: Of the person who ran it, for instance that the machine had other work.
    """

    events: int
    rounds: int
    event_bytes: float
    kafka: str
    remark: str = ""

    def machine(self) -> dict[str, str]:
        """Return what it ran on; no name of a host is part of it."""
        return {
            "cores": str(os.cpu_count()),
            "processor": _processor(),
            "system": f"{platform.system()} {platform.machine()}, {_kind()}",
            "python": platform.python_version(),
            "kafka": self.kafka,
            "date": dt.datetime.now(dt.UTC).date().isoformat(),  # noqa: TID251 - of the report
        }


def write(folder: Path, setting: Setting, figures: Figures, verdicts: Sequence[Verdict]) -> None:
    """Write everything; a picture that cannot be made is said and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = _plain(setting, figures, verdicts)
    latest = folder / "latest.json"
    latest.write_bytes(orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    picture = _draw(latest, folder / "picture.svg")
    (folder / "results.md").write_text(text(setting, figures, verdicts, picture=picture))


def text(setting: Setting, figures: Figures, verdicts: Sequence[Verdict], *, picture: bool = False) -> str:
    """Return the report as Markdown."""
    lines = ["# Results", "", *circumstances(setting), ""]
    if picture:
        lines += ["![CPU per event of every contender](picture.svg)", ""]
    lines += ["## Targets", "", *targets_table(verdicts), ""]
    if figures.runs:
        lines += ["## Contenders", "", *_contenders(figures), "", *_stages(figures), ""]
    if figures.latencies:
        lines += ["## Latency", "", *_latencies(figures), ""]
    if figures.refolds:
        lines += ["## Refold", "", *_refolds(figures), ""]
    if figures.failures:
        lines += ["## Not measured", "", *(f"- {name}: {why}" for name, why in figures.failures.items()), ""]
    return "\n".join(lines)


def circumstances(setting: Setting) -> list[str]:
    """Return what was run, and where."""
    machine = setting.machine()
    kind = machine["system"].partition(", ")[2]
    said = (
        f"Written by the run of {machine['date']}: {setting.events:,} events of {setting.event_bytes:.0f} bytes and as "
        f"many labels, {setting.rounds} interleaved round(s)."
    )
    where = (
        f"{machine['cores']} cores, {kind} ({machine['processor']}), Python {machine['python']}, Apache Kafka "
        f"{machine['kafka']} on the same cores "
        "(G1, 1 GB)."
    )
    return [said, f"{where} {setting.remark}".rstrip()]


def targets_table(verdicts: Iterable[Verdict]) -> list[str]:
    """Return every target and what became of it."""
    lines = [_row("target", "value", "limit", ""), _rule(4)]
    for each in verdicts:
        value = "" if each.value is None else f"{_number(each.value)} {each.unit}"
        found = {True: "met", False: "**not met**", None: f"not measured: {each.why}"}[each.met]
        lines.append(_row(each.name, value, f"{each.bound} {_number(each.limit)} {each.unit}", found))
    return lines


def _contenders(figures: Figures) -> list[str]:
    lines = [
        _row(
            "contender",
            "versions",
            "events",
            "events/s min / median / max",
            "CPU us/event min / median / max",
            "CPU over bare River min / median / max",
            "memory MB",
            "log loss",
            "balanced",
            "kept at a crash",
        ),
        _rule(10),
    ]
    for contender in lineup.LINEUP:
        found = figures.runs.get(contender.name)
        if found is None:
            continue
        runs = [run for run in found if run is not None]
        if not runs:
            lines.append(_row(contender.name, "", f"failed: {figures.failures[contender.name]}", *[""] * 7))
            continue
        versions = ", ".join(f"{name} {each}" for name, each in figures.versions.get(contender.name, {}).items())
        ratios = figures.ratios(_cpu_us, _cpu_us, contender.name, lineup.RIVER) if _has_river(figures) else []
        loss = [run.log_loss for run in runs if run.log_loss is not None]
        lines.append(
            _row(
                contender.name,
                versions,
                f"{runs[0].count:,}",
                _spread([run.rate for run in runs], "{:,.0f}"),
                _spread([run.cpu_us for run in runs], "{:.1f}"),
                _spread(ratios, "{:.2f}"),
                f"{median(run.memory_bytes for run in runs) / 1e6:,.0f}",
                f"{median(loss):.3f}" if loss else "",
                "yes" if all(run.is_balanced for run in runs) and len(runs) == len(found) else "**no**",
                contender.keeps,
            )
        )
    return lines


def _has_river(figures: Figures) -> bool:
    return any(run is not None for run in figures.runs.get(lineup.RIVER, ()))


def _stages(figures: Figures) -> list[str]:
    found = {
        name: [run for run in figures.runs.get(name, ()) if run is not None]
        for name in (lineup.LOOP, lineup.LOOP_COMPILED)
    }
    columns = {name: _by_stage(runs) for name, runs in found.items() if runs}
    if not columns:
        return []
    stages = list(dict.fromkeys(stage for column in columns.values() for stage in column))
    lines = [_row("CPU us/event by stage", *columns), _rule(1 + len(columns))]
    rows = [(stage, *(f"{column.get(stage, 0.0):.1f}" for column in columns.values())) for stage in stages]
    return [*lines, *(_row(*row) for row in rows)]


def _by_stage(runs: Sequence[Outcome]) -> dict[str, float]:
    def of(run: Outcome, stage: str) -> float:
        return sum(part.stages.get(stage, 0.0) for part in run.parts) / run.count * 1e6

    names = sorted({stage for run in runs for part in run.parts for stage in part.stages})
    named = {name: median(of(run, name) for run in runs) for name in names}
    named = {name: value for name, value in named.items() if value}
    return named | {"Kafka client, event loop, Faust": median(map(_cpu_us, runs)) - sum(named.values())}


def _latencies(figures: Figures) -> list[str]:
    lines = [
        _row(
            "scenario",
            "events/s",
            "answered of sent",
            "p50 ms min / median / max",
            "p99 ms min / median / max",
            "label to influence p50 / p99 ms",
            "largest snapshot MB",
        ),
        _rule(7),
    ]
    for name, found in figures.latencies.items():
        runs = [run for run in found if run is not None]
        if not runs:
            lines.append(_row(name, "", f"failed: {figures.failures[name]}", "", "", "", ""))
            continue
        influence = ""
        if all(run.influence_p99_ms is not None for run in runs):
            influence = " / ".join(f"{median(_known(of, runs)):.1f}" for of in (_influence_p50, _influence_p99))
        lines.append(
            _row(
                name,
                f"{runs[0].rate:,.0f}",
                f"{sum(run.answered for run in runs):,} / {sum(run.sent for run in runs):,}",
                _spread([run.p50_ms for run in runs], "{:.1f}"),
                _spread([run.p99_ms for run in runs], "{:.1f}"),
                influence,
                f"{max(run.snapshot_bytes for run in runs) / 1e6:.1f}" if runs[0].snapshot_bytes else "",
            )
        )
    return lines


def _known(of: Callable[[Latency], float | None], runs: Iterable[Latency]) -> list[float]:
    return [value for run in runs if (value := of(run)) is not None]


def _influence_p50(run: Latency) -> float | None:
    return run.influence_p50_ms


def _influence_p99(run: Latency) -> float | None:
    return run.influence_p99_ms


def _refolds(figures: Figures) -> list[str]:
    lines = [_row("", "examples/s min / median / max", "CPU us/example"), _rule(3)]
    for name, found in figures.refolds.items():
        runs = [run for run in found if run is not None]
        if runs:
            cpu_us = f"{median(map(_cpu_us, runs)):.1f}"
            lines.append(_row(name, _spread([run.rate for run in runs], "{:,.0f}"), cpu_us))
    return lines


def _plain(setting: Setting, figures: Figures, verdicts: Iterable[Verdict]) -> dict[str, Any]:
    return {
        "machine": setting.machine(),
        "events": setting.events,
        "rounds": setting.rounds,
        "remark": setting.remark,
        "targets": [each.plain() for each in verdicts],
        "contenders": {name: [_of_run(run) for run in runs] for name, runs in figures.runs.items()},
        "stages_cpu_us": {
            name: _by_stage([run for run in runs if run is not None])
            for name, runs in figures.runs.items()
            if any(run is not None and any(part.stages for part in run.parts) for run in runs)
        },
        "latencies": {name: [run and asdict(run) for run in runs] for name, runs in figures.latencies.items()},
        "refolds": {name: [_of_run(run) for run in runs] for name, runs in figures.refolds.items()},
        "growth": figures.growth,
        "versions": figures.versions,
        "not_measured": figures.failures,
    }


def _of_run(run: Outcome | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "events": run.count,
        "rate": run.rate,
        "cpu_us": run.cpu_us,
        "processes": [
            {
                "begun_s": part.begun_s - min(each.begun_s for each in run.parts),
                "ended_s": part.ended_s - min(each.begun_s for each in run.parts),
                "cpu_us": run.cpu_us_of(number),
                "memory_bytes": part.memory_bytes,
            }
            for number, part in enumerate(run.parts)
        ],
        "memory_bytes": run.memory_bytes,
        "log_loss": run.log_loss,
        "is_balanced": run.is_balanced,
    }


def _draw(latest: Path, picture: Path) -> bool:
    try:
        command = [python_of("picture"), "-m", "benchmarks.picture", str(latest), str(picture)]
        subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True)
    except (InstallError, subprocess.CalledProcessError) as problem:
        say(f"no picture: {problem}")
        return False
    return True


def _cpu_us(run: Outcome) -> float:
    return run.cpu_us


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return form.format(values[0])
    return " / ".join(form.format(value) for value in (min(values), median(values), max(values)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _processor() -> str:
    names = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _kind() -> str:
    return "virtual machine" if " hypervisor" in Path("/proc/cpuinfo").read_text() else "bare metal"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
