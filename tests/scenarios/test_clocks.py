"""The wall clock of a process is wrong: nothing waits for it to be right again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.scenarios.harness import now_ms, running, until

from tailrace.domain.blocks import TrainingBlock
from tailrace.inspection.reading import Reading
from tailrace.inspection.status import picture_of
from tailrace.wire.avro_codec import decode_training

HOUR_MS = 3_600_000


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset_ms = 0
        monkeypatch.setattr("tailrace.main.composition.now_ms", lambda: now_ms() + self.offset_ms)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of processes that are started from now on."""
    return Clock(monkeypatch)


async def test_a_clock_that_goes_back_does_not_keep_horizons_from_passing(made: Any, clock: Clock) -> None:
    """Defence: how long a labels partition has been quiet is measured by a clock that never goes back."""
    scenario = await made(horizon="1s", disorder="1s", skew="0s", idle_after="1s", missing=False)
    process = await scenario.start()
    at_ms = now_ms() - 60_000
    clock.offset_ms = -HOUR_MS

    for wave, time_ms in enumerate((at_ms, at_ms + 30_000)):
        events = [{"id": f"e{wave}-{n}", "at": time_ms, "a": n / 10, "b": 0.5} for n in range(10)]
        await scenario.user.events(*events)

    await until(lambda: scenario.learned(process) == 10, "those whose horizon has passed are learned", seconds=15)


@pytest.mark.parametrize("offset_ms", [-HOUR_MS, HOUR_MS])
async def test_a_member_whose_clock_is_wrong_is_not_taken_for_dead_and_not_for_alive(
    made: Any, clock: Clock, offset_ms: int
) -> None:
    """Defence: heartbeats are dated by the broker."""
    scenario = await made()
    clock.offset_ms = offset_ms
    process = await scenario.start()
    name, loop = next(iter(scenario.settings.loops.items()))

    async with running(scenario.log.reader()) as reader:
        reading = Reading(scenario.settings, scenario.log, reader)

        async def members(ms: int) -> list[str]:
            return [each.member for each in (await picture_of(reading, name, loop, ms)).status.members]

        async def is_heard() -> bool:
            return await members(now_ms()) == [process.member]

        await until(is_heard, "it is heard of", seconds=10)
        assert await members(now_ms() + 120_000) == []


async def test_a_labels_partition_that_is_not_heard_is_not_quiet(made: Any) -> None:
    """Otherwise its broker's outage ends horizons, and the labels that wait there are late."""
    scenario = await made(horizon="1s", disorder="1s", skew="0s", idle_after="1s", missing=False)
    process = await scenario.start()
    source, at_ms = scenario.loop_of(process).join.source, now_ms() - 60_000
    source.hears = lambda _partition: False

    for wave, time_ms in enumerate((at_ms, at_ms + 30_000)):
        await scenario.user.events(*({"id": f"e{wave}-{n}", "at": time_ms, "a": n / 10, "b": 0.5} for n in range(10)))
    await asyncio.sleep(2.5)
    while_silent = scenario.learned(process)
    await scenario.user.labels(*({"id": f"e0-{n}", "at": at_ms + 500, "y": n % 2 == 0} for n in range(10)))
    source.hears = lambda _partition: True
    await until(lambda: scenario.learned(process) == 10, "those whose horizon has passed are learned", seconds=15)

    assert 0 == while_silent
    assert {"joined": 10} == await outcomes(scenario)


async def outcomes(scenario: Any) -> dict[str, int]:
    blocks = [
        decode_training(record.value or b"") for record in await scenario.user.read(scenario.domain.topics.training)
    ]
    counts: Counter[str] = Counter()
    for block in blocks:
        if isinstance(block, TrainingBlock):
            counts.update(block.vector.counts)
    return {name: counts[name] for name in ("joined", "implicit", "late") if counts[name]}
