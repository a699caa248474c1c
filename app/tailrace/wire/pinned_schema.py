"""An Avro schema that a user pins for a topic: read from a file, and refused where values of it could hurt a reader.

Refused are schemas by which a short value stands for a huge or endless one: types that contain themselves, items of
arrays that take no bytes (ten bytes of `array<null>` came to 2 GiB), nesting beyond `MAX_LEVELS`, and records of many
fields that take no bytes (24 records, each twice in the next, make an empty value last 100 s).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from tailrace.domain.errors import CodecError
from tailrace.wire.schemas import Schema, fingerprint_of

MAX_SCHEMA_BYTES: Final = 1 << 20
MAX_LEVELS: Final = 32
"""Records, arrays, maps and unions in each other; a schema for people has fewer than ten."""

STEPS_PER_BYTE: Final = 8
FREE_STEPS: Final = 16
"""A record may have so many fields, those of records in it included, for each byte that it takes, and so many more."""

_MOST_PROBLEMS: Final = 20
"""Told of one schema; where records lie in each other many times over there may be millions."""

_SIZES: Final[Mapping[str, int]] = {"null": 0, "float": 4, "double": 8}
"""Bytes of the types that have a fixed size; every other one takes at least one."""


@dataclass(frozen=True)
class PinnedSchema:
    """A schema whose values may be read.

    Attributes:
        file: Name of its file, for messages.
        fingerprint: CRC-64-AVRO, little-endian, as it stands in single-object encoding.
        root: The record, with full names.
        types: Full name → record, enum or fixed type.
    """

    file: str
    fingerprint: bytes
    root: Mapping[str, Any]
    types: Mapping[str, Schema]

    def resolved(self, schema: Schema) -> Schema:
        """Return what a name stands for; anything else as it is."""
        return self.types.get(schema, schema) if isinstance(schema, str) else schema

    def branches(self, schema: Schema) -> list[Schema]:
        """Return the branches of a union other than null, resolved; of anything else, itself."""
        schema = self.resolved(schema)
        branches = schema if isinstance(schema, list) else [schema]
        return [found for branch in branches if kind_of(found := self.resolved(branch)) != "null"]

    def fields(self, schema: Schema) -> Mapping[str, Schema]:
        """Return field → type of every record in a type or union; nothing where there is none."""
        records = [each for each in self.branches(schema) if kind_of(each) == "record"]
        return {field["name"]: field["type"] for record in records for field in record["fields"]}


def kind_of(schema: Schema) -> str:
    """Return "record", "union", "long" … of a resolved type."""
    if isinstance(schema, list):
        return "union"
    return str(schema["type"] if isinstance(schema, dict) else schema)


def read_pinned(path: Path) -> PinnedSchema:
    """Read a schema file.

    Raises:
        CodecError: It is no Avro schema of a record, or one whose values are not safe to read.
    """
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_SCHEMA_BYTES + 1)
    except OSError as cause:
        raise CodecError(f"{path}: found no file to read ({cause.strerror}); name the .avsc of the topic") from cause
    if len(content) > MAX_SCHEMA_BYTES:
        raise CodecError(f"{path.name} has more than {MAX_SCHEMA_BYTES} bytes; allowed is an Avro schema below that")
    return pinned(content, path.name)


def pinned(content: bytes, file: str) -> PinnedSchema:
    """Return the schema that JSON text says; see `read_pinned`."""
    types: dict[str, Schema] = {}
    try:
        raw = orjson.loads(content)
        root = parse_schema(raw, types)
        fingerprint = fingerprint_of(raw)
    except RecursionError as cause:
        raise CodecError(f"{file}: found types nested too deeply; allowed are {MAX_LEVELS} levels") from cause
    except UnknownType as cause:
        raise CodecError(
            f"{file}: found the unknown type {cause.name!r}; define it in the file, before its use"
        ) from cause
    except (ValueError, SchemaParseException, KeyError, TypeError, AttributeError) as cause:
        raise CodecError(f"{file}: found no Avro schema ({cause}); allowed is the JSON of one record") from cause
    if not isinstance(root, dict) or kind_of(root) != "record":
        raise CodecError(f"{file}: found the type {kind_of(root)}; allowed is a record")
    schema = PinnedSchema(file, fingerprint, root, types)
    if problems := list(islice(_Dangers(schema).of(root, "", ()), _MOST_PROBLEMS)):
        raise CodecError(f"{file}: {'; '.join(dict.fromkeys(problems))}")
    return schema


class _Cost(NamedTuple):
    """What reading one value takes.

    Attributes:
        steps: Fields that are read, and records around them; what unions, arrays and maps hold has its own cost.
        least_bytes: The fewest bytes that a value has.
    """

    steps: int
    least_bytes: int

    @property
    def is_absurd(self) -> bool:
        """Whether bytes that are hardly there would keep a reader busy."""
        return self.steps > FREE_STEPS + STEPS_PER_BYTE * self.least_bytes


class _Dangers:
    """Walks a schema once per type; what is not dangerous has a least size that is remembered."""

    def __init__(self, schema: PinnedSchema) -> None:
        self._schema = schema
        self._safe: dict[str, int] = {}
        """Full name → levels below it."""
        self._costs: dict[str, _Cost] = {}

    def of(self, schema: Schema, path: str, inside: tuple[str, ...], level: int = 0) -> Iterator[str]:
        """Yield what is dangerous about a type.

        Args:
            inside: Names of the records around it.
            level: How deep it lies.
        """
        schema = self._schema.resolved(schema)
        name = schema.get("name") if isinstance(schema, dict) and kind_of(schema) == "record" else None
        if name in inside:
            yield f"{path} is of the type {name}, which contains itself; allowed are types that do not"
            return
        if level > MAX_LEVELS:
            yield f"{path} lies deeper than {MAX_LEVELS} levels; allowed are {MAX_LEVELS}"
            return
        if name is not None and self._safe.get(name, -1) >= level:
            return
        found = False
        for part, where in self._parts(schema, path):
            for problem in self.of(part, where, inside if name is None else (*inside, name), level + 1):
                found = True
                yield problem
        if kind_of(schema) == "array" and not found and self._cost(schema["items"]).least_bytes == 0:
            yield f"{path} is an array whose items take no bytes; allowed are items of at least one byte"
        if name is not None and not found and (cost := self._cost(schema)).is_absurd:
            found = True
            said = f"{path or 'the record'} has {cost.steps} fields that may take {cost.least_bytes} bytes in all"
            yield f"{said}; leave out those of the type null"
        if name is not None and not found:
            self._safe[name] = level

    def _cost(self, schema: Schema) -> _Cost:
        """Return what reading a value of a type without cycles takes, each record's worked out once."""
        schema = self._schema.resolved(schema)
        kind = kind_of(schema)
        if kind == "fixed":
            return _Cost(1, int(schema["size"]))
        if kind != "record":
            return _Cost(1, _SIZES.get(kind, 1))
        name = schema["name"]
        if name not in self._costs:
            parts = [self._cost(field["type"]) for field in schema["fields"]]
            steps, least_bytes = (sum(each) for each in zip(*parts, strict=True)) if parts else (0, 0)
            self._costs[name] = _Cost(1 + steps, least_bytes)
        return self._costs[name]

    def _parts(self, schema: Schema, path: str) -> Iterator[tuple[Schema, str]]:
        kind = kind_of(schema)
        if kind == "record":
            for field in schema["fields"]:
                yield field["type"], f"{path}.{field['name']}".lstrip(".")
        elif kind == "union":
            for branch in schema:
                yield branch, path
        elif kind in ("array", "map"):
            yield schema["items" if kind == "array" else "values"], f"{path}[]"
