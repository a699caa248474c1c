"""The parts of a model expression that was read, and the one text that each has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text, a boolean or None."""

    value: int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class TypeName:
    """One of `str float int bool`, inside `SelectType`."""

    name: str
    kind: type


@dataclass(frozen=True, slots=True)
class Series:
    """A list or a tuple."""

    items: tuple[Part, ...]
    is_list: bool


@dataclass(frozen=True, slots=True)
class Mapping:
    """A dict, in the order in which it was written."""

    items: tuple[tuple[Part, Part], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A constructor: its class with the module, positional arguments only where the constructor takes any number."""

    name: str
    kind: type
    positional: tuple[Part, ...]
    named: tuple[tuple[str, Part], ...]
    column: int


@dataclass(frozen=True, slots=True)
class Steps:
    """`left | right` or `left + right`."""

    sign: str
    left: Part
    right: Part
    column: int


Part: TypeAlias = Literal | TypeName | Series | Mapping | Call | Steps


def text_of(part: Part) -> str:
    """Return the canonical text: equal parts have equal texts, and the text reads back as the same part."""
    if isinstance(part, Literal):
        return repr(part.value)
    if isinstance(part, TypeName):
        return part.name
    if isinstance(part, Series):
        return _series(part)
    if isinstance(part, Mapping):
        return "{" + ", ".join(f"{text_of(key)}: {text_of(value)}" for key, value in part.items) + "}"
    if isinstance(part, Call):
        arguments = [*map(text_of, part.positional), *(f"{name}={text_of(value)}" for name, value in part.named)]
        return f"{part.name}({', '.join(arguments)})"
    return f"{_operand(part.left, part.sign, left=True)} {part.sign} {_operand(part.right, part.sign, left=False)}"


def _series(part: Series) -> str:
    items = ", ".join(map(text_of, part.items))
    if part.is_list:
        return f"[{items}]"
    return f"({items},)" if len(part.items) == 1 else f"({items})"


def _operand(part: Part, sign: str, *, left: bool) -> str:
    """Put parentheses around steps, but for the left side of the same sign: both signs group to the left."""
    if isinstance(part, Steps) and not (left and part.sign == sign):
        return f"({text_of(part)})"
    return text_of(part)
