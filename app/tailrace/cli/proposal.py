"""From samples of events and labels to a configuration as text, every guess marked as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tailrace.cli import toml_text
from tailrace.cli.guessing import TargetGuess, TimeGuess, guess_times, is_category
from tailrace.cli.sampling import Profile, Sample
from tailrace.domain.records import Task

GUESS: Final = "GUESS"

_OUTCOME_WORDS: Final = frozenset({"target", "label", "outcome", "verdict", "truth", "y"})

_LEARNERS: Final[dict[Task, tuple[str, ...]]] = {
    Task.BINARY: ("LogisticRegression()",),
    Task.MULTICLASS: ("SoftmaxRegression()", "HoeffdingTreeClassifier()"),
    Task.REGRESSION: ("LinearRegression()",),
    Task.ANOMALY: ("OneClassSVM()",),
}

_NUMERIC: Final = {"number": "float", "boolean": "bool"}


@dataclass(frozen=True, slots=True)
class Side:
    """One input as it goes into the configuration.

    Attributes:
        sample: None where nothing was there to look at.
    """

    topic: str
    id: str
    time: TimeGuess | None
    sample: Sample | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Everything that the configuration says."""

    log: str
    loop: str
    events: Side
    labels: Side
    target: TargetGuess
    features: list[Feature]
    left_out: list[LeftOut]
    model: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One line of the contract.

    Attributes:
        type: Of the contract.
        setting: What stands behind the `=`.
        comment: What the sample showed.
    """

    name: str
    type: str
    setting: str | dict[str, Any]
    comment: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A field that is no feature, or only if somebody says so.

    Attributes:
        type: What it would be; "" where no type fits.
    """

    name: str
    type: str
    reason: str


def features_of(sample: Sample, taken: set[str], target: str) -> tuple[list[Feature], list[LeftOut]]:
    """Sort the fields of events into features and fields that are left out.

    Args:
        taken: Fields that are the id or the time.
    """
    times = {guess.name for guess in guess_times(sample)}
    features: list[Feature] = []
    left_out: list[LeftOut] = []
    for name, profile in sorted(sample.profiles.items()):
        if name in taken:
            continue
        reason = _reason_against(profile, times, target)
        if reason:
            left_out.append(LeftOut(name, _TYPES.get(profile.kind or "", ""), reason))
        else:
            features.append(_feature(profile))
    return features, left_out


_TYPES: Final = {"number": "number", "boolean": "boolean", "text": "text"}


def _reason_against(profile: Profile, times: set[str], target: str) -> str:
    return _unusable(profile) or _unwise(profile, times, target)


def _unusable(profile: Profile) -> str:
    """Say why no type of the contract fits; "" if one does."""
    if not all(profile.name.split(".")):
        return "its name has an empty part"
    if not profile.present:
        return "always null"
    if profile.kind is None:
        return "values of several kinds: " + ", ".join(sorted(profile.kinds))
    return {"list": "lists are no features", "other": "values that no type can hold"}.get(profile.kind, "")


def _unwise(profile: Profile, times: set[str], target: str) -> str:
    """Say why a model had better not see the field; "" if it may."""
    name = profile.name.lower().rpartition(".")[2]
    if profile.name in times:
        return "a time; say what matters about it (hour, weekday) in a field of its own"
    if profile.name == target or name in _OUTCOME_WORDS:
        return "named like the outcome; a model that sees it learns nothing else"
    if name in {"id", "uuid"} or name.endswith(("_id", "_uuid")):
        return "named like an id"
    if profile.kind == "text" and not is_category(profile):
        return f"{len(profile.values)} different texts; needs a model that reads text"
    return ""


def _feature(profile: Profile) -> Feature:
    kind, options = _type_of(profile)
    if profile.missing_share:
        options["missing"] = "absent"
    setting = {"type": kind, **options} if options else kind
    return Feature(profile.name, kind, setting, f"{_range(profile)}; {_presence(profile)}")


def _type_of(profile: Profile) -> tuple[str, dict[str, Any]]:
    if profile.kind == "text":
        return "category", {"values": sorted(profile.distinct), "other": True}
    return ("boolean" if profile.kind == "boolean" else "number"), {}


def _range(profile: Profile) -> str:
    values = profile.distinct
    if profile.kind == "number":
        low, high = min(values), max(values)
        seen = f"always {low:g}" if low == high else f"seen {low:g} to {high:g}"
        return f"{seen}, only whole numbers" if profile.is_whole else seen
    if profile.kind == "boolean":
        return "true and false seen" if len(values) == 2 else f"always {'true' if values[0] else 'false'}"
    return f"{len(values)} values seen" if len(values) > 1 else "one value seen"


def _presence(profile: Profile) -> str:
    if not profile.missing_share:
        return "never missing"
    return f"missing in {max(profile.missing_share, 0.001):.1%}"


def model_for(task: Task, features: list[Feature], is_accepted: Callable[[str], bool]) -> str:
    """Return a first model that fits task and types; the last candidate if none is accepted."""
    candidates = [f"{_preparation(features)} | {learner}" for learner in _LEARNERS[task]]
    if task is Task.ANOMALY and (numeric := _numeric(features)):
        # Half-space trees know the features of their first example alone, which one-hot columns are not.
        others = {feature.type for feature in features} - _NUMERIC.keys()
        chosen = f"SelectType({', '.join(numeric)}) | " if others else ""
        candidates.insert(0, f"{chosen}MinMaxScaler() | HalfSpaceTrees(seed=1)")
    return next(filter(is_accepted, candidates), candidates[-1])


