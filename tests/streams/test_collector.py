"""What lies in cycles is freed by the clock, and sweeping takes next to no time."""

import asyncio
import gc
import weakref

import pytest

from tailrace.streams import collector
from tailrace.streams.collector import Sweeps, calm_collector, sweep


class Cycle:
    def __init__(self):
        self.me = self


@pytest.fixture
def calm():
    """Collect as seldom as a worker does."""
    before = gc.get_threshold()
    calm_collector()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_a_cycle_that_has_grown_old_is_freed_by_the_clock(calm, monkeypatch):
    """Guards memory over days: whatever was dropped in an old generation would stay."""
    monkeypatch.setattr(collector, "EVERY_S", 0.05)
    cycle = Cycle()
    gc.collect(1)
    gc.collect(1)  # it is among the oldest now
    gone = weakref.ref(cycle)
    del cycle
    gc.collect(1)
    assert gone() is not None

    sweeps = Sweeps()
    await sweeps.start()
    try:
        async with asyncio.timeout(10):
            while gone() is not None:  # noqa: ASYNC110 - nothing says when it is gone
                await asyncio.sleep(0.01)
    finally:
        await sweeps.stop()


async def test_where_a_sweep_takes_long_the_next_one_waits(monkeypatch):
    pauses = []
    sweeps = Sweeps()

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            sweeps._stopped.set()

    monkeypatch.setattr(collector, "sweep", lambda: 0.2)
    monkeypatch.setattr(sweeps, "sleep", sleep)
    await sweeps.start()
    async with asyncio.timeout(10):
        while not sweeps.should_stop:  # noqa: ASYNC110 - nothing says when it is over
            await asyncio.sleep(0.01)
    await sweeps.stop()

    assert pauses == [60.0, pytest.approx(200.0), pytest.approx(200.0)]


def test_a_sweep_says_what_it_took():
    assert 0.0 < sweep() < 5.0
