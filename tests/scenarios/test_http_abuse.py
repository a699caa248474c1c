"""F37: what strangers do to the HTTP port disturbs nobody, opens nothing, and shows in no log."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.log_forms import LogForm
from tests.scenarios import abuse
from tests.scenarios.api_ground import Served, served
from tests.scenarios.harness import now_ms, pairs, until

from tailrace.streams import http_server

STREAMS = 4
CONNECTIONS = 40

LONGEST_STALL_S = 4.0
"""A disk that takes a commit of the embedded log slowly holds the loop up too, for a second or two."""


@pytest.fixture
async def at(embedded_form: LogForm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", CONNECTIONS)
    monkeypatch.setattr(http_server, "HEAD_WITHIN_S", 5.0)
    async with served(embedded_form, tmp_path, api={"max_streams": STREAMS, "rate": 1_000}) as made:
        yield made


async def keep_sending(at: Served, sent: list[str]) -> None:
    while True:
        events, labels = pairs(5, now_ms(), first=len(sent))
        await at.scenario.user.events(*events)
        await at.scenario.user.labels(*labels)
        sent += [event["id"] for event in events]
        await asyncio.sleep(0.05)


async def longest_stall_s(found: list[float]) -> None:
    while True:
        begun = time.monotonic()
        await asyncio.sleep(0.01)
        found.append(time.monotonic() - begun)


async def test_strangers_disturb_nobody(at: Served, capfd: pytest.CaptureFixture[str]):
    sent: list[str] = []
    stalls: list[float] = [0.0]
    beside = [asyncio.create_task(keep_sending(at, sent)), asyncio.create_task(longest_stall_s(stalls))]
    bounds: dict[str, Any] = {"streams": STREAMS, "connections": 120, "most": CONNECTIONS, "head_within_s": 6.0}

    done = await asyncio.to_thread(lambda: dict(abuse.all_of_them(at.address, at.token, at.name, **bounds)))

    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    await until(lambda: at.scenario.learned(at.process) >= len(sent), "everything that was sent is learned")
    answered = {each["event_id"] for each in await at.scenario.user.predictions()}
    assert set(sent) <= answered
    assert 250 < sum(done.values())
    assert max(stalls) < LONGEST_STALL_S
    told = capfd.readouterr()
    for secret in (at.token, abuse.SCRIPT, "alert(1)"):
        assert secret not in told.out + told.err
