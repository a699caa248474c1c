"""What a panel and a dashboard are here, and how Grafana's classic JSON is made of them.

A panel cannot be written without a unit, a sentence that says what is good, and one that says what to do. In
queries `@LOOP`, `@JOB` and `@INSTANCE` stand for the selectors of the dashboard's variables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Kind = Literal["stat", "lines", "stack", "bars", "table", "heat", "states"]

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
SELECTORS: Final = {
    "@LOOP": 'job=~"$job", loop=~"$loop"',
    "@JOB": 'job=~"$job"',
    "@INSTANCE": 'job=~"$job", instance=~"$instance"',
}
WIDTH: Final = 24
BY_LIMIT: Final = frozenset({"stat", "bars", "states"})
"""Kinds whose colour says which limit is passed; that of a line says which series it is."""

NOTHING: Final = models.SpecialValueMap(
    options=models.DashboardSpecialValueMapOptions(
        match=models.SpecialValueMatch.NULL_AND_NAN,
        result=models.ValueMappingResult(text="nothing to tell", color="#808080"),
    )
)
"""Where there is no number, a stat is grey: it must not look as if all were well."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        legend: What its series are called; `{{label}}` is replaced.
        unit: Where it is another than the panel's.
        limits, low: Where they are others than the panel's.
        exemplars: Show traces that Prometheus keeps beside what is asked for.
    """

    legend: str
    expr: str
    unit: str = ""
    limits: tuple[tuple[float, str], ...] = ()
    low: str = GREEN
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        what: What it shows, in a sentence.
        good: What is good, as the rest of a sentence that begins with "Good: ".
        action: What to do when it is not, as the rest of one that begins with "If not: ".
        unit: Grafana's id of it: s, reqps, percentunit …
        limits: (value, colour from there on), rising; below the first it is green, unless `low` says otherwise.
        low: Colour below the first limit.
        only: Of a table: the columns that are shown.
    """

    title: str
    what: str
    good: str
    action: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "lines"
    limits: tuple[tuple[float, str], ...] = ()
    low: str = GREEN
    width: int = 8
    height: int = 7
    least: float | None = 0
    most: float | None = None
    decimals: int | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: rows of panels, filled from the left; a row without a title has no header."""

    uid: str
    title: str
    about: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    by_instance: bool = False
    by_metric: bool = False
    since: str = "now-1h"


def as_json(board: Board) -> str:
    """Return the dashboard as Grafana imports it: the same text for the same board."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["tailrace"])
        .refresh("10s")
        .time(board.since, "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .editable()
        .variables(_variables(board))
        .link(
            dashboard.DashboardLink("Tailrace")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["tailrace"])
            .keep_time(True)
            .include_vars(True)
        )
    )
    y = number = 0
    for title, panels in board.rows:
        if title:
            made = made.with_row(dashboard.Row(title).grid_pos(models.GridPos(h=1, w=WIDTH, x=0, y=y)))
            y += 1
        x, lowest = 0, y
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, lowest
            number += 1
            at = models.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            made = made.with_panel(_panel(panel).id(number).grid_pos(at))
            x, lowest = x + panel.width, max(lowest, y + panel.height)
        y = lowest
    plain: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    _number_rows(plain, number)
    plain["annotations"] = {"list": [_annotation(*each) for each in ANNOTATIONS]}
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


ANNOTATIONS: Final = (
    ("Drift", "orange", "changes(tailrace_drift_last_timestamp_seconds{@LOOP}[$__rate_interval]) > 0"),
    (
        "Promotion",
        "purple",
        'increase(tailrace_branch_decisions_total{kind="promote", outcome="done", @LOOP}[$__rate_interval]) > 0',
    ),
    ("Rebalance", "blue", "increase(tailrace_rebalances_total{@LOOP}[$__rate_interval]) > 0"),
    ("Start of a process", "green", "changes(process_start_time_seconds{@JOB}[$__rate_interval]) > 0"),
)
"""What is drawn as a vertical line on every panel: name, colour, query."""


def selected(expr: str) -> str:
    """Return a query with the selectors in their places."""
    for word, selector in SELECTORS.items():
        expr = expr.replace(word, selector)
    return expr


def _number_rows(plain: dict[str, Any], number: int) -> None:
    for panel in plain["panels"]:
        if panel["type"] == "row":
            number += 1
            panel["id"] = number


def _annotation(name: str, colour: str, expr: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": selected(expr),
        "titleFormat": name,
        "textFormat": "{{loop}} {{role}} {{instance}}",
        "step": "10s",
    }


def _variables(board: Board) -> list[Any]:
    known = [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _values("job", "Job", "label_values(tailrace_ready, job)"),
        _values("loop", "Loop", 'label_values(tailrace_role_state{job=~"$job"}, loop)'),
    ]
    if board.by_instance:
        known.append(_values("instance", "Process", 'label_values(tailrace_ready{job=~"$job"}, instance)'))
    if board.by_metric:
        one = 'label_values(tailrace_model_metric_baseline{job=~"$job", loop=~"$loop"}, metric)'
        known.append(_values("metric", "Metric", one, is_many=False))
    return known


