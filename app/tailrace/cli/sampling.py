"""What a sample of JSON records shows about their fields: kinds, ranges, values, how often each is missing.

Nested objects become dotted paths. The sample is small, so every value of it is looked at; nothing is estimated.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["number", "boolean", "text", "list", "other"]

MOST_RECORDS: Final = 1000
DEEPEST: Final = 5
"""Levels of nested objects that become dotted paths; what lies deeper is no feature anybody wants by guessing."""


@dataclass(slots=True)
class Profile:
    """What was seen of one field.

    Attributes:
        values: Every value (text, numbers, booleans) → how often; keyed with its type, since True == 1.
        present: Records in which it is there and not null.
        total: Records of the sample.
    """

    name: str
    total: int
    present: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    values: Counter[tuple[type, Any]] = field(default_factory=Counter)

    @property
    def kind(self) -> Kind | None:
        """The one kind of all its values; None where kinds are mixed or it was always null."""
        return next(iter(self.kinds)) if len(self.kinds) == 1 else None

    @property
    def distinct(self) -> list[Any]:
        """The different values, the most frequent first, equal ones in order of themselves."""
        ordered = sorted(self.values.items(), key=lambda item: (-item[1], item[0][0].__name__, item[0][1]))
        return [value for (_, value), _ in ordered]

    @property
    def is_unique(self) -> bool:
        """Whether it is there in every record and never twice the same."""
        return self.present == self.total == len(self.values)

    @property
    def is_whole(self) -> bool:
        """Whether all its values are whole numbers without a decimal point."""
        return self.kind == "number" and all(kind is int for kind, _ in self.values)

    @property
    def missing_share(self) -> float:
        """Share of the records in which it is missing or null, 0..1."""
        return 1 - self.present / self.total


@dataclass(frozen=True, slots=True)
class Sample:
    """Records that could be read, and how many could not.

    Attributes:
        profiles: Field name or dotted path → what was seen, in the order of first appearance.
    """

    source: str
    records: list[dict[str, Any]]
    unreadable: int
    profiles: Mapping[str, Profile]


def sample_of(source: str, raws: Iterable[bytes]) -> Sample:
    """Read raw JSON records, at most MOST_RECORDS of them."""
    records, unreadable = [], 0
    for _, raw in zip(range(MOST_RECORDS), raws, strict=False):
        record = _object(raw)
        if record is None:
            unreadable += 1
        else:
            records.append(record)
    return Sample(source, records, unreadable, _profiles(records))


def value_at(record: Mapping[str, Any], path: str) -> object:
    """Return the value of a field or dotted path; None where it is missing."""
    if path in record:
        return record[path]
    head, _, rest = path.partition(".")
    below = record.get(head)
    return value_at(below, rest) if rest and isinstance(below, dict) else None


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(raw.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _profiles(records: list[dict[str, Any]]) -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    for record in records:
        for path, value in dict(_leaves(record, "", 1)).items():
            profile = profiles.setdefault(path, Profile(path, len(records)))
            if value is not None:
                _observe(profile, value)
    return profiles


def _leaves(record: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict) and depth < DEEPEST:
            yield from _leaves(value, f"{prefix}{name}.", depth + 1)
        else:
            yield prefix + name, value


def _observe(profile: Profile, value: object) -> None:
    profile.present += 1
    kind = _kind_of(value)
    profile.kinds[kind] += 1
    if kind in {"number", "boolean", "text"}:
        profile.values[type(value), value] += 1


def _kind_of(value: object) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text" if _is_unicode(value) else "other"
    if isinstance(value, int | float):
        return "number" if math.isfinite(value) and abs(value) < 1 << 63 else "other"
    return "list" if isinstance(value, list) else "other"


def _is_unicode(text: str) -> bool:
    """Tell whether text can be written as UTF-8; half of a surrogate pair cannot."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
