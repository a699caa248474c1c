"""`tailrace log`: the internal topics, blocks printed as rows; and the training log written anew."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.deciding import domain_of
from tailrace.cli.options import ConfigFile, OutputFormat, Yes, read_position
from tailrace.cli.session import LoopName, ask, at_least_one, loop_of, now_ms
from tailrace.domain.verdicts import SILENT_MS
from tailrace.settings import load

if TYPE_CHECKING:
    from tailrace.inspection.places import Place
    from tailrace.inspection.reading import Reading
    from tailrace.wire.topics import LoopTopics

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
    group.command(rewrite)
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
    start = None if from_ is None else read_position("--from", from_)
    end = None if to is None else read_position("--to", to)
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


def rewrite(
    *, yes: Yes = False, loop: LoopName = None, config: ConfigFile = None, output_format: OutputFormat = None
) -> None:
    """Write the training log anew without what the branch that serves leaves out, and forget old snapshots.

    With `tailrace repair` before it this is erasure. Without --yes it says what would
    be erased. Stop every process of the loop first; the next start folds the new
    log from its beginning. Whenever it is interrupted, the same command goes on. At
    its end it lists every other topic that still holds the events, and for how long.

    tailrace log rewrite
    tailrace log rewrite --yes
    """
    settings = load(config)
    domain = domain_of(settings, loop)

    async def work(reading: Reading) -> dict[str, Any]:
        from tailrace.inspection.erasing import Eraser  # noqa: PLC0415 - loads the client of Kafka
        from tailrace.inspection.past import open_index  # noqa: PLC0415
        from tailrace.inspection.places import places_of  # noqa: PLC0415
        from tailrace.opening import open_store  # noqa: PLC0415

        index = open_index(reading, domain.topics, domain.lineage)
        eraser = Eraser(reading, domain.topics, domain.fold(), index, open_store(settings))
        if yes:
            await _refuse_if_alive(reading, domain.topics)
            async with reading.sink() as sink:
                found = await eraser.erase(sink, output.talk, _tell)
        else:
            _, found = await eraser.look(_tell)
        places = await places_of(reading, domain.topics, domain.settings, found.events)
        held = {place.topic: _told(place) for place in places}
        room = domain.settings.join.folder / domain.name
        if room.exists():
            held[str(room)] = "the waiting room of this host: delete it, here and on other hosts that join"
        return {
            "loop": domain.name,
            "done": yes,
            "branch": found.branch[:12],
            "branch_in_the_new_log": found.survivor[:12],
            "records": found.records,
            "rows_erased": found.rows,
            "new_log_id": found.log_id or None,
            "still_held_by": held,
        }

    output.record(ask(settings, work), output_format)


def _told(place: Place) -> str:
    more = f" and {place.unreadable} that cannot be read and may hold them" if place.unreadable else ""
    return f"{place.mentions} rows or records{more}, kept {place.kept}"


async def _refuse_if_alive(reading: Reading, topics: LoopTopics) -> None:
    from tailrace.inspection.erasing import ErasingRefused  # noqa: PLC0415 - loads the client of Kafka
    from tailrace.inspection.status import heartbeats  # noqa: PLC0415

    last = [heard[-1] for heard in await heartbeats(reading, topics)]
    alive = [member.member for member in last if now_ms() - member.time_ms < SILENT_MS]
    if alive:
        raise ErasingRefused(
            f"{', '.join(alive)} still runs this loop; a log that is written to cannot be written anew. Stop every "
            "process of it, then repeat"
        )


def _tell(done: int, total: int) -> None:
    if total and done == total and sys.stderr.isatty():
        output.talk(f"folded {total} records")
