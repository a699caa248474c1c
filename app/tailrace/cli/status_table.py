"""The picture of a loop for people: what is wrong, the model and its quality, then who reads what, and counts.

The first lines are what matters, so that `status --watch` says it on a terminal of 24 lines too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tailrace.domain.books import EQUATIONS
from tailrace.domain.positions import show
from tailrace.domain.status import LoopStatus, MemberStatus, Quality, Verdict
from tailrace.settings import show_duration

if TYPE_CHECKING:
    from tailrace.inspection.status import Picture, Progress

MAX_NAMED: Final = 2
"""Processes that one line names; of more the number is told."""

_STYLES: Final[Mapping[Verdict, str]] = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
_BOOKS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "events": (("events_scored", "scored"), ("events_abstained", "abstained"), ("events_rejected", "rejected")),
    "scored": tuple((f"event_joins_{part}", part) for part in ("joined", "implicit", "dropped", "repeated", "stale")),
    "labels": tuple((f"labels_{part}", part) for part in EQUATIONS["labels"] if part != "waiting"),
    "examples": (("learned", "learned"), ("skipped", "skipped")),
}
"""Line of the live books → (counter, what it is called); since the processes began, so that totals are left out."""

_METRICS: Final = {
    "accuracy": "accuracy (share right)",
    "roc_auc": "ROC AUC (1 is best)",
    "log_loss": "log loss (0 is best)",
    "cross_entropy": "cross entropy (0 is best)",
    "brier": "Brier score (0 is best)",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
}
_BASELINES: Final = {"no_change": "the last label again", "prior": "the usual label", "constant": "one score for all"}


def live_books(counters: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return what the running processes have counted, by line of the books."""
    return {line: {name: counters.get(counter, 0) for counter, name in parts} for line, parts in _BOOKS.items()}


def rendered(pictures: Iterable[Picture]) -> RenderableType:
    """Return the pictures for people."""
    return Group(*(part for picture in pictures for part in _parts(picture)))


def _parts(picture: Picture) -> Iterator[RenderableType]:
    found = picture.status
    yield Text.assemble("loop ", (found.loop, "bold"), "  ", _verdict(found.verdict))
    yield Text(picture.headline.sentence)
    findings = _table("about", "verdict", "why")
    for finding in found.findings:
        findings.add_row(finding.about, _verdict(finding.verdict), finding.reason)
    yield findings
    yield Text()
    yield _model(found)
    yield from _quality(found.quality)
    yield Text()
    yield from _members(found)
    yield _lags(picture.progress)
    yield from _counted(found.counters)


def _model(found: LoopStatus) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    model, snapshot, latency = found.model, found.snapshot, found.label_to_influence
    if model is None:
        table.add_row("model", "no process has told of one")
    else:
        skipped = f", {model.skipped:,} skipped" if model.skipped else ""
        told = f"{model.name} {model.lineage[:12]} at {show(model.position)}: {model.learned:,} learned{skipped}"
        table.add_row("model", told)
    if snapshot is None:
        table.add_row("snapshot", "none yet")
    else:
        age = f"{span(found.time_ms - snapshot.time_ms)} old, one every {show_duration(snapshot.every_ms)}"
        told = f"number {snapshot.number} at {show(snapshot.position)}, {snapshot.size_bytes:,} bytes, {age}"
        table.add_row("snapshot", told)
    if found.serving is not None and found.serving.age_seconds is not None:
        lag, events_s = found.serving.lag_records, found.serving.event_time_lag_seconds
        told = f"{span(int(1_000 * found.serving.age_seconds))} old, {lag or 0:,} records of the log behind"
        told += "" if events_s is None else f", its newest event {span(int(1_000 * events_s))} before the newest scored"
        table.add_row("serving state", told)
    if latency is not None:
        half, nearly_all = _latency(latency.p50_ms), _latency(latency.p99_ms)
        told = f"half within {half}, 99 % within {nearly_all} ({latency.samples:,} labels)"
        table.add_row("label to influence", told)
    return table


