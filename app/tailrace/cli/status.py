"""`tailrace status`: what a loop does and how well, from its log alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tailrace.cli import output
from tailrace.cli.exits import Exit
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask, loops_of, now_ms
from tailrace.domain.positions import show
from tailrace.domain.status import LoopStatus, Quality, Verdict, to_plain, worst
from tailrace.settings import Settings, load, show_duration

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.status import Picture, Progress

WATCH_EVERY_S: Final = 1.0

_STYLES: Final[Mapping[Verdict, str]] = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
_BOOKS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "events": (("events_scored", "scored"), ("events_abstained", "abstained"), ("events_rejected", "rejected")),
    "scored": tuple((f"event_joins_{part}", part) for part in ("joined", "implicit", "dropped", "repeated", "stale")),
    "labels": tuple(
        (f"labels_{part}", part) for part in ("joined", "duplicate", "conflicting", "late", "orphaned", "rejected")
    ),
    "examples": (("learned", "learned"), ("skipped", "skipped")),
}
"""Line of the live books → (counter, what it is called); since the processes began, so that totals are left out."""


def register(app: App) -> None:
    """Add the command."""
    app.command(status)


def status(
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], negative="", help="Show it again every second.")] = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> int:
    """Show what runs, how far it is behind and why, the model, its quality, and its last snapshot.

    Looks at the log alone: no process is asked. Ends with 1 when a verdict is fail.

    tailrace status
    tailrace status -o json
    """
    settings = load(config)
    names = tuple(loops_of(settings, loop))
    if watch:
        _watch(settings, names, output_format)
    pictures = ask(settings, _looker(settings, names))
    if output.chosen(output_format) == "json":
        _print_lines(pictures)
    else:
        output.console().print(rendered(pictures))
    verdict = worst(picture.status.verdict for picture in pictures)
    return Exit.CHECK_FAILED if verdict is Verdict.FAIL else Exit.OK


def _looker(settings: Settings, names: Iterable[str]) -> Callable[[Reading], Awaitable[list[Picture]]]:
    from tailrace.inspection.status import picture_of  # noqa: PLC0415 - loads the client of Kafka

    async def look(reading: Reading) -> list[Picture]:
        return [await picture_of(reading, name, settings.loops[name], now_ms()) for name in names]

    return look


def _watch(settings: Settings, names: Iterable[str], output_format: output.Format | None) -> None:
    """Look again and again, until Ctrl-C."""
    look = _looker(settings, names)

    async def keep_looking(reading: Reading, show_all: Callable[[list[Picture]], None]) -> None:
        while True:
            show_all(await look(reading))
            await asyncio.sleep(WATCH_EVERY_S)

    if output.chosen(output_format) == "json":
        ask(settings, lambda reading: keep_looking(reading, _print_lines))
        return
    with Live(Text("looking …"), console=output.console(), auto_refresh=False) as live:
        ask(
            settings,
            lambda reading: keep_looking(reading, lambda pictures: live.update(rendered(pictures), refresh=True)),
        )


def _print_lines(pictures: Iterable[Picture]) -> None:
    for picture in pictures:
        output.json_line(described(picture))
    sys.stdout.flush()


def described(picture: Picture) -> dict[str, Any]:
    """Return everything as plain values."""
    status_ = picture.status
    plain = to_plain(status_)
    if status_.model is not None:
        plain["model"]["position_shown"] = show(status_.model.position)
    plain["snapshot_age_seconds"] = snapshot_age_s(status_)
    plain["books"] = live_books(status_.counters)
    plain["groups"] = {role.value: group for role, group in picture.groups.items()}
    plain["progress"] = [asdict(each) for each in picture.progress]
    return plain


def live_books(counters: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return what the running processes have counted, by line of the books."""
    return {line: {name: counters.get(counter, 0) for counter, name in parts} for line, parts in _BOOKS.items()}


def snapshot_age_s(status_: LoopStatus) -> float | None:
    """Return the age of the newest snapshot; None without one."""
    return None if status_.snapshot is None else max(0, status_.time_ms - status_.snapshot.time_ms) / 1_000


# ── on a terminal ───────────────────────────────────────────────────────────────────────────────────────────────────


def rendered(pictures: Iterable[Picture]) -> RenderableType:
    """Return the pictures for people."""
    return Group(*(part for picture in pictures for part in _parts(picture)))


