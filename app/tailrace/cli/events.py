"""`tailrace events`: send some by hand, and watch what comes of them."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import orjson
from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.files import lines_of
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.schema_check import json_only
from tailrace.cli.session import LoopName, ask, at_least_one, loop_of
from tailrace.domain.times import rfc3339_of
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.domain.contract import TargetContract
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.sending import Seen, Sent

_COLUMNS: Final = {
    "predictions": ("prediction_id", "event_id", "event_time", "y_pred", "proba", "position"),
    "events": ("partition", "offset", "time", "key", "value"),
}
_ENDS: Final = {"earliest": "beginning", "latest": "end"}


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="events", help="Send events by hand; watch predictions or events as they come.")
    group.command(send)
    group.command(tail)
    app.command(group)


def send(
    *,
    file: Annotated[str, Parameter(help="JSON lines file, one event per line; - is stdin.", allow_leading_hyphen=True)],
    topic: Annotated[str | None, Parameter(help="Another topic than the loop's events.")] = None,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Send events byte for byte, keyed by their ids; whatever a line holds is sent, also what will be rejected.

    tailrace events send --file events.jsonl
    """
    settings = load(config)
    _, chosen = loop_of(settings, loop)
    json_only(chosen.events, "`events send`")

    async def act(reading: Reading) -> Sent:
        from tailrace.inspection import sending  # noqa: PLC0415 - loads the client of Kafka

        return await sending.send(reading, topic or chosen.events.topic, chosen.events.id, lines_of(file))

    print_sent(ask(settings, act), output_format)


def tail(
    *,
    topic: Annotated[Literal["predictions", "events"], Parameter(help="What to watch.")] = "predictions",
    from_: Annotated[Literal["earliest", "latest"], Parameter(name="--from", help="Where to begin.")] = "latest",
    limit: Annotated[int | None, Parameter(help="End after so many; without it Ctrl-C ends it.")] = None,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Print predictions, or events, as they come.

    tailrace events tail
    tailrace events tail --from earliest --limit 10 -o json
    """
    at_least_one(limit)
    settings = load(config)
    name, chosen = loop_of(settings, loop)
    followed = f"{name}.predictions" if topic == "predictions" else chosen.events.topic

    async def look(reading: Reading) -> None:
        from tailrace.inspection import sending  # noqa: PLC0415 - loads the client of Kafka

        printer = output.Lines(_COLUMNS[topic], output_format)
        is_table = output.chosen(output_format) == "table"
        if is_table:
            output.talk(f"watching {followed} from its {_ENDS[from_]} on; Ctrl-C ends it")
        records = sending.follow(reading, followed, from_earliest=from_ == "earliest", limit=limit)
        async with aclosing(records):
            async for record in records:
                shown = _shown(record, is_prediction=topic == "predictions")
                printer.print(_for_people(shown, chosen.target) if is_table else shown)

    ask(settings, look)


def print_sent(sent: Sent, output_format: output.Format | None) -> None:
    """Print what was sent, and where it stands."""
    output.record({"topic": sent.topic, "sent": sent.records, "first": sent.first, "last": sent.last}, output_format)


def _shown(record: Seen, *, is_prediction: bool) -> dict[str, Any]:
    value = _object(record.value)
    if is_prediction and isinstance(value, dict):
        return value
    return {
        "partition": record.partition,
        "offset": record.offset,
        "time": rfc3339_of(record.time_ms),
        "key": output.text_of(record.key),
        "value": output.text_of(record.value) if value is None else value,
    }


def _for_people(shown: dict[str, Any], target: TargetContract) -> dict[str, Any]:
    """Round a probability, and name what a binary prediction says as labels name it: nobody configured true, false."""
    if isinstance(proba := shown.get("proba"), float):
        shown = shown | {"proba": f"{proba:.4f}"}
    predicted = shown.get("y_pred")
    if not isinstance(predicted, bool) or isinstance(target.positive, bool):
        return shown
    negative = f"not {target.positive}" if target.negative is None else target.negative
    return shown | {"y_pred": target.positive if predicted else negative}


def _object(value: bytes | None) -> Any:
    try:
        return None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
