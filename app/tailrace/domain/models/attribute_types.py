"""Which types an attribute of one of River's classes can have: for the codec, that nothing else is read into it.

What is known of an attribute comes from code, never from bytes:
    1. what freshly built models hold in it,
    2. the plain types that the constructor's parameter of its name is annotated with,
    3. the constants that methods of the class assign to it.
Numbers of Python and of NumPy count as one type, and so do objects that share a role (an optimizer for an optimizer).
An attribute of which nothing but None is known may hold anything: it is filled while the model learns. So may those of
a user's own classes, which River's habits do not bind.

A number that a constructor takes stays finite, where it was finite in the fresh model; learned numbers may overflow.
"""

from __future__ import annotations

import collections
import dis
import functools
import inspect
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, NamedTuple

import numpy as np
from river import base

_NONE: Final = type(None)
_NUMBERS: Final = frozenset[type]({bool, int, float, *(np.dtype(code).type for code in "?bhilqBHILQefd")})
_ANNOTATED: Final = {
    "bool": _NUMBERS,
    "int": _NUMBERS,
    "float": _NUMBERS,
    "str": frozenset[type]({str}),
    "None": frozenset[type]({_NONE}),
}
_NO_ROLES: Final = frozenset({base.Base, base.Estimator, base.Wrapper, base.Ensemble})
"""What nearly every class of River is: sharing it says nothing."""


class AttributeRule(NamedTuple):
    """What one attribute may hold.

    Attributes:
        types: Exact types.
        is_finite: Whether a float in it must be finite.
    """

    types: frozenset[type]
    is_finite: bool

    def allows(self, value: object) -> bool:
        """Tell whether a value may stand in the attribute."""
        return type(value) in self.types and not (self.is_finite and type(value) is float and not isfinite(value))


@dataclass(slots=True)
class SeenAttribute:
    """What the freshly built models hold in one attribute of one class."""

    types: set[type] = field(default_factory=set)
    is_finite: bool = True

    def note(self, value: object) -> None:
        """Take one instance's value into account."""
        self.types.add(type(value))
        self.is_finite &= not isinstance(value, float) or isfinite(value)


def rule_of(kind: type, name: str, seen: SeenAttribute | None, symbols: Iterable[object]) -> AttributeRule | None:
    """Return what the attribute `name` of `kind` may hold; None: anything.

    Args:
        seen: What fresh models hold in it; None where they have no such object.
        symbols: Classes of which there can be objects in a state.
    """
    if not kind.__module__.startswith("river."):
        return None
    known = set() if seen is None else seen.types
    annotated, is_plain = _annotation(kind, name)
    if not known - {_NONE} and not (is_plain and annotated):
        return None
    allowed = set(annotated)
    for one in known | _constants(kind).get(name, set()):
        allowed |= _NUMBERS if one in _NUMBERS else {one}
    for one in known:
        allowed |= {symbol for symbol in symbols if isinstance(symbol, type) and _roles(symbol) & _roles(one)}
    return AttributeRule(frozenset(allowed), seen is not None and seen.is_finite and name in _parameters(kind))


@functools.lru_cache(maxsize=4096)
def _roles(kind: type) -> frozenset[type]:
    """Return the classes of River that `kind` is one of, but for those that say nothing."""
    return frozenset(each for each in kind.__mro__ if each.__module__.startswith("river.")) - _NO_ROLES


@functools.lru_cache(maxsize=4096)
def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind).parameters)


def _annotation(kind: type, name: str) -> tuple[frozenset[type], bool]:
    """Return the plain types that the parameter of this name is annotated with, and whether there are no others."""
    parameter = _parameters(kind).get(name)
    if parameter is None or not isinstance(parameter.annotation, str):
        return frozenset(), False
    parts = [part.strip() for part in parameter.annotation.split("|")]
    found = [_ANNOTATED[part] for part in parts if part in _ANNOTATED]
    return frozenset[type]().union(*found), len(found) == len(parts)


@functools.lru_cache(maxsize=4096)
def _constants(kind: type) -> dict[str, set[type]]:
    found: dict[str, set[type]] = collections.defaultdict(set)
    for base_class in kind.__mro__:
        for member in vars(base_class).values():
            for code in codes_of(member):
                for name, constant in _assigned_constants(code):
                    found[name].add(type(constant))
    return dict(found)


def _assigned_constants(code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """Yield (attribute, constant) for `anything.attribute = constant`."""
    steps = list(dis.get_instructions(code))
    for constant, owner, store in zip(steps, steps[1:], steps[2:], strict=False):
        if store.opname == "STORE_ATTR" and owner.opname.startswith("LOAD_FAST") and constant.opname == "LOAD_CONST":
            yield str(store.argval), constant.argval


def codes_of(member: object) -> Iterator[types.CodeType]:
    """Yield the code of a function, or of the functions behind a property, a static or a class method."""
    functions: tuple[Any, ...] = (member,)
    if isinstance(member, property):
        functions = (member.fget, member.fset)
    elif isinstance(member, (staticmethod, classmethod)):
        functions = (member.__func__,)
    for function in functions:
        code = getattr(function, "__code__", None)
        if isinstance(code, types.CodeType):
            yield code
