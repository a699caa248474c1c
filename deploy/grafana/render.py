"""Draw a dashboard without Grafana: the same JSON, the same queries, put to a Prometheus, drawn with matplotlib.

    python deploy/grafana/render.py --prometheus http://127.0.0.1:9090 --board tailrace-loop --out .

For developers: to see whether a panel says what it should before people see it in Grafana, and for the pictures in
the README. Needs `deploy/requirements.txt` and matplotlib (`make pictures`). Layout, titles, legends, units
and thresholds are the dashboard's; colours of lines and fonts are not Grafana's.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import subprocess
import textwrap
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import dates
from matplotlib.ticker import FuncFormatter
from PIL import Image

DASHBOARDS: Final = Path(__file__).resolve().parent / "dashboards"
COLOURS: Final = {"green": "#56a64b", "yellow": "#f2cc0c", "red": "#e02f44", "blue": "#3274d9"}
LINES: Final = (
    "#3274d9",
    "#ff780a",
    "#56a64b",
    "#a352cc",
    "#e02f44",
    "#8a7a00",
    "#37872d",
    "#1f60c4",
    "#806eb7",
    "#705da0",
)
STEPS: Final = 240
MARKS_APART_S: Final = 5.0
PALETTE: Final = 96
NOTHING: Final = "#808080"
CELL_INCHES: Final = (0.62, 0.36)
Series = tuple[str, list[tuple[float, float]]]


class Source:
    """A Prometheus, and the stretch of time that is drawn."""

    def __init__(self, url: str, begin_s: float, end_s: float, variables: dict[str, str]) -> None:
        self._url, self.begin_s, self.end_s = url, begin_s, end_s
        self._variables = variables
        self.marks: list[tuple[float, str]] = []

    def mark(self, annotations: list[dict[str, Any]]) -> None:
        """Remember when the annotations of a dashboard begin."""
        for each in annotations:
            for _, points in self.ask(each, is_instant=False):
                before = -math.inf
                for at, _ in points:
                    if at - before > MARKS_APART_S:
                        self.marks.append((at, each["iconColor"]))
                    before = at

    def ask(
        self, target: dict[str, Any], *, is_instant: bool
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Return labels and points of every series of a query."""
        query = target["expr"]
        for name, value in self._variables.items():
            query = query.replace(f"${name}", value)
        if is_instant:
            path, asked = "query", {"query": query, "time": self.end_s}
        else:
            step = max((self.end_s - self.begin_s) / STEPS, 1)
            path, asked = "query_range", {"query": query, "start": self.begin_s, "end": self.end_s, "step": step}
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(asked)}", timeout=20) as got:
            found = json.load(got)["data"]["result"]
        return [
            (each["metric"], [(float(at), float(value)) for at, value in each.get("values") or [each["value"]]])
            for each in found
        ]

    def named(self, target: dict[str, Any], *, is_instant: bool) -> list[Series]:
        """Return the same with the legends of the panel."""
        return [(self._legend(target, labels), points) for labels, points in self.ask(target, is_instant=is_instant)]

    def _legend(self, target: dict[str, Any], labels: dict[str, str]) -> str:
        text = target.get("legendFormat", "")
        for name, value in labels.items():
            text = text.replace("{{" + name + "}}", value)
        return text

    def filled(self, text: str) -> str:
        """Return a title with the values of the variables."""
        for name, value in self._variables.items():
            text = text.replace(f"${name}", value)
        return text


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """Write a number as Grafana does, about."""
    if math.isnan(value):
        return "nothing to tell"
    if math.isinf(value):
        return "∞"
    if unit == "s":
        for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0 s" if value == 0 else f"{value * 1_000:.3g} ms"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit in {"bytes", "Bps"}:
        power = min(int(math.log(max(abs(value), 1), 1_024)), 4)
        return f"{value / 1_024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}{'/s' if unit == 'Bps' else ''}"
    if unit in {"cps", "reqps", "cpm"}:
        return f"{value:.3g}/{'min' if unit == 'cpm' else 's'}"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"


