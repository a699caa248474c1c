"""Every kind of bad input has one code, and disturbs nothing around it; the same holds for JSON and for Avro."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from tests.wire import avro_poison, poison
from tests.wire.avro_poison import AVRO_EVENTS, AVRO_LABELS, AVRO_POISON
from tests.wire.poison import EVENTS, LABELS, POISON, TIMESTAMP_MS, Poison

from tailrace.domain.records import Code, Event, Label, Rejection
from tailrace.wire.json_codec import EventDecoder, LabelDecoder


class Record(NamedTuple):
    value: bytes | None
    offset: int = 0
    partition: int = 0
    timestamp: int = TIMESTAMP_MS


class Format(NamedTuple):
    """One format of user topics: its bad records, its decoders, and makers of good values."""

    name: str
    poison: list[Poison]
    events: EventDecoder
    labels: LabelDecoder
    event: Callable[..., bytes]
    label: Callable[..., bytes]


FORMATS = [
    Format("json", POISON, EVENTS, LABELS, poison.event, poison.label),
    Format("avro", AVRO_POISON, AVRO_EVENTS, AVRO_LABELS, avro_poison.event, avro_poison.label),
]
NO_OTHER_CODE = {"json": {Code.FEATURE_NOT_FINITE, Code.NOT_AVRO}, "avro": {Code.NOT_JSON, Code.NOT_AN_OBJECT}}


def of(kind: str, format_: Format) -> list[Poison]:
    return [poison for poison in format_.poison if poison.kind == kind]


def each(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("format_", "bad"),
        [pytest.param(each, bad, id=f"{each.name}-{bad.name}") for each in FORMATS for bad in of(kind, each)],
    )


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_the_table_names_at_least_forty_kinds_and_each_name_once(format_: Format) -> None:
    names = [(bad.kind, bad.name) for bad in format_.poison]

    assert len(set(names)) == len(names)
    assert len(of("events", format_)) >= 25
    assert len(of("labels", format_)) >= 15


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_the_table_has_every_code_that_decoding_and_validation_can_give(format_: Format) -> None:
    given_later = {Code.ROW_TOO_LARGE, Code.MODEL_FAILED, Code.LATE, Code.ORPHANED, Code.CONFLICTING}

    assert set(Code) - given_later - NO_OTHER_CODE[format_.name] == {bad.code for bad in format_.poison}


@each("events")
def test_an_event_that_cannot_be_used_is_rejected_with_its_code(format_: Format, bad: Poison) -> None:
    rejection = format_.events.decode(bad.value, TIMESTAMP_MS)

    assert isinstance(rejection, Rejection)
    assert bad.code is rejection.code


@each("labels")
def test_a_label_that_cannot_be_used_is_rejected_with_its_code(format_: Format, bad: Poison) -> None:
    rejection = format_.labels.decode(Record(bad.value))

    assert isinstance(rejection, Rejection)
    assert bad.code is rejection.code


@each("events")
def test_the_neighbours_of_a_bad_event_are_read_as_without_it(format_: Format, bad: Poison) -> None:
    events, event = format_.events, format_.event
    batch = events.decode_batch([Record(event(id="a")), Record(bad.value), Record(event(id="b"))])

    assert [0, 2] == batch.indexes
    assert ["a", "b"] == batch.ids
    assert [events.decode(event(id=name), TIMESTAMP_MS) for name in "ab"] == [
        Event(*parts) for parts in zip(batch.ids, batch.times_ms, batch.rows, strict=True)
    ]
    assert {1: events.decode(bad.value, TIMESTAMP_MS)} == batch.rejected


@each("labels")
def test_the_neighbours_of_a_bad_label_are_read_as_without_it(format_: Format, bad: Poison) -> None:
    labels, label = format_.labels, format_.label
    first, between, last = labels.decode_batch([Record(label(id="a")), Record(bad.value, 1), Record(label(id="b"), 2)])

    assert Label("a", TIMESTAMP_MS, 1.0, 0, 0, TIMESTAMP_MS) == first
    assert labels.decode(Record(bad.value, 1)) == between
    assert Label("b", TIMESTAMP_MS, 1.0, 0, 2, TIMESTAMP_MS) == last


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_all_bad_events_of_one_batch_are_rejected_and_all_good_ones_accepted(format_: Format) -> None:
    bad = of("events", format_)
    records = [Record(value) for each in bad for value in (each.value, format_.event())]

    batch = format_.events.decode_batch(records)

    assert list(range(1, len(records), 2)) == batch.indexes
    assert [each.code for each in bad] == [rejection.code for rejection in batch.rejected.values()]


def test_a_rejection_never_quotes_what_a_feature_or_target_held() -> None:
    secret = "k7-secret"
    bad = [
        EVENTS.decode(poison.event(country=secret), TIMESTAMP_MS),
        EVENTS.decode(poison.event(amount=secret), TIMESTAMP_MS),
        EVENTS.decode(poison.event(note=secret * 10), TIMESTAMP_MS),
        EVENTS.decode(poison.event(at=secret), TIMESTAMP_MS),
        EVENTS.decode(poison.event(user=secret), TIMESTAMP_MS),
        LABELS.decode(Record(poison.label(verdict=secret))),
    ]

    assert all(isinstance(rejection, Rejection) and secret not in rejection.detail for rejection in bad)
