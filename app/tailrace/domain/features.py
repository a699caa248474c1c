"""What one feature may be, and how values of it are read: one at a time, or whole columns at once.

Reading a column says only "all are right" or "look at each"; the reason for a rejection always comes from reading
one value. Both read every value alike. A rejection names fields and types, never values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeAlias, get_args

import numpy as np

from tailrace.domain.blocks import Floats, Ints
from tailrace.domain.categories import OTHER
from tailrace.domain.layout import FeatureType, Getter, getter, matrix
from tailrace.domain.records import Code, Rejection, Stage, Value

Raw: TypeAlias = Mapping[str, object]
Reader: TypeAlias = Callable[[object], Value | Rejection]

REJECT: Final = "reject"
ABSENT: Final = "absent"
MAX_TEXT_CHARS: Final = 1000

MAX_CATEGORIES: Final = 10_000
"""Known values of one category: each may cost a model a weight, a column or a branch, in every snapshot."""

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

_NUMBERS: Final = {float, int}
_STRINGS: Final = {str}


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What one feature may be.

    Attributes:
        name: Field of the event, or a dotted path into nested objects; a field whose own name has the dots wins.
        minimum, maximum: Inclusive bounds of a number or integer.
        values: What a category may be; none: any text, and the fold keeps the set of values (`categories`).
        other: Read every unlisted category as "other" instead of rejecting it.
        most: Of a category without values: how many of them are known at most, the rest is "other" to the model.
        missing: "reject", "absent", or the value to read where the field is missing or null.
        max_length: Longest text, or value of an open category, in characters.
    """

    name: str
    type: FeatureType
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    other: bool = False
    missing: Value = REJECT
    max_length: int = MAX_TEXT_CHARS
    most: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is a category whose values the contract does not list."""
        return self.type == "category" and self.most is not None

    def problems(self) -> list[str]:
        """Return what makes this specification unusable, one sentence each."""
        if self.type not in get_args(FeatureType):
            return [f"type is {self.type!r}; allowed are {', '.join(get_args(FeatureType))}"]
        found = list(self._contradictions())
        if not found and self.missing not in (REJECT, ABSENT):
            refused = reader_of(self)(self.missing)
            if isinstance(refused, Rejection):
                found.append(f'missing is no value that the feature may have ({refused.code}); or write "absent"')
        return found

    def _contradictions(self) -> Iterable[str]:
        if not all(self.name.split(".")):
            yield "the name is empty or has an empty part; write a field name or a dotted path"
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if bounds and self.type not in ("number", "integer"):
            yield f"bounds do not go with type {self.type}; they go with number and integer"
        if not all(map(math.isfinite, bounds)) or bounds != sorted(bounds):
            yield "minimum and maximum must be finite, and minimum not above maximum"
        elif self.type == "integer" and not _has_integers(self):
            yield "no whole number of 64 bits lies from minimum to maximum"
        yield from self._category_contradictions()
        if self.max_length < 1:
            yield "max_length is below 1; no text could be accepted"

    def _category_contradictions(self) -> Iterable[str]:
        if (self.values or self.other) and self.type != "category":
            yield f"values and other do not go with type {self.type}; they go with category"
        if self.type == "category" and not self.values and self.most is None:
            yield 'a category needs values = ["…"], or max = how many values are known at most'
        if self.most is not None and (self.type != "category" or self.values or self.other):
            yield "max, a count of values, does not go with values, with other or with another type than category"
        if self.most is not None and not 1 <= self.most <= MAX_CATEGORIES:
            yield f"max is {self.most}; a model knows from 1 to {MAX_CATEGORIES} values of one category"
        if len(set(self.values)) != len(self.values):
            yield "values names one category twice; name each once"


def find(raw: Raw, path: str) -> object:
    """Return the field of this name, else what the dotted path leads to; None where there is nothing or null."""
    found: object = raw.get(path)
    if found is not None or "." not in path:
        return found
    found = raw
    for part in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def path_getter(names: tuple[str, ...]) -> Getter:
    """Return a function that finds these fields in a raw record: KeyError or None where one is missing."""
    if not any("." in name for name in names):
        return getter(names)
    return lambda raw: tuple([find(raw, name) for name in names])


class NumberColumns:
    """Columns of type number, read at once."""

    def __init__(self, specs: tuple[FeatureSpec, ...]) -> None:
        self._width = len(specs)
        self._get = path_getter(tuple(spec.name for spec in specs))
        self._low = np.array([-math.inf if spec.minimum is None else spec.minimum for spec in specs])
        self._high = np.array([math.inf if spec.maximum is None else spec.maximum for spec in specs])

    def read(self, raws: Sequence[Raw]) -> Floats | None:
        """Return n × features; None where one record must be looked at by itself."""
        flat = list(chain.from_iterable(map(self._get, raws)))
        types = set(map(type, flat))
        if not types <= _NUMBERS:
            return None
        found: Floats = matrix(flat, np.float64, len(raws), self._width)
        if not (_within(found, self._low, self._high) and np.isfinite(found).all()):
            return None
        return found + 0.0  # -0.0 becomes 0.0, as where one value is read


class IntegerColumns:
    """Columns of type integer and boolean, read at once."""

    def __init__(self, specs: tuple[FeatureSpec, ...]) -> None:
        self._types = [{bool} if spec.type == "boolean" else {int} for spec in specs]
        self._get = path_getter(tuple(spec.name for spec in specs))
        bounds = [_integer_bounds(spec) for spec in specs]
        self._low = np.array([low for low, _ in bounds], dtype=np.int64)
        self._high = np.array([high for _, high in bounds], dtype=np.int64)

    def read(self, raws: Sequence[Raw]) -> Ints | None:
        """Return n × features; None where one record must be looked at by itself."""
        rows = list(map(self._get, raws))
        for column, types in zip(zip(*rows, strict=True), self._types, strict=False):
            if set(map(type, column)) != types:
                return None
        found: Ints = matrix(list(chain.from_iterable(rows)), np.int64, len(raws), len(self._types))
        return found if _within(found, self._low, self._high) else None


class StringColumns:
    """Columns of type category and text, read at once."""

    def __init__(self, specs: tuple[FeatureSpec, ...]) -> None:
        self._specs = specs
        self._values = [frozenset(spec.values) for spec in specs]
        self._get = path_getter(tuple(spec.name for spec in specs))

    def read(self, raws: Sequence[Raw]) -> list[tuple[str, ...]] | None:
        """Return n rows; None where one record must be looked at by itself."""
        rows = list(map(self._get, raws))
        if not set(map(type, chain.from_iterable(rows))) <= _STRINGS:
            return None
        for column, spec, values in zip(zip(*rows, strict=True), self._specs, self._values, strict=False):
            if spec.type == "text" or spec.is_open:
                if max(map(len, column)) > spec.max_length:
                    return None
            elif not values.issuperset(column):
                return None
        return rows


def _within(found: Floats | Ints, low: Floats | Ints, high: Floats | Ints) -> bool:
    return bool((found >= low).all() and (found <= high).all())


def reader_of(spec: FeatureSpec) -> Reader:
    """Return the function that reads one value of this feature."""
    return {"number": _number, "integer": _integer, "boolean": _boolean, "category": _category, "text": _text}[
        spec.type
    ](spec)


def _number(spec: FeatureSpec) -> Reader:
    def read(value: object) -> Value | Rejection:
        if type(value) is not float and type(value) is not int:
            return _wrong_type(spec, value)
        number = as_finite(value)
        if number is None:
            return rejection(Code.FEATURE_NOT_FINITE, spec.name, "is not a finite 64-bit number")
        return number if _in_bounds(spec, number) else _out_of_bounds(spec)

    return read


def _integer(spec: FeatureSpec) -> Reader:
    low, high = _integer_bounds(spec)

    def read(value: object) -> Value | Rejection:
        if type(value) is not int:
            return _wrong_type(spec, value)
        return value if low <= value <= high else _out_of_bounds(spec)

    return read


def _boolean(spec: FeatureSpec) -> Reader:
    return lambda value: value if type(value) is bool else _wrong_type(spec, value)


def _category(spec: FeatureSpec) -> Reader:
    if spec.is_open:
        return _text(spec)
    values = frozenset(spec.values)

    def read(value: object) -> Value | Rejection:
        if type(value) is not str:
            return _wrong_type(spec, value)
        if value in values:
            return value
        return OTHER if spec.other else rejection(Code.CATEGORY_UNKNOWN, spec.name, "is none of its listed values")

    return read


def _text(spec: FeatureSpec) -> Reader:
    def read(value: object) -> Value | Rejection:
        if type(value) is not str:
            return _wrong_type(spec, value)
        if len(value) > spec.max_length:
            return rejection(Code.TEXT_TOO_LONG, spec.name, f"has more than {spec.max_length} characters")
        return value

    return read


def as_finite(value: float) -> float | None:
    """Return an int or float as a finite 64-bit float, -0.0 as 0.0; None where it is none."""
    try:
        number = float(value) + 0.0
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _integer_bounds(spec: FeatureSpec) -> tuple[int, int]:
    low = INT64_MIN if spec.minimum is None else max(INT64_MIN, math.ceil(spec.minimum))
    high = INT64_MAX if spec.maximum is None else min(INT64_MAX, math.floor(spec.maximum))
    return low, high


def _has_integers(spec: FeatureSpec) -> bool:
    low, high = _integer_bounds(spec)
    return low <= high


def _in_bounds(spec: FeatureSpec, number: float) -> bool:
    return (spec.minimum is None or number >= spec.minimum) and (spec.maximum is None or number <= spec.maximum)


def _out_of_bounds(spec: FeatureSpec) -> Rejection:
    return rejection(Code.FEATURE_OUT_OF_BOUNDS, spec.name, f"is outside of {_bounds_text(spec)}")


def _bounds_text(spec: FeatureSpec) -> str:
    if spec.minimum is None and spec.maximum is None:
        return "64 bits"
    low = "…" if spec.minimum is None else f"{spec.minimum:g}"
    high = "…" if spec.maximum is None else f"{spec.maximum:g}"
    return f"{low} to {high}"


def _wrong_type(spec: FeatureSpec, value: object) -> Rejection:
    return rejection(Code.FEATURE_TYPE, spec.name, f"is {json_type(value)}; its type is {spec.type}")


def rejection(code: Code, name: str, what: str) -> Rejection:
    """Reject a record for one of its features."""
    return Rejection(code, Stage.VALIDATE, f"feature {name!r} {what}", name)


def json_type(value: object) -> str:
    """Name the JSON type of a decoded value, with its article: for messages."""
    return _JSON_TYPES.get(type(value), "of an unknown type")


_JSON_TYPES: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "true or false",
    int: "an integer",
    float: "a number with a fraction or exponent",
    str: "text",
    list: "an array",
    dict: "an object",
}