def colour_of(value: float, steps: list[dict[str, Any]]) -> str:
    """Return the colour of the threshold that a value has reached."""
    reached = [each["color"] for each in steps if each["value"] is None or value >= each["value"]]
    return COLOURS.get(reached[-1], "#888888") if reached else "#888888"


def overridden(panel: dict[str, Any], legend: str, key: str, usual: Any) -> Any:
    """Return a property of one series: its own, or the panel's."""
    for each in panel["fieldConfig"].get("overrides", []):
        if each["matcher"]["options"] == legend:
            for wanted in each["properties"]:
                if wanted["id"] == key:
                    return wanted["value"]
    return usual


def draw_stat(axes: Any, panel: dict[str, Any], source: Source) -> None:
    """Draw big numbers."""
    defaults = panel["fieldConfig"]["defaults"]
    series = [one for target in panel["targets"] for one in source.named(target, is_instant=False)]
    axes.set_axis_off()
    for number, (legend, points) in enumerate(series):
        value = points[-1][1] if points else math.nan
        steps = overridden(panel, legend, "thresholds", defaults["thresholds"])["steps"]
        left, width = number / len(series), 1 / len(series)
        colour = NOTHING if math.isnan(value) else colour_of(value, steps) if len(steps) > 1 else "#eef1f5"
        text = "#1b1f24" if colour in {"#eef1f5", COLOURS["yellow"]} else "white"
        axes.add_patch(plt.Rectangle((left + 0.006, 0.02), width - 0.012, 0.96, color=colour, transform=axes.transAxes))
        middle = left + width / 2
        told = shown(value, overridden(panel, legend, "unit", defaults["unit"]), defaults.get("decimals"))
        size = 19 if len(told) < 10 else 11
        axes.text(
            middle,
            0.56,
            told,
            ha="center",
            va="center",
            fontsize=size,
            weight="bold",
            color=text,
            transform=axes.transAxes,
        )
        axes.text(middle, 0.17, legend, ha="center", va="center", fontsize=8, color=text, transform=axes.transAxes)


def draw_lines(axes: Any, panel: dict[str, Any], source: Source) -> None:
    """Draw lines over time, or a stack of them, with the thresholds."""
    defaults = panel["fieldConfig"]["defaults"]
    series = [one for target in panel["targets"] for one in source.named(target, is_instant=False)]
    is_stack = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
    if is_stack and series:
        times = sorted({at for _, points in series for at, _ in points})
        rows = [[dict(points).get(at, 0.0) for at in times] for _, points in series]
        moments = [datetime.fromtimestamp(at, UTC) for at in times]
        axes.stackplot(moments, rows, labels=[legend for legend, _ in series], colors=LINES, alpha=0.55)
    for number, (legend, points) in enumerate([] if is_stack else series):
        style = "--" if legend.startswith("baseline") else "-"
        moments, values = with_gaps(points, source)
        axes.plot(moments, values, label=legend, color=LINES[number % len(LINES)], lw=1.5, ls=style)
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    for step in defaults["thresholds"]["steps"][1:]:
        if step["value"] <= high * 1.5:
            axes.axhline(step["value"], color=COLOURS[step["color"]], lw=1, ls=":")
            high = max(high, step["value"] * 1.08)
    axes.set_ylim(defaults.get("min", low), high)
    axes.set_xlim(datetime.fromtimestamp(source.begin_s, UTC), datetime.fromtimestamp(source.end_s, UTC))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"])))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=2, maxticks=6))
    axes.tick_params(labelsize=6.5)
    axes.grid(alpha=0.25)
    if series:
        axes.legend(
            fontsize=6, ncols=min(3, len(series)), loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False
        )


