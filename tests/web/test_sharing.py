"""What hangs is asked once for all who wait, so that its waiters take nothing from others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.web.api_builders import FakeBackend, Site, ask_app, text_of, unavailable

from tailrace.domain.errors import LogUnavailable
from tailrace.inspection import telling
from tailrace.main.api import STATUS_FOR_S, LoopBackend
from tailrace.main.glass import WITHIN_S
from tailrace.web.guard import Limits
from tailrace.web.sharing import Shared


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Look:
    """Counts how often somebody looks; each look ends when it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.failure: Exception | None = None
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.count += 1
        number = self.count
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return number


async def test_who_asks_while_somebody_looks_waits_for_that_look():
    look = Look()
    shared = Shared(look, 1.0, Clock())

    asking = [asyncio.create_task(shared.get()) for _ in range(20)]
    await asyncio.sleep(0)
    look.go.set()

    assert [1] * 20 == await asyncio.gather(*asking)


@pytest.mark.parametrize("failure", [None, unavailable()])
async def test_what_came_of_a_look_is_kept_for_a_while_failures_too(failure: Exception | None):
    look, clock = Look(), Clock()
    look.failure = failure
    look.go.set()
    shared = Shared(look, 1.0, clock)

    async def ask() -> object:
        return (await asyncio.gather(shared.get(), return_exceptions=True))[0]

    for now_s, count in ((0.0, 1), (0.9, 1), (1.0, 2), (1.9, 2), (2.1, 3)):
        clock.now_s = now_s
        assert (failure or count) == await ask()
        assert count == look.count


async def test_it_is_kept_from_the_end_of_the_look_on():
    look, clock = Look(), Clock()
    shared = Shared(look, 1.0, clock)
    first = asyncio.create_task(shared.get())
    await asyncio.sleep(0)

    clock.now_s = 10.0
    look.go.set()

    assert (1, 1) == (await first, await shared.get())


async def test_who_goes_away_takes_nothing_from_those_who_wait_on():
    look = Look()
    shared = Shared(look, 1.0, Clock())
    leaving, staying = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
    await asyncio.sleep(0)

    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    look.go.set()

    assert (1, 1) == (await staying, look.count)


class HangingGlass:
    """A way to a log that never answers, and says so when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.given_up = asyncio.Event()

    async def ask(self, _question: Callable[[Any], Awaitable[Any]], **_options: Any) -> Any:
        self.asked += 1
        await self.given_up.wait()
        raise LogUnavailable("the log gave no answer for 10 s; ask again")


async def test_a_log_that_hangs_is_asked_for_the_status_once_and_not_by_everyone_in_turn():
    glass, clock = HangingGlass(), Clock()
    backend = LoopBackend(None, (), lambda _: None, glass, lambda: False, clock)  # type: ignore[arg-type]

    asking = [asyncio.create_task(backend.status()) for _ in range(30)]
    await asyncio.sleep(0)
    glass.given_up.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    found += await asyncio.gather(backend.status(), return_exceptions=True)

    assert (31, {LogUnavailable}, 1) == (len(found), set(map(type, found)), glass.asked)
    clock.now_s += STATUS_FOR_S
    await asyncio.gather(backend.status(), return_exceptions=True)
    assert 2 == glass.asked


class WillingGlass:
    """Puts every question at once; notes within which time each must be answered."""

    def __init__(self) -> None:
        self.bounds: list[float | None] = []

    async def ask(self, question: Callable[[Any], Awaitable[Any]], *, within_s: float | None = WITHIN_S) -> Any:
        self.bounds.append(within_s)
        return await question(FakeThrough())


class FakeThrough:
    async def reading(self) -> None:
        return None


async def test_a_file_is_waited_for_until_the_store_gives_up(monkeypatch: pytest.MonkeyPatch):
    """Guards memory: a thread that fetches a file goes on when nobody waits for it, beside those that are counted."""

    async def manifest(*_: object) -> str:
        return "manifest"

    async def file(*_: object) -> bytes:
        return b"file"

    monkeypatch.setattr(telling, "manifest_asked_for", manifest)
    monkeypatch.setattr(telling, "file_of", file)
    monkeypatch.setattr(telling, "headers_of", lambda _: {"etag": "e"})
    glass, domain = WillingGlass(), SimpleNamespace(name="phishing", topics=None)
    backend = LoopBackend(None, (domain,), lambda _: None, glass, lambda: False)  # type: ignore[arg-type]

    assert {"etag": "e"} == await backend.snapshot_head("phishing", 1, None)
    assert (b"file", {"etag": "e"}) == await backend.snapshot("phishing", 1, None)
    assert [WITHIN_S, WITHIN_S, None] == glass.bounds


async def test_however_many_wait_for_the_log_models_are_asked():
    class Hung(FakeBackend):
        async def versions(self, name: str, limit: int) -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

    site, limits = Site(Hung()), Limits()
    head = {"host": "localhost", "authorization": f"Bearer {text_of(1)}"}
    ask_versions = ("GET", "/v1/models/phishing/versions", head, [b""], "127.0.0.1")
    waiting = [asyncio.create_task(ask_app(site.app, *ask_versions)) for _ in range(limits.max_of_log)]
    await asyncio.sleep(0.05)

    async with asyncio.timeout(5):
        refused = await ask_app(site.app, *ask_versions)
    answered = await ask_app(
        site.app,
        "POST",
        "/v1/models/phishing:predict",
        head | {"content-type": "application/json"},
        [b'{"instances":[{}]}'],
        "127.0.0.1",
    )

    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (503, "busy", 200) == (refused.status, refused.code, answered.status)
    assert f"{limits.max_of_log} requests wait for the log" in refused.json["detail"]
