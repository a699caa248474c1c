"""What a loop promises about features and targets: raw values → typed values, or a rejection with its code.

The contract is stateless: what becomes of one record depends on that record alone. How one feature is read is the
business of `features`, where it stands in a block that of `layout`.

Invariant: accepted features stand in sorted name order, are finite, 64 bit wide, and typed as the contract says;
-0.0 is read as 0.0.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final, TypeAlias, cast

from tailrace.domain.blocks import Floats, XColumns
from tailrace.domain.categories import OTHER
from tailrace.domain.errors import ContractError
from tailrace.domain.features import (
    ABSENT,
    MAX_TEXT_CHARS,
    REJECT,
    FeatureSpec,
    IntegerColumns,
    NumberColumns,
    Raw,
    Reader,
    StringColumns,
    as_finite,
    find,
    json_type,
    path_getter,
    reader_of,
    rejection,
)
from tailrace.domain.layout import STRING_TYPES, FeatureType, Getter, Layout
from tailrace.domain.records import Code, Features, Rejection, Stage, Task, Value

__all__ = [
    "ABSENT",
    "MAX_TEXT_CHARS",
    "REJECT",
    "ClassName",
    "FeatureContract",
    "FeatureSpec",
    "FeatureType",
    "ReadBatch",
    "TargetContract",
    "find",
]

ClassName: TypeAlias = str | int | bool

_FLOATS: Final = {float}


@dataclass(frozen=True)
class ReadBatch:
    """What a contract made of many raw records, in their order.

    Attributes:
        layout: Of the columns.
        x: The columns of all of them; None when a record was rejected or lacks a field.
        each: What was made of each, where they were read one by one.
    """

    layout: Layout
    x: XColumns | None
    each: Sequence[Features | Rejection] = ()

    @cached_property
    def read(self) -> Sequence[Features | Rejection]:
        """One entry per raw record; made when asked for, since columns are enough for most of what follows."""
        return self.each if self.x is None else self.layout.rows(self.x)


@dataclass(frozen=True)
class FeatureContract:
    """The features of one loop, kept sorted by name.

    Attributes:
        target: What its targets mean (`TargetContract.canonical`); part of the id, since a row that was recorded
            under other targets means something else.

    Raises:
        ContractError: A specification is unusable, or two have one name.
    """

    features: tuple[FeatureSpec, ...]
    target: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(sorted(self.features, key=lambda spec: spec.name)))
        problems = [f"feature {spec.name!r}: {problem}" for spec in self.features for problem in spec.problems()]
        if len(set(self.names)) != len(self.names):
            problems.append("one feature name stands twice; names must differ")
        if not self.features:
            problems.append("there are no features; a contract needs at least one")
        if problems:
            raise ContractError("; ".join(problems))

    @cached_property
    def id(self) -> str:
        """16 hex digits; contracts of one id read every record alike."""
        return hashlib.sha256((self.canonical + self.target).encode()).hexdigest()[:16]

    @cached_property
    def canonical(self) -> str:
        """The features as JSON with sorted keys."""
        plain = [asdict(spec) for spec in self.features]
        for spec in plain:
            spec["values"] = sorted(spec["values"])
            if spec["most"] is None:
                del spec["most"]
            spec["minimum"], spec["maximum"] = _as_float(spec["minimum"]), _as_float(spec["maximum"])
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in the order of `x`."""
        return tuple(spec.name for spec in self.features)

    @cached_property
    def open_categories(self) -> Mapping[str, int]:
        """Category without a list → how many of its values a model comes to know at most."""
        return {spec.name: spec.most for spec in self.features if spec.most is not None}

    @cached_property
    def roots(self) -> frozenset[str]:
        """Top-level fields of an event that this contract looks at."""
        return frozenset(self.names) | {name.partition(".")[0] for name in self.names}

    @cached_property
    def layout(self) -> Layout:
        """Where each feature stands in a block."""
        return Layout(self.names, tuple(spec.type for spec in self.features))

    def read(self, raw: Raw) -> Features | Rejection:
        """Read one raw record; fields that the contract does not name are ignored."""
        if self._free_numbers:
            try:
                values = self._all(raw)
            except KeyError:
                return self._read_each(raw)
            # The sum of floats is finite only if each of them is, and is cheaper than asking each.
            if set(map(type, values)) == _FLOATS and math.isfinite(sum(values)):
                if 0.0 in values:
                    values = tuple([value + 0.0 for value in values])
                return dict(zip(self.names, values, strict=False))
        return self._read_each(raw)

    def read_many(self, raws: Sequence[Raw]) -> ReadBatch:
        """Read many raw records: the same as `read` for each, and faster where all are complete and right."""
        x = self._read_columns(raws)
        return ReadBatch(self.layout, x, [self.read(raw) for raw in raws] if x is None else ())

    def columns(self, rows: Sequence[Features]) -> XColumns:
        """Put rows that this contract has read into columns (`Layout.columns`)."""
        return self.layout.columns(rows)

    def rows(self, x: XColumns) -> list[Features]:
        """Give back the rows that `columns` was given (`Layout.rows`)."""
        return self.layout.rows(x)

    def values(self, x: XColumns) -> Iterable[Iterable[Value]]:
        """Give back the values of rows that lack no feature (`Layout.values`)."""
        return self.layout.values(x)

    @property
    def only_numbers(self) -> bool:
        """Whether every feature is of type number (`Layout.only_numbers`)."""
        return self.layout.only_numbers

    def matrix(self, x: XColumns) -> Floats:
        """Give back rows as a matrix of numbers (`Layout.dense`); ask `why_no_matrix` first."""
        return self.layout.dense(x, self.codes)

    @cached_property
    def codes(self) -> Mapping[str, Mapping[str, int]]:
        """Category with a list → value → the number that stands for it in a matrix."""
        return {
            spec.name: {value: code for code, value in enumerate(dict.fromkeys([*sorted(spec.values), *_others(spec)]))}
            for spec in self.features
            if spec.type in STRING_TYPES
        }

    @cached_property
    def why_no_matrix(self) -> str:
        """Why rows are no matrix of numbers, in one sentence; "" where they are."""
        for spec in self.features:
            if spec.type in STRING_TYPES:
                if not spec.values:
                    return f"the feature {spec.name} is a {spec.type} without a list of values: no fixed columns"
            elif spec.missing == ABSENT:
                return f"the feature {spec.name} may be absent, and compiled models take rows that lack nothing"
        return ""

    @cached_property
    def _free_numbers(self) -> bool:
        return all(spec.type == "number" and spec.minimum is None and spec.maximum is None for spec in self.features)

    @cached_property
    def _all(self) -> Getter:
        return path_getter(self.names)

    @cached_property
    def _readers(self) -> tuple[tuple[FeatureSpec, Reader], ...]:
        return tuple((spec, reader_of(spec)) for spec in self.features)

    @cached_property
    def _kinds(self) -> tuple[NumberColumns, IntegerColumns, StringColumns]:
        by_name = {spec.name: spec for spec in self.features}
        numbers, integers, strings = (
            tuple(by_name[name] for name in names)
            for names in (self.layout.number_names, self.layout.integer_names, self.layout.string_names)
        )
        return NumberColumns(numbers), IntegerColumns(integers), StringColumns(strings)

    def _read_each(self, raw: Raw) -> Features | Rejection:
        x: Features = {}
        for spec, read in self._readers:
            value = find(raw, spec.name)
            if value is None:
                if spec.missing == ABSENT:
                    continue
                if spec.missing == REJECT:
                    return rejection(Code.FEATURE_MISSING, spec.name, "is missing or null")
                value = spec.missing
            accepted = read(value)
            if isinstance(accepted, Rejection):
                return accepted
            x[spec.name] = accepted
        return x

    def _read_columns(self, raws: Sequence[Raw]) -> XColumns | None:
        # None: at least one record must be looked at field by field.
        numbers, integers, strings = self._kinds
        try:
            floats = numbers.read(raws)
            int_matrix = None if floats is None else integers.read(raws)
            string_rows = None if int_matrix is None else strings.read(raws)
        except (KeyError, OverflowError):
            return None
        if floats is None or int_matrix is None or string_rows is None:
            return None
        return XColumns(floats, int_matrix, string_rows)