def with_gaps(points: list[tuple[float, float]], source: Source) -> tuple[list[datetime], list[float]]:
    """Return moments and values, broken where samples are missing."""
    widest_s = 2.5 * max((source.end_s - source.begin_s) / STEPS, 1)
    moments, values, before = [], [], math.inf
    for at, value in points:
        if at - before > widest_s:
            moments.append(datetime.fromtimestamp(before + 0.1, UTC))
            values.append(math.nan)
        moments.append(datetime.fromtimestamp(at, UTC))
        values.append(value if math.isfinite(value) else math.nan)
        before = at
    return moments, values


def draw_bars(axes: Any, panel: dict[str, Any], source: Source) -> None:
    """Draw a bar for each series as it is now."""
    defaults = panel["fieldConfig"]["defaults"]
    series = [one for target in panel["targets"] for one in source.named(target, is_instant=True)][:14]
    names, values = [legend for legend, _ in series], [points[-1][1] for _, points in series]
    steps = defaults["thresholds"]["steps"]
    axes.barh(range(len(names)), values, color=[colour_of(value, steps) for value in values])
    axes.set_yticks(range(len(names)), names, fontsize=6.5)
    axes.invert_yaxis()
    for at, value in enumerate(values):
        axes.text(value, at, f" {shown(value, defaults['unit'])}", va="center", fontsize=6.5)
    axes.set_xlim(0, max([*values, 1e-9]) * 1.25)
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


def draw_heat(axes: Any, panel: dict[str, Any], source: Source) -> None:
    """Draw counts by bucket over time: the darker, the more."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = source.ask(panel["targets"][0], is_instant=False)
    rising = sorted(((float(labels["le"]), dict(points)) for labels, points in found), key=lambda each: each[0])
    times = sorted({at for _, points in rising for at in points})
    rows, below = [], dict.fromkeys(times, 0.0)
    for _, points in rising:
        rows.append([max(points.get(at, 0.0) - below[at], 0.0) for at in times])
        below = {at: points.get(at, 0.0) for at in times}
    if rows:
        moments = [datetime.fromtimestamp(at, UTC) for at in times]
        axes.pcolormesh(moments, range(len(rows)), rows, cmap="Oranges", shading="nearest")
        axes.set_yticks(range(len(rows)), ["≤ " + shown(edge, unit) for edge, _ in rising], fontsize=6)
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
        axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=2, maxticks=6))
        axes.tick_params(axis="x", labelsize=6.5)


def draw_states(axes: Any, panel: dict[str, Any], source: Source) -> None:
    """Draw a coloured strip for each series."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    series = [one for target in panel["targets"] for one in source.named(target, is_instant=False)]
    for row, (_, points) in enumerate(series):
        for (at, value), (following, _) in zip(points, [*points[1:], (source.end_s, 0.0)], strict=True):
            until = min(following, at + 2 * (source.end_s - source.begin_s) / STEPS)
            moments = [datetime.fromtimestamp(each, UTC) for each in (at, until)]
            axes.plot(moments, [row, row], color=colour_of(value, steps), lw=11, solid_capstyle="butt")
    axes.set_yticks(range(len(series)), [legend for legend, _ in series], fontsize=7)
    axes.set_ylim(-0.7, max(len(series) - 0.3, 0.7))
    axes.set_xlim(datetime.fromtimestamp(source.begin_s, UTC), datetime.fromtimestamp(source.end_s, UTC))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=2, maxticks=6))
    axes.tick_params(axis="x", labelsize=6.5)


def draw_table(axes: Any, panel: dict[str, Any], source: Source) -> None:
    """Draw the rows of a table."""
    order = panel["transformations"][-1]["options"]["indexByName"]
    columns = sorted(order, key=order.__getitem__)
    rows = [labels for target in panel["targets"] for labels, _ in source.ask(target, is_instant=True)][:10]
    axes.set_axis_off()
    cells = [[row.get(column, "") for column in columns] for row in rows] or [[""] * len(columns)]
    made = axes.table(cells, colLabels=columns, loc="upper left", cellLoc="left", edges="horizontal")
    made.auto_set_font_size(value=False)
    made.set_fontsize(6.5)
    made.auto_set_column_width(range(len(columns)))


