"""`tailrace dlq`: what could not be used, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from cyclopts import App, Parameter

from tailrace.cli import output
from tailrace.cli.exits import UsageError
from tailrace.cli.options import ConfigFile, OutputFormat, Yes
from tailrace.cli.session import LoopName, ask, at_least_one, loop_of, loops_of, now_ms
from tailrace.domain.records import Code
from tailrace.domain.times import rfc3339_of, time_of
from tailrace.settings import LoopSettings, Settings, load, parse_duration
from tailrace.wire.topics import DLQ_SUFFIX, dlq_of

if TYPE_CHECKING:
    from tailrace.inspection.letters import Found
    from tailrace.inspection.reading import Reading
    from tailrace.inspection.replay import Plan
    from tailrace.wire.letter_progress import LetterProgress

Since: TypeAlias = Annotated[
    str | None, Parameter(help="Only records of this time or later: 2h (so long ago), or a time in RFC 3339.")
]

_COLUMNS: Final = ("letter", "time", "code", "source")


def register(app: App) -> None:
    """Add the commands."""
    group = App(name="dlq", help="Records that could not be used, with the reason; values are shown by `show` alone.")
    group.command(list_letters, name="list")
    group.command(show_letter, name="show")
    group.command(replay_letters, name="replay")
    group.command(discard_letters, name="discard")
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

    A letter waits until it is sent back or given up; then it is done.

    tailrace dlq list --limit 20
    tailrace dlq list --code feature_type -o json
    """
    settings = load(config)
    topics = _topics(loops_of(settings, loop).values(), topic)
    at_least_one(limit)

    async def look(reading: Reading) -> list[tuple[Found, str]]:
        from tailrace.inspection.letters import newest_letters  # noqa: PLC0415 - loads the client of Kafka
        from tailrace.inspection.replay import progress_of  # noqa: PLC0415 - the same

        found = await newest_letters(reading, topics, limit, None if code is None else code.value)
        progress = {name: await progress_of(reading, name) for name in settings.loops}
        return [(each, _state(each, progress)) for each in found]

    rows = (_row(found) | {"state": state} for found, state in ask(settings, look))
    output.notes(rows, (*_COLUMNS, "state"), "why", output_format)


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


def replay_letters(
    *,
    topic: Annotated[str | None, Parameter(help="Only of this topic: an input, or its dead-letter topic.")] = None,
    code: Annotated[Code | None, Parameter(help="Only with this code.", name_transform=str.lower)] = None,
    since: Since = None,
    limit: Annotated[int, Parameter(help="Send back at most so many.")] = 1_000,
    attempts: Annotated[int, Parameter(help="A record that was sent back so often stays.")] = 3,
    rate: Annotated[float, Parameter(help="Records a second, at most.")] = 100.0,
    dry_run: Annotated[bool, Parameter(help="Only say what would go, and what not and why.", negative="")] = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Send dead letters back to the topic and partition they came from, once what was wrong is mended.

    Key, value, timestamp and headers as they were, and the number of the attempt. A letter that was
    sent back waits no more: a second replay does not send it again. Where the record is rejected
    again, that is a new letter, which carries the number.

    tailrace dlq replay --code feature_type --dry-run
    tailrace dlq replay --code feature_type --since 2h
    """
    at_least_one(attempts, "--attempts")
    if rate <= 0:
        raise UsageError(f"--rate: found {rate}; allowed: a number above 0")
    settings, name, topics = _meant(config, loop, topic, limit)
    since_ms = _since_ms(since)

    async def act(reading: Reading) -> tuple[Plan, int]:
        from tailrace.inspection import replay  # noqa: PLC0415 - loads the client of Kafka

        planned = await replay.plan(reading, name, topics, replay.Choice(limit, code, since_ms, attempts))
        return planned, 0 if dry_run else await replay.replay(reading, planned, rate)

    planned, sent = ask(settings, act)
    _print_plan(planned, "goes back", output_format)
    done = "nothing was sent; without --dry-run it will be" if dry_run else f"sent back {sent}"
    output.talk(_told(planned, done))


def discard_letters(
    *,
    topic: Annotated[str | None, Parameter(help="Only of this topic: an input, or its dead-letter topic.")] = None,
    code: Annotated[Code | None, Parameter(help="Only with this code.", name_transform=str.lower)] = None,
    since: Since = None,
    limit: Annotated[int, Parameter(help="Give up at most so many.")] = 1_000,
    yes: Yes = False,
    loop: LoopName = None,
    config: ConfigFile = None,
    output_format: OutputFormat = None,
) -> None:
    """Give dead letters up: they stay in their topic for as long as it keeps them, and no replay sends them.

    tailrace dlq discard --code late
    tailrace dlq discard --code late --yes
    """
    settings, name, topics = _meant(config, loop, topic, limit)
    since_ms = _since_ms(since)

    async def act(reading: Reading) -> tuple[Plan, int]:
        from tailrace.inspection import replay  # noqa: PLC0415 - loads the client of Kafka

        planned = await replay.plan(reading, name, topics, replay.Choice(limit, code, since_ms))
        return planned, await replay.discard(reading, planned) if yes else 0

    planned, given_up = ask(settings, act)
    _print_plan(planned, "is given up", output_format)
    output.talk(_told(planned, f"gave up {given_up}" if yes else "nothing was given up; do it with --yes"))


def _meant(config: ConfigFile, loop: str | None, topic: str | None, limit: int) -> tuple[Settings, str, Sequence[str]]:
    at_least_one(limit)
    settings = load(config)
    name, chosen = loop_of(settings, loop)
    return settings, name, _topics([chosen], topic)


def _since_ms(since: str | None) -> int | None:
    if since is None:
        return None
    try:
        return now_ms() - parse_duration(since)
    except ValueError:
        time_ms = time_of(since, "ms")
    if time_ms is None:
        raise UsageError(f"--since: found {since!r}; allowed: a duration such as 2h, or a time in RFC 3339")
    return time_ms


def _print_plan(planned: Plan, act: str, output_format: output.Format | None) -> None:
    rows = []
    for each in planned.chosen:
        letter = each.found.letter
        attempt = 0 if letter is None else letter.attempt
        rows.append(_row(each.found) | {"attempt": attempt, "goes": not each.why_not, "what": each.why_not or act})
    output.notes(rows, (*_COLUMNS, "attempt", "goes"), "what", output_format)


def _told(planned: Plan, done: str) -> str:
    staying = sum(bool(each.why_not) for each in planned.chosen)
    told = f"{done}; {staying} stay where they are" if staying else done
    return f"{told}; more wait behind --limit" if planned.more else told


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


def _state(found: Found, progress: Mapping[str, Mapping[Any, LetterProgress]]) -> str:
    loop = "" if found.letter is None else found.letter.connector.removeprefix("tailrace.")
    known = progress.get(loop, {}).get((found.record.topic, found.record.partition))
    return "done" if known is not None and known.is_done(found.record.offset) else "waits"


def _row(found: Found) -> dict[str, Any]:
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
