"""Environment variables laid over what the file says: TAILRACE_LOOPS__PHISHING__HORIZON=1h.

Names of settings are read without regard to case; names of loops and features as the file spells them. A variable
whose name ends in _FILE names a file that holds the value. A variable that is no setting is a problem.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any, Final, TypeAlias

from tailrace.settings.fields import Group
from tailrace.settings.table import (
    field_table,
    group_below,
    is_literal,
    is_named,
    is_secret,
)
from tailrace.settings.tree import Settings

PREFIX: Final = "TAILRACE_"
CONFIG_VARIABLE: Final = "TAILRACE_CONFIG"
FILE_SUFFIX: Final = "_FILE"

OTHER_VARIABLES: Final[Mapping[str, str]] = {
    CONFIG_VARIABLE: "The configuration file.",
    "TAILRACE_REQUIRE_KAFKA": "1: tests that need Kafka fail without it instead of being skipped.",
    "TAILRACE_FAIL_AT": "The named point at which this process kills itself; for tests of recovery.",
}
"""Variables with the prefix that are no settings."""

MOST_VALUE_BYTES: Final = 65_536
"""A value of a _FILE variable; far above any password, key or table that is meant."""

Path_: TypeAlias = tuple[str, ...]


@dataclass(slots=True)
class Overlay:
    """What the environment changed.

    Attributes:
        tree: The file's tables, with the environment's values in them.
        origins: Path of a setting → the variable that gave it.
        hidden: Paths whose value is never shown.
        problems: One line per variable that cannot be used.
    """

    tree: dict[str, Any]
    origins: dict[Path_, str] = field(default_factory=dict)
    hidden: set[Path_] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Target:
    """The setting that a variable means."""

    path: Path_
    literal: bool
    secret: bool
    is_from_file: bool = False


def overlay(tree: dict[str, Any], environ: Mapping[str, str]) -> Overlay:
    """Lay every TAILRACE_* variable over the tables of the file."""
    result = Overlay(tree)
    names = [name for name in environ if name.startswith(PREFIX) and name not in OTHER_VARIABLES]
    # Fewer parts first: a whole table is set before one of its settings.
    for name in sorted(names, key=lambda name: (name.count("__"), name)):
        target = _target(name, result.tree)
        if target is None:
            result.problems.append(_unknown(name, result.tree))
        elif target.path in result.origins:
            other = result.origins[target.path]
            result.problems.append(f"{name}: found {other} beside it for the same setting; allowed: one of the two")
        else:
            _apply(result, name, target, environ[name])
    return result


def _target(name: str, tree: dict[str, Any]) -> _Target | None:
    segments = name.removeprefix(PREFIX).split("__")
    found = _resolve(Settings, segments, tree, ())
    if found is not None and not (segments[-1].endswith(FILE_SUFFIX) and _is_new_name(found.path, tree)):
        return found
    if not segments[-1].endswith(FILE_SUFFIX):
        return None
    segments[-1] = segments[-1].removesuffix(FILE_SUFFIX)
    plain = _resolve(Settings, segments, tree, ())
    return plain and _Target(plain.path, plain.literal, plain.secret, is_from_file=True)


def _resolve(group: type[Group], segments: list[str], tree: object, above: Path_) -> _Target | None:
    name = segments[0].lower()
    declared = group.model_fields.get(name)
    if declared is None:
        return None
    path, rest = (*above, name), segments[1:]
    below, literal = group_below(declared.annotation), is_literal(declared)
    tree = tree.get(name) if isinstance(tree, dict) else None
    if rest and is_named(declared.annotation):
        if not rest[0]:
            return None
        key = _spelled(rest[0], tree)
        path, rest = (*path, key), rest[1:]
        tree = tree.get(key) if isinstance(tree, dict) else None
    if not rest:
        return _Target(path, literal, is_secret(declared.annotation))
    return None if below is None else _resolve(below, rest, tree, path)


def _spelled(segment: str, named: object) -> str:
    known = [name for name in named if name.lower() == segment.lower()] if isinstance(named, dict) else []
    return segment if segment in known else next(iter(known), segment.lower())


def _is_new_name(path: Path_, tree: object) -> bool:
    """Tell whether the last part is a loop or feature that the file does not have."""
    if len(path) < 2 or path[-2] not in {"loops", "features"}:
        return False
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree is None


def _apply(result: Overlay, name: str, target: _Target, text: str) -> None:
    if target.is_from_file:
        try:
            text = _read(text)
        except (OSError, ValueError) as error:
            result.problems.append(f"{name}: found a file that cannot be read ({_reason(error)}); {_READABLE}")
            return
    value = _literal(text) if target.literal else text
    result.origins[target.path] = name
    if target.is_from_file or target.secret:
        result.hidden.add(target.path)
    _put(result.tree, target.path, value)


_READABLE: Final = f"allowed: the path of a UTF-8 file of at most {MOST_VALUE_BYTES} bytes"


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        content = file.read(MOST_VALUE_BYTES + 1)
    if len(content) > MOST_VALUE_BYTES:
        raise ValueError("too large")
    return content.decode().removesuffix("\n").removesuffix("\r")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8" if isinstance(error, UnicodeError) else "it is too large, or no path"


def _literal(text: str) -> object:
    """Read a TOML value; what is none stays text."""
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = read.get("value")
    return text if len(read) != 1 or isinstance(value, date | time) else value


def _put(tree: dict[str, Any], path: Path_, value: object) -> None:
    for name in path[:-1]:
        below = tree.setdefault(name, {})
        if isinstance(below, str):  # the short form of a feature
            below = tree[name] = {"type": below}
        if not isinstance(below, dict):
            return  # reported anyway: it should have been a table
        tree = below
    tree[path[-1]] = value


def _unknown(name: str, tree: dict[str, Any]) -> str:
    known = list(variables(tree))
    plain = name.upper().removesuffix(FILE_SUFFIX)
    near = difflib.get_close_matches(plain, [v for v in known if v != plain], n=1, cutoff=0.75)
    hint = f"; did you mean {near[0]}?" if near else "; `tailrace check --help` tells how variables are named"
    return f"{name}: found a variable that is no setting; allowed: the settings of the file, in capitals{hint}"


def variables(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield the variables of all settings, for the loops and features that the file has."""
    yield from OTHER_VARIABLES
    loops = tree.get("loops")
    for row in field_table():
        if not row.key.startswith("loops."):
            yield _variable(row.key)
        for loop in loops if isinstance(loops, dict) and row.key.startswith("loops.") else ():
            yield _variable(row.key.replace("NAME", loop, 1))


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")
