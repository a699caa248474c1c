"""The records of `poison` as Avro: the same contract, the same good records, and what only bytes of Avro can do."""

from __future__ import annotations

import io
import math
from typing import Any

import orjson
from fastavro import parse_schema, schemaless_writer
from tests.wire.poison import CONTRACT, FIELDS, GOOD_EVENT, GOOD_LABEL, TARGET, TIMESTAMP_MS, Kind, Poison

from tailrace.domain.records import Code
from tailrace.wire.avro_objects import avro_reader
from tailrace.wire.json_codec import EventDecoder, LabelDecoder, RecordFields
from tailrace.wire.pinned_schema import pinned

_USER = {"type": "record", "name": "User", "fields": [{"name": "age", "type": ["null", "int", "long", "double"]}]}
_HEAD: list[tuple[str, Any]] = [
    ("tags", {"type": "array", "items": "string"}),
    ("checked", "boolean"),
    ("id", ["null", "string", "long", "boolean", "double"]),
    ("at", ["null", "long", "string", "boolean", "double"]),
]


def _schema(name: str, *fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in fields]}


EVENT_SCHEMA = _schema(
    "Event",
    *_HEAD,
    ("amount", ["null", "double", "string", "boolean"]),
    ("country", ["null", "string", "int"]),
    ("note", ["null", "string", {"type": "map", "values": "string"}]),
    ("score", "double"),
    ("user", ["null", _USER, "int"]),
    ("vip", ["boolean", "int"]),
    ("extra", ["null", "bytes"]),
)
LABEL_SCHEMA = _schema(
    "Label",
    *_HEAD,
    ("verdict", ["null", "string", "int", "boolean"]),
    ("version", ["null", "long", "string", "double"]),
    ("by", ["null", "string", "int"]),
    ("extra", ["null", "bytes"]),
)
SCHEMAS: dict[Kind, dict[str, Any]] = {"events": EVENT_SCHEMA, "labels": LABEL_SCHEMA}


def fields_of(kind: Kind) -> RecordFields:
    """Return how records of a topic are read."""
    return RecordFields(
        FIELDS.id, FIELDS.time, read_object=avro_reader(pinned(orjson.dumps(SCHEMAS[kind]), f"{kind}.avsc"))
    )


AVRO_EVENTS = EventDecoder(fields_of("events"), CONTRACT)
AVRO_LABELS = LabelDecoder(fields_of("labels"), "verdict", TARGET, revision="version", source="by")


