"""What single faults look for is found where it is, and missed where it is not."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest
from tests.faults.cases.backlog import Told, lag_is_told
from tests.faults.cases.groups import GIVEN
from tests.faults.cases.network import RENEWALS
from tests.faults.invariants import Owned

from tailrace.domain.records import LEARNER, Claim
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder

STARTING = Told(1, None, "the newest published state is being loaded", 0)
HALF = Told(2, None, "folded 90 of 332 records of the log's tail", 500)
THERE = Told(3, 2, "", 900)


@pytest.mark.parametrize(
    "told",
    [
        [STARTING, HALF, THERE],
        [STARTING, HALF, HALF._replace(reason="folded 300 of 332 records of the log's tail"), THERE],
        [HALF._replace(reason="", behind=320), HALF._replace(reason="", behind=150), THERE],
    ],
)
def test_a_lag_that_is_told_begins_near_the_backlog_and_falls(told):
    lag_is_told(told, 330)


@pytest.mark.parametrize(
    "told",
    [
        [STARTING, THERE],
        [STARTING, STARTING._replace(behind=0), THERE],
        [HALF._replace(reason="folded 9 of 32 records of the log's tail"), THERE],
        [HALF, HALF],
        [HALF, HALF._replace(reason="folded 300 of 332 records of the log's tail"), HALF, THERE],
    ],
)
def test_a_lag_that_is_not_told_or_does_not_fall_is_found_out(told):
    with pytest.raises(AssertionError, match="330 records behind"):
        lag_is_told(told, 330)


def test_producers_that_were_given_up_are_read_off_the_page_of_metrics():
    """Else a producer that is never made anew would look like one that is."""
    instruments = Instruments()
    recorder = Recorder(instruments, "phishing")
    recorder.producing(waiting_bytes=0, renewals=3)
    page = generate_latest(instruments.registry).decode()

    assert [3.0] == [float(each) for each in RENEWALS.findall(page)]


def test_a_member_that_was_given_nothing_has_not_been_given_partitions():
    said = '{"event":"source of tailrace.x.score reads nothing"}\n'

    assert GIVEN.search(said) is None
    assert GIVEN.search(said + '{"event":"source of tailrace.x.score reads events/1"}\n') is not None


def test_of_several_who_begin_a_log_at_once_only_those_who_name_it_as_the_first_does_own_a_part():
    """Else the learner's records of such a log count for the product and for no check: I8 would see no epoch at all."""
    owned = Owned()

    counted = [
        owned.claim(Claim(3, "joiner", None, "first")),
        owned.claim(Claim(LEARNER, "learner-1", None, "second")),
        owned.claim(Claim(LEARNER, "learner-2", None, "first")),
        owned.claim(Claim(3, "late", None, "first")),
    ]

    assert counted == [True, False, True, False]
    assert owned.owners == {3: "joiner", LEARNER: "learner-2"}
