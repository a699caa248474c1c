"""A pinned schema is a record whose values are safe to read; `tailrace check` compares it with what the loop needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.errors import CodecError
from tailrace.domain.records import Task
from tailrace.wire.avro_fit import misfits, needs_of_events, needs_of_labels
from tailrace.wire.json_codec import RecordFields
from tailrace.wire.pinned_schema import MAX_LEVELS, MAX_SCHEMA_BYTES, PinnedSchema, pinned, read_pinned


def make(*fields: tuple[str, Any]) -> PinnedSchema:
    return pinned(json.dumps(record(*fields)).encode(), "pages.avsc")


def record(*fields: tuple[str, Any], name: str = "Page") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in fields]}


def nested(levels: int) -> Any:
    kind: Any = "int"
    for _ in range(levels):
        kind = {"type": "array", "items": kind}
    return kind


def doubled(levels: int, leaf: Any) -> Any:
    kind = leaf
    for number in range(levels):
        kind = record(("a", kind), ("b", f"T{number - 1}" if number else leaf), name=f"T{number}")
    return kind


DANGEROUS = {
    "an array of null": ({"type": "array", "items": "null"}, "list is an array whose items take no bytes"),
    "an array of a record without fields": ({"type": "array", "items": record(name="Empty")}, "take no bytes"),
    "an array of records of null": ({"type": "array", "items": record(("no", "null"), name="Nulls")}, "take no bytes"),
    "an array of nothing fixed": ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, "no bytes"),
    "a map of arrays of null": ({"type": "map", "values": {"type": "array", "items": "null"}}, "list[] is an array"),
    "a record in itself": ({"type": "array", "items": "Page"}, "contains itself"),
    "a record in itself by a union": (["null", "Page"], "contains itself"),
    "records of nothing, each twice in the next": (doubled(24, "null"), "fields that may take 0 bytes"),
    "an array of many nothings": (
        {"type": "array", "items": record(("id", "int"), *((f"no_{n}", "null") for n in range(99)), name="Wide")},
        "list[] has 101 fields that may take 1 bytes",
    ),
    "one danger in a million places": (doubled(24, {"type": "array", "items": "null"}), "take no bytes"),
    "types nested too deeply": (nested(MAX_LEVELS + 1), f"deeper than {MAX_LEVELS} levels"),
    "types nested beyond all reading": (nested(450), f"{MAX_LEVELS} levels"),
}


@pytest.mark.parametrize(("kind", "message"), DANGEROUS.values(), ids=DANGEROUS)
def test_a_schema_by_which_few_bytes_come_to_much_is_refused(kind: Any, message: str) -> None:
    """Ten bytes of `array<null>` took 2 GiB; without the refusal at check time these would be read without a bound."""
    with pytest.raises(CodecError) as caught:
        make(("id", "string"), ("list", kind))

    assert message in str(caught.value)
    assert str(caught.value).startswith("pages.avsc: ")
    assert 20 > str(caught.value).count("; list")  # a million paths are not all told


def test_a_type_that_is_used_in_two_places_is_not_recursive() -> None:
    point = record(("x", "double"), ("y", "double"), name="Point")

    schema = make(("from", point), ("to", "Point"), ("way", {"type": "array", "items": "Point"}))

    assert {"from", "to", "way"} == set(schema.fields(schema.root))


def test_a_schema_of_many_types_that_use_each_other_is_looked_at_once_each() -> None:
    """Twenty types that each hold the one before twice are a million paths; they are walked in no time."""
    kind = doubled(20, "double")

    assert "a" in make(("deep", kind)).fields(kind)


NO_SCHEMA = {
    "no JSON": (b"record", "found no Avro schema"),
    "no schema": (b'{"type": "recrod", "name": "A"}', "found"),
    "a record without a name": (b'{"type": "record", "fields": []}', "found no Avro schema"),
    "no record": (b'{"type": "array", "items": "int"}', "found the type array; allowed is a record"),
    "a number": (b"7", "found no Avro schema"),
    "an unknown type": (b'{"type": "record", "name": "A", "fields": [{"name": "a", "type": "B"}]}', "unknown type 'B'"),
    "brackets without end": (b"[" * 5000, "found no Avro schema"),
}


@pytest.mark.parametrize(("content", "message"), NO_SCHEMA.values(), ids=NO_SCHEMA)
def test_what_is_no_schema_of_a_record_is_refused_in_words(content: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        pinned(content, "pages.avsc")


def test_a_file_that_is_missing_or_huge_is_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.avsc"
    huge.write_bytes(b" " * (MAX_SCHEMA_BYTES + 1))

    with pytest.raises(CodecError, match="found no file to read"):
        read_pinned(tmp_path / "none.avsc")
    with pytest.raises(CodecError, match="has more than"):
        read_pinned(huge)


CONTRACT = FeatureContract(
    (
        FeatureSpec("amount", "number"),
        FeatureSpec("country", "category", values=("de", "fr")),
        FeatureSpec("note", "text", missing="absent"),
        FeatureSpec("user.age", "integer"),
        FeatureSpec("vip", "boolean"),
    )
)
USER = record(("age", ["null", "int"]), name="User")
COUNTRY = {"type": "enum", "name": "Country", "symbols": ["de", "fr", "it"]}
MOMENT = {"type": "long", "logicalType": "timestamp-millis"}
FITTING: dict[str, Any] = {
    "id": "string",
    "at": MOMENT,
    "amount": ["null", "float"],
    "country": COUNTRY,
    "user": ["null", USER],
    "vip": "boolean",
}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}


def problems(**changes: Any) -> list[str]:
    fields = [(name, kind) for name, kind in (FITTING | changes).items() if kind is not ...]
    return list(misfits(make(*fields), needs_of_events(RecordFields("id", "at"), CONTRACT)))


def test_a_schema_that_has_every_field_in_a_readable_type_fits() -> None:
    assert [] == problems()
    assert [] == problems(user={"type": "map", "values": "long"})
    assert [] == problems(amount=["null", "string", "double"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amount": ..., "amout": "double"}, "no field for the feature 'amount'; did you mean 'amout'?"),
        ({"user": record(("agee", "int"), name="User")}, "the feature 'user.age'; did you mean 'user.agee'?"),
        ({"amount": "string"}, "the feature 'amount' is string; allowed are int, long, float, double"),
        ({"amount": DECIMAL}, "'amount' is bytes (decimal)"),
        ({"country": "bytes"}, "'country' is bytes; allowed are string, enum"),
        ({"country": {"type": "fixed", "name": "Two", "size": 2}}, "'country' is fixed"),
        ({"note": "long"}, "'note' is long"),
        ({"user": record(("age", "double"), name="User")}, "'user.age' is double; allowed are int, long"),
        ({"vip": "int"}, "'vip' is int; allowed are boolean"),
        ({"vip": {"type": "array", "items": "boolean"}}, "'vip' is array"),
        ({"id": "double"}, "the id 'id' is double"),
        ({"at": "float"}, "the time 'at' is float"),
        ({"at": MOMENT | {"logicalType": "timestamp-micros"}}, 'timestamp-micros; write time_unit = "us"'),
        ({"at": MOMENT | {"logicalType": "local-timestamp-millis"}}, "no moment"),
        ({"at": {"type": "int", "logicalType": "date"}}, "no moment"),
    ],
)
def test_what_no_value_of_the_schema_can_be_is_named_with_the_nearest_name(changes: Any, message: str) -> None:
    (problem,) = problems(**changes)

    assert problem.startswith("pages.avsc")
    assert message in problem


def test_a_feature_that_may_be_absent_may_be_missing_in_the_schema() -> None:
    assert "note" not in FITTING


@pytest.mark.parametrize(
    ("target", "kind", "fits"),
    [
        (TargetContract(Task.BINARY), "boolean", True),
        (TargetContract(Task.BINARY), "string", False),
        (TargetContract(Task.BINARY, positive="bad"), "string", True),
        (TargetContract(Task.BINARY, positive="bad"), COUNTRY, True),
        (TargetContract(Task.BINARY, positive=1), "long", True),
        (TargetContract(Task.BINARY, positive=1), "double", False),
        (TargetContract(Task.MULTICLASS, classes=("a", "b")), "string", True),
        (TargetContract(Task.REGRESSION), "double", True),
        (TargetContract(Task.REGRESSION), DECIMAL, False),
    ],
)
def test_a_target_has_the_type_of_its_classes(target: TargetContract, kind: Any, *, fits: bool) -> None:
    schema = make(("id", "string"), ("y", kind))

    assert fits is (not list(misfits(schema, needs_of_labels(RecordFields("id"), "y", target))))
