"""`tailrace log cat`: the internal topics, blocks printed as rows."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.exits import UsageError
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask, at_least_one, loop_of
from tailrace.domain.positions import Position, parse
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading

Topic = Literal["training", "scored", "relabelled"]

_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "training": ("position", "kind", "counts", "partition", "id", "time", "event", "label"),
    "scored": ("position", "partition", "id", "time", "event", "model", "state"),
    "relabelled": ("position", "partition", "kind", "id", "time", "label", "watermark"),
}
_VALUES: Final[dict[str, tuple[str, ...]]] = {
    "training": ("y", "y_pred", "proba", "x"),
    "scored": ("y_pred", "proba", "x"),
    "relabelled": ("y",),
}


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="log", help="The topics that Tailrace writes for itself.")
    group.command(cat)
    app.command(group)


def cat(
    *,
    topic: Annotated[Topic, Parameter(help="Which of the loop's topics.")] = "training",
    from_: Annotated[str | None, Parameter(name="--from", help="First position: OFFSET or OFFSET:ROW.")] = None,
    to: Annotated[str | None, Parameter(help="Position to end before: OFFSET or OFFSET:ROW.")] = None,
    partition: Annotated[int | None, Parameter(help="Only this partition.")] = None,
    limit: Annotated[int | None, Parameter(help="At most so many rows.")] = None,
    values: Annotated[bool, Parameter(negative="", help="Print features, targets and predictions too.")] = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Print a topic of the loop as rows: examples, dropped events, claims and skips of the training log, or others.

    `counts` says whether a record of the log counts: one of a former owner does
    not, nor one that was sent twice. It is empty where the claim that decides
    lies before --from.

    tailrace log cat --from 120 --limit 20
    tailrace log cat --topic scored --partition 0 --values -o json
    """
    start, end = _position("--from", from_), _position("--to", to)
    at_least_one(limit)
    settings = load(config)
    name, settings_of_loop = loop_of(settings, loop)

    is_json = output.chosen(output_format) == "json"

    async def look(reading: Reading) -> list[dict[str, Any]]:
        from tailrace.inspection.rows import RowReader  # noqa: PLC0415 - loads the client of Kafka

        reader = RowReader(reading, name, settings_of_loop, shows_values=values)
        for_table: list[dict[str, Any]] = []
        shown = 0
        async with aclosing(reader.rows(topic, partition, start, end)) as rows:
            async for row in rows:
                if is_json:
                    output.json_line(row)
                else:
                    for_table.append(row)
                shown += 1
                if shown == limit:
                    break
        return for_table

    rows = ask(settings, look)
    if not is_json:
        output.rows(rows, [*_COLUMNS[topic], *(_VALUES[topic] if values else ())], "table")


def _position(option: str, text: str | None) -> Position | None:
    if text is None:
        return None
    offset, colon, row = text.partition(":")
    if not offset.isdecimal() or (colon and not row.isdecimal()) or len(text) > 30:
        raise UsageError(f"{option}: found {text!r}; allowed: OFFSET or OFFSET:ROW, such as 120 or 120:3")
    return parse(text)
