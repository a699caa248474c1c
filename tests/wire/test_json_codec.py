"""Decoding of events and labels; what is rejected is in test_poison."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.domain.contract import FeatureContract, FeatureSpec, TargetContract
from tailrace.domain.records import Code, Event, Label, Rejection, Task
from tailrace.wire.json_codec import MAX_DEPTH, EventDecoder, LabelDecoder, RecordFields, json_object

CONTRACT = FeatureContract((FeatureSpec("a", "number"), FeatureSpec("b", "number")))
NESTED = FeatureContract((FeatureSpec("x.a", "number"), FeatureSpec("x.b", "number", missing="absent")))
NOW_MS = 1_800_000_000_000


class Record(NamedTuple):
    value: bytes | None
    offset: int = 0
    timestamp: int = NOW_MS
    partition: int = 0


def events(contract: FeatureContract = CONTRACT, **fields: Any) -> EventDecoder:
    return EventDecoder(RecordFields(**({"id": "id"} | fields)), contract)


def value(**fields: Any) -> bytes:
    return orjson.dumps({"id": "e", "a": 1.0, "b": 2.0} | fields)


def accepted(decoder: EventDecoder, raw: bytes, timestamp_ms: int = NOW_MS) -> Event:
    event = decoder.decode(raw, timestamp_ms)
    assert isinstance(event, Event), event
    return event


def code_of(found: object) -> Code:
    assert isinstance(found, Rejection)
    return found.code


@pytest.mark.parametrize(
    ("written", "read"), [("42", "42"), (42, "42"), (-1, "-1"), ("é" * 256, "é" * 256), (" ", " ")]
)
def test_ids_are_compared_as_text(written: str | int, read: str) -> None:
    assert read == accepted(events(), value(id=written)).id


def test_the_id_may_lie_in_a_nested_object() -> None:
    assert "7" == accepted(events(id="meta.id"), value(meta={"id": 7})).id


def test_without_a_time_field_the_time_is_that_of_the_kafka_record() -> None:
    assert 17 == accepted(events(), value(), 17).time_ms


@pytest.mark.parametrize("timestamp_ms", [-1, 1 << 60])
def test_a_kafka_record_without_a_usable_timestamp_needs_a_time_field(timestamp_ms: int) -> None:
    assert Code.TIME_INVALID is code_of(events().decode(value(), timestamp_ms))


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("ms", 1_700_000_000_123),
        ("ms", 1_700_000_000_123.9),
        ("s", 1_700_000_000.123),
        ("us", 1_700_000_000_123_456),
        ("ns", 1_700_000_000_123_456_789),
        ("s", "2023-11-14T22:13:20.123Z"),
        ("s", "2023-11-14T23:13:20.123999+01:00"),
    ],
)
def test_times_are_rfc_3339_or_a_number_of_the_stated_unit(unit: str, written: object) -> None:
    assert 1_700_000_000_123 == accepted(events(time="at", time_unit=unit), value(at=written)).time_ms


def test_a_time_may_lie_a_little_past_the_kafka_timestamp() -> None:
    decoder = events(time="at", max_ahead_ms=100)

    assert NOW_MS + 100 == accepted(decoder, value(at=NOW_MS + 100)).time_ms
    assert Code.TIME_AHEAD is code_of(decoder.decode(value(at=NOW_MS + 101), NOW_MS))


def test_a_value_may_have_exactly_as_many_bytes_as_allowed() -> None:
    raw = value()

    assert accepted(events(max_bytes=len(raw)), raw)
    assert Code.TOO_LARGE is code_of(events(max_bytes=len(raw) - 1).decode(raw, NOW_MS))


def test_brackets_in_texts_do_not_make_a_value_deep() -> None:
    assert {"id": "[" * 5000} == json_object(orjson.dumps({"id": "[" * 5000}))
    assert Code.NOT_JSON is code_of(json_object(b'{"id": "' + b'[\\"' * 5000 + b'", }'))


def test_depth_is_counted_by_open_brackets_not_by_all_of_them() -> None:
    assert Code.NOT_JSON is code_of(json_object(b"[" + b"[]," * (2 * MAX_DEPTH) + b"]"))
    assert Code.TOO_LARGE is code_of(json_object(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)))


@pytest.mark.parametrize(
    ("contract", "raw", "extra"),
    [
        (CONTRACT, value(), 0),
        (CONTRACT, value(c=1, d=None), 2),
        (NESTED, value(x={"a": 1.0, "b": 2.0}), 2),
        (NESTED, value(x={"a": 1.0, "c": 2.0}), 2),
    ],
)
def test_fields_that_nobody_looks_at_are_counted(contract: FeatureContract, raw: bytes, extra: int) -> None:
    assert 3 * extra == events(contract).decode_batch([Record(raw)] * 3).extra_fields


def test_fields_are_counted_of_accepted_events_only() -> None:
    batch = events().decode_batch([Record(value(c=1)), Record(value(c=1, a="x")), Record(None)])

    assert 1 == batch.extra_fields


def test_a_batch_without_records_is_empty() -> None:
    batch = events(time="at").decode_batch([])

    assert ([], [], [], {}) == (batch.ids, batch.times_ms, batch.rows, batch.rejected)
    assert (0, 2) == batch.x.numbers.shape


def test_features_that_are_absent_are_so_in_the_columns() -> None:
    batch = events(NESTED).decode_batch([Record(value(x={"a": 1.0})), Record(value(x={"a": 1.0, "b": 2.0}))])

    assert batch.x.absent is not None
    assert [[False, True], [False, False]] == batch.x.absent.tolist()


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 64) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
VALUES = (
    st.none()
    | st.binary(max_size=10)
    | st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(max_size=3) | st.integers(0, 9) | ANY_JSON,
            "at": st.integers(NOW_MS - 9, NOW_MS) | ANY_JSON,
            "a": st.floats(-1, 1) | ANY_JSON,
            "b": st.floats(-1, 1) | ANY_JSON,
            "y": st.booleans() | ANY_JSON,
        },
    ).map(lambda fields: orjson.dumps(fields, option=orjson.OPT_PASSTHROUGH_SUBCLASS) if _is_writable(fields) else b"")
)


def _is_writable(fields: Any) -> bool:
    try:
        orjson.dumps(fields)
    except TypeError:
        return False
    return True


@given(st.lists(VALUES, max_size=6))
def test_a_batch_of_anything_is_decoded_as_each_record_alone(values: list[bytes | None]) -> None:
    decoder = events(time="at")

    batch = decoder.decode_batch([Record(raw) for raw in values])

    found: list[Any] = [None] * len(values)
    for index, *parts in zip(batch.indexes, batch.ids, batch.times_ms, batch.rows, strict=True):
        found[index] = Event(*parts)
    for index, rejection in batch.rejected.items():
        found[index] = rejection
    assert [decoder.decode(raw, NOW_MS) for raw in values] == found
    assert batch.rows == CONTRACT.rows(batch.x)


@given(st.lists(VALUES, max_size=6))
def test_labels_of_anything_are_decoded_in_their_order(values: list[bytes | None]) -> None:
    decoder = LabelDecoder(
        RecordFields("id", "at"), "y", TargetContract(Task.BINARY), revision="a", source="b", takes_withdrawals=True
    )
    records = [Record(raw, offset) for offset, raw in enumerate(values)]

    assert [decoder.decode(record) for record in records] == decoder.decode_batch(records)


def test_a_label_carries_its_place_and_the_time_of_the_broker() -> None:
    decoder = LabelDecoder(RecordFields("id", "at", "s"), "is.bad", TargetContract(Task.BINARY))

    label = decoder.decode(Record(b'{"id": 7, "at": 3, "is": {"bad": true}}', offset=5, timestamp=9_000, partition=2))

    assert Label("7", 3_000, 1.0, 2, 5, 9_000) == label


def test_a_label_carries_its_revision_and_its_source() -> None:
    decoder = labels_with_words()

    full, bare = decoder.decode_batch(
        [Record(b'{"id": "a", "y": true, "v": {"n": 3}, "by": "desk"}'), Record(b'{"id": "b", "y": true}')]
    )

    assert isinstance(full, Label)
    assert isinstance(bare, Label)
    assert (3, "desk") == (full.revision, full.source)
    assert (0, "") == (bare.revision, bare.source)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'{"id": "a", "y": true, "v": {"n": -1}}', Code.REVISION_INVALID),
        (b'{"id": "a", "y": true, "v": {"n": 1.0}}', Code.REVISION_INVALID),
        (b'{"id": "a", "y": true, "v": {"n": true}}', Code.REVISION_INVALID),
        (b'{"id": "a", "y": true, "v": {"n": "2"}}', Code.REVISION_INVALID),
        (b'{"id": "a", "y": true, "v": {"n": 9223372036854775808}}', Code.REVISION_INVALID),
        (b'{"id": "a", "y": true, "by": 7}', Code.SOURCE_INVALID),
        (b'{"id": "a", "y": true, "by": "\\u0000"}', Code.SOURCE_INVALID),
        (b'{"id": "a", "y": true, "by": "' + b"s" * 101 + b'"}', Code.SOURCE_INVALID),
        (b'{"id": "a", "y": 3, "v": {"n": -1}}', Code.TARGET_INVALID),
    ],
)
def test_a_revision_or_source_that_cannot_be_one_is_rejected_with_its_code(value: bytes, code: Code) -> None:
    rejection = labels_with_words().decode(Record(value))

    assert isinstance(rejection, Rejection)
    assert code == rejection.code


@pytest.mark.parametrize(
    ("value", "takes_withdrawals", "withdraws"),
    [
        (b'{"id": "a", "at": {"y": null}}', True, True),
        (b'{"id": "a", "at.y": null}', True, True),
        (b'{"id": "a", "at": {}}', True, False),
        (b'{"id": "a"}', True, False),
        (b'{"id": "a", "at": 7}', True, False),
        (b'{"id": "a", "at": {"y": null}}', False, False),
    ],
)
def test_a_target_that_is_null_withdraws_where_that_is_taken_and_one_that_is_absent_never(
    value: bytes, takes_withdrawals: bool, withdraws: bool
) -> None:
    target = TargetContract(Task.BINARY)
    decoder = LabelDecoder(RecordFields("id"), "at.y", target, takes_withdrawals=takes_withdrawals)

    found, neighbour = decoder.decode_batch([Record(value), Record(b'{"id": "b", "at": {"y": true}}')])

    assert isinstance(neighbour, Label)
    if withdraws:
        assert isinstance(found, Label)
        assert found.y is None
    else:
        assert isinstance(found, Rejection)
        assert Code.TARGET_MISSING == found.code


def test_a_tombstone_is_never_a_withdrawal() -> None:
    rejection = labels_with_words().decode(Record(None))

    assert isinstance(rejection, Rejection)
    assert Code.EMPTY_VALUE == rejection.code


def labels_with_words() -> LabelDecoder:
    target = TargetContract(Task.BINARY)
    return LabelDecoder(RecordFields("id"), "y", target, revision="v.n", source="by", takes_withdrawals=True)


def test_another_format_takes_the_place_of_json() -> None:
    decoder = events(read_object=lambda raw: {"id": raw.decode(), "a": 1.0, "b": 2.0})

    assert "bare" == accepted(decoder, b"bare").id
