"""What a worker tells, and books, with plain defaults: override what the test is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tailrace.demo.glance import CourseState, Glance, Judged
from tailrace.demo.summary import Summary
from tailrace.domain.books import Balance, Books
from tailrace.domain.status import MemberStatus, ModelStatus, Quality, Quantiles, SnapshotStatus


def make_member(counters: Mapping[str, int] | None = None, **changes: Any) -> MemberStatus:
    values: dict[str, Any] = {
        "member": "member-1",
        "loop": "phishing",
        "version": "0",
        "time_ms": 10_000,
        "started_ms": 0,
        "counters": counters or {"events_scored": 100, "event_joins_joined": 80},
        "model": ModelStatus("champion", "lineage", 0, 80),
        "quality": (Quality("accuracy", "all", 0.9, 80, {"no_change": 0.5, "prior": 0.55}),),
        "snapshot": SnapshotStatus(2, 0, 7_000, 12_000, 5_000),
        "label_to_influence": Quantiles(40.0, 90.0, 80),
    }
    return MemberStatus(**{**values, **changes})


def make_course(*shares: float) -> CourseState:
    """Return a course with a hundred labels in each second, of which this share was right."""
    course, judged = CourseState(), Judged(0, 0)
    course.note(0.0, judged)
    for second, share in enumerate(shares):
        judged = Judged(judged.samples + 100, judged.hits + round(100 * share))
        course.note(second + 0.9, judged)
    return course


def make_glance(**changes: Any) -> Glance:
    values: dict[str, Any] = {
        "at_s": 12.0,
        "of_s": 25.0,
        "rate_per_s": 80.0,
        "events": 101,
        "labels": 85,
        "predictions": 100,
        "member": make_member(),
        "course": make_course(0.6, 0.8, 0.9),
        "drift_at_s": 12.5,
    }
    return Glance(**{**values, **changes})


def make_books(**lines: Mapping[str, int]) -> Books:
    """Return books; a line is its parts, and its total their sum unless `total` is among them."""
    usual: dict[str, Mapping[str, int]] = {
        "events": {"scored": 9, "rejected": 1},
        "scored": {"joined": 6, "waiting": 3},
        "labels": {"joined": 6, "duplicate": 2},
        "examples": {"learned": 6},
    }
    balances = []
    for line, parts in {**usual, **lines}.items():
        of_line = {part: count for part, count in parts.items() if part != "total"}
        balances.append(Balance(line, parts.get("total", sum(of_line.values())), of_line))
    return Books(tuple(balances), 0, ())


def make_summary(**changes: Any) -> Summary:
    values: dict[str, Any] = {
        "events": 10,
        "predictions": 9,
        "books": make_books(),
        "accuracy": 0.83333,
        "baseline": 0.5,
        "label_to_influence": Quantiles(40.0, 90.0, 6),
        "snapshots": 2,
        "first_prediction_s": 0.6543,
    }
    return Summary(**{**values, **changes})
