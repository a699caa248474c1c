"""Asks whether the schema files of Avro topics hold what the loops need, for `tailrace check` and `tailrace run`.

Only where a topic is Avro: what reads the files also loads the client of Kafka.
"""

from __future__ import annotations

from tailrace.cli.exits import UsageError
from tailrace.domain.errors import SettingsError
from tailrace.settings import EventsSettings, LabelsSettings, Settings


def check_schemas(settings: Settings) -> None:
    """Return if every schema file can be used.

    Raises:
        SettingsError: With every problem of every file.
    """
    loops = settings.loops.values()
    if all(side.format == "json" for loop in loops for side in (loop.events, loop.labels)):
        return
    from tailrace.opening import schema_problems  # noqa: PLC0415 - see above

    if problems := schema_problems(settings):
        raise SettingsError(problems)


def json_only(side: EventsSettings | LabelsSettings, what: str) -> None:
    """Return if a topic takes what is typed or read as JSON.

    Raises:
        UsageError: It takes Avro.
    """
    if side.format != "json":
        raise UsageError(
            f"found format = {side.format!r} for {side.topic}; {what} sends JSON; send Avro with a client of your own"
        )
