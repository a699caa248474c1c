"""Reads tailrace.toml and the environment into `Settings`, or reports every problem at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from tailrace.domain.errors import SettingsError
from tailrace.domain.records import Task
from tailrace.settings.environment import CONFIG_VARIABLE, overlay
from tailrace.settings.messages import lines
from tailrace.settings.tree import Settings

DEFAULT_FILE: Final = "tailrace.toml"

MOST_BYTES: Final = 4 << 20
"""Of a configuration file. A contract of ten thousand features is about 1 MB."""

ModelCheck: TypeAlias = Callable[[str, bool, Task], None]
"""Takes a model expression, `experimental` and the task; raises SettingsError if the model cannot run."""

_NEXT_STEP: Final = "write one with `tailrace init`, or name yours with --config FILE or TAILRACE_CONFIG"


def load(
    path: Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    check_model: ModelCheck | None = None,
) -> Settings:
    """Read the configuration.

    Args:
        path: The file; without it the one that TAILRACE_CONFIG names, without that ./tailrace.toml.
        environ: Instead of the process's environment.
        check_model: Asked about every champion, so that its refusal stands among the other problems.

    Raises:
        SettingsError: With every problem that was found.
    """
    environ = os.environ if environ is None else environ
    file = find_file(path, environ=environ)
    is_chosen = path is not None or bool(environ.get(CONFIG_VARIABLE))
    if not is_chosen and not file.exists() and any(name.startswith("TAILRACE_LOOPS") for name in environ):
        return _build({}, file.parent, environ, check_model)
    settings = _build(_parse(_read(file), str(file)), file.parent, environ, check_model)
    settings._file = file  # noqa: SLF001 - the one maker of the tree
    return settings


def load_text(
    text: str,
    *,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    check_model: ModelCheck | None = None,
) -> Settings:
    """Read a configuration that is at hand as text; `environ` is empty unless given.

    Raises:
        SettingsError: With every problem that was found.
    """
    return _build(_parse(text, DEFAULT_FILE), folder or Path.cwd(), environ or {}, check_model)


def find_file(path: Path | str | None = None, *, environ: Mapping[str, str] | None = None) -> Path:
    """Return the absolute path of the configuration file that `load` reads."""
    environ = os.environ if environ is None else environ
    return Path(path or environ.get(CONFIG_VARIABLE) or DEFAULT_FILE).absolute()


def _build(tree: dict[str, Any], folder: Path, environ: Mapping[str, str], check_model: ModelCheck | None) -> Settings:
    overlaid = overlay(tree, environ)
    problems = overlaid.problems
    try:
        settings = Settings.model_validate(overlaid.tree, context={"folder": folder, "check_model": check_model})
    except ValidationError as error:
        problems = [*problems, *lines(error, overlaid)]
    if problems:
        raise SettingsError(problems)
    settings._folder = folder  # noqa: SLF001 - the one maker of the tree
    return settings


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError([f"{file}: found no file to read ({error.strerror}); {_NEXT_STEP}"]) from error
    except ValueError as error:
        raise SettingsError([f"the configuration: found a name that no file can have; {_NEXT_STEP}"]) from error
    if len(content) > MOST_BYTES:
        raise SettingsError([f"{file}: found more than {MOST_BYTES} bytes; allowed: a TOML file below that size"])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line, column = _line_and_column(content[: error.start].decode())
        raise SettingsError([f"{file}:{line}:{column}: found bytes that are not UTF-8; save it as UTF-8"]) from error


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise SettingsError([f"{name}: found lists or tables nested too deeply; allowed: plain TOML"]) from error
    except ValueError as error:
        raise SettingsError([_syntax_problem(text, name, str(error))]) from error


def _syntax_problem(text: str, name: str, message: str) -> str:
    match = re.search(r" ?\(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", message)
    if match is None:
        return f"{name}: found a value that TOML cannot hold; allowed: TOML 1.0"
    line, column = (match["line"], match["column"]) if match["line"] else _line_and_column(text)
    return f"{name}:{line}:{column}: found what TOML does not allow: {message[: match.start()]}; correct this line"


def _line_and_column(before: str) -> tuple[int, int]:
    """Return the 1-based place just after this text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
