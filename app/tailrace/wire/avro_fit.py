"""Whether values of a pinned schema can ever be what a loop needs: asked by `tailrace check`, before a record comes.

Says only what is certain: a field that no value of the schema has, or whose every type would be rejected. What a
value holds is judged record by record, as with JSON.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tailrace.domain.contract import REJECT, FeatureContract, TargetContract
from tailrace.domain.layout import FeatureType
from tailrace.domain.records import Task
from tailrace.domain.times import TimeUnit
from tailrace.wire.json_codec import RecordFields
from tailrace.wire.pinned_schema import PinnedSchema, kind_of
from tailrace.wire.schemas import Schema

_WHOLE: Final = ("int", "long")
_TEXT: Final = ("string", "enum")
_NUMBER: Final = (*_WHOLE, "float", "double")
_OF_FEATURE: Final[dict[FeatureType, tuple[str, ...]]] = {
    "number": _NUMBER,
    "integer": _WHOLE,
    "boolean": ("boolean",),
    "category": _TEXT,
    "text": _TEXT,
}
_UNITS: Final[dict[str, TimeUnit]] = {"timestamp-millis": "ms", "timestamp-micros": "us", "timestamp-nanos": "ns"}
_NO_MOMENT: Final = ("date", "time-millis", "time-micros")


class Need(NamedTuple):
    """A field that is looked at.

    Attributes:
        what: What it is, for messages: "id", "feature" …
        kinds: Avro types that can be read as it.
        is_needed: Whether a record without it is rejected.
        unit: Of a time that is a number; None: it is no time.
    """

    what: str
    path: str
    kinds: tuple[str, ...]
    is_needed: bool = True
    unit: TimeUnit | None = None


def needs_of_events(fields: RecordFields, contract: FeatureContract) -> list[Need]:
    """Return what an event is read by."""
    features = [
        Need("feature", spec.name, _OF_FEATURE[spec.type], is_needed=spec.missing == REJECT)
        for spec in contract.features
    ]
    return [*_of_fields(fields), *features]


def needs_of_labels(
    fields: RecordFields, path: str, target: TargetContract, *, revision: str | None = None, source: str | None = None
) -> list[Need]:
    """Return what a label is read by."""
    names = target.classes or (target.positive,)
    kinds = {str: _TEXT, bool: ("boolean",), int: _WHOLE}
    allowed = (
        _NUMBER
        if target.task is Task.REGRESSION
        else tuple(dict.fromkeys(kind for name in names for kind in kinds[type(name)]))
    )
    found = [*_of_fields(fields), Need("target", path, allowed)]
    if revision is not None:
        found.append(Need("revision", revision, _WHOLE))
    if source is not None:
        found.append(Need("source", source, _TEXT))
    return found


def misfits(schema: PinnedSchema, needs: Sequence[Need]) -> Iterator[str]:
    """Yield why no value of the schema can be used, one line for each field that is missing or of a wrong type."""
    for need in needs:
        found = list(_types_at(schema, need.path))
        if not found and need.is_needed:
            yield f"{schema.file} has no field for the {need.what} {need.path!r}{_nearest(schema, need.path)}"
            continue
        kinds = list(dict.fromkeys(map(_shown, found)))
        if found and not any(kind_of(each) in need.kinds for each in found):
            yield f"{schema.file}: the {need.what} {need.path!r} is {' or '.join(kinds)}; {_allowed(need)}"
        elif need.unit is not None:
            yield from _wrong_units(schema, need, found)


def _of_fields(fields: RecordFields) -> Iterator[Need]:
    yield Need("id", fields.id, ("string", "enum", *_WHOLE))
    if fields.time is not None:
        yield Need("time", fields.time, ("string", "double", *_WHOLE), unit=fields.time_unit)


def _wrong_units(schema: PinnedSchema, need: Need, found: Sequence[Schema]) -> Iterator[str]:
    for each in found:
        logical = each.get("logicalType", "") if isinstance(each, dict) else ""
        unit = _UNITS.get(logical)
        if logical in _NO_MOMENT or logical.startswith("local-timestamp"):
            yield f"{schema.file}: the time {need.path!r} is a {logical}, which is no moment; {_allowed(need)}"
        elif unit is not None and unit != need.unit:
            yield f'{schema.file}: the time {need.path!r} is a {logical}; write time_unit = "{unit}"'


def _types_at(schema: PinnedSchema, path: str) -> Iterator[Schema]:
    """Yield the types other than null that stand at a dotted path: through records and values of maps."""
    reached: list[Schema] = [schema.root]
    for part in path.split("."):
        further: list[Schema] = []
        for each in reached:
            for branch in schema.branches(each):
                if kind_of(branch) == "map":
                    further.append(branch["values"])
                elif part in (fields := schema.fields(branch)):
                    further.append(fields[part])
        reached = further
    for each in reached:
        yield from schema.branches(each)


def _nearest(schema: PinnedSchema, path: str) -> str:
    folder, dot, name = path.rpartition(".")
    places = list(_types_at(schema, folder)) if folder else [schema.root]
    names = [f"{folder}{dot}{field}" for place in places for field in schema.fields(place)]
    close = difflib.get_close_matches(path, names, 1) or difflib.get_close_matches(name, names, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it has {', '.join(sorted(names))}" if names else "; add it to the schema"


def _shown(schema: Schema) -> str:
    logical = schema.get("logicalType") if isinstance(schema, dict) else None
    return kind_of(schema) if logical is None else f"{kind_of(schema)} ({logical})"


def _allowed(need: Need) -> str:
    return f"allowed are {', '.join(need.kinds)}, each with null beside it"
