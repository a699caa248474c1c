"""A training log in memory, for what is measured without Kafka: blocks as a joiner writes them, as bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.configuration import UNMODIFIED, Loop
from benchmarks.examples import Example, examples
from tailrace.domain.blocks import JOINED, Dropped, Examples, Served, TrainingBlock, Vector
from tailrace.domain.learning import Fold
from tailrace.domain.notices import Logged
from tailrace.domain.records import Claim
from tailrace.domain.state import LoopState
from tailrace.main import LoopDomain
from tailrace.settings import load
from tailrace.wire.avro_codec import decode_training, encode_training

ROWS = 500
"""Of one block; the join writes up to twice as many."""


def domain_of(compiled: str = UNMODIFIED, **more: object) -> LoopDomain:
    """Return the domain objects of the loop that is measured."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        loop = replace(Loop("127.0.0.1:1", "bench", "events", "labels", compiled=compiled), **more)
        settings = load(loop.write(Path(folder)))
        return LoopDomain.of("bench", settings.loops["bench"])


def begun(domain: LoopDomain) -> tuple[Fold, LoopState]:
    """Return a fold, and the state of an empty log in which the configured branch is admitted and serves."""
    fold = domain.fold()
    state = fold.begin()
    fold.hold(state, fold.begin_branch(domain.branch))
    state.pointers.admitted[domain.branch.lineage] = domain.branch.text
    state.pointers.champion = domain.branch.lineage
    return fold, state


def log_of(domain: LoopDomain, count: int) -> list[bytes]:
    """Return so many examples as messages of a training log, behind the claim of their joiner."""
    made = list(examples(count))
    messages = [encode_training(Claim(0, "joiner", None, "log"))]
    for number, first in enumerate(range(0, count, ROWS), start=1):
        messages.append(encode_training(block_of(domain, made[first : first + ROWS], first, number)))
    return messages


def block_of(domain: LoopDomain, rows: Sequence[Example], first: int, number: int) -> TrainingBlock:
    """Return a block of examples whose predictions were served by a model that knew little."""
    count = len(rows)
    offsets = np.arange(first, first + count, dtype=np.int64)
    zeros = np.zeros(count, np.int64)
    proba = 0.5 + 0.4 * np.tanh([row.x["f00"] for row in rows]).reshape(-1, 1)
    made = Examples(
        kinds=zeros + JOINED,
        ids=[row.id for row in rows],
        times_ms=offsets,
        y=np.array([row.y for row in rows], np.float64),
        source_partitions=zeros,
        source_offsets=offsets,
        label_partitions=zeros,
        label_offsets=offsets,
        label_broker_ms=offsets,
        state_positions=zeros,
        revisions=zeros,
        sources=[""] * count,
        served=Served((proba[:, 0] > 0.5).astype(np.float64), proba),
        x=domain.contract.columns([row.x for row in rows]),
    )
    none = Dropped([], zeros[:0], zeros[:0], zeros[:0])
    return TrainingBlock(domain.contract.id, "log", 0, "joiner", number, made, none, Vector())


def read(messages: Sequence[bytes], start: int = 0) -> list[Logged]:
    """Return messages as the fold takes them."""
    return [
        Logged(offset, decode_training(value), f"{offset:064x}") for offset, value in enumerate(messages, start=start)
    ]
