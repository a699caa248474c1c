"""How old what serves is, and how long a label takes to be in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tests.log_builders import make_examples

from tailrace.domain.blocks import Examples
from tailrace.domain.positions import position_of
from tailrace.domain.status import Quantiles, ServingStatus
from tailrace.streams.freshness import ENDS_KEPT, Freshness
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder


class Watched:
    """A freshness whose clock is turned by hand."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.recorder = Recorder(Instruments(), "phishing")
        self.freshness = Freshness(self.recorder, lambda: self.now_ms)

    def status(self, offset: int) -> ServingStatus:
        return self.freshness.status(position_of(offset))


def make_learned(times_ms: list[int], label_broker_ms: list[int]) -> Examples:
    made = make_examples(len(times_ms))
    return replace(made, times_ms=np.array(times_ms, np.int64), label_broker_ms=np.array(label_broker_ms, np.int64))


def test_nothing_is_known_before_anything_was_told():
    assert ServingStatus(position_of(5)) == Watched().status(5)


def test_a_state_that_contains_the_whole_log_is_of_no_age_and_another_as_old_as_what_it_lacks():
    watched = Watched()
    watched.freshness.log_ends(10)
    watched.now_ms = 3_000
    watched.freshness.log_ends(12)
    watched.now_ms = 4_500
    watched.freshness.log_ends(20)
    watched.now_ms = 5_000

    found = [(each.age_seconds, each.lag_records) for each in map(watched.status, (9, 10, 12, 20))]

    assert [(5.0, 11), (2.0, 10), (0.5, 8), (0.0, 0)] == found


def test_the_age_goes_on_while_the_log_does_not_answer():
    watched = Watched()
    watched.freshness.log_ends(10)
    watched.now_ms = 60_000

    assert 60.0 == watched.status(9).age_seconds
    assert 0.0 == watched.status(10).age_seconds


def test_what_is_remembered_of_a_log_that_is_never_caught_up_with_is_bounded_and_its_age_is_kept():
    watched = Watched()
    for second in range(3 * ENDS_KEPT):
        watched.now_ms = 1_000 * second
        watched.freshness.log_ends(second + 1)

    assert len(watched.freshness._ends) <= ENDS_KEPT
    assert (3 * ENDS_KEPT - 1, 3 * ENDS_KEPT) == (watched.status(0).age_seconds, watched.status(0).lag_records)


def test_the_lag_in_event_time_is_between_the_newest_scored_and_the_newest_learned():
    watched = Watched()
    watched.freshness.scored(np.array([50_000, 90_000], np.int64))
    assert watched.status(1).event_time_lag_seconds is None

    watched.freshness.learned(make_learned([30_000, 10_000], [0, 0]))
    watched.freshness.scored(np.array([80_000], np.int64))
    watched.freshness.scored(np.array([], np.int64))
    assert 60.0 == watched.status(1).event_time_lag_seconds

    watched.freshness.learned(make_learned([95_000], [0]))
    assert 0.0 == watched.status(1).event_time_lag_seconds


def test_every_label_takes_from_its_arrival_until_a_state_that_has_learned_it_serves():
    watched = Watched()
    watched.now_ms = 10_000

    watched.freshness.learned(make_learned([0, 0, 0], [9_000, 4_000, -1]))  # the last one is implicit: it has no label
    watched.freshness.learned(make_learned([], []))

    assert Quantiles(1_000.0, 6_000.0, 2) == watched.recorder.label_to_influence_quantiles()
