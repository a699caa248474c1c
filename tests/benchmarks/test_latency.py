"""Latency and label to influence, from what a probe noted and where labels were learned."""

from __future__ import annotations

import pytest
from benchmarks.latency import evaluate
from benchmarks.running import ContenderError


def test_latency_is_from_sent_to_answered_of_the_events_that_are_measured():
    rows = [(0, 0.0, 0.2, 9.0, ""), (1, 1.0, 1.2, 1.010, ""), (2, 2.0, 2.2, None, "")]

    found = evaluate(500.0, rows, 1, {})

    assert (2, 1, None) == (found.sent, found.answered, found.influence_p99_ms)
    assert found.p50_ms == pytest.approx(10.0)


def test_a_label_influences_the_first_answer_of_a_state_that_holds_it():
    learned = {0: (5 << 20) | 3}
    rows = [
        (0, 0.0, 1.0, 0.1, "0:0"),
        (1, 1.01, 9.0, 1.02, "5:3"),  # holds everything before row 3
        (2, 1.03, 9.0, 1.05, "5:4"),
        (3, 1.04, 9.0, 1.06, "6:0"),
    ]

    found = evaluate(500.0, rows, 0, learned)

    assert found.influence_p50_ms == pytest.approx(50.0)


def test_an_answer_of_an_older_state_that_comes_later_hides_nothing():
    rows = [(0, 0.0, 1.0, 1.5, "6:0"), (1, 1.0, 9.0, 1.6, "1:0")]

    assert evaluate(500.0, rows, 0, {0: 5 << 20}).influence_p50_ms == pytest.approx(500.0)


def test_no_answer_at_all_is_a_failure():
    with pytest.raises(ContenderError, match="answered nothing"):
        evaluate(500.0, [(0, 0.0, 0.2, None, "")], 0, {})
