"""The table of faults, `benchmarks/faults.md`."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BOUNDS_S = {"2s": 4.0, "10s": 15.0}
"""Session timeout → what the 99th percentile of all recoveries after a kill may take."""

HEAD = """# Faults

What breaks, on real Apache Kafka, and what became of the events, the labels and the model. Written by
`make faults SIZE={size}`; each row says how often the fault happened and how many accepted events the checks covered.

*lost*: events and labels without an outcome. *twice*: identities that were learned twice; both empty where other checks
than these were made. *recovery*: from the fault,
or from its end where it ends by itself, to the first new prediction of every partition (a killed joiner: to its
successor's first block; a killed learner: to its successor's first snapshot). *during*: the fewest predictions that
came during one fault, where there were some.

"""
COLUMNS = ("fault", "", "times", "events", "lost", "twice", "recovery p50 / p99 s", "during", "seconds", "")


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of all do not exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def p99(found: Sequence[dict[str, Any]], kind: str) -> float | None:
    """Return the 99th percentile of the recoveries of a kind, over all faults."""
    return percentile([s for each in found for s in each.get("recoveries_s", {}).get(kind, [])], 0.99)


def too_slow(each: dict[str, Any]) -> str:
    """Say which recovery of a fault took longer than its bound; "" when none did."""
    for kind, bound_s in BOUNDS_S.items():
        slowest_s = max(each.get("recoveries_s", {}).get(kind, []), default=0.0)
        if slowest_s > bound_s:
            return f"a recovery ({kind}) took {slowest_s:.1f} s, at most {bound_s:.0f} s"
    return ""


def write_table(
    path: Path, found: Sequence[dict[str, Any]], size: str, seed: int, seconds: float, kept: int = 0
) -> None:
    """Write the table of what the faults came to, of which `kept` are of an earlier run."""
    lines = [
        HEAD.format(size=size),
        _row(COLUMNS),
        _row(["---"] * len(COLUMNS)),
        *(_row(_cells(each)) for each in found),
    ]
    lines.append("")
    for kind, bound_s in BOUNDS_S.items():
        times = [s for each in found for s in each.get("recoveries_s", {}).get(kind, [])]
        if times:
            before = [s for each in found for s in each.get("recoveries_before_s", {}).get(kind, [])]
            also = (
                f"; with the {len(before)} of attempts that were made again {percentile([*times, *before], 0.99):.1f} s"
            )
            lines.append(
                f"Recovery over all {len(times)} kills that were timed, with a session timeout of {kind}: p50 {percentile(times, 0.5):.1f} s, "
                f"p99 {percentile(times, 0.99):.1f} s (at most {bound_s:.0f} s){also if before else ''}.\n"
            )
    notes = [f"- {each['number']}: {' '.join(note.split())}" for each in found for note in each.get("notes", [])]
    lines += ["Measured besides:\n", *notes, ""] if notes else []
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    took = f"{seconds / 60:.0f} minutes" + (f" for {len(found) - kept} of them, the others before" if kept else "")
    lines.append(f"{now} UTC, seed {seed}, {took}, {machine}.\n")
    path.write_text("\n".join(lines).replace("\n\n\n", "\n\n"))


def _cells(each: dict[str, Any]) -> list[str]:
    before = f"; before: {each['before']}" if each.get("before") else ""
    if each["failure"]:
        word = f"**failed**: {each['failure']}{before}"
        return [each["number"], each["title"], *[""] * 6, f"{each['seconds']:.0f}", word]
    recoveries = [
        f"{percentile(times, 0.5):.1f} / {percentile(times, 0.99):.1f}" + ("" if kind == "heal" else f" ({kind})")
        for kind, times in each["recoveries_s"].items()
    ]
    during = str(min(each["predictions"])) if each["predictions"] else ""
    counts = ["" if each[name] is None else f"{each[name]:,}" for name in ("times", "events", "lost", "twice")]
    word = f"**skipped**: {each['skipped']}" if each["skipped"] else "passed"
    word += f" at the second try, alone{before}{_then(each)}" if before else ""
    word += f", anew after a mend; before it: {each['mended']}" if each.get("mended") else ""
    return [each["number"], each["title"], *counts, ", ".join(recoveries), during, f"{each['seconds']:.0f}", word]


def _then(each: dict[str, Any]) -> str:
    """Say how long the slowest recovery took that has a bound, beside what it took before."""
    times = {kind: max(each["recoveries_s"].get(kind, []), default=0.0) for kind in BOUNDS_S}
    return "".join(f"; then at most {slowest_s:.1f} s ({kind})" for kind, slowest_s in times.items() if slowest_s)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
