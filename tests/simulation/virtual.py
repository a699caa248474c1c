"""A process of the product under a clock and a scheduler of ours: its own event loop, turned one round at a time.

Whatever is asynchronous in the product runs here as it is. Between two rounds the process can be killed, or left
alone for a while and turned again as a zombie. Nothing waits for real time, and threads are rounds of the loop.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

ROUND_S: Final = 0.001
"""How far the clock of a process moves with each round, at least."""

QUIET_ROUNDS: Final = 16
"""Rounds of waiting after which a process has nothing left to do: more than any of its intervals."""

_ROUNDS_OF_TIMERS: Final = 24
"""In a row, that the timers of a process which does nothing else may take."""


class _NothingToSelect:
    """Stands in for the selector: where the loop would wait, its clock moves instead."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        self.waited_s = min(timeout if timeout is not None else 1.0, 1.0)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without files, threads or time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NothingToSelect()
        self.at_s = 0.0
        self.is_dead = False
        self.set_exception_handler(lambda _loop, _context: None)

    def __del__(self) -> None:
        """Nothing is open that would have to be closed."""

    def time(self) -> float:
        """Return the time of this process, in seconds; it never goes back."""
        return self.at_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function in one of the next rounds."""
        del executor
        future = self.create_future()
        if not self.is_dead:
            self.call_soon(_settle, future, func, args)
        return future

    def turn(self) -> bool:
        """Make one round; return whether there was anything to do but wait."""
        selector = self._selector
        selector.waited_s = 0.0
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            self._run_once()  # type: ignore[attr-defined]
        finally:
            events._set_running_loop(before)
        self.at_s += max(ROUND_S, selector.waited_s)
        return selector.waited_s == 0.0

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody waits to be woken."""


def _settle(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = func(*args)
    except Exception as error:
        future.set_exception(error)
    else:
        if not future.cancelled():
            future.set_result(result)


class Machine:
    """One process: what it runs, and whether it still lives.

    Attributes:
        is_dead: Nothing that it does reaches anybody.
        idle_rounds: In which it only waited, since it last had more to do than to look at its timers.
        failure: What ended its program, if anything did.
    """

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.is_dead = False
        self.idle_rounds = 0
        self.failure: BaseException | None = None
        self._busy_rounds = 0
        self._news: object = None
        self._programs: list[asyncio.Task[Any]] = []

    def launch(self, program: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a program of this process."""
        with self.running():
            task = self.loop.create_task(program)
        self._programs.append(task)
        return task

    def turn_if(self, news: object) -> None:
        """Make a round, unless it only waits and nothing has happened in its world since."""
        if news != self._news:
            self._news, self.idle_rounds = news, 0
        if self.idle_rounds < QUIET_ROUNDS:
            self.turn()

    def turn(self) -> None:
        """Let everything that can go on do so up to its next wait."""
        if not self.loop.turn():
            self.idle_rounds, self._busy_rounds = self.idle_rounds + 1, 0
        else:
            self._busy_rounds += 1
            if self._busy_rounds > _ROUNDS_OF_TIMERS:
                self.idle_rounds = 0
        for task in self._programs:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self.failure = task.exception()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make this loop the one that runs, for what is made outside of its rounds."""
        before = events._get_running_loop()
        events._set_running_loop(self.loop)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def kill(self) -> None:
        """End everything at once, as SIGKILL does: what still runs on the way out reaches nobody."""
        if self.is_dead:
            return
        self.is_dead = self.loop.is_dead = True
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task.get_coro())
        self.loop.close()


def _close(coroutine: Any) -> None:
    """Close a coroutine, and those that it was given before it had begun: nobody will await them any more."""
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        for given in list(coroutine.cr_frame.f_locals.values()):
            if inspect.iscoroutine(given):
                _close(given)
    with suppress(BaseException):
        coroutine.close()
