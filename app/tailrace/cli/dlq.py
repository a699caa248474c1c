"""`tailrace dlq`: what could not be used, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.exits import UsageError
from tailrace.cli.options import ConfigFile, OutputFormat
from tailrace.cli.session import LoopName, ask, at_least_one, loops_of
from tailrace.domain.records import Code
from tailrace.settings import LoopSettings, load
from tailrace.wire.topics import DLQ_SUFFIX, dlq_of

if TYPE_CHECKING:
    from tailrace.inspection.letters import Found
    from tailrace.inspection.reading import Reading

_COLUMNS: Final = ("letter", "time", "code", "source")


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="dlq", help="Records that could not be used, with the reason; values are shown by `show` alone.")
    group.command(list_letters, name="list")
    group.command(show_letter, name="show")
    app.command(group)


def list_letters(
    *,
    topic: Annotated[str | None, Parameter(help="Only of this topic: an input, or its dead-letter topic.")] = None,
    code: Annotated[Code | None, Parameter(help="Only with this code.", name_transform=str.lower)] = None,
    limit: Annotated[int, Parameter(help="The newest so many.")] = 50,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """List the newest dead letters, oldest first: where each came from, its code and the reason in words.

    tailrace dlq list --limit 20
    tailrace dlq list --code feature_type -o json
    """
    settings = load(config)
    topics = _topics(loops_of(settings, loop).values(), topic)
    at_least_one(limit)

    async def look(reading: Reading) -> list[Found]:
        from tailrace.inspection.letters import newest_letters  # noqa: PLC0415 - loads the client of Kafka

        return await newest_letters(reading, topics, limit, None if code is None else code.value)

    output.notes((_row(found) for found in ask(settings, look)), _COLUMNS, "why", output_format)


def show_letter(letter: str, /, *, config: ConfigFile = None, output_format: OutputFormat = None) -> None:
    """Show one dead letter as it came: headers, key and value.

    tailrace dlq show pages.dlq/0/17

    Parameters
    ----------
    letter
        TOPIC/PARTITION/OFFSET, as `dlq list` names it.
    """
    topic, partition, offset = _place(letter)
    settings = load(config)
    _check_known("LETTER", topic, topic, _topics(settings.loops.values(), None))

    async def look(reading: Reading) -> Found:
        from tailrace.inspection.letters import letter_at  # noqa: PLC0415 - loads the client of Kafka

        return await letter_at(reading, topic, partition, offset)

    found = ask(settings, look)
    shown = _row(found) | _origin(found)
    shown["headers"] = {name: output.text_of(value) for name, value in found.record.headers}
    shown["key"] = output.text_of(found.record.key)
    shown["value"] = output.text_of(found.record.value)
    output.record(shown, output_format)


def _topics(loops: Iterable[LoopSettings], topic: str | None) -> list[str]:
    inputs = [name for loop in loops for name in (loop.events.topic, loop.labels.topic)]
    known = list(dict.fromkeys(dlq_of(name) for name in inputs))
    if topic is None:
        return known
    wanted = topic if topic.endswith(DLQ_SUFFIX) else dlq_of(topic)
    _check_known("--topic", topic, wanted, known)
    return [wanted]


def _check_known(where: str, found: str, wanted: str, known: Sequence[str]) -> None:
    if wanted not in known:
        raise UsageError(f"{where}: found {found!r}; the configuration has {', '.join(known)}")


def _place(letter: str) -> tuple[str, int, int]:
    topic, partition, offset = (["", "", "", *letter.rsplit("/", 2)])[-3:]
    if not topic or not partition.isdecimal() or not offset.isdecimal():
        raise UsageError(f"found {letter!r}; name one letter as TOPIC/PARTITION/OFFSET, such as pages.dlq/0/17")
    return topic, int(partition), int(offset)


def _row(found: Found) -> dict[str, Any]:
    from tailrace.inspection.reading import rfc3339_of  # noqa: PLC0415 - loads the client of Kafka

    record, letter = found.record, found.letter
    row: dict[str, Any] = {
        "letter": f"{record.topic}/{record.partition}/{record.offset}",
        "time": rfc3339_of(record.timestamp),
    }
    if letter is None:
        return row | {"code": None, "stage": None, "source": None, "why": "another program wrote it"}
    rejection = letter.rejection
    source = f"{letter.topic}/{letter.partition}/{letter.offset}"
    return row | {
        "code": rejection.code.value,
        "stage": rejection.stage.value,
        "source": source,
        "why": rejection.detail,
    }


def _origin(found: Found) -> dict[str, Any]:
    letter = found.letter
    if letter is None:
        return {}
    return {
        "connector": letter.connector,
        "member": letter.member,
        "block": None if letter.block is None else str(letter.block),
    }
