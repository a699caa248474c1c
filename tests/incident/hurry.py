"""The committed rules, with minutes made seconds, so that an incident can be played while somebody waits.

Nothing else of a rule is changed: names, labels, metrics and the shape of every expression are those that run.
"""

from __future__ import annotations

import re
from typing import Final

WINDOWS: Final = {"5m": "12s", "15m": "14s", "30m": "16s", "1h": "18s", "6h": "20s", "7d": "40s"}
"""What is looked back over."""

PATIENCE: Final = {"2m": "1s", "5m": "2s", "10m": "2s", "15m": "2s", "30m": "3s", "1h": "3s"}
"""How long something must last before it is told, and is still told afterwards."""

LIMITS: Final = {
    "TailraceScoringStalled": ("> 60", "> 3"),
    "TailraceJoiningStalled": ("> 60", "> 3"),
    "TailraceLearningStalled": ("> 60", "> 3"),
    "TailraceFollowingStalled": ("> 60", "> 3"),
    "TailraceLagHigh": ("> 300", "> 3"),
    "TailraceScoringHindered": ("> 30", "> 2"),
    "TailraceSnapshotLate": (", 60)", ", 5)"),
    "TailraceDrift": ("< 600", "< 10"),
    "TailraceLabelToInfluenceSlow": ("> 10", "> 2"),
}
"""Alert → a limit in seconds as it is written, and as it is here."""


def hurried(rules: str) -> str:
    """Return the text of a file of rules with all of its times shortened.

    Raises:
        KeyError: A rule uses a duration that the tables above do not know.
    """
    rules = re.sub(r"\[(\d+[smhd])\]", lambda found: f"[{WINDOWS[found[1]]}]", rules)
    rules = re.sub(r"offset (\d+[smhd])", lambda found: f"offset {WINDOWS[found[1]]}", rules)
    rules = re.sub(r"(for|keep_firing_for): (\d+[smhd])", lambda found: f"{found[1]}: {PATIENCE[found[2]]}", rules)
    parts = re.split(r"(?=^      - alert: )", rules, flags=re.MULTILINE)
    return "".join(map(_limited, parts))


def _limited(part: str) -> str:
    name = re.match(r"      - alert: (\w+)", part)
    if name is None or name[1] not in LIMITS:
        return part
    written, shortened = LIMITS[name[1]]
    assert written in part, f"{name[1]} has no limit {written!r} any more; mend LIMITS"
    return part.replace(written, shortened, 1)