def _values(name: str, label: str, query: str, *, is_many: bool = True) -> dashboard.QueryVariable:
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(is_many)
        .include_all(is_many)
    )
    return made.all_value(".+").current(models.VariableOption(True, "All", "$__all")) if is_many else made


def _panel(panel: Panel) -> Any:
    made = _KINDS[panel.kind](panel)
    made = (
        made.title(panel.title)
        .description(f"{panel.what} Good: {panel.good} If not: {panel.action}")
        .datasource(SOURCE)
        .unit(panel.unit)
        .thresholds(_thresholds(panel.limits, panel.low))
        .targets([_target(panel, number, query) for number, query in enumerate(panel.queries)])
    )
    if panel.kind != "heat":
        mode = models.FieldColorModeId.THRESHOLDS if panel.kind in BY_LIMIT else models.FieldColorModeId.PALETTE_CLASSIC
        made = made.color_scheme(dashboard.FieldColor().mode(mode))
    if panel.least is not None and panel.kind != "heat":
        made = made.min(panel.least)
    if panel.most is not None and panel.kind != "heat":
        made = made.max(panel.most)
    if panel.decimals is not None:
        made = made.decimals(panel.decimals)
    for query in panel.queries:
        if query.unit or query.limits:
            made = made.override_by_name(query.legend, _properties(query))
    return made


def _properties(query: Query) -> list[models.DynamicConfigValue]:
    found = [models.DynamicConfigValue("unit", query.unit)] if query.unit else []
    if query.limits:
        steps = [{"color": query.low, "value": None}, *({"color": each, "value": at} for at, each in query.limits)]
        found.append(models.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}))
    return found


def _thresholds(limits: tuple[tuple[float, str], ...], low: str) -> Any:
    steps = [models.Threshold(None, low), *(models.Threshold(at, colour) for at, colour in limits)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _target(panel: Panel, number: int, query: Query) -> Any:
    made = prometheus.Dataquery().expr(selected(query.expr)).legend_format(query.legend).ref_id(chr(ord("A") + number))
    if query.exemplars:
        made = made.exemplar(True)
    if panel.kind in {"bars", "table"}:
        made = made.instant()
    if panel.kind == "table":
        made = made.format(PromQueryFormat.TABLE)
    return made.format(PromQueryFormat.HEATMAP) if panel.kind == "heat" else made


def _reduced() -> Any:
    return common.ReduceDataOptions().calcs(["last"]).fields("").values(False)


def _stat(panel: Panel) -> Any:
    return (
        stat.Panel()
        .reduce_options(_reduced())
        .color_mode(shapes.BigValueColorMode.BACKGROUND if panel.limits else shapes.BigValueColorMode.VALUE)
        .graph_mode(shapes.BigValueGraphMode.AREA)
        .mappings([NOTHING])
        .text_mode(shapes.BigValueTextMode.VALUE_AND_NAME)
    )


def _lines(panel: Panel) -> Any:
    legend = common.VizLegendOptions().show_legend(True).display_mode(shapes.LegendDisplayMode.TABLE)
    legend = legend.placement(shapes.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"])
    made = timeseries.Panel().legend(legend).line_width(2).show_points(shapes.VisibilityMode.NEVER)
    made = made.tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI))
    if panel.limits:
        made = made.thresholds_style(common.GraphThresholdsStyleConfig().mode(shapes.GraphTresholdsStyleMode.LINE))
    if panel.kind == "stack":
        made = made.fill_opacity(40).stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    return made


def _bars(_: Panel) -> Any:
    return (
        bargauge.Panel()
        .reduce_options(_reduced())
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .value_mode(shapes.BarGaugeValueMode.TEXT)
    )


def _table(panel: Panel) -> Any:
    order = {name: number for number, name in enumerate(panel.only)}
    return (
        table.Panel()
        .show_header(True)
        .with_transformation(_transformation("filterFieldsByName", include={"names": list(panel.only)}))
        .with_transformation(_transformation("organize", indexByName=order))
    )


def _transformation(name: str, **options: Any) -> models.DataTransformerConfig:
    return models.DataTransformerConfig(id_val=name, options=options)


def _heat(panel: Panel) -> Any:
    made = heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(panel.unit))
    made = made.color(heatmap.HeatmapColorOptions().mode("scheme").scheme("Oranges").steps(64))
    return made.show_value(shapes.VisibilityMode.NEVER)


def _states(_: Panel) -> Any:
    legend = common.VizLegendOptions().show_legend(True).display_mode(shapes.LegendDisplayMode.LIST)
    legend = legend.placement(shapes.LegendPlacement.BOTTOM)
    return statetimeline.Panel().legend(legend).merge_values(True).show_value(shapes.VisibilityMode.NEVER)


_KINDS: Final = {
    "stat": _stat,
    "lines": _lines,
    "stack": _lines,
    "bars": _bars,
    "table": _table,
    "heat": _heat,
    "states": _states,
}