def _quality(quality: Iterable[Quality]) -> Iterator[RenderableType]:
    """Yield a line per metric: over all labels, over the last ones, and trivial models over all."""
    found = {(each.metric, each.window): each for each in quality if each.value is not None}
    every = {metric: each for (metric, window), each in found.items() if window == "all"}
    if not every:
        return
    lately = {metric: each for (metric, window), each in found.items() if window == "rolling"}
    counts = [max(each.samples for each in window.values()) for window in (every, lately) if window]
    names = sorted({name for each in every.values() for name in each.baselines})
    heads = ("all labels", f"the last {counts[-1]:,}") if len(set(counts)) > 1 else ("all labels",)
    table = _table(f"quality over {counts[0]:,} labels", *heads, *(_BASELINES.get(name, name) for name in names))
    for metric, each in every.items():
        cells = [each.value, *([lately[metric].value if metric in lately else None] if len(heads) > 1 else [])]
        cells += [each.baselines.get(name) for name in names]
        table.add_row(_METRICS.get(metric, metric), *("-" if cell is None else f"{cell:.4f}" for cell in cells))
    yield table


def _members(found: LoopStatus) -> Iterator[RenderableType]:
    if not found.members:
        return
    table = _table("process", "roles", "state", "version", "up", "heard", "why")
    for member in found.members:
        up = span(member.time_ms - member.started_ms)
        heard = f"{max(0, found.time_ms - member.time_ms) / 1_000:.1f} s ago"
        for state, reason, roles in _alike(member):
            table.add_row(member.member, roles, state, member.version, up, heard, reason or "-")
    yield table


def _alike(member: MemberStatus) -> Iterator[tuple[str, str, str]]:
    """Yield state, reason and the roles that are in it for that reason."""
    for (state, reason), roles in groupby(member.roles, key=lambda role: (role.state, role.reason)):
        yield state, reason, ", ".join(role.role for role in roles)


def _lags(progress: Iterable[Progress]) -> RenderableType:
    """Return a line per topic of a role, and one of its own for every other verdict or reason to worry."""
    table = _table("role", "partitions", "read by", "behind", "oldest", "", "why")
    alike: dict[tuple[str, str, Verdict, str], list[Progress]] = {}
    for each in progress:
        worry = "" if each.verdict is Verdict.OK else each.reason
        alike.setdefault((each.role, each.topic, each.verdict, worry), []).append(each)
    for (role, topic, verdict, worry), group in alike.items():
        behind = sum(each.lag_records for each in group)
        ages = [each.lag_seconds for each in group if each.lag_seconds is not None]
        oldest = f"{max(ages):.1f} s" if behind and ages else "-"
        why = worry or ("idle" if all(each.reason == "idle" for each in group) else "keeps up")
        partitions = f"{topic}/{_ranges([each.partition for each in group])}"
        table.add_row(role, partitions, _owners(group), f"{behind:,}", oldest, _verdict(verdict), why)
    return table


def _owners(group: Iterable[Progress]) -> str:
    names = list(dict.fromkeys(name for each in group for name in each.members))
    return ", ".join(names) or "nobody" if len(names) <= MAX_NAMED else f"{len(names)} processes"


def _ranges(partitions: Sequence[int]) -> str:
    """Write ascending numbers as 0-3,5."""
    runs: list[list[int]] = []
    for number in partitions:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _counted(counters: Mapping[str, int]) -> Iterator[RenderableType]:
    if not counters:
        return
    yield Text("\ncounted since these processes began; `tailrace books` counts again from the topics", "bold")
    for line, parts in live_books(counters).items():
        # A learner that starts again folds the tail of the log again; how much the model has learned stands above.
        if line != "examples":
            yield Text(f"  {line}: " + ", ".join(f"{count:,} {part}" for part, count in parts.items()))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    return table


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, _STYLES[verdict])


def _latency(latency_ms: float) -> str:
    return f"{latency_ms:.0f} ms" if latency_ms < 1_000 else f"{latency_ms / 1_000:.1f} s"


def span(span_ms: int) -> str:
    """Write a length of time in its two largest units."""
    seconds = max(0, span_ms) // 1_000
    for unit, size, below, smaller in (("d", 86_400, 3_600, "h"), ("h", 3_600, 60, "m"), ("m", 60, 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // below} {smaller}"
    return f"{seconds} s"
