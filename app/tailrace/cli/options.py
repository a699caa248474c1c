"""Options that many commands share, so that they are spelled and explained in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from tailrace.cli.output import Format

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
