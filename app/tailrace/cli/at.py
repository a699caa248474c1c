"""`tailrace at` and `tailrace why`: a loop as it was, and the story of one event."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.deciding import domain_of
from tailrace.cli.exits import Exit, UsageError
from tailrace.cli.options import ConfigFile, OutputFormat, read_position
from tailrace.cli.session import LoopName, ask
from tailrace.domain.positions import Position, show
from tailrace.domain.records import Rejection
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.domain.explanation import Explanation
    from tailrace.inspection.past import Past, TimeMachine
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.story import Story
    from tailrace.main import LoopDomain

What = Literal["show", "predict", "explain"]

_TELL_EVERY_S: Final = 1.0
_EFFECT_WORDS: Final = {
    "weights": "adds to the raw score",
    "occlusion": "the answer changes by, compared with the answer without it",
}


def register(app: App) -> None:
    """Add the commands."""
    app.command(at)
    app.command(why)


def at(
    what: What = "show",
    /,
    *,
    position: Annotated[
        str | None, Parameter(help="OFFSET or OFFSET:ROW of the training log; without it its end.")
    ] = None,
    time: Annotated[str | None, Parameter(help="A time, RFC 3339, by the broker's clock.")] = None,
    features: Annotated[
        str | None,
        Parameter(help="predict, explain: a JSON object with the fields of an event; - reads lines of them."),
    ] = None,
    event: Annotated[str | None, Parameter(help="predict, explain: the id of an event that was scored.")] = None,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Go back to a position or a time: show the loop as it was, let its model predict, or explain an answer.

    The nearest snapshot before it is folded up to there, from the training log; the
    workers are not disturbed. With --event the model answers from the features that
    were served then.

    tailrace at --position 1200 show
    tailrace at --time 2026-03-01T12:00:00Z predict --event page-17
    tailrace at explain --features '{"https": 1, "country": "de"}'
    """
    if position is not None and time is not None:
        raise UsageError("--position and --time: found both; allowed: one of them, since each names a moment")
    if what != "show" and (features is None) == (event is None):
        raise UsageError(f"{what}: needs --features JSON or --event ID, one of them")
    settings = load(config)
    domain = domain_of(settings, loop)

    async def look(reading: Reading) -> list[dict[str, Any]]:
        machine = _machine(reading, domain)
        asked = await _asked(machine, position, time)
        past = await machine.go_to(asked, _Teller().tell)
        head = _head(domain, asked, past)
        if what == "show":
            return [head | _shown(past)]
        rows = [await _served_x(reading, domain, event)] if event is not None else _given(domain, features or "")
        answer = _predicted if what == "predict" else _explained
        return [head | answer(domain, past, x) for x in rows]

    for found in ask(settings, look):
        output.record(found, output_format)


def why(
    event_id: str, /, *, loop: LoopName = None, config: ConfigFile = None, output_format: OutputFormat = None
) -> int:
    """Tell the story of one event: what was served and by which state, its label, where it was learned, and now.

    Reads the topics from their first record on, so it takes a while on a large log.

    tailrace why page-17
    tailrace why page-17 -o json
    """
    settings = load(config)
    domain = domain_of(settings, loop)

    async def look(reading: Reading) -> tuple[Story, dict[str, Any] | None]:
        from tailrace.inspection.past import open_index  # noqa: PLC0415 - loads River
        from tailrace.inspection.story import story_of  # noqa: PLC0415

        index = open_index(reading, domain.topics, domain.lineage)
        await index.read(reading.reader)
        story = await story_of(reading, domain.topics, domain.settings, event_id, index.newest())
        if not story.scored or "x" not in story.scored[-1]:
            return story, None
        machine = _machine(reading, domain)
        now = await machine.end()
        past = await machine.go_to(now, _Teller().tell)
        about = {"position": show(now), "branch": past.branch.lineage[:12], "filter": past.definition.filter.in_words()}
        return story, about | _predicted(domain, past, story.scored[-1]["x"])

    story, now = ask(settings, look)
    if output.chosen(output_format) == "json":
        output.json_line(_plain(story) | {"now": now})
    else:
        for sentence in _told(story, now):
            print(sentence)
    return Exit.OK if story.scored else Exit.CHECK_FAILED


# ── at ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _machine(reading: Reading, domain: LoopDomain) -> TimeMachine:
    from tailrace.inspection.past import TimeMachine, open_index  # noqa: PLC0415 - loads River

    index = open_index(reading, domain.topics, domain.lineage)
    return TimeMachine(reading, domain.fold(), index, domain.topics.training)


async def _asked(machine: TimeMachine, position: str | None, time: str | None) -> Position:
    if time is not None:
        return await machine.position_at(_time_ms(time))
    if position is None:
        return await machine.end()
    return read_position("--position", position)


def _time_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as cause:
        raise UsageError(f"--time: found {text!r}; allowed: RFC 3339, such as 2026-03-01T12:00:00Z") from cause
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000)


def _head(domain: LoopDomain, asked: Position, past: Past) -> dict[str, Any]:
    return {
        "loop": domain.name,
        "position": show(asked),
        "branch": past.branch.lineage[:12],
        "model": past.definition.model,
        "learned": past.branch.learned,
    }


def _shown(past: Past) -> dict[str, Any]:
    state = past.state
    quality = {
        f"{figure.metric} ({figure.window})": figure.value
        for figure in state.quality.figures()
        if figure.value is not None
    }
    decisions = [
        {**asdict(decision), "position": show(decision.position), "branch": decision.branch[:12]}
        for decision in state.pointers.decisions
    ]
    return {
        "skipped": past.branch.skipped,
        "left_out": past.branch.left_out,
        "examples": state.counts.examples,
        "quality": quality,
        "epoch": state.pointers.epoch,
        "branches": [lineage[:12] for lineage in state.pointers.admitted],
        "decisions": decisions,
        "from_snapshot": past.from_snapshot,
        "folded_records": past.records,
    }


