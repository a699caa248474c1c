"""What settings must agree on among themselves: each function returns the problems of one table.

They are asked only when every single setting of the table is fine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from tailrace.domain.errors import ExpressionError, SettingsError
from tailrace.domain.features import MAX_CATEGORIES
from tailrace.domain.records import Task
from tailrace.settings.durations import show_duration
from tailrace.settings.fields import Contradictions, Group, Problem

if TYPE_CHECKING:
    from tailrace.settings.tree import (
        ApiSettings,
        EventsSettings,
        FeatureSettings,
        KafkaSettings,
        LabelsSettings,
        LoopSettings,
        Settings,
        SnapshotSettings,
    )

LOOP_TOPICS: Final = (
    "predictions",
    "scored",
    "relabelled",
    "training",
    "snapshots",
    "status",
    "model-events",
    "commands",
)
"""What each loop's own topics are called after its name and a dot."""

LOOP_NAME_ALLOWED: Final = "a small letter, then small letters, digits and single underscores, at most 64 in all"
_LOOP_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")  # "__" parts the names of environment variables

MOST_BEFORE_CARET: Final = 100
"""Characters of a model's line that are shown before the place that is pointed at."""

_GroupT = TypeVar("_GroupT", bound=Group)


def agreed(group: _GroupT, problems: Iterable[Problem]) -> _GroupT:
    """Return the table if there are no problems.

    Raises:
        Contradictions: There are.
    """
    found = list(problems)
    if found:
        raise Contradictions(found)
    return group


def loop_name(name: object) -> str:
    """Return the name of a loop.

    Raises:
        ValueError: It cannot be one.
    """
    if not isinstance(name, str) or len(name) > 64 or not _LOOP_NAME.fullmatch(name):
        raise ValueError("not a loop name")
    return name


def task_of(name: object) -> Task:
    """Return the task of this name.

    Raises:
        ValueError: There is none.
    """
    return Task(str(name))


def of_kafka(kafka: KafkaSettings) -> Iterator[Problem]:
    """Yield what is wrong: SASL wants mechanism, user and password, and nothing else does; files come in pairs."""
    protocol = kafka.security_protocol
    given = {
        "sasl_mechanism": kafka.sasl_mechanism is not None,
        "username": kafka.username is not None,
        "password": kafka.password is not None,
    }
    for key, is_given in given.items():
        if protocol.startswith("SASL") and not is_given:
            yield Problem(key, "nothing", f"a value, because security_protocol is {protocol}")
        if not protocol.startswith("SASL") and is_given:
            yield Problem(key, f"a value, but security_protocol is {protocol}", "none, or a SASL protocol")
    if not protocol.endswith("SSL"):
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(kafka, key) is not None:
                yield Problem(key, f"a path, but security_protocol is {protocol}", "none, or SSL or SASL_SSL")
    if (kafka.cert_file is None) != (kafka.key_file is None):
        missing = "cert_file" if kafka.cert_file is None else "key_file"
        yield Problem(missing, "nothing", "a path: cert_file and key_file come together")


def of_api(api: ApiSettings) -> Iterator[Problem]:
    """Yield what is wrong: certificate and key come together."""
    if (api.tls_cert_file is None) != (api.tls_key_file is None):
        missing = "tls_cert_file" if api.tls_cert_file is None else "tls_key_file"
        yield Problem(missing, "nothing", "a path: tls_cert_file and tls_key_file come together")


def of_http(settings: Settings) -> Iterator[Problem]:
    """Yield what is wrong: tokens are shown to nobody on the way."""
    api = settings.api
    if settings.is_local or not api.enabled or api.tls_cert_file is not None or api.behind_tls_proxy:
        return
    allowed = (
        "a loopback address such as 127.0.0.1:8321; or api.tls_cert_file and api.tls_key_file; or "
        "api.behind_tls_proxy = true where a proxy ends TLS; or api.enabled = false, which leaves probes and metrics"
    )
    yield Problem("http", f"{settings.http}, which other machines can reach, without TLS", allowed)


