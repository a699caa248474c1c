"""A thread with an event loop and connections of its own, through which the API looks at the log and writes to it.

What strangers ask for may read much of the log. Here it takes no turn of the event loop in which events are scored
and examples are learned; a request that is too slow or too large holds up other requests at most.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final, TypeVar

from mode import Service

from tailrace.domain.errors import LogUnavailable
from tailrace.inspection import reading as readings
from tailrace.inspection.reading import Reading
from tailrace.settings import Settings
from tailrace.streams.log import Sink

T = TypeVar("T")

WITHIN_S: Final = 10.0
"""For the log to answer one question."""

_STOP_WITHIN_S: Final = 3.0


class Through:
    """What a question is put to: the log, as it is opened in the thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._reading: Reading | None = None
        self._sink: Sink | None = None

    async def reading(self) -> Reading:
        """Return the reading, opened at its first use.

        Raises:
            LogUnavailable: The log does not answer; the next call tries again.
        """
        async with self._opening:
            if self._reading is None:
                self._reading = await self._stack.enter_async_context(readings.opened(self._settings))
            return self._reading

    async def sink(self) -> Sink:
        """Return the producer, likewise."""
        reading = await self.reading()
        async with self._opening:
            if self._sink is None:
                self._sink = await self._stack.enter_async_context(reading.sink())
            return self._sink

    async def close(self) -> None:
        """Let go of the log."""
        await self._stack.aclose()


class Glass(Service):
    """Puts questions to the log, in its own thread; started before and stopped after what asks."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="tailrace-api", daemon=True)
        self._through: Through | None = None

    async def on_start(self) -> None:
        """Start the thread."""
        self._own_loop = asyncio.new_event_loop()
        self._thread.start()

    async def on_stop(self) -> None:
        """Let go of the log and end the thread, if that can be done soon."""
        with suppress(TimeoutError, LogUnavailable):
            await self.ask(Through.close, within_s=_STOP_WITHIN_S)
        assert self._own_loop is not None, "what was started is stopped"
        self._own_loop.call_soon_threadsafe(self._own_loop.stop)
        await asyncio.to_thread(self._thread.join, _STOP_WITHIN_S)

    async def ask(self, question: Callable[[Through], Awaitable[T]], *, within_s: float | None = WITHIN_S) -> T:
        """Put a question; what it raises is raised here.

        Args:
            within_s: None: it ends by itself, and does not ask the log.

        Raises:
            LogUnavailable: There is no answer in time.
        """

        async def answer() -> T:
            if self._through is None:
                self._through = Through(self._settings)
            async with asyncio.timeout(within_s):
                return await question(self._through)

        assert self._own_loop is not None, "started before who asks"
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), self._own_loop))
        except TimeoutError as cause:
            raise LogUnavailable(f"the log gave no answer for {within_s:.0f} s; ask again") from cause

    def _run(self) -> None:
        loop = self._own_loop
        assert loop is not None, "made before the thread starts"
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
