"""Corrections are applied when they have ceased, and when they never do."""

from __future__ import annotations

from tailrace.streams.patience import Patience


def test_what_comes_at_once_is_applied_at_once_when_it_has_become_quiet() -> None:
    patience = Patience(30.0)

    found = [patience.is_over(end, now_s) for end, now_s in ((1, 100.0), (2, 120.0), (2, 149.9), (2, 150.0))]

    assert [False, False, False, True] == found


def test_corrections_that_never_cease_are_applied_all_the_same() -> None:
    """
    Without the longest wait a correction every few seconds would keep all of them out for ever.
    """
    patience = Patience(30.0)

    due = [now_s for now_s in range(1000, 2000, 5) if patience.is_over(now_s, float(now_s))]

    assert 1300 == due[0]


def test_building_rests_four_times_as_long_as_it_took_however_long_corrections_wait() -> None:
    """
    Without the rest a large log with corrections that never cease would keep a core busy for good.
    """
    patience = Patience(1.0)
    patience.applied(100.0, 1000.0)

    due = [now_s for now_s in range(1000, 2000) if patience.is_over(now_s, float(now_s))]

    assert 1400 == due[0]


def test_what_was_waited_for_begins_anew_when_nothing_waits() -> None:
    patience = Patience(30.0)
    patience.is_over(1, 0.0)

    patience.nothing_waits()

    assert not patience.is_over(2, 1000.0)
    assert patience.is_over(2, 1030.0)
