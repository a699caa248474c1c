"""`tailrace init`: looks at some records and writes a first tailrace.toml, feature contract included."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import App, Parameter

from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.guessing import (
    TargetGuess,
    guess_id,
    guess_partner_id,
    guess_target,
    guess_times,
)
from tailrace.cli.model_check import model_check
from tailrace.cli.output import fail, talk
from tailrace.cli.proposal import Proposal, Side, features_of, model_for, text_of
from tailrace.cli.sampling import MOST_RECORDS, Sample, sample_of, value_at
from tailrace.domain.errors import SettingsError
from tailrace.domain.records import Task
from tailrace.settings import DEFAULT_FILE, load_text

SampleTopic: TypeAlias = Callable[[str, str, int], list[bytes]]
"""Log address, topic, most records → values of that many records, the newest of the topic."""

MOST_LINE_BYTES: Final = 4 << 20


class RefusedError(Exception):
    """No configuration can or may be written; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where to look.

    Attributes:
        events, labels: A file, or the name of a topic; `labels` may be None.
        log: Address of the log for topics.
    """

    events: Path | str
    labels: Path | str | None
    log: str


def register(app: App) -> None:
    """Add the command."""
    app.command(init)


def init(
    *,
    from_file: Annotated[Path | None, Parameter(help="JSON lines file with events, one per line.")] = None,
    from_topic: Annotated[
        str | None,
        Parameter(help="Topic with events; with TLS or SASL, save some records as JSON lines and use --from-file."),
    ] = None,
    labels: Annotated[str | None, Parameter(help="JSON lines file, or topic, with labels.")] = None,
    log: Annotated[
        str | None, Parameter(env_var="TAILRACE_LOG", help="Where topics are: kafka://HOST:PORT or embedded:FOLDER.")
    ] = None,
    out: Annotated[Path, Parameter(help="The file to write.")] = Path(DEFAULT_FILE),
    loop: Annotated[str | None, Parameter(help="Name of the loop; made of the topic's without it.")] = None,
    force: Annotated[bool, Parameter(negative="", help="Replace a file that is there.")] = False,
) -> int:
    """Look at up to 1000 events, and labels if there are some, and write a configuration with comments.

    Says what it guessed. The result passes `tailrace check`.
    """
    if (from_file is None) == (from_topic is None):
        raise UsageError("found none or both of --from-file and --from-topic; give one of the two")
    address = _default_log(from_file) if log is None else _as_seen_from(out, log)
    inputs = Inputs(from_file or str(from_topic), _file_or_topic(labels), address)
    try:
        _refuse_replacing(out, force=force)
        proposal = propose(inputs, loop, sample_topic)
        _write(out, text_of(proposal), force=force)
    except RefusedError as refusal:
        fail(str(refusal))
        return Exit.REFUSED
    for sentence in _story(proposal, out):
        talk(sentence)
    return Exit.OK


def sample_topic(log: str, topic: str, count: int) -> list[bytes]:
    """Read the values of the newest records of a topic, at most `count`."""
    from tailrace import main  # noqa: PLC0415 - loads Kafka clients, which the other commands do without

    return main.sample_topic(log, topic, count)


def propose(inputs: Inputs, loop: str | None, sample_topic: SampleTopic) -> Proposal:
    """Look at the inputs and make a proposal that passes the check.

    Raises:
        RefusedError: Nothing can be made of the inputs.
    """
    events = _sample(inputs.events, inputs.log, sample_topic)
    labels = None if inputs.labels is None else _sample(inputs.labels, inputs.log, sample_topic)
    event_side = _event_side(inputs.events, events, labels)
    label_side, target = _label_side(inputs.labels, labels, event_side)
    taken = {event_side.id, *([event_side.time.name] if event_side.time else [])}
    features, left_out = features_of(events, taken, target.name)
    if not features:
        raise RefusedError(
            f"{events.source}: found no field that can be a feature ({len(left_out)} looked at); "
            "events need a number, true/false or a text of few values beside the id"
        )
    model = model_for(target.task, features, lambda expression: _is_accepted(expression, target.task))
    name = loop or loop_name_of(event_side.topic)
    return Proposal(inputs.log, name, event_side, label_side, target, features, left_out, model)


def _refuse_replacing(out: Path, *, force: bool) -> None:
    if out.exists() and not force:
        raise RefusedError(f"{out} is there already; --force replaces it, --out FILE writes elsewhere")


def _default_log(from_file: Path | None) -> str:
    return "kafka://localhost:9092" if from_file is None else "embedded:./data"


def _as_seen_from(out: Path, log: str) -> str:
    """Keep the meaning of a relative folder where the configuration will lie in another one."""
    folder = log.removeprefix("embedded:")
    if folder == log or out.absolute().parent == Path.cwd():
        return log
    return f"embedded:{Path(folder).absolute()}"


def _file_or_topic(name: str | None) -> Path | str | None:
    if name is None:
        return None
    path = Path(name)
    return path if path.exists() or "/" in name or path.suffix in {".json", ".jsonl", ".ndjson"} else name


def _sample(source: Path | str, log: str, sample_topic: SampleTopic) -> Sample:
    raws = _lines(source) if isinstance(source, Path) else sample_topic(log, source, MOST_RECORDS)
    sample = sample_of(str(source), raws)
    if not sample.records:
        what = "no record" if not sample.unreadable else f"{sample.unreadable} records, none of them a JSON object"
        raise RefusedError(f"{source}: found {what}; events and labels are JSON objects, in a file one per line")
    return sample


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as lines:
            while line := lines.readline(MOST_LINE_BYTES):
                if line.strip():
                    yield line
    except OSError as error:
        raise RefusedError(f"{file}: found no file to read ({error.strerror}); name a JSON lines file") from error


def _event_side(source: Path | str, events: Sample, labels: Sample | None) -> Side:
    id_ = guess_id(events, labels)
    if id_ is None:
        raise RefusedError(
            f"{events.source}: found no field that can be an id; events need one, text or a whole number, "
            "that is there in every record and differs from record to record"
        )
    return Side(topic_of(source), id_, next(iter(guess_times(events)), None), events)


def _label_side(source: Path | str | None, labels: Sample | None, events: Side) -> tuple[Side, TargetGuess]:
    assert events.sample is not None, "events were sampled"
    if source is None or labels is None:
        topic = f"{events.topic}-labels"
        return Side(topic, events.id, None, None), TargetGuess(_free_name(events.id), Task.BINARY, is_seen=False)
    ids = [value_at(record, events.id) for record in events.sample.records]
    id_ = guess_partner_id(labels, events.id, ids)
    times = [time for time in guess_times(labels) if time.name != id_]
    target = None if id_ is None else guess_target(labels, {id_, *(time.name for time in times)})
    if id_ is None or target is None:
        raise RefusedError(
            f"{labels.source}: found no field that can be {'the id' if id_ is None else 'the outcome'}; "
            "labels need the id of their event and an outcome"
        )
    return Side(topic_of(source), id_, next(iter(times), None), labels), target


def _free_name(taken: str) -> str:
    return "label" if taken != "label" else "target"


def topic_of(source: Path | str) -> str:
    """Return the topic of this name, or one named after a file."""
    name = source.stem if isinstance(source, Path) else source
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", name).strip("-.")[:200] or "events"


def loop_name_of(topic: str) -> str:
    """Return a loop name made of a topic's name."""
    words: Iterable[str] = re.findall(r"[a-z0-9]+", topic.lower())
    name = "_".join(words).lstrip("0123456789_")[:64].rstrip("_")
    return name or "loop"