def _others(spec: FeatureSpec) -> list[str]:
    return [OTHER] if spec.other else []


def _as_float(bound: float | None) -> float | None:
    return None if bound is None else float(bound)


@dataclass(frozen=True)
class TargetContract:
    """What a label says, and what predictions say in the same words.

    Attributes:
        positive: Binary and anomaly: the target that means True; it must match in type too.
        negative: The same: the only target that means False; None: every other one of the type of `positive`.
        classes: Multiclass: the targets, in the order of their indexes.

    Raises:
        ContractError: The settings contradict each other.
    """

    task: Task
    positive: ClassName = True
    negative: ClassName | None = None
    classes: tuple[ClassName, ...] = ()

    def __post_init__(self) -> None:
        if problems := self.problems():
            raise ContractError("; ".join(problems))

    @cached_property
    def canonical(self) -> str:
        """The contract as JSON."""
        if self.task.has_two_targets:
            return json.dumps([self.task.value, self.positive, self.negative])
        return json.dumps([self.task.value, *self.classes])

    def problems(self) -> list[str]:
        """Return what makes this contract unusable, one sentence each."""
        found = []
        if self.negative is not None and _typed(self.negative) == _typed(self.positive):
            found.append("positive and negative are the same; give each its own target")
        if self.task is Task.MULTICLASS and len(self.classes) < 2:
            found.append("multiclass needs classes = […] with at least two")
        if self.task is not Task.MULTICLASS and self.classes:
            found.append(f"classes do not go with task {self.task}; they go with multiclass")
        if len(set(map(str, self.classes))) != len(self.classes):
            found.append("classes names one class twice; they must differ as text too")
        return found

    def read(self, value: object) -> float | Rejection:
        """Read the target of a label: binary and anomaly 0.0 or 1.0, multiclass its index, regression the number."""
        if value is None:
            return Rejection(Code.TARGET_MISSING, Stage.VALIDATE, "the target is missing or null")
        if self.task is Task.REGRESSION:
            return self._number(value)
        y = self._indexes.get(_typed(value))
        if y is None and self._any_negative and type(value) is type(self.positive):
            return 0.0
        return _target_invalid(self._allowed, value) if y is None else y

    def read_many(self, values: Sequence[object]) -> Sequence[float | Rejection]:
        """Return `read` each: faster where all are right and of one type."""
        types = set(map(type, values))
        if self.task is Task.REGRESSION:
            if types == _FLOATS:
                numbers = [number + 0.0 for number in cast(Sequence[float], values)]
                if math.isfinite(sum(numbers)):
                    return numbers
        elif len(types) == 1 and (of_type := self._indexes_of.get(*types)) is not None:
            other = 0.0 if self._any_negative else None
            indexes = [of_type.get(value, other) for value in values]
            if None not in indexes:
                return cast(list[float], indexes)
        return list(map(self.read, values))

    @property
    def width(self) -> int:
        """Columns of `Served.proba`: binary 1, multiclass one per class, regression and anomaly 0."""
        return 1 if self.task is Task.BINARY else len(self.classes)

    def river(self, y: float) -> ClassName | float:
        """Return the target as River models take it: a bool, the class, or the number."""
        if self.task is Task.REGRESSION:
            return y
        return self.classes[int(y)] if self.task is Task.MULTICLASS else y == 1.0

    def show(self, y_pred: float) -> ClassName | float | None:
        """Return what a prediction says: true or false, the class, the number; None where the model abstained."""
        if math.isnan(y_pred):
            return None
        return y_pred if self.task.answers_numbers else self.river(y_pred)

    def _number(self, value: object) -> float | Rejection:
        if type(value) is not float and type(value) is not int:
            return _target_invalid("a finite number", value)
        number = as_finite(value)
        return _target_invalid("a finite number", value) if number is None else number

    @cached_property
    def _indexes(self) -> Mapping[tuple[type, object], float]:
        if self.task is Task.MULTICLASS:
            return {_typed(name): float(index) for index, name in enumerate(self.classes)}
        indexes = {_typed(self.positive): 1.0}
        if self.negative is not None:
            indexes[_typed(self.negative)] = 0.0
        return indexes

    @cached_property
    def _indexes_of(self) -> Mapping[type, Mapping[object, float]]:
        """Type → target of that type → its index."""
        found: dict[type, dict[object, float]] = {}
        for (type_, value), index in self._indexes.items():
            found.setdefault(type_, {})[value] = index
        return found

    @cached_property
    def _any_negative(self) -> bool:
        return self.task.has_two_targets and self.negative is None

    @cached_property
    def _allowed(self) -> str:
        if self.task is Task.MULTICLASS:
            return "one of the configured classes"
        return "positive or negative" if self.negative is not None else f"{json_type(self.positive)}, as positive is"


def _typed(value: object) -> tuple[type, object]:
    # True == 1 == 1.0 in Python; targets of different JSON types are different targets. Arrays and objects are
    # unhashable and never a target.
    return type(value), value if isinstance(value, str | int | float) else None


def _target_invalid(allowed: str, value: object) -> Rejection:
    return Rejection(Code.TARGET_INVALID, Stage.VALIDATE, f"the target is {json_type(value)}; allowed is {allowed}")
