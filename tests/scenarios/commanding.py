"""Command lines run beside a loop of this event loop, as a person would in another terminal."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from river import linear_model, preprocessing
from tests.scenarios.harness import Scenario, now_ms, pairs, until

from tailrace import cli
from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.ownership import OwnershipState
from tailrace.domain.records import LEARNER, Claim
from tailrace.main import Process
from tailrace.wire.avro_codec import decode_training


@dataclass(frozen=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        """The only JSON line."""
        (found,) = self.lines
        return found


async def tailrace(scenario: Scenario, *words: str) -> Ran:
    """Run a command line with the scenario's configuration."""
    out, err = io.StringIO(), io.StringIO()

    def run() -> int:
        return cli.execute([*words, "--config", str(scenario.config), "-o", "json"])

    with redirect_stdout(out), redirect_stderr(err):
        code = await asyncio.to_thread(run)
    return Ran(code, out.getvalue(), err.getvalue())


async def learn(scenario: Scenario, process: Process, count: int, first: int = 0, **fields: Any) -> None:
    """Send events and labels, and wait until the champion has all of them behind it."""
    live = scenario.loop_of(process).models.live
    assert live is not None
    before = live.counts.examples
    events, labels = pairs(count, now_ms(), first=first)
    await scenario.user.events(*events)
    await scenario.user.labels(*({**label, **fields} for label in labels))
    await until(lambda: examples(scenario, process) == before + count, f"{count} more are folded")


def examples(scenario: Scenario, process: Process) -> int:
    """Return how many examples the live state of a process has folded."""
    live = scenario.loop_of(process).models.live
    return -1 if live is None else live.counts.examples


async def accepted(scenario: Scenario) -> list[tuple[int, TrainingBlock]]:
    """Return the blocks of the log that count, with their offsets."""
    ownership, found = OwnershipState(), []
    for record in await scenario.user.read(scenario.domain.topics.training):
        content = decode_training(record.value or b"")
        if isinstance(content, Claim):
            ownership.claim(content)
        elif isinstance(content, TrainingBlock):
            if ownership.accept(content.partition, content.owner, content.number):
                found.append((record.offset, content))
        else:
            ownership.accept(LEARNER, content.owner, content.number)
    return found


async def bare(scenario: Scenario, left_out: Any = lambda *_: False, corrected: Any = lambda *_: None) -> Any:
    """Return a model of River that learned the log's examples one by one, as nobody of ours does it.

    Args:
        left_out: Told event id and source; the example is not learned.
        corrected: Told event id; the target that it is learned with, None: the recorded one.
    """
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for _, block in await accepted(scenario):
        rows = scenario.domain.contract.rows(block.examples.x) if len(block.examples) else []
        columns = block.examples.ids, block.examples.sources, rows, block.examples.y.tolist()
        for event_id, source, x, y in zip(*columns, strict=True):
            if not left_out(event_id, source):
                target = corrected(event_id)
                model.learn_one(x, bool(y if target is None else target))
    return model


def bytes_of(scenario: Scenario, model: Any) -> bytes:
    """Return the canonical bytes of a model of the configured kind."""
    kit = scenario.domain.kit_of(scenario.domain.branch)
    assert kit is not None
    return kit.codec.encode(model)


__all__ = ["Ran", "accepted", "bare", "bytes_of", "examples", "learn", "tailrace"]
