"""How one setting is declared, and the small types that several settings share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

REQUIRED: Final = ...


class Group(BaseModel):
    """One table of the configuration. Unknown keys are problems; nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Problem(NamedTuple):
    """One thing that is wrong, in three parts; `messages` makes a line of it.

    Attributes:
        key: Relative to the table that reports it; "" is the table itself.
        found: What was found, without secrets; "" where `allowed` is a whole message by itself.
        allowed: What is allowed, or what to do next.
    """

    key: str
    found: str
    allowed: str


class Contradictions(ValueError):
    """Settings that are fine one by one but not together."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{key}: {found}" for key, found, _ in problems))
        self.problems = problems


def setting(
    sentence: str,
    allowed: str,
    *,
    default: Any = REQUIRED,
    default_from: Callable[[dict[str, Any]], Any] | None = None,
    shown: str | None = None,
    literal: bool = False,
) -> Any:
    """Declare one setting.

    Args:
        sentence: What it means; printed in the field table and beside problems.
        allowed: What may be written, in words.
        default: As it would be written in the file.
        default_from: Makes the default out of the settings declared before it.
        shown: How the default is printed, where `default` does not say it.
        literal: In the environment it is written as in TOML: a number, true or false, a list, a table.
    """
    extra: dict[str, Any] = {"allowed": allowed, "shown": shown, "literal": literal}
    if default_from is not None:
        return Field(default_factory=default_from, description=sentence, json_schema_extra=extra)
    return Field(default, description=sentence, json_schema_extra=extra, validate_default=True)


def _scalar(value: object) -> bool | int | float | str:
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError("not text, a finite number, true or false")


def _number(value: object) -> float:
    value = _scalar(value)
    if isinstance(value, str | bool):
        raise ValueError("not a number")
    return value


def _class_value(value: object) -> str | int | bool:
    value = _scalar(value)
    if isinstance(value, float):
        raise ValueError("not text, a whole number, true or false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not text")
    return value


Scalar: TypeAlias = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
"""Text, a finite 64-bit number, true or false; its type is kept."""

ClassValue: TypeAlias = Annotated[str | int | bool, BeforeValidator(_class_value)]
"""A target that names a class: text, a 64-bit whole number, true or false."""

Number: TypeAlias = Annotated[int | float, BeforeValidator(_number)]
"""A finite 64-bit number."""

Text: TypeAlias = Annotated[str, BeforeValidator(_text)]
"""Text of at least one character."""

Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, lt=1 << 63)]
"""A whole number of at least 1."""

Flag: TypeAlias = Annotated[bool, Field(strict=True)]
"""true or false."""
