"""Records that cannot be used, each with the code it must be rejected with; `SAMPLE` says what a good one is like.

The events and labels of `GOOD_EVENT` and `GOOD_LABEL` are accepted; each poison is rejected alone, and so are the
same bytes between good records.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.records import Code, Task
from tailrace.wire.json_codec import EventDecoder, LabelDecoder, RecordFields

Kind = Literal["events", "labels"]

TIMESTAMP_MS = 1_800_000_000_000
"""Of the Kafka record of every poison."""

CONTRACT = FeatureContract(
    (
        FeatureSpec("amount", "number", minimum=0, maximum=1000),
        FeatureSpec("country", "category", values=("de", "fr", "us")),
        FeatureSpec("note", "text", missing="absent", max_length=20),
        FeatureSpec("score", "number"),
        FeatureSpec("user.age", "integer", minimum=0, maximum=150),
        FeatureSpec("vip", "boolean"),
    )
)
TARGET = TargetContract(Task.BINARY, positive="fraud", negative="fine")
FIELDS = RecordFields(id="id", time="at", time_unit="ms")
EVENTS = EventDecoder(FIELDS, CONTRACT)
LABELS = LabelDecoder(FIELDS, "verdict", TARGET, revision="version", source="by")

GOOD_EVENT: dict[str, Any] = {
    "id": "e-1",
    "at": TIMESTAMP_MS,
    "amount": 12.5,
    "country": "de",
    "score": -0.25,
    "user": {"age": 41},
    "vip": False,
}
GOOD_LABEL: dict[str, Any] = {"id": "e-1", "at": TIMESTAMP_MS, "verdict": "fraud"}


class Poison(NamedTuple):
    """One bad record.

    Attributes:
        name: A few words without spaces, for test ids.
    """

    name: str
    kind: Kind
    value: bytes | None
    code: Code


def event(**changes: Any) -> bytes:
    """Return a good event with some fields changed; `...` leaves one out."""
    return _changed(GOOD_EVENT, changes)


def label(**changes: Any) -> bytes:
    """Return a good label with some fields changed; `...` leaves one out."""
    return _changed(GOOD_LABEL, changes)


def _changed(good: dict[str, Any], changes: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in (good | changes).items() if value is not ...}).encode()


def _raw(value: bytes, field: bytes, replacement: bytes) -> bytes:
    assert field in value
    return value.replace(field, replacement)


def _both(kind: Kind, good: bytes) -> list[Poison]:
    make = event if kind == "events" else label
    deep = b'{"a":' * 2000 + b"1" + b"}" * 2000
    cases: list[tuple[str, bytes | None, Code]] = [
        ("tombstone", None, Code.EMPTY_VALUE),
        ("no-bytes", b"", Code.NOT_JSON),
        ("not-json", b"hello", Code.NOT_JSON),
        ("cut-short", good[:-1], Code.NOT_JSON),
        ("something-after-it", good + b"}", Code.NOT_JSON),
        ("byte-order-mark", b"\xef\xbb\xbf" + good, Code.NOT_JSON),
        ("utf-16", good.decode().encode("utf-16"), Code.NOT_JSON),
        ("not-utf-8", _raw(good, b"e-1", b"e-\xff"), Code.NOT_JSON),
        ("lone-surrogate", _raw(good, b"e-1", rb"\ud800"), Code.NOT_JSON),
        ("avro-framing", b"\x00\x00\x00\x00\x07\x06abc", Code.NOT_JSON),
        ("too-many-bytes", make(extra="x" * (1 << 20)), Code.TOO_LARGE),
        ("too-deep", deep, Code.TOO_LARGE),
        ("array", b"[" + good + b"]", Code.NOT_AN_OBJECT),
        ("text", b'"e-1"', Code.NOT_AN_OBJECT),
        ("null", b"null", Code.NOT_AN_OBJECT),
        ("id-left-out", make(id=...), Code.ID_MISSING),
        ("id-null", make(id=None), Code.ID_MISSING),
        ("id-empty", make(id=""), Code.ID_INVALID),
        ("id-true", make(id=True), Code.ID_INVALID),
        ("id-fraction", make(id=1.5), Code.ID_INVALID),
        ("id-array", make(id=["e-1"]), Code.ID_INVALID),
        ("id-too-long", make(id="e" * 257), Code.ID_INVALID),
        ("id-with-nul", make(id="e\0"), Code.ID_INVALID),
        ("id-integer-too-wide", _raw(good, b'"e-1"', b"1" * 30), Code.ID_INVALID),
        ("time-left-out", make(at=...), Code.TIME_MISSING),
        ("time-null", make(at=None), Code.TIME_MISSING),
        ("time-in-words", make(at="yesterday"), Code.TIME_INVALID),
        ("time-without-offset", make(at="2026-01-01T00:00:00"), Code.TIME_INVALID),
        ("time-true", make(at=True), Code.TIME_INVALID),
        ("time-negative", make(at=-1), Code.TIME_INVALID),
        ("time-in-nanoseconds", make(at=TIMESTAMP_MS * 1_000_000), Code.TIME_INVALID),
        ("time-ahead", make(at=TIMESTAMP_MS + 300_001), Code.TIME_AHEAD),
    ]
    return [Poison(name, kind, value, code) for name, value, code in cases]


_EVENT_CASES: list[tuple[str, bytes, Code]] = [
    ("number-left-out", event(amount=...), Code.FEATURE_MISSING),
    ("number-null", event(amount=None), Code.FEATURE_MISSING),
    ("path-ends-early", event(user=7), Code.FEATURE_MISSING),
    ("path-leads-nowhere", event(user={}), Code.FEATURE_MISSING),
    ("number-as-text", event(amount="12.5"), Code.FEATURE_TYPE),
    ("number-as-true", event(amount=True), Code.FEATURE_TYPE),
    ("number-as-array", event(score=[1.0]), Code.FEATURE_TYPE),
    ("integer-as-fraction", event(user={"age": 41.5}), Code.FEATURE_TYPE),
    ("integer-as-whole-float", event(user={"age": 41.0}), Code.FEATURE_TYPE),
    ("integer-too-wide", _raw(event(), b"41", b"9" * 40), Code.FEATURE_TYPE),
    ("boolean-as-integer", event(vip=1), Code.FEATURE_TYPE),
    ("category-as-integer", event(country=49), Code.FEATURE_TYPE),
    ("text-as-object", event(note={}), Code.FEATURE_TYPE),
    ("number-nan", _raw(event(), b"12.5", b"NaN"), Code.NOT_JSON),
    ("number-infinite", _raw(event(), b"12.5", b"Infinity"), Code.NOT_JSON),
    ("number-beyond-64-bits", _raw(event(), b"-0.25", b"1e400"), Code.NOT_JSON),
    ("number-of-400-digits", _raw(event(), b"-0.25", b"9" * 400), Code.NOT_JSON),
    ("number-too-small", event(amount=-0.5), Code.FEATURE_OUT_OF_BOUNDS),
    ("number-too-large", event(amount=1000.5), Code.FEATURE_OUT_OF_BOUNDS),
    ("integer-out-of-bounds", event(user={"age": 151}), Code.FEATURE_OUT_OF_BOUNDS),
    ("integer-of-64-bits-unsigned", event(user={"age": (1 << 64) - 1}), Code.FEATURE_OUT_OF_BOUNDS),
    ("category-unlisted", event(country="it"), Code.CATEGORY_UNKNOWN),
    ("category-empty", event(country=""), Code.CATEGORY_UNKNOWN),
    ("text-too-long", event(note="n" * 21), Code.TEXT_TOO_LONG),
]

_LABEL_CASES: list[tuple[str, bytes, Code]] = [
    ("target-left-out", label(verdict=...), Code.TARGET_MISSING),
    ("target-null", label(verdict=None), Code.TARGET_MISSING),
    ("target-unlisted", label(verdict="maybe"), Code.TARGET_INVALID),
    ("target-in-capitals", label(verdict="FRAUD"), Code.TARGET_INVALID),
    ("target-true", label(verdict=True), Code.TARGET_INVALID),
    ("target-one", label(verdict=1), Code.TARGET_INVALID),
    ("target-array", label(verdict=["fraud"]), Code.TARGET_INVALID),
    ("target-empty", label(verdict=""), Code.TARGET_INVALID),
    ("target-fraction", label(verdict=0.5), Code.TARGET_INVALID),
    ("target-nan", _raw(label(), b'"fraud"', b"NaN"), Code.NOT_JSON),
    ("target-object", label(verdict={"is": "fraud"}), Code.TARGET_INVALID),
    ("revision-negative", label(version=-1), Code.REVISION_INVALID),
    ("revision-as-text", label(version="2"), Code.REVISION_INVALID),
    ("revision-fraction", label(version=1.5), Code.REVISION_INVALID),
    ("revision-true", label(version=True), Code.REVISION_INVALID),
    ("revision-of-64-bits-unsigned", label(version=1 << 63), Code.REVISION_INVALID),
    ("source-as-integer", label(by=7), Code.SOURCE_INVALID),
    ("source-too-long", label(by="s" * 101), Code.SOURCE_INVALID),
    ("source-with-nul", label(by="desk\0"), Code.SOURCE_INVALID),
]

POISON: list[Poison] = [
    *_both("events", event()),
    *(Poison(name, "events", value, code) for name, value, code in _EVENT_CASES),
    *_both("labels", label()),
    *(Poison(name, "labels", value, code) for name, value, code in _LABEL_CASES),
]
