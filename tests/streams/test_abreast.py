"""Partitions are read abreast in time, and none waits for one that has nothing to give."""

from tailrace.streams.abreast import Abreast
from tailrace.streams.embedded_store import EmbeddedRecord
from tailrace.streams.log import TopicPartition

A, B, C = (TopicPartition("events", number) for number in range(3))
ENDS = {A: 100, B: 100, C: 100}
SLACK_MS = 50


def reached(**times_ms):
    abreast = Abreast(SLACK_MS)
    for name, time_ms in times_ms.items():
        abreast.delivered({"a": A, "b": B, "c": C}[name], time_ms)
    return abreast


def records(*times_ms):
    return [EmbeddedRecord("events", 0, offset, time_ms, None, b"", ()) for offset, time_ms in enumerate(times_ms)]


def test_whoever_is_behind_in_time_is_read_first():
    abreast = reached(a=300, b=100, c=200)

    assert [B] == abreast.choose([A, B, C], ENDS, [A, B, C])


def test_those_that_are_equally_far_are_read_together():
    abreast = reached(a=100, b=100, c=200)

    assert [A, B] == abreast.choose([A, B, C], ENDS, [A, B, C])


def test_a_partition_of_which_nothing_was_read_comes_before_all_others():
    abreast = reached(a=300, b=100)

    assert [C] == abreast.choose([A, B, C], ENDS, [A, B, C])


def test_nobody_waits_for_a_partition_that_is_at_its_end():
    abreast = reached(a=300, b=100, c=200)

    assert [B, C] == abreast.choose([A, B, C], ENDS, [A, C])


def test_all_are_read_when_all_are_at_their_ends():
    abreast = reached(a=300, b=100, c=200)

    assert [A, B, C] == abreast.choose([A, B, C], ENDS, [])


def test_all_wait_for_the_one_behind_while_it_may_not_deliver():
    abreast = reached(a=300, b=100, c=200)

    assert [] == abreast.choose([A, C], ENDS, [A, B, C])


def test_nobody_waits_for_a_partition_that_gave_nothing_until_its_end_moves():
    abreast = reached(a=300, b=100, c=200)

    abreast.gave_nothing(B, 100)

    assert [B, C] == abreast.choose([A, B, C], ENDS, [A, B, C])
    assert [B] == abreast.choose([A, B, C], ENDS | {B: 101}, [A, B, C])


def test_a_partition_that_gives_again_is_waited_for_again():
    abreast = reached(a=300, b=100, c=200)
    abreast.gave_nothing(B, 100)

    abreast.delivered(B, 150)

    assert [B] == abreast.choose([A, B, C], ENDS, [A, B, C])


def test_no_partition_is_read_further_ahead_than_the_slack():
    abreast = reached(a=300, b=100, c=200)
    abreast.choose([A, B, C], ENDS, [A, B, C])

    assert 2 == abreast.part_of(B, records(150, 250, 251, 252))


def test_at_least_one_record_is_read():
    abreast = reached(b=100)
    abreast.choose([A, B], ENDS, [A, B])

    assert 1 == abreast.part_of(A, records(500, 501))


def test_everything_is_read_of_the_only_partition_that_has_more():
    abreast = reached(a=300, b=100, c=200)
    abreast.choose([A, B, C], ENDS, [B])

    assert 3 == abreast.part_of(B, records(100, 1_000, 2_000))