def of_format(side: EventsSettings | LabelsSettings) -> Iterator[Problem]:
    """Yield what is wrong: a schema goes with Avro, and Avro with a schema."""
    if side.format == "avro" and side.schema_file is None:
        yield Problem("schema_file", "nothing", "the path of an .avsc file, because format is avro")
    if side.format == "json":
        for key in ("schema_file", "older_schema_files"):
            if getattr(side, key):
                yield Problem(key, "a schema, but format is json", 'none, or format = "avro"')


def of_snapshots(snapshots: SnapshotSettings) -> Iterator[Problem]:
    """Yield what is wrong: what tells how to reach a store fits some stores only, and a secret comes with its id."""
    fits = {
        "endpoint": ("s3", "gs", "az"),
        "region": ("s3",),
        "key_id": ("s3", "az"),
        "secret": ("s3", "az"),
        "key_file": ("gs",),
    }
    for key, schemes in fits.items():
        if getattr(snapshots, key) is not None and snapshots.scheme not in schemes:
            stores = " or ".join(f"{scheme}://" for scheme in schemes)
            yield Problem(key, f"a value, but the store is {snapshots.store}", f"none, or a store at {stores}")
    if snapshots.secret is not None and snapshots.key_id is None:
        yield Problem("key_id", "nothing", "a value, because secret has one")
    if snapshots.scheme == "s3" and snapshots.key_id is not None and snapshots.secret is None:
        yield Problem("secret", "nothing", "a value, because key_id has one: the two come together")


def of_feature(feature: FeatureSettings) -> Iterator[Problem]:
    """Yield what is wrong: options belong to some types only, and `missing` must be a value of the feature."""
    found = list(_of_options(feature))
    # What only the contract knows, e.g. that no whole number lies between the bounds.
    yield from found or (Problem("", "", problem) for problem in feature.spec("feature").problems())


def _of_options(feature: FeatureSettings) -> Iterator[Problem]:
    fits = {
        "min": ("number", "integer"),
        "max": ("number", "integer", "category"),
        "values": ("category",),
        "other": ("category",),
        "max_length": ("text", "category"),
    }
    given = [key for key in fits if getattr(feature, key) is not None and getattr(feature, key) is not False]
    misplaced = [key for key in given if feature.type not in fits[key]]
    for key in misplaced:
        yield Problem(key, f"this option beside type {feature.type}", f"only with type {' or '.join(fits[key])}")
    if feature.type == "category":
        yield from _of_category(feature)
    if feature.values and len(set(feature.values)) < len(feature.values):
        yield Problem("values", "a value that is listed twice", "each value once")
    if feature.min is not None and feature.max is not None and feature.min > feature.max:
        yield Problem("min", f"{feature.min}, above max = {feature.max}", "a number no greater than max")
    if not misplaced and feature.missing not in ("reject", "absent") and (wanted := _unfit_substitute(feature)):
        yield Problem("missing", _shown(feature.missing), f'"reject", "absent", or {wanted}')


def _of_category(feature: FeatureSettings) -> Iterator[Problem]:
    count = feature.max
    if not feature.values and count is None:
        yield Problem("values", "nothing", "the list of its values, at least one, or max, how many to know at most")
    if count is not None and (feature.values or feature.other):
        yield Problem("max", "a count beside values or other", "either a list of values, or max for an open category")
    if count is not None and not (isinstance(count, int) and 1 <= count <= MAX_CATEGORIES):
        yield Problem("max", f"{count}", f"a whole number from 1 to {MAX_CATEGORIES}")
    if feature.values and feature.max_length is not None:
        yield Problem("max_length", "this option beside values", "only without them, with max")


