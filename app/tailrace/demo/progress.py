"""How far the worker is: whether it has begun, has failed, and has done all that it was given."""

from __future__ import annotations

import asyncio
from typing import Final

from tailrace.demo.feeder import Feeder
from tailrace.domain.books import EQUATIONS
from tailrace.domain.errors import LogUnavailable
from tailrace.domain.status import MemberStatus
from tailrace.main import Process

READY_WITHIN_S: Final = 60.0

_ASK_EVERY_S: Final = 0.025
_LABEL_ENDS: Final = tuple(part for part in EQUATIONS["labels"] if part != "waiting")


async def ready(process: Process) -> None:
    """Return once every role runs.

    Raises:
        LogUnavailable: They do not.
    """
    deadline_s = asyncio.get_running_loop().time() + READY_WITHIN_S
    while True:
        check(process)
        readiness = process.readiness()
        if readiness and all(is_ready for is_ready, _ in readiness.values()):
            return
        if asyncio.get_running_loop().time() > deadline_s:
            reasons = "; ".join(f"{name}: {why}" for name, (is_ready, why) in readiness.items() if not is_ready)
            raise LogUnavailable(f"the worker was not ready within {READY_WITHIN_S:.0f} s ({reasons}); try again")
        await asyncio.sleep(_ASK_EVERY_S)


def check(process: Process) -> None:
    """Raise what ended the worker, if anything did."""
    if process.crash_reason is not None:
        raise process.crash_reason


def served(member: MemberStatus) -> int:
    """Return how many predictions the worker has sent."""
    return member.counters.get("events_scored", 0) + member.counters.get("events_abstained", 0)


def is_done(member: MemberStatus, feeder: Feeder) -> bool:
    """Return whether the worker has taken every record that was sent, and learned what came of it."""
    counters = member.counters
    labels = sum(counters.get(f"labels_{name}", 0) for name in _LABEL_ENDS)
    examples = counters.get("event_joins_joined", 0) + counters.get("event_joins_implicit", 0)
    return (
        served(member) + counters.get("events_rejected", 0) >= feeder.events
        and labels >= feeder.labels
        and counters.get("learned", 0) + counters.get("skipped", 0) >= examples
    )
