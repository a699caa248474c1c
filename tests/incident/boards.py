"""The queries of the committed dashboards, as Grafana would ask them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).resolve().parents[2] / "deploy/grafana/dashboards"


class Asked(NamedTuple):
    """One query of one panel."""

    board: str
    panel: str
    expr: str


def boards() -> dict[str, dict]:
    """Return uid → dashboard."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: dict) -> Iterator[dict]:
    """Yield what shows something: rows do not."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def queries(*, rate_interval: str, metric: str) -> list[Asked]:
    """Return every query, with the variables of a person who chose everything."""
    return [
        Asked(uid, panel["title"], filled(target["expr"], rate_interval=rate_interval, metric=metric))
        for uid, board in boards().items()
        for panel in panels(board)
        for target in panel["targets"]
    ]


def filled(expr: str, *, rate_interval: str, metric: str) -> str:
    """Return a query with values in place of variables."""
    values = {"$__rate_interval": rate_interval, "$job": ".+", "$loop": ".+", "$instance": ".+", "$metric": metric}
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"a variable that nobody defines: {expr}"
    return expr
