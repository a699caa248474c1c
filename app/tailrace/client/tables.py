"""Predictions and quality as tables and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from tailrace.client.connection import Plain
from tailrace.domain.errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class Predictions(Sequence[Plain]):
    """Predictions as they stand on the topic, the newest first."""

    def __init__(self, rows: Sequence[Plain]) -> None:
        self._rows = rows

    @overload
    def __getitem__(self, index: int) -> Plain: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Plain]: ...
    def __getitem__(self, index: int | slice) -> Plain | Sequence[Plain]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Plain]:
        return iter(self._rows)

    def to_pandas(self) -> DataFrame:
        """Return a row per prediction, in the order of event time; `proba` of several classes has a column each.

        Raises:
            SettingsError: pandas is not installed.
        """
        pandas = _pandas()
        frame = pandas.DataFrame([_flat(row) for row in reversed(self._rows)])
        if frame.empty:
            return frame
        frame["event_time"] = pandas.to_datetime(frame["event_time"], utc=True, format="ISO8601")
        return frame.sort_values("event_time", kind="stable").reset_index(drop=True)


class Quality(Sequence[Plain]):
    """Quality of the served predictions over time, oldest first."""

    def __init__(self, model: str, points: Sequence[Plain]) -> None:
        self.model = model
        self._points = points

    @overload
    def __getitem__(self, index: int) -> Plain: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Plain]: ...
    def __getitem__(self, index: int | slice) -> Plain | Sequence[Plain]:
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Plain]:
        return iter(self._points)

    def to_pandas(self) -> DataFrame:
        """Return a row per moment, metric and window: value, samples, and a column per baseline.

        Raises:
            SettingsError: pandas is not installed.
        """
        pandas = _pandas()
        rows = [
            {"time": point["time"], **{name: each[name] for name in ("metric", "window", "value", "samples")}}
            | {f"baseline_{name}": value for name, value in each["baselines"].items()}
            for point in self._points
            for each in point["quality"]
        ]
        frame = pandas.DataFrame(rows, columns=None if rows else ["time", "metric", "window", "value", "samples"])
        frame["time"] = pandas.to_datetime(frame["time"], utc=True, format="ISO8601")
        return frame

    def plot(self, metric: str = "accuracy", window: str = "rolling", ax: Axes | None = None) -> Axes:
        """Draw one metric over time beside its baselines, and return the axes.

        Raises:
            SettingsError: matplotlib or pandas is not installed, or there is no such metric.
        """
        frame = self.to_pandas()
        chosen = frame[(frame["metric"] == metric) & (frame["window"] == window)].dropna(axis="columns", how="all")
        if chosen.empty or "value" not in chosen:
            known = ", ".join(sorted({f"{row.metric} ({row.window})" for row in frame.itertuples()})) or "none yet"
            raise SettingsError([f"found no values of {metric} ({window}); there are: {known}"])
        axes = _axes() if ax is None else ax
        axes.plot(chosen["time"], chosen["value"], label=metric)
        for name in [each for each in chosen.columns if each.startswith("baseline_")]:
            axes.plot(chosen["time"], chosen[name], label=name.removeprefix("baseline_"), linestyle="--", linewidth=1)
        axes.set_title(f"{self.model}: {metric} ({window}), {int(chosen['samples'].iloc[-1]):,} labels")
        axes.set_xlabel("time")
        axes.figure.autofmt_xdate()
        axes.legend(frameon=False)
        return axes


def _flat(row: Plain) -> Plain:
    proba = row.get("proba")
    if not isinstance(proba, dict):
        return row
    return {name: value for name, value in row.items() if name != "proba"} | {
        f"proba_{name}": value for name, value in proba.items()
    }


def _pandas() -> Any:
    try:
        import pandas as found  # noqa: PLC0415, ICN001 - an extra
    except ImportError as cause:
        raise SettingsError(
            ["to_pandas needs pandas, which is not installed; install Tailrace with its extra `client`"]
        ) from cause
    return found


def _axes() -> Any:
    try:
        from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra
    except ImportError as cause:
        raise SettingsError(
            ["plot needs matplotlib, which is not installed; install Tailrace with its extra `client`"]
        ) from cause
    return plt.subplots()[1]
