"""What commands print: data on stdout as a table or JSON lines, talk and errors on stderr.

A table on a terminal, JSON lines in a pipe, unless `-o` says otherwise. JSON keys are the names of the columns. Only
`check` has words for people, which are read from a pipe with grep and in the log of a build.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Format: TypeAlias = Literal["table", "json"]

SHORT_CHARS: Final = 19
"""A column whose longest cell is no longer than this stays on one line; on a narrow terminal the others are folded."""

PIPE_WIDTH_CHARS: Final = 200
"""Width of a table that goes to no terminal: wide enough not to break an id or a topic name."""


def chosen(output: Format | None) -> Format:
    """Return the format to print in."""
    return output or ("table" if sys.stdout.isatty() else "json")


def rows(records: Iterable[Mapping[str, Any]], columns: Sequence[str], output: Format | None = None) -> None:
    """Print records, one row or one JSON line each.

    Args:
        columns: Which keys a table shows, in order. JSON holds all keys.
    """
    if chosen(output) == "json":
        for each in records:
            json_line(each)
        return
    cells = [[_cell(each.get(column)) for column in columns] for each in records]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        is_short = all(len(row[index]) <= SHORT_CHARS for row in cells)
        table.add_column(column.replace("_", " "), no_wrap=is_short, overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    console().print(table)


def notes(records: Iterable[Mapping[str, Any]], columns: Sequence[str], note: str, output: Format | None) -> None:
    """Print records like `rows`, in a table with one field, a sentence if there is one, on lines of its own below."""
    if chosen(output) == "json":
        rows(records, columns, output)
        return
    cells = [([_cell(each.get(column)) for column in columns], each.get(note)) for each in records]
    widths = [max([len(column), *(len(row[index]) for row, _ in cells)]) for index, column in enumerate(columns)]
    screen = console()
    screen.print(Text(_aligned([column.replace("_", " ") for column in columns], widths), "bold"), soft_wrap=True)
    for row, sentence in cells:
        screen.print(Text(_aligned(row, widths)), soft_wrap=True)
        if sentence is not None:
            screen.print(Padding(Text(sentence), (0, 0, 0, 4), expand=False))


def record(fields: Mapping[str, Any], output: Format | None = None) -> None:
    """Print one record: a line per key, also of what lies inside of one, or one JSON line."""
    if chosen(output) == "json":
        json_line(fields)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in fields.items():
        name = key.replace("_", " ")
        if isinstance(value, Mapping):
            table.add_row(Text(name), Text("\n".join(f"{inner}: {_cell(each)}" for inner, each in value.items())))
        else:
            table.add_row(Text(name), Text(_cell(value)))
    console().print(table)


class Lines:
    """Prints records one by one as they come: columns under a heading, as wide as the first record, or JSON lines."""

    def __init__(self, columns: Sequence[str], output: Format | None = None) -> None:
        self._columns = columns
        self._is_json = chosen(output) == "json"
        self._widths: list[int] = []

    def print(self, fields: Mapping[str, Any]) -> None:
        """Print one record at once."""
        if self._is_json:
            json_line(fields)
        else:
            cells = [_cell(fields.get(column)) for column in self._columns]
            if not self._widths:
                self._widths = [max(len(column), len(cell)) for column, cell in zip(self._columns, cells, strict=True)]
                self._print_row([column.replace("_", " ") for column in self._columns])
            self._print_row(cells)
        sys.stdout.flush()

    def _print_row(self, cells: Sequence[str]) -> None:
        print(_aligned(cells, self._widths))


def json_line(fields: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    print(json.dumps(fields, ensure_ascii=False, default=str))


def talk(text: str) -> None:
    """Say something to the person at the terminal, beside the data."""
    print(text, file=sys.stderr)


def fail(text: str) -> None:
    """Print an error: what was found, what was allowed, what to do next."""
    print(f"error: {text}", file=sys.stderr)


def text_of(content: bytes | None) -> str | None:
    """Return bytes as text, or as base64 after "base64:" where they are none; None stays None."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return f"base64:{b64encode(content).decode()}"


def console() -> Console:
    """Return the console of stdout, for what is no plain table."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH_CHARS
    return Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
