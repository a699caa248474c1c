"""What logs tell of exceptions: a type and a place in our code. Their texts may hold values of features, and labels.

Texts that Tailrace writes, and those of Kafka's client and of the system, hold none, and say what to do: they are told.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator
from pathlib import Path
from traceback import format_tb, walk_tb
from typing import Final

import tailrace
from tailrace.domain.errors import TailraceError

_ROOT: Final = Path(tailrace.__file__).parent

_TOLD: Final = (TailraceError, OSError, ImportError, SystemExit, KeyboardInterrupt, CancelledError)
_TOLD_OF: Final = frozenset({"aiokafka", "kafka", "sqlite3"})  # by the package, since not every room may import it
_NOT_TOLD: Final = "text not told"

_MOST_CHAINED: Final = 16
_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n"
_BESIDE: Final = "\nDuring handling of the above exception, another exception occurred:\n"


def place_of(error: BaseException) -> str:
    """Return the innermost place in our code that an exception passed, as `room/module.py:LINE`; "" where none did."""
    found = ""
    for frame, line in walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_ROOT):
            found = f"{file.relative_to(_ROOT)}:{line}"
    return found


def told(error: BaseException) -> str:
    """Return an exception as `repr` shows it, or its type and place where its text may hold values."""
    if _is_told(error):
        return repr(error)
    place = place_of(error)
    return f"{type(error).__name__}{f' at {place}' if place else ''} ({_NOT_TOLD})"


def trace_of(error: BaseException) -> str:
    """Return a traceback as Python prints it, with what led to the exception, but for texts that may hold values."""
    lines: list[str] = []
    chain = _chain(error)
    for index, (each, words) in enumerate(chain):
        lines += [words] if index else []
        lines += _lines(each)
    return "\n".join(lines)


def without_texts(message: str, error: BaseException) -> str:
    """Return a message without texts of exceptions that may hold values: asyncio shows tasks with their `repr`."""
    for each, _ in _chain(error):
        if not _is_told(each):
            message = message.replace(repr(each), told(each))
    return message


def _is_told(error: BaseException) -> bool:
    return isinstance(error, _TOLD) or type(error).__module__.partition(".")[0] in _TOLD_OF


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return an exception after those that led to it, each with the words between it and the one before."""
    found: list[tuple[BaseException, str]] = []
    current: BaseException | None = error
    while current is not None and len(found) < _MOST_CHAINED and all(each is not current for each, _ in found):
        is_caused = current.__cause__ is not None
        found.append((current, _CAUSED if is_caused else _BESIDE))
        current = current.__cause__ if is_caused or current.__suppress_context__ else current.__context__
    return found[::-1]


def _lines(error: BaseException) -> Iterator[str]:
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield "".join(format_tb(error.__traceback__)).rstrip("\n")
    name = type(error).__qualname__
    yield f"{name}: {error}" if _is_told(error) else f"{name} ({_NOT_TOLD})"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield f"One of them:\n{trace_of(each)}"
