"""The queue between the learner and the store: bounded, in order, patient."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from tests.domain.test_snapshots import make_manifest
from tests.streams.log_tools import until

from tailrace.domain.errors import ContractError, StoreUnavailable
from tailrace.domain.snapshots import Kind
from tailrace.stores.snapshot_file import pack
from tailrace.streams import snapshot_queue
from tailrace.streams.snapshot_queue import Finished, SnapshotQueue
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder


class Store:
    """Takes what is written, when it is told to."""

    def __init__(self) -> None:
        self.instruments = Instruments()
        self.recorder = Recorder(self.instruments, "phishing")
        self.written: list[int] = []
        self.failure: Exception | None = None
        self.opens = asyncio.Event()
        self.opens.set()
        self.now_ms = 0
        self.queue = SnapshotQueue(
            Kind.SNAPSHOT, write=self.write, recorder=self.recorder, clock_ms=lambda: self.now_ms
        )

    async def write(self, finished: Finished) -> None:
        await self.opens.wait()
        if self.failure is not None:
            raise self.failure
        self.written.append(finished.draft.position)

    def offer(self, *positions: int) -> None:
        for position in positions:
            self.queue.offer(Finished(replace(make_manifest(), position=position), pack({})))

    def waiting(self) -> str:
        lines = generate_latest(self.instruments.registry).decode().splitlines()
        return next(line for line in lines if line.startswith("tailrace_waiting_snapshots")).split()[-1]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_queue, "_FIRST_PAUSE_S", 0.01)


async def test_what_is_offered_is_written_in_order():
    store = Store()

    store.offer(1)
    await until(lambda: store.written == [1])
    store.offer(2, 3)
    await until(lambda: store.written == [1, 2, 3])

    assert "0.0" == store.waiting()


async def test_at_most_two_wait_and_a_third_replaces_the_newest():
    """Defence: the bound of the queue. The one that is being written stays."""
    store = Store()
    store.opens.clear()

    store.offer(1)
    await asyncio.sleep(0)
    store.offer(2, 3, 4)
    told = (len(store.queue), store.waiting(), store.recorder.counts["snapshots_replaced"])
    store.opens.set()
    await until(lambda: len(store.queue) == 0)

    assert (2, "2.0", 2) == told
    assert [1, 4] == store.written


@pytest.mark.parametrize(
    ("failure", "said"), [(StoreUnavailable("no space"), "no space"), (MemoryError(), "MemoryError")]
)
async def test_what_a_store_refuses_is_tried_again_until_it_is_taken(failure, said):
    """Defence: the retry. Nothing has to be started again."""
    store = Store()
    store.failure = failure

    store.offer(1, 2)
    await until(lambda: store.recorder.counts["snapshot_retries"] >= 3)
    told = store.queue.problem
    store.failure = None
    await until(lambda: store.written == [1, 2])

    assert (said, "", 0) == (told, store.queue.problem, store.queue.late_ms)


async def test_a_store_that_hangs_is_told_after_five_seconds_and_one_that_refuses_at_once():
    store = Store()
    store.opens.clear()
    store.offer(1)
    await asyncio.sleep(0)

    store.now_ms = 4_999
    before = store.queue.late_ms
    store.now_ms = 5_000
    after = store.queue.late_ms
    await store.queue.drain(0)

    assert (0, 5_000) == (before, after)


async def test_what_can_never_be_written_is_dropped_and_those_behind_it_are_written():
    """Defence: an error that is not retriable ends the tries."""
    store = Store()
    lost: list[None] = []
    store.queue.on_lost = lambda: lost.append(None)
    store.failure = ContractError("the manifest is too long")

    store.offer(1)
    await until(lambda: len(store.queue) == 0)
    store.failure = None
    store.offer(2)
    await until(lambda: store.written == [2])

    assert ([None], 1) == (lost, store.recorder.counts["snapshots_failed"])


async def test_a_stop_writes_what_waits():
    store = Store()

    store.offer(1, 2)

    assert 0 == await store.queue.drain(5.0)
    assert [1, 2] == store.written


async def test_a_stop_tries_again_at_once_what_waits_for_the_next_try(monkeypatch: pytest.MonkeyPatch):
    """Defence: the pause is cut short."""
    store = Store()
    monkeypatch.setattr(snapshot_queue, "_FIRST_PAUSE_S", 60.0)
    store.failure = StoreUnavailable("no space")
    store.offer(1)
    await until(lambda: store.queue.problem != "")
    store.failure = None

    assert 0 == await store.queue.drain(5.0)


async def test_a_stop_leaves_a_store_that_hangs_and_counts_what_it_left():
    """Defence: the bound of the drain."""
    store = Store()
    store.opens.clear()
    store.offer(1, 2)

    async with asyncio.timeout(5.0):
        left = await store.queue.drain(0.05)

    assert 2 == left
    assert ([], "0.0", 2) == (store.written, store.waiting(), store.recorder.counts["snapshots_failed"])


async def test_it_goes_on_after_a_drain():
    store = Store()
    store.offer(1)
    await store.queue.drain(5.0)

    store.offer(2)
    await until(lambda: store.written == [1, 2])


async def test_what_nobody_foresaw_reaches_the_learner():
    store = Store()
    store.failure = ZeroDivisionError("a bug")
    store.offer(1)
    await until(lambda: store.queue._task.done())

    with pytest.raises(ZeroDivisionError):
        store.offer(2)
