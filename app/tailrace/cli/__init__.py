"""The command `tailrace`: parses, calls what lies below, prints, and ends with an exit code of `exits`.

A command group is a module of this package with `register(app)`; its name stands in `GROUPS`. A command returns
nothing or an exit code and lets every TailraceError pass: `execute` turns it into lines on stderr and its exit code.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError, UnknownCommandError

from tailrace.cli.exits import Exit, UsageError, exit_of
from tailrace.cli.output import fail, talk
from tailrace.domain.errors import SettingsError, TailraceError
from tailrace.telemetry.failures import trace_of

GROUPS: Final = (
    "demo",
    "run",
    "status",
    "books",
    "verify",
    "branches",
    "upgrade",
    "repair",
    "at",
    "snapshots",
    "doctor",
    "check",
    "size",
    "init",
    "keys",
    "tokens",
    "topics",
    "events",
    "labels",
    "log",
    "dlq",
    "version",
)
"""Modules of this package that register commands, in the order of the help."""

_HELP: Final = "Models that learn from your Kafka topics while they serve."
_EPILOGUE: Final = (
    "Exit codes: 0 ok, 1 a check failed, 2 usage, 3 configuration, 4 cannot reach, 5 refused, "
    "75 unexplained (start again), 130 interrupted."
)


def main() -> None:
    """Run the command line of this process and end it.

    Faust reads the same list when it is imported, and takes the value of our `--loop` for a module of an event loop.
    """
    arguments = sys.argv[1:]
    del sys.argv[1:]
    sys.exit(execute(arguments))


def build_app() -> App:
    """Return the app with all its commands."""
    app = App(
        name="tailrace",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version_flags=[],
        suppress_keyboard_interrupt=False,
    )
    for group in GROUPS:
        importlib.import_module(f"tailrace.cli.{group}").register(app)
    return app


def execute(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code. Errors are printed, none is raised."""
    try:
        code = _execute(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    return code


def _execute(arguments: Sequence[str]) -> int:
    try:
        result = build_app()(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, UsageError) as error:
        fail(_with_help(error))
        return Exit.USAGE
    except TailraceError as error:
        report(error)
        return exit_of(error)
    except KeyboardInterrupt:
        talk("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever nobody foresaw ends here
        if sys.stderr.isatty():
            traceback.print_exc()
        else:
            talk(trace_of(error))  # it goes into a log: of a container, or of the worker that began a `verify`
        fail("this is a bug of Tailrace; `tailrace version --verbose` prints what a report needs")
        return Exit.UNEXPLAINED
    return result if isinstance(result, int) else Exit.OK


def _with_help(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UnknownCommandError):
        # The parser lists the first eight commands only, as if those were all.
        text = text.partition(" Available commands: ")[0]
    if "allowed:" in text or "allowed are" in text:
        return text
    ended = text if text.endswith("?") else f"{text.rstrip('.')};"
    return f"{ended} `tailrace --help` and `tailrace COMMAND --help` say what is allowed"


def report(error: TailraceError) -> None:
    """Print an error as one `error:` line per problem."""
    for problem in error.problems if isinstance(error, SettingsError) else [str(error)]:
        fail(problem)
