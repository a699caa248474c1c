"""Every kind of bad input has one code, and disturbs nothing around it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from tests.wire.poison import EVENTS, LABELS, POISON, TIMESTAMP_MS, Poison, event, label

from tailrace.domain.records import Code, Event, Label, Rejection


class Record(NamedTuple):
    value: bytes | None
    offset: int = 0
    partition: int = 0
    timestamp: int = TIMESTAMP_MS


def of(kind: str) -> list[Poison]:
    return [poison for poison in POISON if poison.kind == kind]


def test_the_table_names_at_least_forty_kinds_and_each_name_once() -> None:
    names = [(poison.kind, poison.name) for poison in POISON]

    assert len(set(names)) == len(names)
    assert len(of("events")) >= 25
    assert len(of("labels")) >= 15


def test_the_table_has_every_code_that_decoding_and_validation_can_give() -> None:
    not_from_json = {Code.FEATURE_NOT_FINITE}
    given_later = {Code.ROW_TOO_LARGE, Code.MODEL_FAILED, Code.LATE, Code.ORPHANED, Code.CONFLICTING}

    assert set(Code) - given_later - not_from_json == {poison.code for poison in POISON}


@pytest.mark.parametrize("poison", of("events"), ids=lambda poison: poison.name)
def test_an_event_that_cannot_be_used_is_rejected_with_its_code(poison: Poison) -> None:
    rejection = EVENTS.decode(poison.value, TIMESTAMP_MS)

    assert isinstance(rejection, Rejection)
    assert poison.code is rejection.code


@pytest.mark.parametrize("poison", of("labels"), ids=lambda poison: poison.name)
def test_a_label_that_cannot_be_used_is_rejected_with_its_code(poison: Poison) -> None:
    rejection = LABELS.decode(Record(poison.value))

    assert isinstance(rejection, Rejection)
    assert poison.code is rejection.code


@pytest.mark.parametrize("poison", of("events"), ids=lambda poison: poison.name)
def test_the_neighbours_of_a_bad_event_are_read_as_without_it(poison: Poison) -> None:
    batch = EVENTS.decode_batch([Record(event(id="a")), Record(poison.value), Record(event(id="b"))])

    assert [0, 2] == batch.indexes
    assert ["a", "b"] == batch.ids
    assert [EVENTS.decode(event(id=name), TIMESTAMP_MS) for name in "ab"] == [
        Event(*parts) for parts in zip(batch.ids, batch.times_ms, batch.rows, strict=True)
    ]
    assert {1: EVENTS.decode(poison.value, TIMESTAMP_MS)} == batch.rejected


@pytest.mark.parametrize("poison", of("labels"), ids=lambda poison: poison.name)
def test_the_neighbours_of_a_bad_label_are_read_as_without_it(poison: Poison) -> None:
    first, bad, last = LABELS.decode_batch([Record(label(id="a")), Record(poison.value, 1), Record(label(id="b"), 2)])

    assert Label("a", TIMESTAMP_MS, 1.0, 0, 0, TIMESTAMP_MS) == first
    assert LABELS.decode(Record(poison.value, 1)) == bad
    assert Label("b", TIMESTAMP_MS, 1.0, 0, 2, TIMESTAMP_MS) == last


def test_all_bad_events_of_one_batch_are_rejected_and_all_good_ones_accepted() -> None:
    records = [Record(value) for poison in of("events") for value in (poison.value, event())]

    batch = EVENTS.decode_batch(records)

    assert list(range(1, len(records), 2)) == batch.indexes
    assert [poison.code for poison in of("events")] == [rejection.code for rejection in batch.rejected.values()]


def test_a_rejection_never_quotes_what_a_feature_or_target_held() -> None:
    secret = "k7-secret"
    bad = [
        EVENTS.decode(event(country=secret), TIMESTAMP_MS),
        EVENTS.decode(event(amount=secret), TIMESTAMP_MS),
        EVENTS.decode(event(note=secret * 10), TIMESTAMP_MS),
        EVENTS.decode(event(at=secret), TIMESTAMP_MS),
        EVENTS.decode(event(user=secret), TIMESTAMP_MS),
        LABELS.decode(Record(label(verdict=secret))),
    ]

    assert all(isinstance(rejection, Rejection) and secret not in rejection.detail for rejection in bad)
