"""The histogram that takes a batch at once: one value counts there as in a batch."""

from __future__ import annotations

import math

import pytest

from tailrace.telemetry.histogram import BatchHistogram


def told_of(*batches: list[float], weight: int = 1) -> dict[tuple[str, str], float]:
    histogram = BatchHistogram("h_seconds", "help", ["a"], [0.1, 1.0, 10.0])
    for batch in batches:
        histogram.observe(("x",), batch, weight)
    (family,) = histogram.collect()
    return {(sample.name, sample.labels.get("le", "")): sample.value for sample in family.samples}


@pytest.mark.parametrize("weight", [1, 7])
def test_values_one_by_one_count_as_in_one_batch(weight: int):
    values = [-1.0, 0.0, 0.1, 0.1000001, 1.0, 5.0, 10.0, 11.0, math.inf]

    alone = told_of(*([value] for value in values), weight=weight)

    assert told_of(values, weight=weight) == alone
    assert 3 * weight == alone["h_seconds_bucket", "0.1"]
    assert 9 * weight == alone["h_seconds_count", ""]


def test_nan_is_not_counted_alone_either():
    assert told_of([1.0, math.nan]) == told_of([math.nan], [1.0])
    assert {} == told_of([math.nan])
