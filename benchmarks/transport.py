"""What a scorer cannot do without: an event is read from JSON, its answer is written as JSON. No model, no join."""

from __future__ import annotations

import os
import threading
from typing import Any

import orjson

from benchmarks import protocol
from benchmarks.protocol import Measured, Task


class Transport:
    """Answers every event with the same probability."""

    def __init__(self, task: Task) -> None:
        self._count = task.count
        self._answered = 0
        self._begun_s = self._begun_cpu_s = 0.0
        self._handled = threading.Event()
        threading.Thread(target=self._report, daemon=True).start()

    def begin(self) -> None:
        """Note the first record."""
        if not self._begun_s:
            self._begun_s, self._begun_cpu_s = protocol.now_s(), protocol.cpu_s()

    def answer(self, event: dict[str, Any]) -> bytes:
        """Return the answer to one event."""
        self._answered += 1
        if self._answered == self._count:
            self._handled.set()
        return orjson.dumps({"id": event["id"], "p": 0.5})

    def _report(self) -> None:
        if self._count:
            self._handled.wait()
        ended_s = protocol.now_s()
        if self._count:
            protocol.say_handled()
        protocol.await_line()
        # Nothing is learned here; the counts say what was asked for.
        Measured(self._begun_s, ended_s, protocol.cpu_s() - self._begun_cpu_s, self._answered, 0).say()
        os._exit(0)
