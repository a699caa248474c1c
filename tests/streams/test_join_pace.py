"""How often a join commits and sends marks."""

from __future__ import annotations

import pytest

from tailrace.main import composition
from tailrace.streams.join_pace import commit_every_s, mark_every_s
from tailrace.streams.kafka_source import UNTAKEN_WAIT_S


def _commit_every_s(partitions: int, *, on_disk: bool = False, was_refused: bool = False) -> float:
    return commit_every_s(partitions, on_disk=on_disk, was_refused=was_refused)


def test_all_partitions_together_commit_no_more_often_than_a_few():
    rates = [partitions / _commit_every_s(partitions) for partitions in (4, 8, 64, 1_000)]

    assert [pytest.approx(rates[0])] * 4 == rates


def test_few_partitions_commit_as_often_as_one():
    assert [0.2, 0.2, 0.2] == [_commit_every_s(partitions) for partitions in (1, 2, 4)]


def test_what_is_bound_by_commits_and_what_was_refused_is_not_put_off():
    assert 0.2 == _commit_every_s(64, on_disk=True)
    assert 0.2 == _commit_every_s(64, was_refused=True)


def test_marks_are_put_off_by_the_number_of_partitions_and_to_a_limit():
    assert [1.0, 1.0, 2.0, 4.0, 4.0] == [mark_every_s(partitions, is_held=False) for partitions in (1, 4, 8, 16, 64)]


def test_a_partition_that_goes_on_as_marks_come_sends_its_own_without_delay():
    assert 1.0 == mark_every_s(64, is_held=True)


def test_no_pace_is_longer_than_records_may_lie_untaken():
    """Otherwise aiokafka would ask for more while a source rests, and hold it."""
    assert max(composition._JOIN_PACE_S, composition._LEARN_PACE_S) < UNTAKEN_WAIT_S
