"""Guesses about a sample: which field is the id, which the time, which the target, what type a feature has.

Every guess is told as one in the configuration that `tailrace init` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tailrace.cli.sampling import Profile, Sample
from tailrace.domain.records import Task
from tailrace.domain.times import TimeUnit, time_of

MOST_CATEGORIES: Final = 30
MOST_CLASSES: Final = 20

_ID_WORDS: Final = ("event_id", "id", "uuid", "key", "request_id", "transaction_id", "order_id")
_TIME_WORDS: Final = frozenset(
    {"time", "timestamp", "ts", "at", "date", "datetime", "when", "created", "occurred", "seen", "ms"}
)
_TARGET_WORDS: Final = ("target", "label", "y", "outcome", "verdict", "class", "result", "truth", "answer", "value")
_POSITIVE_WORDS: Final = frozenset(
    {"1", "yes", "y", "true", "positive", "pos", "fraud", "phishing", "spam", "click", "clicked", "churn", "churned"}
    | {"bought", "defect", "anomaly", "failure", "bad", "malicious", "sick"}
)
_ANOMALY_WORDS: Final = frozenset({"anomaly", "anomalous", "outlier"})

_UNITS: Final[tuple[TimeUnit, ...]] = ("s", "ms", "us", "ns")
_EARLIEST_MS: Final = 946_684_800_000  # 2000-01-01
_LATEST_MS: Final = 4_102_444_800_000  # 2100-01-01


@dataclass(frozen=True, slots=True)
class TimeGuess:
    """A field that looks like a time.

    Attributes:
        is_text: RFC 3339 text; the unit is then of no meaning.
    """

    name: str
    unit: TimeUnit
    is_text: bool


@dataclass(frozen=True, slots=True)
class TargetGuess:
    """What the labels seem to say.

    Attributes:
        positive, classes: As in the configuration; None where the task has none.
        is_seen: Whether a sample of labels was there to look at.
    """

    name: str
    task: Task
    positive: str | int | None = None
    classes: tuple[str | int, ...] | None = None
    is_seen: bool = True


def guess_id(sample: Sample, partner: Sample | None = None) -> str | None:
    """Return the field that names a record: there in all, text or whole numbers, best never twice the same.

    Args:
        partner: The other side of the join; a field whose values are found there is preferred.
    """
    usable = [
        profile
        for profile in sample.profiles.values()
        if profile.present == profile.total and (profile.kind == "text" or profile.is_whole)
    ]
    scored = [(_id_score(profile, partner), -index, profile.name) for index, profile in enumerate(usable)]
    best = max(scored, default=None)
    return best[2] if best is not None and best[0] > 0 else None


def _id_score(profile: Profile, partner: Sample | None) -> float:
    name = profile.name.lower()
    is_named = name in _ID_WORDS or name.endswith(("_id", "id", "uuid", "_key"))
    score = (2.0 if profile.is_unique else 0.0) + (2.0 if is_named else 0.0) + (0.5 if name in _ID_WORDS else 0.0)
    if _all_times(profile) is not None:
        return 0.0
    if not profile.is_unique and len(profile.values) * 2 < profile.total:
        return 0.0
    if partner is not None:
        mine = {str(value) for value in profile.distinct}
        shared = [len(mine & {str(value) for value in other.distinct}) for other in partner.profiles.values()]
        score += 4.0 * max(shared, default=0) / max(1, len(mine))
    return score


def guess_partner_id(sample: Sample, name: str, values: Iterable[object]) -> str | None:
    """Return the field that holds the ids of the other side: the one with most of these values, else of this name."""
    known = {str(value) for value in values}
    usable = [profile for profile in sample.profiles.values() if profile.kind == "text" or profile.is_whole]
    shared = [(len(known & {str(value) for value in profile.distinct}), profile.name) for profile in usable]
    count, best = max(shared, key=lambda item: (item[0], item[1] == name), default=(0, name))
    if count > 0:
        return best
    return name if name in sample.profiles else guess_id(sample)


def guess_times(sample: Sample) -> list[TimeGuess]:
    """Return the fields that look like times; those that are in every record first, in order of appearance."""
    always = [profile for profile in sample.profiles.values() if profile.present == profile.total]
    sometimes = [profile for profile in sample.profiles.values() if 0 < profile.present < profile.total]
    return [guess for profile in (*always, *sometimes) if (guess := _all_times(profile)) is not None]


def _all_times(profile: Profile) -> TimeGuess | None:
    values = profile.distinct
    if profile.kind == "text":
        is_time = bool(values) and all(time_of(value, "ms") is not None for value in values)
        return TimeGuess(profile.name, "ms", is_text=True) if is_time else None
    if profile.kind == "number" and _TIME_WORDS & set(_words(profile.name)):
        unit = next((unit for unit in _UNITS if _all_plausible(values, unit)), None)
        return TimeGuess(profile.name, unit, is_text=False) if unit is not None else None
    return None


def _all_plausible(values: Sequence[object], unit: TimeUnit) -> bool:
    times = [time_of(value, unit) for value in values]
    return all(time is not None and _EARLIEST_MS <= time <= _LATEST_MS for time in times)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def guess_target(sample: Sample, known: Iterable[str]) -> TargetGuess | None:
    """Return the field of a label that holds the outcome, and the task that its values suggest.

    Args:
        known: Fields that are the id or a time.
    """
    taken = set(known)
    usable = [
        profile
        for profile in sample.profiles.values()
        if profile.name not in taken and profile.kind in {"number", "boolean", "text"}
    ]
    named = [profile for word in _TARGET_WORDS for profile in usable if word in _words(profile.name)]
    few = [profile for profile in usable if len(profile.values) <= MOST_CLASSES]
    for profile in (*named, *few, *usable):
        guess = _target_of(profile)
        if guess is not None:
            return guess
    return None


def _target_of(profile: Profile) -> TargetGuess | None:
    values = profile.distinct
    two_sided = Task.ANOMALY if _ANOMALY_WORDS & set(_words(profile.name)) else Task.BINARY
    if profile.kind == "boolean":
        return TargetGuess(profile.name, two_sided)
    if profile.kind == "number" and (not profile.is_whole or len(values) > MOST_CLASSES):
        return TargetGuess(profile.name, Task.REGRESSION)
    if len(values) <= 2:
        named = [value for value in values if str(value).lower() in _POSITIVE_WORDS]
        return TargetGuess(profile.name, two_sided, positive=(named or values[-1:])[0])
    if len(values) <= MOST_CLASSES:
        return TargetGuess(profile.name, Task.MULTICLASS, classes=tuple(sorted(values)))
    return None


def is_category(profile: Profile) -> bool:
    """Tell whether text looks like one of few values: few, and seen again and again."""
    count = len(profile.values)
    return profile.kind == "text" and count <= MOST_CATEGORIES and count * 3 <= max(profile.present, 6)