def _is_accepted(expression: str, task: Task) -> bool:
    try:
        model_check(Path.cwd())(expression, False, task)
    except SettingsError:
        return False
    return True


def _write(out: Path, text: str, *, force: bool) -> None:
    folder = out.absolute().parent
    load_text(text, folder=folder, check_model=model_check(folder))
    try:
        with out.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RefusedError(f"{out}: cannot be written ({error.strerror}); name another file with --out") from error


def _story(proposal: Proposal, out: Path) -> Iterator[str]:
    events, labels = proposal.events, proposal.labels
    count = len(proposal.features)
    yield f"wrote {out}: loop {proposal.loop}, {count} feature{'s' * (count != 1)}, {len(proposal.left_out)} left out"
    for sample in (events.sample, labels.sample):
        if sample is not None and sample.unreadable:
            yield f"{sample.source}: {sample.unreadable} of the records are no JSON objects and were passed over"
    time = events.time.name if events.time else "the Kafka timestamp"
    yield f"guessed: {events.id} is the id of an event, {time} its time"
    seen = "" if labels.sample is not None else " (no labels were looked at)"
    yield f"guessed: {proposal.target.task}, {proposal.target.name} is the outcome of a label{seen}"
    yield f"next: read {out}, then `tailrace check --config {out}`"