DRAWN: Final = {
    "stat": draw_stat,
    "timeseries": draw_lines,
    "bargauge": draw_bars,
    "heatmap": draw_heat,
    "state-timeline": draw_states,
    "table": draw_table,
}


def draw(board: dict[str, Any], source: Source, path: Path) -> None:
    """Draw a whole dashboard into a PNG."""
    source.marks.clear()
    source.mark(board["annotations"]["list"])
    cell_x, cell_y = CELL_INCHES
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = plt.figure(figsize=(24 * cell_x, (height + 1) * cell_y), facecolor="white")
    figure.text(0.006, 1 - 0.6 / (height + 1), source.filled(board["title"]), fontsize=13, weight="bold", va="center")
    for panel in board["panels"]:
        at = panel["gridPos"]
        top = 1 - (at["y"] + 1) / (height + 1)
        if panel["type"] == "row":
            figure.text(
                0.006,
                top - 0.5 / (height + 1),
                panel["title"],
                fontsize=10,
                weight="bold",
                va="center",
                color="#555555",
            )
            continue
        is_wide_left = panel["type"] in {"bargauge", "heatmap", "state-timeline"}
        has_axes = panel["type"] not in {"stat", "table"}
        left, right = (2.6 if is_wide_left else 1.1 if has_axes else 0.2), 0.25
        over, under = 1.15, (1.7 if panel["type"] == "timeseries" else 0.8 if has_axes else 0.25)
        box = (
            (at["x"] + left) / 24,
            top - (at["h"] - under) / (height + 1),
            (at["w"] - left - right) / 24,
            (at["h"] - over - under) / (height + 1),
        )
        axes = figure.add_axes(box)
        title = textwrap.fill(source.filled(panel["title"]), at["w"] * 7)
        figure.text((at["x"] + 0.2) / 24, top - 0.55 / (height + 1), title, fontsize=9, va="center")
        DRAWN[panel["type"]](axes, panel, source)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    # A picture of lines and plain colours loses nothing by a palette, and becomes a third of the size.
    Image.open(path).convert("RGB").quantize(PALETTE).save(path, optimize=True)


@contextmanager
def kept_prometheus(folder: Path) -> Iterator[tuple[str, float]]:
    """Run a Prometheus on data that was kept; yield its address and the time of the last sample."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["prometheus", "--config.file=/dev/null", f"--storage.tsdb.path={folder / 'tsdb'}"]
    words += [f"--web.listen-address={address}", "--log.level=error"]
    process = subprocess.Popen(words)
    try:
        for _ in range(100):
            with suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready", timeout=1):
                break
            time.sleep(0.1)
        yield f"http://{address}", float((folder / "ended").read_text())
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="address of the API")
    parser.add_argument("--data", type=Path, help="instead: a folder that `python -m tests.incident --keep` left")
    parser.add_argument("--board", action="append", help="uid of a dashboard; all of them without it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNGs")
    parser.add_argument("--before", type=float, default=0, help="seconds before the end at which the pictures end")
    parser.add_argument("--seconds", type=float, default=180, help="how much of the time before is drawn")
    parser.add_argument("--rate-interval", default="15s", help="in place of $__rate_interval")
    parser.add_argument("--metric", default="accuracy", help="in place of $metric")
    asked = parser.parse_args()
    now_s = time.time()  # noqa: TID251 - the present is what is drawn
    values = {
        "__rate_interval": asked.rate_interval,
        "metric": asked.metric,
        "job": ".+",
        "loop": ".+",
        "instance": ".+",
    }
    with (
        kept_prometheus(asked.data) if asked.data else nullcontext((asked.prometheus.rstrip("/"), now_s)) as (
            url,
            end_s,
        )
    ):
        until_s = end_s - asked.before
        source = Source(url, until_s - asked.seconds, until_s, values)
        for uid in asked.board or [path.stem for path in sorted(DASHBOARDS.glob("*.json"))]:
            draw(json.loads((DASHBOARDS / f"{uid}.json").read_text()), source, asked.out / f"{uid}.png")


if __name__ == "__main__":
    main()
