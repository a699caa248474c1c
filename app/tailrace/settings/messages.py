"""Problems in words: what pydantic found wrong becomes "key: found …; allowed: …; did you mean …?".

Secrets are never shown, nor what came from a file named by a _FILE variable, nor an address with credentials in it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tailrace.settings.environment import Overlay
from tailrace.settings.fields import Contradictions, Group, Problem
from tailrace.settings.table import (
    NAME,
    allowed_of,
    group_below,
    is_named,
    is_secret,
    keys_of,
    options_of,
)
from tailrace.settings.tree import Settings

NOT_IN_THIS_VERSION: Final[Mapping[str, str]] = {
    "challengers": "`tailrace upgrade` folds another model beside the champion",
    "learn_share": "every example is learned",
}
"""Settings that people may have read of, each with what this version does instead."""

MOST_SHOWN_CHARS: Final = 80


class _Place(NamedTuple):
    """Where in the tree an error is.

    Attributes:
        field: The setting; None when the path names none.
        group: The table whose key the setting is.
        depth: How many parts of the path lead to the setting; the rest is inside its value.
        is_table: The path ends at a table, or at a name that no setting has.
    """

    field: FieldInfo | None
    group: type[Group]
    depth: int
    is_table: bool


def lines(error: ValidationError, overlaid: Overlay) -> Iterator[str]:
    """Yield one line per problem, in the order of the tree."""
    for details in error.errors(include_url=False):
        if details["type"] == "default_factory_not_called":
            continue  # it waits for a setting that is reported itself
        cause = details.get("ctx", {}).get("error")
        path = tuple(str(part) for part in details["loc"])
        if isinstance(cause, Contradictions):
            for problem in cause.problems:
                yield line(_join(path, problem), problem.found, problem.allowed, origins=overlaid.origins)
        else:
            yield _line(details, path, overlaid)


def line(
    path: tuple[str, ...], found: str, allowed: str, *, hint: str = "", origins: Mapping[tuple[str, ...], str]
) -> str:
    """Write one problem."""
    variable = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), None)
    key = ".".join(_quoted(part) for part in path) or "the configuration"
    where = f"{key} (from {variable})" if variable else key
    parts = [f"found {found}" if found else "", f"allowed: {allowed}" if found and allowed else allowed]
    return _printable(f"{where}: " + "; ".join(filter(None, parts)) + hint)


def _printable(text: str) -> str:
    """Escape what would move the cursor or be no text; line breaks of ours stay."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def _join(path: tuple[str, ...], problem: Problem) -> tuple[str, ...]:
    head, _, name = problem.key.partition("features.")
    if name and not head:  # a feature's name may have dots of its own
        return (*path, "features", name)
    return (*path, *(part for part in problem.key.split(".") if part))


def _line(details: ErrorDetails, path: tuple[str, ...], overlaid: Overlay) -> str:
    kind, place = details["type"], _place(path)
    if kind == "extra_forbidden":
        return _unknown_key(path, place.group, overlaid)
    if path[-1:] == ("[key]",):
        found = f"the name {show(path[-2])}"
        name_of = "a name is text" if place.field is None else allowed_of(place.field)
        return line(path[:-1], found, name_of, origins=overlaid.origins)
    if place.field is None:
        return line(path, _kind(details["input"]), "a table", origins=overlaid.origins)
    if kind == "missing":
        allowed = f"{allowed_of(place.field)} ({_lowered(place.field.description)})"
        return line(path, "nothing", allowed, origins=overlaid.origins)
    if place.is_table:
        allowed = "a type or a table" if path[-2:-1] == ("features",) else "a table"
        return line(path, _kind(details["input"]), allowed, origins=overlaid.origins)
    return _bad_value(path[: place.depth], details["input"], place.field, overlaid)