def _preparation(features: list[Feature]) -> str:
    numeric = _numeric(features)
    if not any(feature.type == "category" for feature in features):
        return "StandardScaler()"
    if not numeric:
        return "OneHotEncoder()"
    return f"(SelectType(str) | OneHotEncoder()) + (SelectType({', '.join(numeric)}) | StandardScaler())"


def _numeric(features: list[Feature]) -> list[str]:
    types = {feature.type for feature in features}
    return [name for type_, name in _NUMERIC.items() if type_ in types]


def text_of(proposal: Proposal) -> str:
    """Return the configuration as text."""
    return "\n".join(_lines(proposal)) + "\n"


def _lines(proposal: Proposal) -> Iterator[str]:
    events = proposal.events
    assert events.sample is not None, "a proposal is made from events"
    loop = f"loops.{toml_text.key(proposal.loop)}"
    yield f"# Written by `tailrace init` from {len(events.sample.records)} records of {_named(events.sample)}."
    yield f"# A line marked {GUESS} is one: read it before you run. `tailrace check` tells whether all fits together."
    yield ""
    yield toml_text.line("log", proposal.log, "or " + _other_log(proposal.log))
    yield ""
    yield f"[{loop}]"
    yield toml_text.line("task", proposal.target.task.value, _why_task(proposal.target))
    yield f"# {GUESS}: {toml_text.value(events.id)} is the id of an event{_why_id(events)}; {_why_time(events)}."
    yield toml_text.line("events", _events_table(events))
    yield f"# {GUESS}: {_why_labels(proposal)}"
    yield toml_text.line("labels", _labels_table(proposal))
    yield toml_text.line("horizon", "1h", f"{GUESS}: how long an event waits for its label")
    yield toml_text.line("missing", "drop", "without a label by then: nothing; or a target, as for clicks")
    yield ""
    yield f"[{loop}.features]"
    yield "# An event outside of these types and values is not scored but put aside, into the dead-letter topic."
    yield '# Bounds make it stricter: { type = "number", min = 0, max = 100 }. Without `missing` a feature is required.'
    for feature in proposal.features:
        yield toml_text.line(feature.name, feature.setting, feature.comment)
    yield from _left_out_lines(proposal.left_out)
    yield ""
    yield f"[{loop}.champion]"
    yield f"# {GUESS}: a plain start that most data can do with."
    yield toml_text.line("model", proposal.model)
    yield ""
    yield "[snapshots]"
    yield toml_text.line("every", "30s")
    yield toml_text.line("store", "file:./snapshots", "relative to this file")


def _left_out_lines(left_out: list[LeftOut]) -> Iterator[str]:
    if left_out:
        yield "# Left out:"
    for field in left_out:
        as_setting = f" = {toml_text.value(field.type)}" if field.type else ""
        yield toml_text.behind(f"# {toml_text.key(field.name)}{as_setting}", field.reason)


def _named(sample: Sample) -> str:
    return toml_text.value(sample.source)


def _other_log(log: str) -> str:
    return '"embedded:./data", without Kafka' if log.startswith("kafka:") else '"kafka://localhost:9092"'


def _why_id(side: Side) -> str:
    profile = None if side.sample is None else side.sample.profiles.get(side.id)
    if profile is None:
        return ""
    return ", different in every record" if profile.is_unique else f", {len(profile.values)} different ones seen"


def _why_time(side: Side) -> str:
    if side.time is None:
        return "no field looks like its time, so the Kafka timestamp counts"
    how = "RFC 3339" if side.time.is_text else f"since 1970, in {side.time.unit}"
    return f"{toml_text.value(side.time.name)} is its time ({how})"


def _why_task(target: TargetGuess) -> str:
    seen = "" if target.is_seen else "; no labels were looked at"
    return f"{GUESS}: binary, multiclass, regression or anomaly{seen}"


def _why_labels(proposal: Proposal) -> str:
    labels = proposal.labels
    if labels.sample is None:
        return "all of it; no labels were looked at (--labels FILE_OR_TOPIC looks at them)."
    target = f"{toml_text.value(proposal.target.name)} is the outcome"
    if proposal.target.positive is not None:
        target += f", {toml_text.value(proposal.target.positive)} the positive one"
    return f"{toml_text.value(labels.id)} is the id of the event, {target}; {_why_time(labels)}."


def _events_table(side: Side) -> dict[str, Any]:
    return {"topic": side.topic, "id": side.id, **_time_table(side.time)}


def _labels_table(proposal: Proposal) -> dict[str, Any]:
    labels, target = proposal.labels, proposal.target
    return {
        "topic": labels.topic,
        "id": labels.id,
        "target": target.name,
        **_time_table(labels.time),
        "positive": target.positive,
        "classes": None if target.classes is None else list(target.classes),
    }


def _time_table(time: TimeGuess | None) -> dict[str, Any]:
    if time is None:
        return {}
    return {"time": time.name} if time.is_text or time.unit == "ms" else {"time": time.name, "time_unit": time.unit}
