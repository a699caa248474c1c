"""What the product finds around it in a simulation: no real time, no real randomness, no news on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any

import structlog
from tests.simulation.world import LOG_ID, World

from tailrace.stores import snapshot_file
from tailrace.streams import learn_agent, training_log, warming
from tailrace.telemetry.instruments import Instruments
from tailrace.telemetry.recorder import Recorder

_INSTRUMENTS: list[Instruments] = []


class _Id:
    hex = LOG_ID


@contextmanager
def surrounded(world: World) -> Iterator[None]:
    """Give the product the clocks, ids and limits of a world for as long as the context lasts."""
    stopwatch = _Stopwatch(Random(world.rng.random()))
    largest_inline = world.faults.rng.choice([0, snapshot_file.MAX_INLINE_BYTES])
    with ExitStack() as stack:
        for module in (learn_agent, warming):
            stack.enter_context(replaced(module, "perf_counter", stopwatch))
        stack.enter_context(replaced(training_log, "uuid4", _Id))
        stack.enter_context(replaced(training_log, "decode_training", world.training.decode))
        stack.enter_context(replaced(snapshot_file, "MAX_INLINE_BYTES", largest_inline))
        stack.enter_context(_silence())
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put something in the place of an attribute for as long as the context lasts."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class SimRecorder(Recorder):
    """The recorder of every process of a world; only refusals are looked at."""

    def __init__(self, world: World) -> None:
        if not _INSTRUMENTS:
            _INSTRUMENTS.append(Instruments())
        super().__init__(_INSTRUMENTS[0], "loop")
        self._world = world

    def snapshot_refused(self, reason: str) -> None:
        """Count it."""
        self._world.count_refusal(reason)


class _Stopwatch:
    """A clock for how long something took, as wrong as on a machine that is busy with something else."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._at_s = 0.0

    def __call__(self) -> float:
        self._at_s += 6.0 if self._rng.random() < 0.01 else self._rng.choice([1e-6, 1e-4, 1e-2])
        return self._at_s


@contextmanager
def _silence() -> Iterator[None]:
    before, disabled = structlog.get_config(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
        logging.disable(disabled)
