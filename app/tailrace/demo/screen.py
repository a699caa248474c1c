"""Shows a demo as it runs: a live table on a terminal, a line every five seconds elsewhere. Both on stderr."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tailrace.demo.glance import Glance
from tailrace.demo.watch import Seen

LINE_EVERY_S: Final = 5.0
WIDEST: Final = 92
GOOD_SHARE: Final = 0.75
"""Seconds with at least this accuracy are green; below a fair coin they are red."""

_BARS: Final = "▁▂▃▄▅▆▇█"
_BASELINES: Final = {"no_change": "the last label again", "prior": "the commoner label"}


class Screen(ABC):
    """Where a demo is shown."""

    @abstractmethod
    def say(self, text: str = "") -> None:
        """Print a line or more, above whatever is live."""

    @abstractmethod
    def show(self, glance: Glance) -> None:
        """Show a moment."""

    @abstractmethod
    def close(self) -> None:
        """Leave the last moment standing; nothing is live any more."""


def make_screen(stream: TextIO) -> Screen:
    """Make the screen that fits a stream."""
    console = Console(file=stream, highlight=False)
    return LiveScreen(console) if console.is_interactive else LineScreen(stream)


class LineScreen(Screen):
    """Plain lines: for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next_s = LINE_EVERY_S

    def say(self, text: str = "") -> None:
        """Print it."""
        print(text, file=self._stream, flush=True)

    def show(self, glance: Glance) -> None:
        """Print a line when it is time."""
        if glance.at_s >= self._next_s:
            self._next_s = LINE_EVERY_S * (glance.at_s // LINE_EVERY_S + 1)
            self.say(line_of(glance))

    def close(self) -> None:
        """Do nothing: lines stand."""


class LiveScreen(Screen):
    """A table that is drawn anew."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def say(self, text: str = "") -> None:
        """Print it above the table."""
        self._console.print(Text(text))

    def show(self, glance: Glance) -> None:
        """Draw the table."""
        drawn = table_of(glance, min(WIDEST, self._console.width))
        if self._live is None:
            self._live = Live(drawn, console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(drawn, refresh=True)

    def close(self) -> None:
        """Leave the table standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class LogLines(io.StringIO):
    """A text stream for log messages that would tear the table: each goes above it."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def write(self, text: str) -> int:
        """Print whole lines."""
        if text.strip():
            self._screen.say(text.rstrip("\n"))
        return len(text)


def line_of(glance: Glance) -> str:
    """Return one moment as a line."""
    counts = (
        f"{glance.events:,} events, {glance.predictions:,} predictions, {glance.labels:,} labels, "
        f"{glance.waiting:,} waiting, {glance.learned:,} learned"
    )
    quality = glance.accuracy
    accuracy = "no accuracy yet"
    if quality is not None and quality.value is not None:
        beside = ", ".join(f"{_BASELINES.get(name, name)} {value:.2f}" for name, value in quality.baselines.items())
        just_now = glance.course.recent().share
        recent = "" if just_now is None else f" (just now {just_now:.2f})"
        accuracy = f"accuracy {quality.value:.2f}{recent} against {beside}"
    parts = [counts, accuracy, f"labels {_influence(glance)}", f"snapshot {_snapshot(glance)}"]
    if glance.has_drifted:
        parts.append(_drift(glance))
    return f"{_clock(glance.at_s)}  " + "; ".join(parts)


def table_of(glance: Glance, width: int) -> Panel:
    """Return one moment as a table."""
    both = Table.grid(padding=(0, 6))
    both.add_column()
    both.add_column()
    both.add_row(_counts(glance), _accuracies(glance))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("by the second", _course(glance, width - 24))
    facts.add_row("a label is", Text(_influence(glance)))
    facts.add_row("snapshot", Text(_snapshot(glance)))
    facts.add_row("drift", Text(_drift(glance), style="yellow" if glance.has_drifted else ""))
    facts.add_row("predictions", _latest(glance.latest, glance))
    at_s = glance.at_s if glance.of_s is None else min(glance.at_s, glance.of_s)
    title = f"[bold]Tailrace demo[/]  {_clock(at_s)}" + (f" of {_clock(glance.of_s)}" if glance.of_s else "")
    subtitle = "Ctrl-C ends it"
    return Panel(Group(both, Padding(facts, (1, 0, 0, 0))), title=title, subtitle=subtitle, width=width, padding=(1, 2))


def _counts(glance: Glance) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", min_width=7, no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_row("events", f"{glance.events:,}", f"{glance.rate_per_s:g}/s")
    table.add_row("predictions", f"{glance.predictions:,}")
    table.add_row("labels", f"{glance.labels:,}", "0.2–3 s late")
    table.add_row("waiting", f"{glance.waiting:,}")
    table.add_row("learned", f"{glance.learned:,}")
    return table


def _accuracies(glance: Glance) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_row("accuracy", Text("so far", style="dim"), Text("just now", style="dim"))
    quality = glance.accuracy
    overall = quality.value if quality is not None else None
    just_now = glance.course.recent().share
    table.add_row(
        "of what was served",
        Text(_percent(overall), style=_style(overall)),
        Text(_percent(just_now), style=_style(just_now)),
    )
    for name, value in (quality.baselines if quality is not None else {}).items():
        table.add_row(Text(_BASELINES.get(name, name), style="not bold"), _percent(value), "")
    return table


def _course(glance: Glance, width: int) -> Text:
    shares = glance.course.seconds(max(10, width))
    first = max(0, int(glance.at_s) - len(shares))
    text = Text()
    for second, share in enumerate(shares, start=first):
        if second == int(glance.drift_at_s):
            text.append("╎", style="yellow")
        bar = " " if share is None else _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]
        text.append(bar, style=_style(share))
    return text


def _latest(latest: Sequence[Seen], glance: Glance) -> Text:
    text = Text()
    for number, seen in enumerate(latest):
        text.append("\n" if number else "")
        text.append(f"{seen.page_id}  ")
        if seen.is_phishing is None:
            text.append("nothing yet", style="dim")
            continue
        text.append("phishing  " if seen.is_phishing else "fine      ")
        share = seen.share or 0.0
        text.append(f"{_percent(share if seen.is_phishing else 1 - share):>4} sure", style="dim")
        text.append(_in_truth(seen, glance))
    return text


def _in_truth(seen: Seen, glance: Glance) -> Text:
    if seen.page_id not in glance.truth:
        return Text()
    is_right = seen.is_phishing == glance.truth[seen.page_id]
    return Text("   right", style="green") if is_right else Text("   wrong", style="red")


def _influence(glance: Glance) -> str:
    quantiles = glance.member.label_to_influence
    if quantiles is None:
        return "not in the model yet"
    return f"in predictions after {quantiles.p50_ms:.0f} ms (p50), {quantiles.p99_ms:.0f} ms (p99)"


def _snapshot(glance: Glance) -> str:
    snapshot = glance.member.snapshot
    if snapshot is None:
        return "none yet"
    age_s = max(0.0, (glance.member.time_ms - snapshot.time_ms) / 1_000)
    return f"number {snapshot.number}, {age_s:.0f} s old, {snapshot.size_bytes / 1_000:.1f} kB"


def _drift(glance: Glance) -> str:
    if not glance.has_drifted:
        return f"in {_clock(glance.drift_at_s - glance.at_s)} the pages begin to look different"
    noticed = "noticed by the learner" if glance.signals else "not noticed yet"
    return f"the pages look different since {_clock(glance.drift_at_s)}, {noticed}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _style(share: float | None) -> str:
    if share is None:
        return "dim"
    if share >= GOOD_SHARE:
        return "green"
    return "yellow" if share >= 0.5 else "red"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"
