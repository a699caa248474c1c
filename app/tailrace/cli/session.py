"""What commands that look at a log begin with: the settings, the loops they mean, quiet libraries, a clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypeVar

from cyclopts import Parameter

from tailrace.cli.exits import UsageError
from tailrace.settings import LoopSettings, Settings
from tailrace.telemetry import logs

if TYPE_CHECKING:
    from tailrace.inspection.reading import Reading

T = TypeVar("T")

LoopName: TypeAlias = Annotated[
    str | None, Parameter(name="--loop", help="The loop that is meant, where the configuration has several.")
]
"""`loop: LoopName = None`; hand it to `loops_of` or `loop_of`."""

_SAYS_WHAT_WE_SAY: Final = ("aiokafka", "tailrace.streams.kafka_client", "mode", "faust", "asyncio")
"""Loggers that tell of an outage, line by line, what ends as one error of ours."""


def loops_of(settings: Settings, loop: str | None) -> dict[str, LoopSettings]:
    """Return the loop of this name, or all of them."""
    if loop is None:
        return dict(settings.loops)
    if loop not in settings.loops:
        raise UsageError(f"--loop: found {loop!r}; the configuration has {', '.join(settings.loops)}")
    return {loop: settings.loops[loop]}


def loop_of(settings: Settings, loop: str | None) -> tuple[str, LoopSettings]:
    """Return the loop of this name, or the only one there is."""
    found = loops_of(settings, loop)
    if len(found) > 1:
        raise UsageError(f"found {len(found)} loops in the configuration; name one with --loop: {', '.join(found)}")
    ((name, settings_of_loop),) = found.items()
    return name, settings_of_loop


def ask(settings: Settings, question: Callable[[Reading], Awaitable[T]], *, must_exist: bool = True) -> T:
    """Put one question to the log; libraries are quiet meanwhile, errors of ours are the caller's.

    The client of Kafka is loaded here: commands that only read files do without it.
    """
    from tailrace.inspection import reading  # noqa: PLC0415 - see above

    be_quiet()
    return reading.ask(settings, question, must_exist=must_exist)


def be_quiet() -> None:
    """Write warnings of ours to stderr, and nothing that an error of ours says better."""
    logs.configure("warning")
    for name in _SAYS_WHAT_WE_SAY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def now_ms() -> int:
    """Return the wall clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def at_least_one(limit: int | None, name: str = "--limit") -> int | None:
    """Return a count that a person gave.

    Raises:
        UsageError: It is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"{name}: found {limit}; allowed: a whole number of at least 1")
    return limit
