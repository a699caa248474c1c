"""Draws `latest.json`: CPU per event of every contender, in the order of cost. Runs in the environment `picture`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "tailrace"  # the same figures give the same bytes
import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen first

OURS, OTHERS, YARDSTICK = "#1f6f8b", "#c4c4c4", "#6b6b6b"


def main(latest: Path, picture: Path) -> None:
    found = json.loads(latest.read_text())
    runs = {name: [run["cpu_us"] for run in rounds if run] for name, rounds in found["contenders"].items()}
    order = sorted((name for name in runs if runs[name]), key=lambda name: -median(runs[name]))
    middle = [median(runs[name]) for name in order]
    spread = [
        [value - min(runs[name]) for name, value in zip(order, middle, strict=True)],
        [max(runs[name]) - value for name, value in zip(order, middle, strict=True)],
    ]
    figure, axes = plt.subplots(figsize=(9, 0.34 * len(order) + 1.2))
    axes.barh(order, middle, xerr=spread, color=[_colour(name) for name in order], ecolor="#444444", capsize=2)
    axes.set_xscale("log")
    axes.set_xlabel("CPU microseconds per event, all threads; median, minimum, maximum (logarithmic)")
    for number, value in enumerate(middle):
        axes.text(value * 1.12, number, f"{value:.1f}", va="center", fontsize=8)
    axes.set_xlim(right=max(middle) * 2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})


def _colour(name: str) -> str:
    if name.startswith("Tailrace"):
        return OURS
    return YARDSTICK if name.startswith("bare River") else OTHERS


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
