"""A member that looks alive and does nothing is found."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from tailrace.streams.log import TopicPartition
from tailrace.streams.watchdog import ParkedWatch, StallWatch, parked

ONE, TWO = TopicPartition("events", 0), TopicPartition("events", 1)


def test_lag_that_stands_still_for_the_limit_is_told():
    watch = StallWatch(limit_s=60)

    assert watch.look({ONE: 5}, 0.0) == []
    assert watch.look({ONE: 5}, 59.9) == []
    assert watch.look({ONE: 5}, 60.0) == [ONE]


def test_a_partition_that_moves_is_well():
    watch = StallWatch(limit_s=60)
    watch.look({ONE: 5, TWO: 5}, 0.0)
    watch.look({ONE: 6, TWO: 5}, 30.0)

    assert watch.look({ONE: 6, TWO: 5}, 60.0) == [TWO]


def test_a_partition_that_had_no_lag_for_a_moment_begins_anew():
    watch = StallWatch(limit_s=60)
    watch.look({ONE: 5}, 0.0)
    watch.look({}, 30.0)

    assert watch.look({ONE: 5}, 60.0) == []


def test_an_error_that_the_next_poll_takes_up_is_normal():
    watch, error = ParkedWatch(), RuntimeError()

    assert watch.look(error) is None
    assert watch.look(None) is None
    assert watch.look(error) is None
    assert watch.look(error) is error


async def test_a_consumer_is_parked_when_its_coordinator_holds_an_error_or_one_of_its_tasks_has_ended():
    error = RuntimeError("expelled")
    running = asyncio.ensure_future(asyncio.Event().wait())
    ended, failed = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()
    ended.set_result(None)
    failed.set_exception(error)

    def consumer(pending: Exception | None, task: asyncio.Future, fetching: asyncio.Future) -> SimpleNamespace:
        coordinator = SimpleNamespace(_pending_exception=pending, _coordination_task=task)
        return SimpleNamespace(_coordinator=coordinator, _fetcher=SimpleNamespace(_fetch_task=fetching))

    assert parked(SimpleNamespace(_coordinator=None, _fetcher=None)) is None
    assert parked(consumer(None, running, running)) is None
    assert parked(consumer(error, running, running)) is error
    assert "the coordination task has ended" in str(parked(consumer(None, ended, running)))
    assert "the task that fetches has ended" in str(parked(consumer(None, running, ended)))
    assert parked(consumer(None, running, failed)) is error
    running.cancel()
