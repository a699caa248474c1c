"""The hot functions, each over one batch of 500 rows of twenty numbers; a process runs all of them, one after another.

    python -m benchmarks.micro.cases instructions|time WORDS

It says `{"case": NAME}` when a case could run, waits for a line, runs it, says `{"case": NAME, "done": true, …}` and
waits again: who counts instructions begins and ends in between. A case that this version cannot build is named with
the reason and left out.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.configuration import COMPILED, UNMODIFIED, compiling
from benchmarks.examples import examples
from benchmarks.topics import event_of, label_of
from benchmarks.training import begun, block_of, domain_of, log_of, read
from tailrace.domain.blocks import ScoredBlock, Served
from tailrace.domain.join import LabelJoin
from tailrace.domain.records import Label
from tailrace.domain.scoring import score
from tailrace.wire.avro_codec import decode_scored, decode_training, encode_scored, encode_training
from tailrace.wire.json_codec import EventDecoder, LabelDecoder, RecordFields
from tailrace.wire.partitioner import partitions_of
from tailrace.wire.prediction_codec import PredictionEncoder

ROWS = 500
BEGIN_MS = 1_700_000_000_000
_WARM_UP = 3
_TIMED = 30
_COUNTED = 4
"""Runs that are counted; the least counts, since where memory happens to lie costs some percent of the small cases."""

Run = Callable[[], object]


class _Record(NamedTuple):
    """A record as it was read."""

    value: bytes
    offset: int
    partition: int = 0
    timestamp: int = BEGIN_MS
    topic: str = "events"
    key: bytes | None = None
    headers: tuple[()] = ()


_EXAMPLES = list(examples(ROWS))


def _events() -> list[_Record]:
    return [_Record(event_of(example, BEGIN_MS + row), row) for row, example in enumerate(_EXAMPLES)]


def _scored_block() -> ScoredBlock:
    domain, rows = domain_of(), range(ROWS)
    proba = np.linspace(0.01, 0.99, ROWS).reshape(-1, 1)
    return ScoredBlock(
        contract_id=domain.contract.id,
        log_id="log",
        model="champion",
        version="lineage",
        state_position=0,
        source_partition=0,
        source_offsets=np.arange(ROWS, dtype=np.int64),
        ids=[example.id for example in _EXAMPLES],
        times_ms=BEGIN_MS + np.arange(ROWS, dtype=np.int64),
        served=Served((proba[:, 0] > 0.5).astype(np.float64), proba),
        x=domain.contract.columns([_EXAMPLES[row].x for row in rows]),
    )


def _decode_events() -> Run:
    decoder, records = EventDecoder(RecordFields("id", "at"), domain_of().contract), _events()
    return lambda: decoder.decode_batch(records)


def _read_contract() -> Run:
    contract = domain_of().contract
    raws = [json.loads(record.value) for record in _events()]
    return lambda: contract.read_many(raws)


def _decode_labels() -> Run:
    decoder = LabelDecoder(RecordFields("id"), "y", domain_of().target)
    records = [_Record(label_of(example), row) for row, example in enumerate(_EXAMPLES)]
    return lambda: decoder.decode_batch(records)


def _encode_scored() -> Run:
    block = _scored_block()
    return lambda: encode_scored(block)


def _decode_scored() -> Run:
    value = encode_scored(_scored_block())
    return lambda: decode_scored(value)


def _encode_training() -> Run:
    block = block_of(domain_of(), _EXAMPLES, 0, 1)
    return lambda: encode_training(block)


def _decode_training() -> Run:
    value = encode_training(block_of(domain_of(), _EXAMPLES, 0, 1))
    return lambda: decode_training(value)


def _join() -> Run:
    spec, block = domain_of().join_spec(0, 1), _scored_block()
    labels = [
        Label(example.id, BEGIN_MS + row, float(example.y), 0, row, BEGIN_MS) for row, example in enumerate(_EXAMPLES)
    ]

    def run() -> object:
        join = LabelJoin(spec)
        join.on_scored(0, block)
        for label in labels:
            join.on_label(label, 0)
        return join.take().block(block.contract_id, "log", "owner", 1)

    return run


def _fold(compiled: str = UNMODIFIED) -> Run:
    domain = domain_of(compiled)
    records = read(log_of(domain, ROWS))
    fold, empty = begun(domain)
    parts = fold.parts_with(empty, domain.branch.lineage)
    states = iter([fold.restore(parts) for _ in range(_WARM_UP + _TIMED)])  # a state folds these records once
    return lambda: fold.fold(next(states), records)


def _score() -> Run:
    domain = domain_of()
    fold, state = begun(domain)
    fold.fold(state, read(log_of(domain, ROWS)))
    (branch,) = state.branches.values()
    rows = [example.x for example in _EXAMPLES]
    return lambda: score(branch.model, rows, domain.target)


def _encode_predictions() -> Run:
    encoder, block = PredictionEncoder("events", domain_of().target), _scored_block()
    return lambda: encoder.encode(block)


def _partitions() -> Run:
    keys = [example.id.encode() for example in _EXAMPLES]
    return lambda: partitions_of(keys, 16)


def _fold_compiled() -> Run:
    if why := compiling():
        raise RuntimeError(why)
    return _fold(COMPILED)


INSTRUCTIONS: Mapping[str, Callable[[], Run]] = {
    "decode a batch of events": _decode_events,
    "read the contract": _read_contract,
    "decode a batch of labels": _decode_labels,
    "score a batch": _score,
    "encode predictions": _encode_predictions,
    "partition keys": _partitions,
    "encode a scored block": _encode_scored,
    "decode a scored block": _decode_scored,
    "join a batch": _join,
    "encode a training block": _encode_training,
    "decode a training block": _decode_training,
    "fold a block": _fold,
}
"""Name → builds what is counted."""

TIMES: Mapping[str, Callable[[], Run]] = {"fold a block, compiled": _fold_compiled}
"""Machine code that is made at run time counts otherwise from process to process: the least time of many runs."""


def main(kind: str, only: str) -> None:
    for name, build in (INSTRUCTIONS if kind == "instructions" else TIMES).items():
        if only not in name:
            continue
        try:
            run = build()
            for _ in range(_WARM_UP):
                run()
        except Exception as problem:  # noqa: BLE001 - another version of the product need not have it
            _say({"case": name, "why": f"{type(problem).__name__}: {problem}"})
            continue
        gc.collect()
        gc.disable()
        for _ in range(1 if kind == "time" else _COUNTED):
            _say({"case": name})
            sys.stdin.readline()
            seconds = _least_s(run) if kind == "time" else _once_s(run)
            _say({"case": name, "done": True, "seconds": seconds})
            sys.stdin.readline()
        gc.enable()


def _once_s(run: Run) -> float:
    begun_s = time.process_time()
    run()
    return time.process_time() - begun_s


def _least_s(run: Run) -> float:
    return min(_once_s(run) for _ in range(_TIMED))


def _say(plain: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(plain) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