def _parts(picture: Picture) -> Iterator[RenderableType]:
    found = picture.status
    yield Text.assemble("loop ", (found.loop, "bold"), "  ", _verdict(found.verdict))
    findings = _table("about", "verdict", "why")
    for finding in found.findings:
        findings.add_row(finding.about, _verdict(finding.verdict), finding.reason)
    yield findings
    yield from _members(found)
    yield from _lags(picture.progress)
    yield from _model(found)
    yield from _quality(found.quality)
    yield from _counted(found.counters)


def _members(found: LoopStatus) -> Iterator[RenderableType]:
    if not found.members:
        return
    table = _table("process", "role", "state", "why", "version", "up", "heard")
    for member in found.members:
        for role in member.roles:
            up = _span(member.time_ms - member.started_ms)
            heard = f"{max(0, found.time_ms - member.time_ms) / 1_000:.1f} s ago"
            table.add_row(member.member, role.role, role.state, role.reason or "-", member.version, up, heard)
    yield table


def _lags(progress: Iterable[Progress]) -> Iterator[RenderableType]:
    table = _table("role", "partition", "read by", "behind", "oldest", "verdict", "why")
    for each in progress:
        age = "-" if each.lag_seconds is None else f"{each.lag_seconds:.1f} s"
        owner = ", ".join(each.members) or "nobody"
        partition = f"{each.topic}/{each.partition}"
        table.add_row(each.role, partition, owner, str(each.lag_records), age, _verdict(each.verdict), each.reason)
    yield table


def _model(found: LoopStatus) -> Iterator[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False)
    model, snapshot, latency = found.model, found.snapshot, found.label_to_influence
    if model is None:
        table.add_row(Text("model", "bold"), "no process has told of one")
    else:
        skipped = f", {model.skipped} skipped" if model.skipped else ""
        told = f"{model.name} {model.lineage[:12]} at {show(model.position)}: {model.learned} learned{skipped}"
        table.add_row(Text("model", "bold"), told)
    if snapshot is None:
        table.add_row(Text("snapshot", "bold"), "none yet")
    else:
        age = f"{_span(found.time_ms - snapshot.time_ms)} old, one every {show_duration(snapshot.every_ms)}"
        told = f"number {snapshot.number} at {show(snapshot.position)}, {snapshot.size_bytes:,} bytes, {age}"
        table.add_row(Text("snapshot", "bold"), told)
    if latency is not None:
        told = f"half within {latency.p50_ms:.0f} ms, 99 % within {latency.p99_ms:.0f} ms ({latency.samples} labels)"
        table.add_row(Text("label to influence", "bold"), told)
    yield Text()
    yield table


def _quality(quality: Iterable[Quality]) -> Iterator[RenderableType]:
    found = [each for each in quality if each.value is not None]
    if not found:
        return
    names = sorted({name for each in found for name in each.baselines})
    table = _table("quality of what was served", "over", "model", *(_baseline(name) for name in names), "labels")
    for each in found:
        others = (f"{each.baselines[name]:.4f}" if name in each.baselines else "-" for name in names)
        window = _WINDOWS.get(each.window, each.window)
        table.add_row(_metric(each.metric), window, f"{each.value:.4f}", *others, str(each.samples))
    yield table


def _counted(counters: Mapping[str, int]) -> Iterator[RenderableType]:
    if not counters:
        return
    yield Text("\ncounted since these processes began; `tailrace books` counts again from the topics", "bold")
    for line, parts in live_books(counters).items():
        yield Text(f"  {line}: " + ", ".join(f"{count} {part}" for part, count in parts.items()))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, _STYLES[verdict])


def _span(span_ms: int) -> str:
    seconds = max(0, span_ms) // 1_000
    for unit, size, below, smaller in (("d", 86_400, 3_600, "h"), ("h", 3_600, 60, "m"), ("m", 60, 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // below} {smaller}"
    return f"{seconds} s"


def _metric(metric: str) -> str:
    return _METRICS.get(metric, metric)


def _baseline(name: str) -> str:
    return _BASELINES.get(name, name)


_METRICS: Final = {
    "accuracy": "accuracy (share right)",
    "roc_auc": "ROC AUC (1 is best)",
    "log_loss": "log loss (0 is best)",
    "cross_entropy": "cross entropy (0 is best)",
    "brier": "Brier score (0 is best)",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
}
_BASELINES: Final = {"no_change": "says the last label", "prior": "says the usual"}
_WINDOWS: Final = {"all": "all labels", "rolling": "the last 1,000"}
