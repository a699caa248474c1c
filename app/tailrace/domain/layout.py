"""Where each feature stands in a block: rows of typed features ↔ columns, exact inverses of each other.

What may be in a row is decided by `contract`; this module trusts the values of a row and checks only its names.
Bools travel as integers and come back as bools; an absent feature has no key in a row and a neutral cell in a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tailrace.domain.blocks import Floats, XColumns
from tailrace.domain.errors import ContractError
from tailrace.domain.records import Features, Value

FeatureType: TypeAlias = Literal["number", "integer", "boolean", "category", "text"]
Getter: TypeAlias = Callable[[Any], tuple[Any, ...]]

NUMBER_TYPES: Final = frozenset({"number"})
INTEGER_TYPES: Final = frozenset({"integer", "boolean"})
STRING_TYPES: Final = frozenset({"category", "text"})
_NEUTRAL: Final[Mapping[str, Value]] = {"number": 0.0, "integer": 0, "boolean": 0, "category": "", "text": ""}


@dataclass(frozen=True)
class Layout:
    """The features of one contract in sorted name order, and their types."""

    names: tuple[str, ...]
    types: tuple[FeatureType, ...]

    def columns(self, rows: Sequence[Features]) -> XColumns:
        """Put typed rows into columns.

        Raises:
            ContractError: A row has a feature that the contract does not name.
        """
        if sum(map(len, rows)) == len(rows) * len(self.names):
            try:
                return self._complete(rows)
            except KeyError:
                pass
        return self._with_absent(rows)

    def rows(self, x: XColumns) -> list[Features]:
        """Give back the rows that `columns` was given.

        Raises:
            ContractError: The columns are not of this contract's shape.
        """
        rows = self.named(self.values(x))
        if x.absent is not None:
            for i, j in np.argwhere(x.absent).tolist():
                del rows[i][self.names[j]]
        return rows

    def values(self, x: XColumns) -> Iterable[Iterable[Value]]:
        """Give back the values of each row in sorted name order, neutral where a feature is absent; to be read once.

        Raises:
            ContractError: The columns are not of this contract's shape.
        """
        self._check_shape(x)
        return x.numbers.tolist() if self.only_numbers else zip(*self._columns_in_order(x), strict=True)

    def dense(self, x: XColumns, codes: Mapping[str, Mapping[str, int]]) -> Floats:
        """Give back rows as a matrix of numbers: n × features, in sorted name order; NaN where a number is absent.

        Args:
            codes: Feature of strings → value → the number that stands for it; for any other value it is -1.

        Raises:
            ContractError: The columns are not of this contract's shape.
        """
        self._check_shape(x)
        if self.only_numbers and x.absent is None:
            return x.numbers
        made = np.empty((len(x.strings), len(self.names)), np.float64)
        made[:, self._places(NUMBER_TYPES)] = x.numbers
        made[:, self._places(INTEGER_TYPES)] = x.integers
        if x.absent is not None:
            made[x.absent] = np.nan
        columns = zip(*x.strings, strict=True) if x.strings else repeat(())
        for place, name, column in zip(self._places(STRING_TYPES), self.string_names, columns, strict=False):
            code = codes[name]
            made[:, place] = [code.get(value, -1) for value in column]
            if x.absent is not None:
                made[x.absent[:, place], place] = -1
        return made

    def named(self, rows: Iterable[Iterable[Value]]) -> list[Features]:
        """Give each value of complete rows, in sorted name order, its name."""
        return list(map(dict, map(zip, repeat(self.names), rows)))

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        """Features of type number: the columns of `XColumns.numbers`."""
        return self._of(NUMBER_TYPES)

    @cached_property
    def integer_names(self) -> tuple[str, ...]:
        """Features of type integer or boolean: the columns of `XColumns.integers`."""
        return self._of(INTEGER_TYPES)

    @cached_property
    def string_names(self) -> tuple[str, ...]:
        """Features of type category or text: the members of each tuple of `XColumns.strings`."""
        return self._of(STRING_TYPES)

    def _of(self, types: frozenset[str]) -> tuple[str, ...]:
        return tuple(name for name, kind in zip(self.names, self.types, strict=True) if kind in types)

    def _places(self, types: frozenset[str]) -> list[int]:
        return [place for place, kind in enumerate(self.types) if kind in types]

    @cached_property
    def only_numbers(self) -> bool:
        """Whether every feature is of type number."""
        return self.number_names == self.names

    @cached_property
    def _getters(self) -> tuple[Getter, Getter, Getter]:
        return getter(self.number_names), getter(self.integer_names), getter(self.string_names)

    @cached_property
    def _empty_row(self) -> Features:
        return {name: _NEUTRAL[kind] for name, kind in zip(self.names, self.types, strict=True)}

    def _complete(self, rows: Sequence[Features]) -> XColumns:
        numbers, integers, strings = self._getters
        n = len(rows)
        return XColumns(
            matrix(list(chain.from_iterable(map(numbers, rows))), np.float64, n, len(self.number_names)),
            matrix(list(chain.from_iterable(map(integers, rows))), np.int64, n, len(self.integer_names)),
            list(map(strings, rows)),
        )

    def _with_absent(self, rows: Sequence[Features]) -> XColumns:
        empty, names = self._empty_row, self.names
        for row in rows:
            if unknown := row.keys() - empty.keys():
                message = f"a row has the feature {min(unknown)!r}, its contract has none such; read it by the contract"
                raise ContractError(message)
        x = self._complete([empty | row for row in rows])
        flags = [name not in row for row in rows for name in names]
        return XColumns(x.numbers, x.integers, x.strings, matrix(flags, np.bool_, len(rows), len(names)))

    def _columns_in_order(self, x: XColumns) -> list[Sequence[Value]]:
        numbers = iter(x.numbers.T.tolist())
        integers = iter(x.integers.T)
        strings = iter(list(zip(*x.strings, strict=True)) if x.strings else [()] * len(self.string_names))
        found: list[Sequence[Value]] = []
        for kind in self.types:
            if kind in NUMBER_TYPES:
                found.append(next(numbers))
            elif kind in STRING_TYPES:
                found.append(next(strings))
            else:
                column = next(integers)
                found.append((column != 0).tolist() if kind == "boolean" else column.tolist())
        return found

    def _check_shape(self, x: XColumns) -> None:
        n = len(x.strings)
        fits = (
            x.numbers.shape == (n, len(self.number_names))
            and x.integers.shape == (n, len(self.integer_names))
            and set(map(len, x.strings)) <= {len(self.string_names)}
            and (x.absent is None or x.absent.shape == (n, len(self.names)))
        )
        if not fits:
            message = (
                f"columns of shape {x.numbers.shape}, {x.integers.shape} and {n} rows of strings do not fit a contract "
                f"of {len(self.number_names)} numbers, {len(self.integer_names)} integers and "
                f"{len(self.string_names)} strings; read the block with the contract that its id names"
            )
            raise ContractError(message)


def getter(names: tuple[str, ...]) -> Getter:
    """Return a function that takes these keys out of a mapping, always as a tuple."""
    if len(names) > 1:
        return itemgetter(*names)
    if names:
        (name,) = names
        return lambda row: (row[name],)
    return lambda _row: ()


def matrix(flat: Sequence[Any], dtype: DTypeLike, n: int, width: int) -> NDArray[Any]:
    """Return n × width from values in row order.

    Raises:
        OverflowError: An integer does not fit the type.
    """
    return np.array(flat, dtype=dtype).reshape(n, width)