def _unfit_substitute(feature: FeatureSettings) -> str:
    """Say what a substitute must be if this one is not; "" if it is fine."""
    value = feature.missing
    if feature.type == "boolean":
        return "" if isinstance(value, bool) else "true or false"
    if feature.type in {"category", "text"}:
        if not isinstance(value, str):
            return "text"
        if feature.values is not None and value not in feature.values and not feature.other:
            return "one of its values"
        return (
            f"at most {feature.max_length} characters" if feature.max_length and len(value) > feature.max_length else ""
        )
    if isinstance(value, bool | str) or (feature.type == "integer" and not isinstance(value, int)):
        return "a whole number" if feature.type == "integer" else "a number"
    if feature.min is not None and value < feature.min:
        return "a number no smaller than min"
    return "a number no greater than max" if feature.max is not None and value > feature.max else ""


def of_loop(loop: LoopSettings) -> Iterator[Problem]:
    """Yield what is wrong with the times, targets and features of a loop."""
    if loop.disorder > loop.horizon:
        yield Problem(
            "disorder",
            show_duration(loop.disorder),
            f"no longer than the horizon, {show_duration(loop.horizon)}; lengthen the horizon or shorten disorder",
        )
    yield from _of_features(loop)
    yield from _of_fields(loop)
    targets = list(_of_targets(loop))
    yield from targets
    if not targets:
        yield from _of_implicit_target(loop)


def _of_features(loop: LoopSettings) -> Iterator[Problem]:
    if not loop.features:
        yield Problem("features", "no feature", "at least one; `tailrace init` writes them from a sample of events")
    for name in loop.features:
        if not all(name.split(".")):
            yield Problem(f"features.{name}", "a name with an empty part", "a field name, or names with dots between")
    for key in ("id", "time"):
        name = getattr(loop.events, key)
        if name is not None and name in loop.features:
            yield Problem(f"features.{name}", f"the {key} of the event as a feature", "only what describes the event")


def _of_fields(loop: LoopSettings) -> Iterator[Problem]:
    if loop.events.id == loop.events.time:
        yield Problem("events.time", f"the field {_shown(loop.events.id)}, which is the id", "another field, or none")
    if loop.labels.target in {loop.labels.id, loop.labels.time}:
        yield Problem("labels.target", "the id or the time of the label", "the field that holds the outcome")
    for key in ("revision", "source"):
        if getattr(loop.labels, key) in {loop.labels.id, loop.labels.target}:
            yield Problem(f"labels.{key}", "the id or the target of the label", "a field of its own, or none")
    if loop.labels.id == loop.labels.time:
        yield Problem("labels.time", f"the field {_shown(loop.labels.id)}, which is the id", "another field, or none")


def _of_targets(loop: LoopSettings) -> Iterator[Problem]:
    labels, task = loop.labels, loop.task
    if not task.has_two_targets:
        for key in ("positive", "negative"):
            if getattr(labels, key) is not None:
                yield Problem(f"labels.{key}", "a value", f"none: the task is {task}; only binary and anomaly have it")
    if task is not Task.MULTICLASS and labels.classes is not None:
        yield Problem("labels.classes", "a list", f"none: the task is {task}; only multiclass has classes")
    if task.has_two_targets and labels.positive is None and labels.negative is not None:
        yield Problem("labels.positive", "nothing", "a value, because labels.negative has one")
    if task.has_two_targets and labels.positive is not None and labels.positive == labels.negative:
        yield Problem("labels.negative", "the same value as labels.positive", "another value")
    if task is Task.MULTICLASS:
        yield from _of_classes(labels.classes)


def _of_classes(classes: tuple[str | int | bool, ...] | None) -> Iterator[Problem]:
    if classes is None or len(classes) < 2:
        found = "nothing" if classes is None else f"{len(classes)} classes"
        yield Problem("labels.classes", found, "a list of at least two classes")
        return
    if len({type(value) for value in classes}) > 1:
        yield Problem("labels.classes", "values of several types", "only text, or only whole numbers")
    if len({str(value) for value in classes}) < len(classes):
        yield Problem("labels.classes", "a class that is listed twice", "each class once")


