"""Values of Avro topics: what fastavro writes is read, by the schema that is pinned, and equal to the same JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.avro_poison import AVRO_EVENTS, AVRO_LABELS, varint, written
from tests.wire.avro_poison import event as avro_event
from tests.wire.avro_poison import label as avro_label
from tests.wire.poison import EVENTS, GOOD_EVENT, GOOD_LABEL, LABELS, TIMESTAMP_MS
from tests.wire.test_poison import Record

from tailrace.domain.features import Raw
from tailrace.domain.records import Code, Rejection
from tailrace.wire.avro_objects import SINGLE_OBJECT, avro_reader
from tailrace.wire.pinned_schema import PinnedSchema, pinned
from tailrace.wire.schemas import fingerprint_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats() | st.integers(-(1 << 62), 1 << 62).map(float)


def pin(schema: Any) -> PinnedSchema:
    return pinned(orjson.dumps(schema), "pages.avsc")


def record(*fields: tuple[Any, ...], name: str = "R") -> dict[str, Any]:
    keys = ("name", "type", "default")
    return {"type": "record", "name": name, "fields": [dict(zip(keys, field, strict=False)) for field in fields]}


EVERY_TYPE = record(
    ("none", "null"),
    ("flag", "boolean"),
    ("small", "int"),
    ("wide", "long"),
    ("single", "float"),
    ("twice", "double"),
    ("text", "string"),
    ("raw", "bytes"),
    ("four", {"type": "fixed", "name": "Four", "size": 4}),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["a", "b", "c"]}),
    ("maybe", ["null", "string", "double"]),
    ("inner", record(("a", "double"), ("b", "float"), ("c", "long"), name="Inner")),
    ("by_name", {"type": "map", "values": "Inner"}),
    ("list", {"type": "array", "items": ["null", "Inner"]}),
)
inners = st.fixed_dictionaries(
    {
        "a": st.floats(allow_nan=False),
        "b": st.floats(width=32, allow_nan=False),
        "c": st.integers(-(1 << 63), 2**63 - 1),
    }
)
values = st.fixed_dictionaries(
    {
        "none": st.none(),
        "flag": st.booleans(),
        "small": st.integers(-(1 << 31), (1 << 31) - 1),
        "wide": st.integers(-(1 << 63), (1 << 63) - 1),
        "single": st.floats(width=32, allow_nan=False),
        "twice": st.floats(allow_nan=False),
        "text": texts,
        "raw": st.binary(max_size=20),
        "four": st.binary(min_size=4, max_size=4),
        "kind": st.sampled_from("abc"),
        "maybe": st.none() | texts | st.floats(allow_nan=False),
        "inner": inners,
        "by_name": st.dictionaries(texts, inners, max_size=3),
        "list": st.lists(st.none() | inners, max_size=4),
    }
)
READ_EVERY_TYPE = avro_reader(pin(EVERY_TYPE))


@given(values)
def test_what_fastavro_writes_is_read_again_but_for_arrays_which_are_checked_and_not_kept(
    value: dict[str, Any],
) -> None:
    assert value | {"list": None} == READ_EVERY_TYPE(written(EVERY_TYPE, value))


@given(values, st.data())
def test_bytes_that_are_cut_or_flipped_never_raise_and_never_leave_a_rest(value: dict[str, Any], data: Any) -> None:
    good = bytearray(written(EVERY_TYPE, value))
    good[data.draw(st.integers(0, len(good) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (bytes(good), bytes(good[: data.draw(st.integers(0, len(good) - 1))])):
        read = READ_EVERY_TYPE(bad)
        assert isinstance(read, dict) or read.code is Code.NOT_AVRO


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_rejection(value: bytes) -> None:
    assert isinstance(READ_EVERY_TYPE(value), dict | Rejection)


def test_one_byte_less_or_more_is_no_value() -> None:
    value = avro_event()

    assert [Code.NOT_AVRO] * 2 == [AVRO_EVENTS.decode(bad, TIMESTAMP_MS).code for bad in (value[:-1], value + b"\0")]  # type: ignore[union-attr]


event_changes = st.fixed_dictionaries(
    {},
    optional={
        "id": texts | st.integers(-(1 << 63), (1 << 63) - 1) | st.booleans() | st.none(),
        "at": st.integers(0, TIMESTAMP_MS * 2) | st.sampled_from(["2026-01-01T00:00:00Z", "never"]) | st.booleans(),
        "amount": numbers.filter(math.isfinite) | texts | st.booleans() | st.none(),
        "country": st.sampled_from(["de", "fr", "xx", "", 5, None]),
        "note": texts | st.none(),
        "score": numbers.filter(math.isfinite),
        "user": st.fixed_dictionaries({"age": st.integers(-5, 200) | st.none() | st.floats(0, 100)}) | st.none(),
        "vip": st.booleans() | st.integers(0, 1),
    },
)


@given(event_changes)
def test_the_same_event_in_json_and_in_avro_is_one_event(changes: dict[str, Any]) -> None:
    """Equal x, and so equal digests: the format of an input leaves no trace in a model."""
    as_json = EVENTS.decode(orjson.dumps(GOOD_EVENT | changes), TIMESTAMP_MS)
    as_avro = AVRO_EVENTS.decode(avro_event(**changes), TIMESTAMP_MS)

    assert repr(as_json) == repr(as_avro)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": texts | st.integers(-(1 << 63), (1 << 63) - 1) | st.none(),
            "verdict": st.sampled_from(["fraud", "fine", "else", True, 1, None]),
        },
    )
)
def test_the_same_label_in_json_and_in_avro_is_one_label(changes: dict[str, Any]) -> None:
    as_json = LABELS.decode(Record(orjson.dumps(GOOD_LABEL | changes)))

    assert repr(as_json) == repr(AVRO_LABELS.decode(Record(avro_label(**changes))))


NOW = record(("id", "string"), ("a", "double"), ("b", "long", 7), ("c", ["null", "string"], None))
ONCE = record(("id", "string"), ("a", "int"))


def single_object(schema: Any, fields: dict[str, Any]) -> bytes:
    return SINGLE_OBJECT + fingerprint_of(schema) + written(schema, fields)


def read_now() -> Callable[[bytes], Raw | Rejection]:
    return avro_reader(pin(NOW), [pin(ONCE)])


def test_single_object_encoding_is_read_by_the_pinned_schema_that_it_names() -> None:
    fields = {"id": "e", "a": 0.5, "b": 3, "c": None}

    assert fields == read_now()(single_object(NOW, fields)) == read_now()(written(NOW, fields))


def test_what_an_older_schema_lacks_has_the_default_of_the_present_one() -> None:
    assert {"id": "e", "a": 4, "b": 7} == read_now()(single_object(ONCE, {"id": "e", "a": 4}))


def test_a_field_of_an_older_schema_has_the_name_whose_alias_it_is() -> None:
    now = record(("id", "string"), ("height", "double"), ("width", "double", 1.0))
    now["fields"][1]["aliases"] = ["tall", "size"]
    now["fields"][2]["aliases"] = ["id"]  # which is there by its own name as well: then it is that
    older = [
        record(("id", "string"), ("size", "long")),
        record(("size", "long"), ("height", "double"), ("id", "string")),
    ]
    read = avro_reader(pin(now), [pin(each) for each in older])

    renamed = read(single_object(older[0], {"id": "e", "size": 4}))
    both = read(single_object(older[1], {"id": "e", "size": 4, "height": 0.5}))

    assert {"id": "e", "height": 4, "width": 1.0} == renamed
    assert {"id": "e", "size": 4, "height": 0.5, "width": 1.0} == both


def test_an_older_schema_is_read_only_where_it_is_pinned() -> None:
    """The bytes choose no schema: without the list of pinned fingerprints this would be read."""
    rejected = avro_reader(pin(NOW))(single_object(ONCE, {"id": "e", "a": 4}))

    assert isinstance(rejected, Rejection)
    assert f"names the schema {fingerprint_of(ONCE).hex()}, which is not pinned" in rejected.detail


def test_a_plain_body_that_begins_like_a_single_object_is_a_plain_body() -> None:
    schema = record(("a", "long"), ("b", "string"))
    fields = {"a": -98, "b": "0123456789"}
    value = written(schema, fields)

    assert value.startswith(SINGLE_OBJECT)
    assert fields == avro_reader(pin(schema))(value)


def test_the_framing_of_a_schema_registry_is_named() -> None:
    rejected = read_now()(b"\0\0\0\0\x2a" + written(NOW, {"id": "e", "a": 0.5, "b": 3, "c": None}))

    assert isinstance(rejected, Rejection)
    assert "schema registry" in rejected.detail


@pytest.mark.parametrize("count", [3, -3])
def test_items_may_come_in_several_blocks_with_and_without_their_size(count: int) -> None:
    schema = record(("list", {"type": "array", "items": "int"}), ("map", {"type": "map", "values": "int"}))
    items = b"".join(map(varint, (1, 2, 3)))
    entries = b"".join(varint(1) + name + varint(5) for name in (b"a", b"b", b"c"))

    def block(body: bytes) -> bytes:
        return varint(count) + (varint(len(body)) if count < 0 else b"") + body

    value = block(items) * 2 + b"\0" + block(entries) + b"\0"

    assert {"list": None, "map": {"a": 5, "b": 5, "c": 5}} == avro_reader(pin(schema))(value)


def test_a_block_that_claims_more_items_than_bytes_is_refused_before_one_is_read() -> None:
    rejected = avro_reader(pin(record(("list", {"type": "array", "items": "int"}))))(varint(9) + b"\0" * 8)

    assert isinstance(rejected, Rejection)
    assert "the block at byte 0 has 9 items; 8 bytes are left" == rejected.detail