def _bad_value(path: tuple[str, ...], value: object, declared: FieldInfo, overlaid: Overlay) -> str:
    is_hidden = is_secret(declared.annotation) or any(path[:n] in overlaid.hidden for n in range(1, len(path) + 1))
    found = f"{_kind(value)} that is not shown" if is_hidden else show(value)
    hint = "" if is_hidden else _hint(value, options_of(declared.annotation))
    return line(path, found, allowed_of(declared), hint=hint, origins=overlaid.origins)


def _unknown_key(path: tuple[str, ...], group: type[Group], overlaid: Overlay) -> str:
    name = path[-1]
    if name in NOT_IN_THIS_VERSION:
        found = f"a setting that this version of Tailrace does not have yet ({NOT_IN_THIS_VERSION[name]})"
        return line(path, found, "", hint=f"; take {name} out", origins=overlaid.origins)
    hint = _hint(name, list(group.model_fields))
    if path[-3:-2] == ("features",):  # below a feature it may be a field of an event, whatever its name
        hint = hint or f'; a dotted path to a nested field is written in quotes: "{path[-2]}.{name}"'
    elif places := [_filled(key, path) for key in keys_of(name)]:
        hint = f"; write it as {' or '.join(places)}"
    return line(path, "no setting of this name", ", ".join(group.model_fields), hint=hint, origins=overlaid.origins)


def _filled(key: str, path: tuple[str, ...]) -> str:
    """Put the names of loops that a path goes through into a key, as far as the two go the same way."""
    parts = key.split(".")
    for index, part in enumerate(parts[: len(path)]):
        if part == NAME:
            parts[index] = path[index]
        elif part != path[index]:
            break
    return ".".join(map(_quoted, parts))


def _place(path: tuple[str, ...]) -> _Place:
    group: type[Group] = Settings
    declared: FieldInfo | None = None
    depth = 0
    while depth < len(path):
        following = group.model_fields.get(path[depth])
        if following is None:
            return _Place(declared, group, depth, is_table=True)
        declared, depth = following, depth + 1
        below = group_below(declared.annotation)
        if below is None:
            return _Place(declared, group, depth, is_table=False)
        depth += is_named(declared.annotation) and depth < len(path)
        group = below
    return _Place(declared, group, depth, is_table=True)


def show(value: object) -> str:
    """Show a value as the file would have it, in one line of bounded length; containers by kind only."""
    if isinstance(value, str) and "@" in value and ":" in value:
        return "text with an @ in it, not shown: passwords do not belong there"
    if not isinstance(value, str | int | float):
        return _kind(value)
    shown = str(value) if isinstance(value, float) else json.dumps(_bounded(value), ensure_ascii=True)
    return shown if len(shown) <= MOST_SHOWN_CHARS else f"{shown[:MOST_SHOWN_CHARS]}…"


def _bounded(value: str | int) -> str | int:
    if isinstance(value, str):
        return value[: MOST_SHOWN_CHARS + 1]
    return value if abs(value) < 1 << 64 else "a very large number"


def _kind(value: object) -> str:
    for types, kind in _KINDS:
        if isinstance(value, types):
            return kind
    return "a date or time" if value is not None else "nothing"


_KINDS: Final[tuple[tuple[Any, str], ...]] = (
    (bool, "true or false"),
    (int | float, "a number"),
    (str, "text"),
    (list | tuple, "a list"),
    (dict, "a table"),
)


def _hint(value: object, options: Iterable[str]) -> str:
    words = {option.lower(): option for option in options}
    near = difflib.get_close_matches(str(value)[:MOST_SHOWN_CHARS].lower(), words, n=1, cutoff=0.6)
    return f'; did you mean "{words[near[0]]}"?' if near else ""


def _quoted(part: str) -> str:
    plain = part.replace("_", "").replace("-", "")
    if plain.isascii() and plain.isalnum():
        return part
    return json.dumps(part[:MOST_SHOWN_CHARS])


def _lowered(sentence: str | None) -> str:
    text = (sentence or "").rstrip(".")
    return text[:1].lower() + text[1:]
