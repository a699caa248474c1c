"""After a silence nothing is read on before the record in front of it was found again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tailrace.domain.errors import ForeignLogError
from tailrace.streams.log import TopicPartition
from tailrace.streams.witness import Witnesses

AT = TopicPartition("loop.training", 0)


def record(offset: int, value: bytes = b"v", timestamp: int = 1_000) -> SimpleNamespace:
    return SimpleNamespace(offset=offset, key=None, value=value, timestamp=timestamp)


def witnesses(*records: SimpleNamespace, at_s: float = 0.0) -> Witnesses:
    made = Witnesses()
    made.check(AT, records, at_s)
    return made


def test_without_a_silence_nothing_is_read_again():
    assert witnesses(record(7)).asks(AT, 8, 0.9) is None


def test_after_a_silence_the_last_record_is_read_again_and_not_delivered():
    made = witnesses(record(6), record(7))

    assert made.asks(AT, 8, 1.0) == 7
    assert made.asks(AT, 8, 1.0) is None, "once is enough"
    assert list(made.check(AT, [record(7), record(8)], 1.1)) == [record(8)]
    assert made.asks(AT, 9, 1.5) is None


def test_a_record_that_is_found_again_counts_as_heard():
    made = witnesses(record(7))
    made.asks(AT, 8, 1.0)

    assert list(made.check(AT, [record(7)], 1.1)) == []
    assert made.asks(AT, 8, 2.0) is None
    assert made.asks(AT, 8, 2.1) == 7


@pytest.mark.parametrize("other", [record(7, b"other"), record(7, timestamp=5_000)], ids=["value", "time"])
def test_another_record_in_its_place_is_another_log(other):
    made = witnesses(record(7))
    made.asks(AT, 8, 1.0)

    with pytest.raises(ForeignLogError, match=r"offset 7 of loop.training/0 does not hold.*Restore the topic"):
        made.check(AT, [other, record(8)], 1.1)


def test_what_was_compacted_away_says_nothing():
    made = witnesses(record(7))
    made.asks(AT, 8, 1.0)

    assert list(made.check(AT, [record(9)], 1.1)) == [record(9)]


def test_where_another_member_read_on_nothing_is_asked():
    assert witnesses(record(7)).asks(AT, 12, 1.0) is None


def test_after_a_rebalance_the_record_is_asked_for_again():
    made = witnesses(record(7))
    made.asks(AT, 8, 1.0)

    made.lost_sight(AT)

    assert made.asks(AT, 8, 1.0) == 7
    assert made.is_asked(AT, 7)
