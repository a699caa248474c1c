"""Options that many commands share, so that they are spelled, explained and read in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from tailrace.cli.exits import UsageError
from tailrace.cli.output import Format
from tailrace.domain.positions import ROW_BITS, ROWS_PER_MESSAGE, Position, parse

ConfigFile: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name=["--config", "-c"],
        help="Configuration file; without it the one that TAILRACE_CONFIG names, else ./tailrace.toml.",
    ),
]
"""`config: ConfigFile = None`; hand it to `settings.load`."""

OutputFormat: TypeAlias = Annotated[
    Format | None,
    Parameter(name=["--output", "-o"], help="table or json; without it a table on a terminal, JSON lines in a pipe."),
]
"""`output: OutputFormat = None`; hand it to `output.rows` or `output.record`."""

Yes: TypeAlias = Annotated[
    bool, Parameter(name="--yes", negative="", help="Do it; without it the command only says what it would do.")
]
"""`yes: Yes = False`, for every command that changes something."""

_LARGEST_OFFSET: Final = (1 << 63 - ROW_BITS) - 1
_MOST_DIGITS: Final = 20


def read_position(option: str, text: str) -> Position:
    """Return the position that a person typed.

    Raises:
        UsageError: It is none.
    """
    offset, colon, row = text.partition(":")
    numbers = (offset, row) if colon else (offset,)
    is_one = all(part.isascii() and part.isdecimal() and len(part) <= _MOST_DIGITS for part in numbers)
    if not is_one or int(offset) > _LARGEST_OFFSET or int(row or "0") >= ROWS_PER_MESSAGE:
        raise UsageError(f"{option}: found {text[:60]!r}; allowed: OFFSET or OFFSET:ROW, such as 120 or 120:3")
    return parse(text)