def _of_implicit_target(loop: LoopSettings) -> Iterator[Problem]:
    if loop.missing != "drop" and loop.implicit_y is None:
        yield Problem("missing", _shown(loop.missing), f'"drop", or {_targets_in_words(loop)}')


def _targets_in_words(loop: LoopSettings) -> str:
    labels = loop.labels
    if loop.task is Task.REGRESSION:
        return "a finite number"
    if loop.task is Task.MULTICLASS:
        return "one of labels.classes, written in the same way"
    if labels.positive is None:
        return "true or false"
    if labels.negative is None:
        return f"a target of the same type as labels.positive, {_shown(labels.positive)}"
    return f"{_shown(labels.positive)} or {_shown(labels.negative)}"


def of_model(loop: LoopSettings, check_model: Callable[[str, bool, Task], None] | None) -> Iterator[Problem]:
    """Ask `check_model`, if there is one, whether the champion can run; a refused part is pointed at."""
    champion = loop.champion
    try:
        if check_model is not None:
            check_model(champion.model, champion.experimental, loop.task)
    except ExpressionError as error:
        yield Problem("champion.model", "", f"{error}{_pointer(champion.model, error.column)}")
    except SettingsError as error:
        for problem in error.problems:
            yield Problem("champion.model", "", problem)


def _pointer(expression: str, column: int) -> str:
    """Return the line of the expression that the column lies in, and a caret below it; "" for the very beginning.

    Refusals of the model as a whole are at 0, where a caret would point at a part that is not to blame.
    """
    if column <= 0:
        return ""
    start = expression.rfind("\n", 0, column) + 1
    text = expression[start:].partition("\n")[0]
    cut = max(0, column - start - MOST_BEFORE_CARET)
    shown = ("…" if cut else "") + text[cut : cut + MOST_BEFORE_CARET + 40]
    return f"\n    {shown}\n    {' ' * (column - start - cut + bool(cut))}^"


def of_topics(settings: Settings) -> Iterator[Problem]:
    """Yield topics that are one, or are one to Kafka, which cannot tell "." and "_" apart in its own names."""
    if not settings.loops:
        yield Problem("loops", "no loop", "at least one table [loops.NAME]; `tailrace init` writes one")
    taken: dict[str, tuple[str, str]] = {}
    inputs: dict[str, str] = {}
    for name in settings.loops:
        for suffix in LOOP_TOPICS:
            taken[_blurred(f"{name}.{suffix}")] = (f"{name}.{suffix}", f"a topic of the loop {name} itself")
    for name, loop in settings.loops.items():
        for side, topic in (("events", loop.events.topic), ("labels", loop.labels.topic)):
            key = f"loops.{name}.{side}.topic"
            clash = taken.get(_blurred(topic)) or _other_spelling(topic, inputs)
            if clash:
                yield Problem(key, _shown(topic), f"another topic: {_shown(clash[0])} is {clash[1]}")
            inputs.setdefault(topic, key)
        if loop.events.topic == loop.labels.topic:
            yield Problem(f"loops.{name}.labels.topic", "the topic of the events", "a topic of its own")
    for topic, key in inputs.items():
        clash = taken.get(_blurred(f"{topic}.dlq")) or _same_or_blurred(f"{topic}.dlq", inputs)
        if clash:
            yield Problem(key, _shown(topic), f"a topic whose dead letters, {topic}.dlq, do not meet {clash[1]}")


def _blurred(topic: str) -> str:
    return topic.replace(".", "_")


def _other_spelling(topic: str, inputs: dict[str, str]) -> tuple[str, str] | None:
    return None if topic in inputs else _same_or_blurred(topic, inputs)


def _same_or_blurred(topic: str, inputs: dict[str, str]) -> tuple[str, str] | None:
    return next(((other, key) for other, key in inputs.items() if _blurred(other) == _blurred(topic)), None)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
