"""The Avro schemas of every record: present forms, past forms, fingerprints, and which may read which.

Present forms lie in `schemas/<name>.avsc`. Every form that was ever written, the present one included, lies in
`schemas/history/<name>.<fingerprint>.avsc`, so that old logs stay readable: bytes name the form that wrote them.

Invariant: the present form of a record reads each of its past forms. `load` refuses anything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from fastavro import parse_schema
from fastavro.schema import fingerprint as avro_fingerprint
from fastavro.schema import to_parsing_canonical_form

from tailrace.domain.errors import CodecError

Schema: TypeAlias = Any
"""A schema as fastavro takes it: JSON, parsed."""

FINGERPRINT_BYTES: Final = 8

_PROMOTIONS: Final[Mapping[str, frozenset[str]]] = {
    "long": frozenset({"int"}),
    "float": frozenset({"int", "long"}),
    "double": frozenset({"int", "long", "float"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
"""Reader type → writer types that it also reads (Avro 1.12, "Schema Resolution")."""


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """One record type.

    Attributes:
        fingerprint: Of the present form: CRC-64-AVRO, little-endian, as it stands in single-object encoding.
        present: The form that is written, and into which every other is read.
        written: Fingerprint → form, of every form that was ever written.
    """

    name: str
    fingerprint: bytes
    present: Schema
    written: Mapping[bytes, Schema]


def folder() -> Path:
    """Return where the schemas lie: inside the installed package, else in the repository of an editable install.

    Raises:
        CodecError: They are in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for place in (package / "schemas", package.parent.parent / "schemas"):
        if place.is_dir():
            return place
    message = f"found no folder of schemas in {package} or beside its source; the wheel has one; install Tailrace again"
    raise CodecError(message)


@cache
def record_schema(name: str) -> RecordSchema:
    """Return one record type of the installed schemas.

    Raises:
        CodecError: There is no such record, or its present form cannot read a past one.
    """
    return load(folder(), name)


def load(place: Path, name: str) -> RecordSchema:
    """Read one record type from a folder of schemas.

    Raises:
        CodecError: There is no such record, a file is not what its name says, or the present form cannot read
            a past one.
    """
    present = _read(place / f"{name}.avsc")
    written = {fingerprint_of(present): present}
    for path in sorted((place / "history").glob(f"{name}.*.avsc")):
        past = _read(path)
        if path != history_path(place, name, past):
            message = f"{path.name} holds a schema of fingerprint {fingerprint_of(past).hex()}; restore the file"
            raise CodecError(message)
        if problems := list(incompatibilities(present, past)):
            message = f"{name}.avsc cannot read {path.name}: {'; '.join(problems)}; give new fields a default"
            raise CodecError(message)
        written[fingerprint_of(past)] = past
    return RecordSchema(
        name, fingerprint_of(present), parse_schema(present), {key: parse_schema(form) for key, form in written.items()}
    )


def names(place: Path) -> list[str]:
    """Return the names of all record types in a folder of schemas."""
    return sorted(path.stem for path in place.glob("*.avsc"))


def history_path(place: Path, name: str, schema: Schema) -> Path:
    """Return where a form of a record must be kept."""
    return place / "history" / f"{name}.{fingerprint_of(schema).hex()}.avsc"


def fingerprint_of(schema: Schema) -> bytes:
    """Return the CRC-64-AVRO fingerprint of the parsing canonical form, little-endian."""
    return bytes.fromhex(avro_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def incompatibilities(reader: Schema, writer: Schema) -> Iterator[str]:
    """Yield why data of one schema cannot always be read with another, one reason each (Avro 1.12, same section)."""
    yield from _Comparison(_named(reader), _named(writer)).compare(reader, writer, "")


class _Comparison:
    def __init__(self, reader_types: Mapping[str, Schema], writer_types: Mapping[str, Schema]) -> None:
        self._reader_types = reader_types
        self._writer_types = writer_types
        self._seen: set[tuple[str, str]] = set()

    def compare(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        reader, writer = _resolve(reader, self._reader_types), _resolve(writer, self._writer_types)
        if isinstance(writer, list):
            for branch in writer:
                yield from self.compare(reader, branch, path)
        elif isinstance(reader, list):
            if not any(self._reads(branch, writer, path) for branch in reader):
                yield f"{path or 'the record'}: no branch of the union reads {_kind(writer)}"
        elif _kind(reader) != _kind(writer):
            if _kind(writer) not in _PROMOTIONS.get(_kind(reader), frozenset()):
                yield f"{path or 'the record'}: {_kind(reader)} does not read {_kind(writer)}"
        else:
            yield from self._inside(reader, writer, path)

    def _reads(self, reader: Schema, writer: Schema, path: str) -> bool:
        return not list(self.compare(reader, writer, path))

    def _inside(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        kind = _kind(reader)
        if kind == "record":
            yield from self._fields(reader, writer, path)
        elif kind == "array":
            yield from self.compare(reader["items"], writer["items"], f"{path}[]")
        elif kind == "map":
            yield from self.compare(reader["values"], writer["values"], f"{path}{{}}")
        elif kind == "enum":
            missing = set(writer["symbols"]) - set(reader["symbols"])
            if missing and "default" not in reader:
                yield f"{path}: the enum lost {', '.join(sorted(missing))}"
        elif kind == "fixed" and reader["size"] != writer["size"]:
            yield f"{path}: the size of the fixed type changed"

    def _fields(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        pair = (reader["name"], writer["name"])
        if pair in self._seen:
            return
        self._seen.add(pair)
        if reader["name"] != writer["name"] and writer["name"] not in reader.get("aliases", ()):
            yield f"{path or 'the record'}: its name changed from {writer['name']} to {reader['name']}"
        theirs = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            names_of_field = [field["name"], *field.get("aliases", ())]
            known = next((theirs[name] for name in names_of_field if name in theirs), None)
            if known is not None:
                yield from self.compare(field["type"], known["type"], f"{path}.{field['name']}")
            elif "default" not in field:
                yield f"{path}.{field['name']} is new and has no default"


def _resolve(schema: Schema, types: Mapping[str, Schema]) -> Schema:
    return types.get(schema, schema) if isinstance(schema, str) else schema


def _kind(schema: Schema) -> str:
    kind = schema["type"] if isinstance(schema, dict) else schema
    return str(kind)


def _named(schema: Schema) -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending.extend(part)
        elif isinstance(part, dict):
            if "name" in part and part.get("type") in ("record", "enum", "fixed"):
                found[part["name"]] = part
            pending.extend(field["type"] for field in part.get("fields", ()))
            pending.extend(part[key] for key in ("items", "values") if key in part)
    return found


def _read(path: Path) -> Schema:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as cause:
        message = f"found no readable schema in {path.name}; each record has one file in schemas; restore it"
        raise CodecError(message) from cause
