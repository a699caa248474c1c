"""Batches finish in any order; offsets are committed in one."""

from __future__ import annotations

from types import SimpleNamespace

from tailrace.streams.completion import Completion
from tailrace.streams.log import RecordBatch, TopicPartition

PARTITION = TopicPartition("events", 0)


def make_batch(first: int, last: int) -> RecordBatch:
    return RecordBatch(PARTITION, 0, [SimpleNamespace(offset=offset) for offset in range(first, last + 1)])


def test_a_batch_that_finishes_early_waits_for_the_one_before_it():
    completion = Completion(0, limit=4)
    first, second = make_batch(0, 9), make_batch(10, 19)
    completion.begin(first)
    completion.begin(second)

    completion.complete(second)
    before = completion.committable()
    completion.complete(first)

    assert before is None
    assert completion.committable() == 20


def test_no_more_than_the_limit_are_in_flight():
    completion = Completion(0, limit=2)
    first, second = make_batch(0, 0), make_batch(1, 1)

    completion.begin(first)
    completion.begin(second)
    full = completion.has_room
    completion.complete(first)

    assert not full
    assert completion.has_room


def test_a_seek_forgets_what_was_delivered_before():
    completion = Completion(0, limit=2)
    old = make_batch(0, 9)
    completion.begin(old)

    completion.seek(5)

    assert not completion.complete(old)
    assert completion.committable() is None
    assert completion.position == 5
    assert completion.has_room


def test_completing_twice_changes_nothing():
    completion = Completion(0, limit=2)
    batch = make_batch(0, 9)
    completion.begin(batch)

    assert completion.complete(batch)
    assert not completion.complete(batch)
    assert completion.committable() == 10


def test_what_was_committed_is_not_committed_again():
    completion = Completion(0, limit=2)
    first, second = make_batch(0, 9), make_batch(10, 19)
    completion.begin(first)
    completion.begin(second)
    completion.complete(first)

    completion.commit_done(10)
    nothing_new = completion.committable()
    completion.complete(second)

    assert nothing_new is None
    assert completion.committable() == 20


def test_a_commit_that_was_overtaken_by_a_completion_leaves_the_rest_to_commit():
    completion = Completion(0, limit=2)
    first, second = make_batch(0, 9), make_batch(10, 19)
    completion.begin(first)
    completion.begin(second)
    completion.complete(first)
    completion.complete(second)

    completion.commit_done(10)

    assert completion.committable() == 20


def test_lag_counts_from_the_oldest_batch_that_is_not_completed():
    completion = Completion(0, limit=4)
    first, second = make_batch(0, 9), make_batch(10, 19)
    completion.begin(first)
    completion.begin(second)
    completion.complete(second)

    assert completion.behind(30) == 30
    completion.complete(first)
    assert completion.behind(30) == 10


def test_what_is_given_back_is_delivered_again_and_what_came_before_it_counts():
    completion = Completion(0, limit=4)
    done, working, waiting, behind = (make_batch(10 * number, 10 * number + 9) for number in range(4))
    for batch in (done, working, waiting, behind):
        completion.begin(batch)
    completion.complete(done)
    completion.complete(behind)

    given = completion.give_back(waiting)

    assert [behind, waiting] == given
    assert (20, 1, 10) == (completion.position, completion.in_flight, completion.committable())
    assert not completion.holds(waiting)
    assert completion.complete(working)
    assert completion.committable() == 20
