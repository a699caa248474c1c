"""Event times as users write them, and the spans of the join."""

from __future__ import annotations

import pytest

from tailrace.domain.times import GREATEST_TIME_MS, NEVER, JoinTimes, TimeUnit, rfc3339, rfc3339_of, time_of


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01t00:00:00z", 1_767_225_600_000),
        ("2026-01-01 00:00:00+00:00", 1_767_225_600_000),
        ("2026-01-01T05:30:00+05:30", 1_767_225_600_000),
        ("2026-01-01T00:00:00.001Z", 1_767_225_600_001),
        ("2026-01-01T00:00:00.000999999Z", 1_767_225_600_000),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59.999Z", GREATEST_TIME_MS),
    ],
)
def test_rfc_3339_with_an_offset_is_read_to_the_millisecond(text: str, time_ms: int) -> None:
    assert time_of(text, "ms") == time_ms


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_767_225_600_001, "2026-01-01T00:00:00.001Z"),
        (GREATEST_TIME_MS, "9999-12-31T23:59:59.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_written_to_the_millisecond_in_utc(time_ms: int, text: str) -> None:
    assert rfc3339(time_ms) == text


def test_what_is_no_time_is_not_written() -> None:
    assert [rfc3339_of(NEVER), rfc3339_of(-1), rfc3339_of(GREATEST_TIME_MS + 1)] == [None] * 3
    assert rfc3339_of(0) == "1970-01-01T00:00:00.000Z"


def test_no_millisecond_is_lost_to_floating_point() -> None:
    texts = [f"2033-05-18T03:33:20.{millisecond:03}Z" for millisecond in range(1_000)]

    assert [time_of(text, "ms") for text in texts] == list(range(2_000_000_000_000, 2_000_000_001_000))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "20260101T000000+0000",
        "2026-W01-1T00:00:00+00:00",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00+0000",
        "\u0662026-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999-01:00",
        "2026-01-01T00:00:00Z\n",
    ],
)
def test_other_text_is_no_time(text: str) -> None:
    assert time_of(text, "ms") is None


@pytest.mark.parametrize(
    ("value", "unit", "time_ms"),
    [
        (1_700_000_000, "s", 1_700_000_000_000),
        (1_700_000_000_001, "ms", 1_700_000_000_001),
        (1_700_000_000_001_999, "us", 1_700_000_000_001),
        (1_700_000_000_001_999_999, "ns", 1_700_000_000_001),
        (0, "s", 0),
        (GREATEST_TIME_MS, "ms", GREATEST_TIME_MS),
    ],
)
def test_integers_are_cut_off_towards_the_past(value: int, unit: TimeUnit, time_ms: int) -> None:
    assert time_of(value, unit) == time_ms


@pytest.mark.parametrize(
    ("value", "unit", "time_ms"),
    [
        (1_700_000_000.001, "s", 1_700_000_000_001),
        (1_700_000_000.0019, "s", 1_700_000_000_001),
        (1_700_000_000_001.5, "ms", 1_700_000_000_001),
        (1_700_000_000_001_000.0, "us", 1_700_000_000_001),
    ],
)
def test_floats_mean_the_decimal_that_was_written(value: float, unit: TimeUnit, time_ms: int) -> None:
    assert time_of(value, unit) == time_ms


@pytest.mark.parametrize(
    "value", [None, True, [], {}, -1, GREATEST_TIME_MS + 1, 10**400, -1e-3, 1e300, float("nan"), float("inf")]
)
def test_what_is_neither_text_nor_a_number_in_range_is_no_time(value: object) -> None:
    assert time_of(value, "ms") is None


def test_an_id_is_in_use_for_horizon_recall_disorder_and_skew() -> None:
    assert JoinTimes(horizon_ms=1_000, disorder_ms=100, skew_ms=10, recall_ms=1).reuse_ms == 1_111