def _given(domain: LoopDomain, text: str) -> Iterable[dict[str, Any]]:
    lines = sys.stdin if text == "-" else [text]
    for line in lines:
        if line.strip():
            yield _read(domain, line)


def _read(domain: LoopDomain, line: str) -> dict[str, Any]:
    try:
        raw = json.loads(line)
    except ValueError as cause:
        raise UsageError(f'--features: found no JSON ({cause}); allowed: an object such as {{"https": 1}}') from cause
    if not isinstance(raw, dict):
        raise UsageError("--features: found JSON that is no object; allowed: an object with the fields of an event")
    x = domain.contract.read(raw)
    if isinstance(x, Rejection):
        raise UsageError(f"--features: {x.detail}")
    return dict(x)


async def _served_x(reading: Reading, domain: LoopDomain, event_id: str) -> dict[str, Any]:
    from tailrace.inspection.story import story_of  # noqa: PLC0415 - loads the client of Kafka

    story = await story_of(reading, domain.topics, domain.settings, event_id, ())
    if not story.scored:
        raise UsageError(f"--event: found no scored event {event_id!r} in {domain.topics.scored}; {_NOT_SCORED}")
    if "x" not in story.scored[-1]:
        raise UsageError(f"--event: {event_id!r} was scored under other features than this configuration has")
    return dict(story.scored[-1]["x"])


def _predicted(domain: LoopDomain, past: Past, x: Mapping[str, Any]) -> dict[str, Any]:
    from tailrace.inspection.story import answered  # noqa: PLC0415 - loads River

    return answered(past.branch.model, past.branch.categories.view(dict(x)), domain.target)


def _explained(domain: LoopDomain, past: Past, x: Mapping[str, Any]) -> dict[str, Any]:
    from tailrace.domain.explanation import explain  # noqa: PLC0415 - loads River

    found = explain(past.branch.model, past.branch.categories.view(dict(x)), domain.target)
    return _predicted(domain, past, x) | _reasons(found)


def _reasons(found: Explanation) -> dict[str, Any]:
    if found.method.value == "path":
        return {"method": "the way down the tree", "reasons": [reason.what for reason in found.reasons]}
    reasons = {reason.what: reason.effect for reason in found.reasons}
    base = {} if found.base is None else {"intercept": found.base}
    return {"method": _EFFECT_WORDS[found.method.value], **base, "reasons": reasons}


class _Teller:
    """Tells on stderr how far the fold is, once a second."""

    def __init__(self) -> None:
        self._told_s = perf_counter()

    def tell(self, done: int, total: int) -> None:
        now_s = perf_counter()
        if now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            output.talk(f"folded {done} of {total} records, {done * 100 // max(1, total)} %")


# ── why ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_NOT_SCORED: Final = (
    "it was rejected (`tailrace dlq list` names the reason), it is older than that topic keeps, or it was not sent"
)


def _plain(story: Story) -> dict[str, Any]:
    snapshot = story.snapshot
    first = None if snapshot is None else {"number": snapshot.number, "position": show(snapshot.position)}
    return {"id": story.id, "scored": list(story.scored), "log": list(story.logged), "first_snapshot": first}


def _told(story: Story, now: Mapping[str, Any] | None) -> Iterable[str]:
    if not story.scored:
        yield f"No event {story.id} was scored: {_NOT_SCORED}."
        return
    for row in story.scored:
        yield (
            f"{story.id} of {row['time']} ({row['event']}) was answered at {row['logged_at']} by {row['model']} "
            f"{row['version']}, in its state at {row['state']}: {_answer(row)}."
        )
    if "x" in story.scored[-1]:
        yield f"Its features: {json.dumps(story.scored[-1]['x'], ensure_ascii=False)}."
    for row in story.logged:
        yield _logged(row)
    if not story.logged:
        yield "The training log holds nothing of it: its label has not come, or its horizon has not passed."
    if story.snapshot is not None:
        at_position = show(story.snapshot.position)
        yield f"Snapshot {story.snapshot.number}, at {at_position}, is the first still kept that contains it."
    elif story.example is not None:
        yield "No snapshot that is still kept contains it yet."
    if now is not None:
        yield f"Asked now, at {now['position']}, the model would answer: {_answer(now)}."
        if now["filter"]:
            yield f"The branch that serves now is folded with a filter: {now['filter']}."


def _answer(row: Mapping[str, Any]) -> str:
    if row.get("y_pred") is None:
        return "nothing, it had not learned enough"
    proba = row.get("proba")
    shown = proba[0] if isinstance(proba, list) and len(proba) == 1 else proba
    return _value(row["y_pred"]) + ("" if shown in (None, []) else f", probability {_value(shown)}")


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _logged(row: Mapping[str, Any]) -> str:
    place = f"at {row['position']} of the training log, {row['logged_at']}"
    source = f" from {row['source']}" if row.get("source") else ""
    words = {
        "joined": f"Its label{source} ({row.get('label')}) was {_value(row.get('y'))}; it was learned {place}.",
        "implicit": f"No label came within the horizon; it was learned as {_value(row.get('y'))} {place}.",
        "dropped": f"No label came within the horizon; it was dropped {place}.",
        "corrected": f"Its label was corrected{source} ({row.get('label')}) to {_value(row.get('y'))} {place}.",
        "withdrawn": f"Its label was withdrawn{source} ({row.get('label')}) {place}.",
    }
    return words[row["kind"]]
