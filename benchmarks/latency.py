"""How long one prediction takes, and how long a label takes to change one.

Every scenario runs on topics of its own: a contender, and a probe that sends events at a steady rate and a label 200 ms
after each. *Latency* is from handing the event to the client to the prediction read by it. *Label to influence* is
from sending a label to the first prediction of a state that learned it: which state answered stands in the prediction,
where the label was learned is read from the training log.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson

from benchmarks import lineup
from benchmarks.broker import REPOSITORY
from benchmarks.configuration import Loop
from benchmarks.environments import python_of
from benchmarks.examples import examples
from benchmarks.lineup import Contender
from benchmarks.load import Load
from benchmarks.protocol import READY
from benchmarks.running import ContenderError, our_tasks, peer_task, started
from benchmarks.topics import Inputs, Pourer, Watcher, create
from tailrace.domain.blocks import TrainingBlock
from tailrace.domain.positions import parse, position_of
from tailrace.wire.avro_codec import decode_training, is_training_block

RATE = 500.0
_VALUES = 5_000
_START_WITHIN_S = 60.0
_BEYOND_S = 120.0


@dataclass(frozen=True)
class Scenario:
    """One way to ask.

    Attributes:
        name: In the table and in the targets.
        rate: Events a second; None: half of what the same contender does at most.
        wide: Words of each event instead of numbers, for a state that is large.
        before: Events and labels that are handled before the load.
        snapshots: Further lines of the table [snapshots].
        linger_ms: Of the client that sends.
    """

    name: str
    contender: Contender
    rate: float | None = RATE
    seconds: float = 10.0
    warm_s: float = 3.0
    wide: bool = False
    before: int = 0
    snapshots: str = ""
    linger_ms: float = 0.0


@dataclass(frozen=True)
class Latency:
    """What one run came to, in milliseconds.

    Attributes:
        answered: Of `sent`.
        influence_p50_ms, influence_p99_ms: None where no state is named.
        snapshot_bytes: The largest file in the store at the end.
    """

    rate: float
    sent: int
    answered: int
    p50_ms: float
    p99_ms: float
    influence_p50_ms: float | None = None
    influence_p99_ms: float | None = None
    snapshot_bytes: int = 0


_BY_NAME = {contender.name: contender for contender in lineup.LINEUP}
_FOLLOWED = replace(_BY_NAME[lineup.LOOP], parts=(("score", "join", "learn"), ("follow",)))
"""All roles in one process, and beside it another one that takes the snapshots."""

FOLLOWING = "Tailrace, two processes, the scorer follows the log"
_FOLLOWING = replace(_BY_NAME[lineup.APART], parts=(("score", "follow"), ("join", "learn")))

HALF = "at half the greatest rate, linger 5 ms"
HALF_EACH = "at half the greatest rate, a request for each record"
LARGE, LARGE_STILL = "10 MB state, a follower writes it every second", "10 MB state, nobody writes it"


def _snapshots(every: str) -> str:
    return f'by = "follower"\npublish = "1h"\nevery = "{every}"'


SCENARIOS = (
    *(
        Scenario(name, _BY_NAME[name])
        for name in (
            lineup.LOOP,
            lineup.LOOP_COMPILED,
            lineup.AIOKAFKA,
            lineup.APART,
            lineup.CONFLUENT,
            lineup.QUIX,
            lineup.FAUST,
        )
    ),
    Scenario(FOLLOWING, _FOLLOWING),
    # As librdkafka and Kafka's own client have it by default. Without it so many requests fill the two cores.
    Scenario(HALF, _BY_NAME[lineup.LOOP], rate=None, linger_ms=5.0),
    Scenario(HALF_EACH, _BY_NAME[lineup.LOOP], rate=None),
    Scenario(LARGE_STILL, _FOLLOWED, wide=True, before=20_000, snapshots=_snapshots(every="1h")),
    Scenario(LARGE, _FOLLOWED, wide=True, before=20_000, snapshots=_snapshots(every="1s")),
)

_WORDS = 700_000
_WIDE_FEATURES = tuple(f"w{number:02}" for number in range(60))
_WIDE_MODEL = "FeatureHasher(n_features=4194304, seed=1) | LogisticRegression()"


async def measure(scenario: Scenario, bootstrap: str, rate: float) -> Latency:
    """Run one scenario once.

    Raises:
        ContenderError: Contender or probe failed.
    """
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-latency-") as folder:
        place = Path(folder)
        name = f"bench_{uuid4().hex[:8]}"
        inputs = Inputs(f"{name}-events", f"{name}-labels", 0, 1)
        await create(bootstrap, inputs.events, inputs.labels)
        if scenario.before:
            await _pour_before(bootstrap, inputs, scenario.before)
        values = place / "values"
        values.write_bytes(b"\n".join(_wide_values() if scenario.wide else _values()))
        async with contextlib.AsyncExitStack() as stack:
            predictions = await _start(stack, scenario, bootstrap, name, inputs, place)
            load = Load(
                bootstrap,
                inputs.events,
                inputs.labels,
                predictions,
                rate,
                scenario.seconds,
                scenario.warm_s,
                str(values),
                str(place / "rows"),
                linger_ms=scenario.linger_ms,
            )
            await _probe(load)
            rows = _read(load)
            learned = await _learned(bootstrap, f"{name}.training") if scenario.contender.parts else {}
        return replace(evaluate(rate, rows["rows"], rows["first"], learned), snapshot_bytes=_largest(place))


async def _start(
    stack: contextlib.AsyncExitStack, scenario: Scenario, bootstrap: str, name: str, inputs: Inputs, place: Path
) -> str:
    """Start every process of the contender; return its topic of predictions."""
    contender = scenario.contender
    python = python_of(contender.environment)
    if not contender.parts:
        task = peer_task(bootstrap, inputs, place, linger_ms=0)
        await create(bootstrap, task.predictions)
        await stack.enter_async_context(_unasked(python, contender.module, task))
        return task.predictions
    loop = Loop(bootstrap, name, inputs.events, inputs.labels, compiled=contender.compiled)
    if scenario.wide:
        loop = replace(loop, features=dict.fromkeys(_WIDE_FEATURES, '"text"'), model=_WIDE_MODEL)
    config = loop.write(place)
    config.write_text(config.read_text() + scenario.snapshots + "\n")
    children = [
        await stack.enter_async_context(_unasked(python, contender.module, task))
        for task in our_tasks(contender, config, 0)
    ]
    for child in children:
        await child.says(READY, _START_WITHIN_S)
        await child.told()
    for child in children:
        await child.says(READY, _START_WITHIN_S)
    return f"{name}.predictions"


@contextlib.asynccontextmanager
async def _unasked(python: str, module: str, task):
    """Start a process that is killed at the end: what it came to is not asked."""
    async with started(python, module, task) as child:
        try:
            yield child
        finally:
            if child.process.returncode is None:
                child.process.kill()


async def _probe(load: Load) -> None:
    process = await asyncio.create_subprocess_exec(
        python_of("clients"), "-m", "benchmarks.probe", load.text(), cwd=REPOSITORY
    )
    try:
        async with asyncio.timeout(load.warm_s + load.seconds + _BEYOND_S):
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        raise ContenderError(f"the probe ended with {code}; its output is above")


def _read(load: Load) -> dict[str, Any]:
    return orjson.loads(Path(load.out).read_bytes())


def _largest(place: Path) -> int:
    sizes = (file.stat().st_size for file in (place / "snapshots").rglob("*") if file.is_file())
    return max(sizes, default=0)


def _values() -> Iterator[bytes]:
    for example in examples(_VALUES):
        rest = orjson.dumps(example.x)[1:]
        yield rest + (b"\ttrue" if example.y else b"\tfalse")


def _wide_values(count: int = _VALUES, seed: int = 1) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        words = map(str, rng.integers(_WORDS, size=len(_WIDE_FEATURES)).tolist())
        rest = orjson.dumps(dict(zip(_WIDE_FEATURES, words, strict=True)))[1:]
        yield rest + (b"\ttrue" if rng.random() < 0.5 else b"\tfalse")


async def _pour_before(bootstrap: str, inputs: Inputs, count: int) -> None:
    """Put events and labels into the topics that are handled before the probe is answered."""
    at_ms = time.time_ns() // 1_000_000 - count
    events, labels = [], []
    for number, line in enumerate(_wide_values(count, seed=2)):
        rest, target = line.split(b"\t")
        event_id = b"b%d" % number
        events.append((at_ms + number, event_id, b'{"id":"%s","at":%d,%s' % (event_id, at_ms + number, rest)))
        labels.append((at_ms + number, event_id, b'{"id":"%s","y":%s}' % (event_id, target)))
    async with Pourer(bootstrap) as pourer:
        await pourer.send(inputs.events, 0, events)
        await pourer.send(inputs.labels, 0, labels)


async def _learned(bootstrap: str, topic: str) -> dict[int, int]:
    """Return number of an event → position at which it was learned."""
    found: dict[int, int] = {}
    async with Watcher(bootstrap) as watch:
        async for record in watch.records(topic):
            if not is_training_block(record.value):
                continue
            block = decode_training(record.value)
            assert isinstance(block, TrainingBlock)
            for row, event_id in enumerate(block.examples.ids):
                if event_id.startswith("n"):
                    found[int(event_id[1:])] = position_of(record.offset, row)
    return found


def evaluate(rate: float, rows: Sequence[Sequence], first: int, learned: dict[int, int]) -> Latency:
    """Return the quantiles of one run.

    Args:
        rows: Number, sent, labelled, answered or None, position of the state; of every event.
        first: The first one that is measured.
        learned: Number → position.
    """
    measured = [row for row in rows if row[0] >= first]
    found_ms = [1_000 * (answered_s - sent_s) for _, sent_s, _, answered_s, _ in measured if answered_s is not None]
    if not found_ms:
        raise ContenderError("answered nothing")
    p50, p99 = np.quantile(found_ms, [0.5, 0.99]).tolist()
    influence = _influence_ms(rows, first, learned)
    if not influence:
        return Latency(rate, len(measured), len(found_ms), p50, p99)
    i50, i99 = np.quantile(influence, [0.5, 0.99]).tolist()
    return Latency(rate, len(measured), len(found_ms), p50, p99, i50, i99)


def _influence_ms(rows: Sequence[Sequence], first: int, learned: dict[int, int]) -> list[float]:
    if not learned:
        return []
    answers = sorted((answered_s, parse(position)) for _, _, _, answered_s, position in rows if answered_s is not None)
    times_s = [answered_s for answered_s, _ in answers]
    reached = list(itertools.accumulate((position for _, position in answers), max))
    found = []
    for number, _, labelled_s, _, _ in rows:
        position = learned.get(number)
        if number < first or position is None:
            continue
        at = bisect_right(reached, position)
        if at < len(times_s):
            found.append(1_000 * (times_s[at] - labelled_s))
    return found
