"""The settings as a table: what the README and `tailrace check` say about each key comes from here."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tailrace.settings.fields import Group
from tailrace.settings.tree import Settings

NAME: Final = "NAME"
"""In a key, what stands for the name of a loop or feature."""


class FieldRow(NamedTuple):
    """One setting.

    Attributes:
        key: As in the file; "NAME" stands for the name of a loop or feature.
        type: What may be written, in words.
        default: As it would be written; "required" where there is none, "none" where it may be left out.
        sentence: What it means.
    """

    key: str
    type: str
    default: str
    sentence: str


def field_table() -> list[FieldRow]:
    """Return every setting, in the order of the tree."""
    return list(_rows(Settings, ""))


def keys_of(name: str) -> list[str]:
    """Return the keys of all settings and tables that have a name, in the order of the tree."""
    return [key for key in _keys(Settings, "") if key.rpartition(".")[2] == name]


def _keys(group: type[Group], prefix: str) -> Iterator[str]:
    for name, field in group.model_fields.items():
        yield prefix + name
        below = group_below(field.annotation)
        if below is not None:
            yield from _keys(below, f"{prefix}{name}.{NAME}." if is_named(field.annotation) else f"{prefix}{name}.")


def _rows(group: type[Group], prefix: str) -> Iterator[FieldRow]:
    for name, field in group.model_fields.items():
        below = group_below(field.annotation)
        if below is None:
            yield FieldRow(prefix + name, allowed_of(field), default_of(field), str(field.description))
        else:
            yield from _rows(below, f"{prefix}{name}.{NAME}." if is_named(field.annotation) else f"{prefix}{name}.")


def allowed_of(field: FieldInfo) -> str:
    """Return what may be written for a setting, in words."""
    return str(_extra(field)["allowed"])


def is_literal(field: FieldInfo) -> bool:
    """Tell whether the setting is written as a TOML value in the environment."""
    return bool(_extra(field)["literal"])


def default_of(field: FieldInfo) -> str:
    """Return the default as it would be written."""
    shown = _extra(field)["shown"]
    if shown is not None:
        return str(shown)
    if field.is_required():
        return "required"
    return "none" if field.default is None else json.dumps(field.default, ensure_ascii=False)


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict), "every setting is declared with setting()"
    return dict(extra)


def group_below(annotation: Any) -> type[Group] | None:
    """Return the table that a setting is, or that each of its named tables is; None for a plain value."""
    kernel = strip(annotation)
    if get_origin(kernel) is dict:
        kernel = strip(get_args(kernel)[1])
    return kernel if isinstance(kernel, type) and issubclass(kernel, Group) else None


def is_named(annotation: Any) -> bool:
    """Tell whether a setting is a table of named tables, as loops and features are."""
    return get_origin(strip(annotation)) is dict


def is_secret(annotation: Any) -> bool:
    """Tell whether a setting is never shown."""
    return strip(annotation) is SecretStr


def options_of(annotation: Any) -> list[str]:
    """Return the words that a setting chooses from; empty where it is free."""
    kernel = strip(annotation)
    if get_origin(kernel) is Literal:
        return [str(option) for option in get_args(kernel)]
    return [str(option) for option in kernel] if isinstance(kernel, type) and issubclass(kernel, Enum) else []


def strip(annotation: Any) -> Any:
    """Return an annotation without `Annotated[…]` and `| None`."""
    if get_origin(annotation) is Annotated:
        return strip(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        return strip(kinds[0]) if len(kinds) == 1 else annotation
    return annotation