def written(schema: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """Return the plain body that fastavro writes."""
    file = io.BytesIO()
    schemaless_writer(file, parse_schema(schema), fields)
    return file.getvalue()


def event(**changes: Any) -> bytes:
    """Return a good event with some fields changed; `...` leaves one out."""
    return written(EVENT_SCHEMA, _changed(GOOD_EVENT, changes))


def label(**changes: Any) -> bytes:
    """Return a good label with some fields changed; `...` leaves one out."""
    return written(LABEL_SCHEMA, _changed(GOOD_LABEL, changes))


def _changed(good: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    present = {name: value for name, value in (good | changes).items() if value is not ...}
    return {"tags": [], "checked": True} | present


def varint(number: int) -> bytes:
    """Return a long as Avro writes it."""
    zigzag = (number << 1) ^ (number >> 63)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


def _both(kind: Kind, good: bytes) -> list[Poison]:
    make = event if kind == "events" else label
    tags, checked, branch, rest = good[:1], good[1:2], good[2:3], good[3:]
    time = varint(TIMESTAMP_MS)
    assert rest[4:].startswith(b"\2" + time)
    assert (tags, checked, branch, rest[:4]) == (b"\0", b"\1", b"\2", b"\x06e-1")
    bad_bytes: list[tuple[str, bytes]] = [
        ("no-bytes", b""),
        ("json", b'{"id": "e-1"}'),
        ("cut-short", good[:-1]),
        ("something-after-it", good + b"\0"),
        ("registry-framing", b"\0\0\0\0\x07" + good),
        ("single-object-of-another-schema", b"\xc3\x01" + b"\x07" * 8 + good),
        ("double-where-a-map-is-no-map", good + b"\0" * 8),
        ("not-utf-8", good.replace(b"e-1", b"e-\xff", 1)),
        ("lone-surrogate", good.replace(b"e-1", b"\xed\xa0\x80", 1)),
        ("boolean-two", tags + b"\2" + branch + rest),
        ("boolean-255", tags + b"\xff" + branch + rest),
        ("branch-below-zero", tags + checked + varint(-4) + rest),
        ("branch-past-the-last", tags + checked + varint(5) + rest),
        ("length-below-zero", tags + checked + branch + varint(-3) + rest[1:]),
        ("length-past-the-end", tags + checked + branch + varint(1 << 40) + rest[1:]),
        ("varint-of-11-bytes", tags + checked + branch + b"\x86" + b"\x80" * 9 + b"\0" + rest[1:]),
        ("varint-of-20-bytes", tags + checked + branch + b"\x86" + b"\x80" * 18 + b"\0" + rest[1:]),
        ("varint-of-65-bits", tags + checked + branch + rest[:5] + b"\x80" * 9 + b"\2" + rest[5 + len(time) :]),
        ("varint-without-end", tags + checked + branch + b"\xff" * 9),
        ("block-of-more-items-than-bytes", varint(1 << 50) + good),
        ("block-of-the-least-long", b"\xff" * 9 + b"\1" + b"\0" + good),
        ("block-that-ends-elsewhere", varint(-1) + varint(7) + varint(1) + b"x" + good),
        ("block-after-block", (varint(-1) + varint(1) + varint(0)) * 3 + varint(-1) + varint(0) + good),
    ]
    bad_values: list[tuple[str, bytes | None, Code]] = [
        ("tombstone", None, Code.EMPTY_VALUE),
        ("too-many-bytes", make(extra=b"x" * (1 << 20)), Code.TOO_LARGE),
        ("id-null", make(id=None), Code.ID_MISSING),
        ("id-empty", make(id=""), Code.ID_INVALID),
        ("id-true", make(id=True), Code.ID_INVALID),
        ("id-fraction", make(id=1.5), Code.ID_INVALID),
        ("id-nan", make(id=math.nan), Code.ID_INVALID),
        ("id-too-long", make(id="e" * 257), Code.ID_INVALID),
        ("id-with-nul", make(id="e\0"), Code.ID_INVALID),
        ("time-null", make(at=None), Code.TIME_MISSING),
        ("time-in-words", make(at="yesterday"), Code.TIME_INVALID),
        ("time-true", make(at=True), Code.TIME_INVALID),
        ("time-nan", make(at=math.nan), Code.TIME_INVALID),
        ("time-infinite", make(at=math.inf), Code.TIME_INVALID),
        ("time-negative", make(at=-1), Code.TIME_INVALID),
        ("time-the-greatest-long", make(at=(1 << 63) - 1), Code.TIME_INVALID),
        ("time-ahead", make(at=TIMESTAMP_MS + 300_001), Code.TIME_AHEAD),
    ]
    cases = [*bad_values, *((name, value, Code.NOT_AVRO) for name, value in bad_bytes)]
    return [Poison(name, kind, value, code) for name, value, code in cases]


_EVENT_CASES: list[tuple[str, bytes, Code]] = [
    ("number-null", event(amount=None), Code.FEATURE_MISSING),
    ("path-ends-early", event(user=7), Code.FEATURE_MISSING),
    ("path-leads-nowhere", event(user=None), Code.FEATURE_MISSING),
    ("number-as-text", event(amount="12.5"), Code.FEATURE_TYPE),
    ("number-as-true", event(amount=True), Code.FEATURE_TYPE),
    ("integer-as-fraction", event(user={"age": 41.5}), Code.FEATURE_TYPE),
    ("boolean-as-integer", event(vip=1), Code.FEATURE_TYPE),
    ("category-as-integer", event(country=49), Code.FEATURE_TYPE),
    ("text-as-map", event(note={}), Code.FEATURE_TYPE),
    ("number-nan", event(amount=math.nan), Code.FEATURE_NOT_FINITE),
    ("number-infinite", event(score=math.inf), Code.FEATURE_NOT_FINITE),
    ("number-infinite-below", event(score=-math.inf), Code.FEATURE_NOT_FINITE),
    ("number-too-small", event(amount=-0.5), Code.FEATURE_OUT_OF_BOUNDS),
    ("number-too-large", event(amount=1000.5), Code.FEATURE_OUT_OF_BOUNDS),
    ("integer-out-of-bounds", event(user={"age": 151}), Code.FEATURE_OUT_OF_BOUNDS),
    ("integer-least-long", event(user={"age": -(1 << 63)}), Code.FEATURE_OUT_OF_BOUNDS),
    ("category-unlisted", event(country="it"), Code.CATEGORY_UNKNOWN),
    ("text-too-long", event(note="n" * 21), Code.TEXT_TOO_LONG),
]

_LABEL_CASES: list[tuple[str, bytes, Code]] = [
    ("target-null", label(verdict=None), Code.TARGET_MISSING),
    ("target-unlisted", label(verdict="maybe"), Code.TARGET_INVALID),
    ("target-true", label(verdict=True), Code.TARGET_INVALID),
    ("target-one", label(verdict=1), Code.TARGET_INVALID),
    ("revision-negative", label(version=-1), Code.REVISION_INVALID),
    ("revision-as-text", label(version="2"), Code.REVISION_INVALID),
    ("revision-fraction", label(version=1.5), Code.REVISION_INVALID),
    ("source-as-integer", label(by=7), Code.SOURCE_INVALID),
    ("source-too-long", label(by="s" * 101), Code.SOURCE_INVALID),
    ("source-with-nul", label(by="desk\0"), Code.SOURCE_INVALID),
]

AVRO_POISON: list[Poison] = [
    *_both("events", event()),
    *(Poison(name, "events", value, code) for name, value, code in _EVENT_CASES),
    *_both("labels", label()),
    *(Poison(name, "labels", value, code) for name, value, code in _LABEL_CASES),
]
