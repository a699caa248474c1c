"""`tailrace check`: is the configuration sound, and what will run. Opens no log, reads no topic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.model_check import (
    canonical_model,
    check_texts,
    cost_note,
    cost_of_model,
    model_check,
    why_not_compiled,
)
from tailrace.cli.options import ConfigFile
from tailrace.cli.schema_check import check_schemas
from tailrace.domain.access import is_this_machine
from tailrace.domain.contract import FeatureSpec
from tailrace.domain.errors import SettingsError
from tailrace.domain.records import Task
from tailrace.settings import (
    LOOP_TOPICS,
    EventsSettings,
    LabelsSettings,
    LoopSettings,
    Settings,
    find_file,
    load,
    show_duration,
    tls_problems,
)

if TYPE_CHECKING:
    from tailrace.inspection.encode_cost import EncodeCost

Costs: TypeAlias = "dict[str, EncodeCost]"
"""Loop → what its champion costs."""

GUARANTEES: Final = (
    "every event that is read ends as a prediction or as a dead letter with its reason, at least once",
    "an example is learned at most once, however often a process dies: the training log decides what counts",
    "the model's state is a fold of the training log alone; `tailrace verify` folds it again and compares",
)
_EMBEDDED: Final = "an embedded log takes one worker process; other commands may read beside it"


def register(app: App) -> None:
    """Add the command."""
    app.command(check)


def check(
    *,
    config: ConfigFile = None,
    output_format: Annotated[
        output.Format | None,
        Parameter(name=["--output", "-o"], help="json: one JSON object; table, or without it: words, in a pipe too."),
    ] = None,
) -> None:
    """Check the configuration and say what will run; prints every problem at once and ends with 3 if there is one.

    Settings come from the file and from variables named after them, which win:
    loops.phishing.horizon is TAILRACE_LOOPS__PHISHING__HORIZON; with _FILE
    behind its name a variable names a file that holds the value. Kafka is not
    asked; `tailrace doctor` does that.
    """
    try:
        settings = load(config, check_model=model_check(find_file(config).parent))
        check_schemas(settings)
        check_texts(settings)
        _check_store(settings)
    except SettingsError as error:
        if output_format == "json":
            output.json_line({"ok": False, "problems": error.problems})
        raise
    if output_format == "json":
        output.json_line({"ok": True, "file": str(find_file(config)), **_described(settings, _costs(settings))})
        return
    print(f"{find_file(config)}: no problem found")
    for line in _lines(settings, _costs(settings)):
        print(line)


def _check_store(settings: Settings) -> None:
    if settings.snapshots.folder is None:
        from tailrace.opening import open_store  # noqa: PLC0415 - loads the client of Kafka

        open_store(settings)


def notes(settings: Settings, costs: Costs) -> list[str]:
    """Return what is allowed and still worth a second look."""
    of_models = [note for name, cost in costs.items() if (note := cost_note(name, cost))]
    return [*_notes(settings), *of_models]


def _costs(settings: Settings) -> Costs:
    return {name: cost_of_model(loop, settings.folder) for name, loop in settings.loops.items()}


def _notes_on_http(settings: Settings) -> Iterator[str]:
    if not settings.is_local:
        yield f"http listens on {settings.http}, beyond this machine: its probes and metrics ask nobody who they are"
    for key in ("tls_cert_file", "tls_key_file"):
        path = getattr(settings.api, key)
        if path is not None and not path.is_file():
            yield f"api.{key} names {path}, which is no file here; `tailrace run` needs it"
    if settings.http and settings.api.enabled and not settings.is_local:
        from tailrace.stores.token_file import TokenFile  # noqa: PLC0415 - loads the library of signatures

        file = TokenFile(settings.keys.folder)
        found = file.current()
        if not found.tokens:
            why = found.problem or f"there is no token in {file.path} here"
            yield f"http listens on {settings.http}, and {why}; `tailrace run` needs one: `tailrace tokens create`"


def _notes(settings: Settings) -> Iterator[str]:
    yield from _notes_on_http(settings)
    for problem in tls_problems(settings.kafka):
        yield f"{problem}; `tailrace run` needs it"
    snapshots = settings.snapshots
    if snapshots.scheme == "s3" and snapshots.key_id is None:
        yield f"{snapshots.store} is opened with AWS_* variables or the rights of the machine: no key_id is set"
    if (snapshots.endpoint or "").startswith("http://") and not _is_here(snapshots.endpoint or ""):
        yield f"{snapshots.endpoint} is plain HTTP beyond this machine: whoever is in between reads the models"
    for name, loop in settings.loops.items():
        if loop.labels.target in loop.features:
            yield f"loops.{name}: the feature {loop.labels.target} is named like the target; is it known so early?"
        if loop.labels.time is None and loop.events.time is not None:
            yield f"loops.{name}: events have a time field and labels none: labels are dated by their Kafka timestamp"
        if loop.champion.experimental:
            yield f"loops.{name}: the model is experimental; its restores may not be exact"


def _is_here(endpoint: str) -> bool:
    return is_this_machine(urlsplit(endpoint).hostname or "")


def _described(settings: Settings, costs: Costs) -> dict[str, Any]:
    snapshots = settings.snapshots
    return {
        "log": settings.log,
        "http": settings.http or None,
        "keys": str(settings.keys.folder),
        "snapshots": {
            "store": snapshots.store,
            "every_ms": snapshots.every,
            "publish_ms": snapshots.publish,
        },
        "loops": {
            name: _described_loop(name, loop, settings.folder) | {"model_cost": asdict(costs[name])}
            for name, loop in settings.loops.items()
        },
        "guarantees": [*GUARANTEES, *([] if settings.servers else [_EMBEDDED])],
        "notes": notes(settings, costs),
    }


def _described_loop(name: str, loop: LoopSettings, folder: Path) -> dict[str, Any]:
    return {
        "task": loop.task.value,
        "target": _target_in_words(loop),
        "events": loop.events.model_dump(mode="json"),
        "labels": loop.labels.model_dump(mode="json", exclude={"positive", "negative", "classes"}),
        "horizon_ms": loop.horizon,
        "missing": loop.missing,
        "disorder_ms": loop.disorder,
        "skew_ms": loop.skew,
        "topics": topics_of(name, loop),
        "groups": groups_of(name),
        "model": canonical_model(loop, folder),
        "compiled": not (why_not := why_not_compiled(loop, folder)),
        "why_not_compiled": why_not,
        "contract": loop.contract.id,
        "features": [_feature_in_words(spec) for spec in loop.contract.features],
    }


def topics_of(name: str, loop: LoopSettings) -> list[str]:
    """Return the topics that a loop writes, dead letters last."""
    own = [f"{name}.{suffix}" for suffix in LOOP_TOPICS]
    return [*own, f"{loop.events.topic}.dlq", f"{loop.labels.topic}.dlq"]


def groups_of(name: str) -> list[str]:
    """Return the consumer groups of a loop; that of followers is empty where none runs."""
    return [f"tailrace.{name}.{role}" for role in ("score", "join", "learn", "follow")]


def _lines(settings: Settings, costs: Costs) -> Iterator[str]:
    snapshots = settings.snapshots
    yield ""
    yield _line("log", settings.log)
    yield _line("http", settings.http or "off")
    yield _line("snapshots", f"every {show_duration(snapshots.every)} into {snapshots.store}, the last 16 kept")
    yield _line("", f"published to other processes every {show_duration(snapshots.publish)}")
    yield _line("keys", f"in {settings.keys.folder}")
    for name, loop in settings.loops.items():
        yield f"\nloop {name}"
        yield from _loop_lines(name, loop, settings.folder, costs[name])
    yield "\nwhat holds"
    for sentence in (*GUARANTEES, *(() if settings.servers else (_EMBEDDED,))):
        yield f"  {sentence}"
    for index, note in enumerate(notes(settings, costs)):
        yield f"{'' if index else chr(10)}note: {note}"


def _loop_lines(name: str, loop: LoopSettings, folder: Path, cost: EncodeCost) -> Iterator[str]:
    yield _line("  task", _target_in_words(loop))
    events = f"{loop.events.topic}: id in {loop.events.id}, {_time_in_words(loop.events)}"
    yield _line("  events", f"{events}{_format_in_words(loop.events)}")
    labels = f"{loop.labels.topic}: id in {loop.labels.id}, target in {loop.labels.target}"
    yield _line("  labels", f"{labels}, {_time_in_words(loop.labels)}{_format_in_words(loop.labels)}")
    yield _line("  horizon", f"{show_duration(loop.horizon)}, then {_missing_in_words(loop)}")
    yield _line("", f"events may be {show_duration(loop.disorder)} behind, labels {show_duration(loop.skew)} early")
    yield _line("  writes", "\n".join(topics_of(name, loop)))
    yield _line("  groups", "\n".join(groups_of(name)))
    yield _line("  model", canonical_model(loop, folder))
    why_not = why_not_compiled(loop, folder)
    yield _line("", f"runs in River's own code: {why_not}" if why_not else "compiled: a branch of its own")
    yield _line("", cost.in_words() if why_not else f"in River's own code: {cost.in_words()}")
    yield _line("  contract", f"{loop.contract.id}, {len(loop.contract.features)} features")
    for spec in loop.contract.features:
        yield _line("", _feature_in_words(spec))


def _line(head: str, text: str) -> str:
    return f"{head:<13}" + text.replace("\n", "\n" + " " * 13)


def _time_in_words(side: EventsSettings | LabelsSettings) -> str:
    return f"time in {side.time} (numbers in {side.time_unit})" if side.time else "time of the Kafka record"


def _format_in_words(side: EventsSettings | LabelsSettings) -> str:
    return f", Avro of {side.schema_file.name}" if side.schema_file else ""


def _missing_in_words(loop: LoopSettings) -> str:
    if loop.missing == "drop":
        return "an event without a label is dropped"
    return f"an event without a label is learned as {_shown(loop.missing)}"


def _target_in_words(loop: LoopSettings) -> str:
    target = loop.target
    if target.task is Task.REGRESSION:
        return "regression: targets are numbers"
    if target.task is Task.MULTICLASS:
        return f"multiclass: {', '.join(map(_shown, target.classes))}"
    others = "every other value of that type" if target.negative is None else _shown(target.negative)
    if target.task is Task.ANOMALY:
        return f"anomaly: scores, judged by labels; positive is {_shown(target.positive)}, negative is {others}"
    return f"binary: positive is {_shown(target.positive)}, negative is {others}"


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _feature_in_words(spec: FeatureSpec) -> str:
    parts = [f"{spec.name}: {spec.type}"]
    if spec.values:
        parts.append(" | ".join([*spec.values, *(["other"] if spec.other else [])]))
    if spec.minimum is not None:
        parts.append(f"from {spec.minimum:g}")
    if spec.maximum is not None:
        parts.append(f"up to {spec.maximum:g}")
    if spec.most is not None:
        parts.append(f'the first {spec.most} values learned, others as "other"')
    if spec.type == "text" or spec.is_open:
        parts.append(f"at most {spec.max_length} characters")
    if spec.missing != "reject":
        parts.append("may be absent" if spec.missing == "absent" else f"{_shown(spec.missing)} when missing")
    return ", ".join(parts)
