"""One cell of the matrix: the same events and labels, folded in a process of its own; prints digests by model.

`python -m tests.determinism.cell '{"format": "json", "shuffle": 3, "restores": 20, …}'` takes every input through
decode → contract → score → join → log → fold, as bytes wherever the product has bytes, and restores the state from its
own bytes at random rows. What a cell may vary must leave no trace: the order of keys in an event, its format, the
process's hash seed, where blocks are cut in two by a restore.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from fastavro import parse_schema, schemaless_writer
from tests.contracts.model_zoo import CONFIGURATIONS

from tailrace import opening
from tailrace.domain.blocks import ScoredBlock
from tailrace.domain.join import LabelJoin
from tailrace.domain.learning import Fold
from tailrace.domain.notices import Logged
from tailrace.domain.positions import offset_of, row_of
from tailrace.domain.records import LEARNER, Admit, Claim
from tailrace.domain.scoring import score
from tailrace.domain.state import LoopState
from tailrace.main import LoopDomain
from tailrace.settings import load_text
from tailrace.streams.training_log import logged
from tailrace.wire.avro_codec import decode_scored, encode_scored, encode_training

BATCH = 50
START_MS = 1_700_000_000_000
CITIES = [f"city{number}" for number in range(9)]
TARGETS = {
    "binary": "",
    "multiclass": ", classes = [0, 1, 2]",
    "regression": "",
}


@dataclass(frozen=True)
class Cell:
    """What a cell varies, and how much of it there is.

    Attributes:
        shuffle: Seeds the order of the keys in every event; None: as they were made.
        restores: Random places at which the state is restored, seeded by `cuts`.
        models: Names in `model_zoo.CONFIGURATIONS`.
    """

    models: list[str]
    events: int
    format: str = "json"
    shuffle: int | None = None
    restores: int = 0
    cuts: int = 0

    def dump(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Arrived:
    """A record as a consumer gives it."""

    offset: int
    timestamp: int
    value: bytes
    topic: str = "events"
    partition: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def domain_of(name: str, folder: Path, form: str) -> LoopDomain:
    """Return the loop that serves one model of the zoo."""
    task, model = CONFIGURATIONS[name]
    text = f"""
log = "embedded:./data"
[loops.cell]
task = "{task}"
horizon = "1h"
events = {{ topic = "events", id = "id", time = "at"{INPUTS[form]} }}
labels = {{ topic = "labels", id = "id", target = "y", time = "at"{TARGETS[task]} }}
champion = {{ model = {json.dumps(model)}, experimental = false }}
[loops.cell.features]
{"".join(f'f{number} = {{ type = "number", missing = "absent" }}{chr(10)}' for number in range(4))}
city = {{ type = "category", values = {json.dumps(CITIES)} }}
flag = "boolean"
zip = "text"
"""
    settings = load_text(text, folder=folder)
    return LoopDomain.of("cell", settings.loops["cell"], folder)


INPUTS = {"json": "", "avro": ', format = "avro", schema_file = "event.avsc"'}
"""Format → what the table of the events topic says of it."""

_TYPES: list[tuple[str, Any]] = [
    ("id", "string"),
    ("at", "long"),
    *((f"f{number}", ["null", "double"] if number == 3 else "double") for number in range(4)),
    ("city", "string"),
    ("flag", "boolean"),
    ("zip", "string"),
]


def inputs(task: str, count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield events and their labels; the concept turns round half way, so that adaptive models adapt."""
    rng = Random(11)
    for number in range(count):
        event: dict[str, Any] = {"id": f"e{number}", "at": START_MS + number}
        event |= {f"f{index}": rng.gauss(0, 1) for index in range(4)}
        event |= {"city": rng.choice(CITIES), "flag": rng.random() < 0.5, "zip": str(rng.randrange(100, 104))}
        value = event["f0"] - event["f1"] + (event["city"] in {"city1", "city5"}) + event["flag"]
        value = value if number < count // 2 else -value
        if rng.random() < 0.05:
            del event["f3"]
        y: Any = {"binary": value > 0.5, "multiclass": int(value > 0) + int(value > 1), "regression": value}[task]
        yield event, {"id": event["id"], "at": event["at"], "y": y}


@dataclass
class Loop:
    """The loop of one model, in this process and without a log."""

    cell: Cell
    domain: LoopDomain
    cuts: set[int]
    schema: Any
    fold: Fold = field(init=False)
    state: LoopState = field(init=False)
    next_offset: int = 0
    number: int = 0
    folded: int = 0
    restored: int = 0

    def __post_init__(self) -> None:
        self.fold = self.domain.fold()
        self.state = self.fold.begin()
        self.join = LabelJoin(self.domain.join_spec(0, 1))
        branch = self.domain.branch
        self.fold.hold(self.state, self.fold.begin_branch(branch))
        self._append(Claim(LEARNER, "learner", None, "log"))
        self._append(Claim(0, "joiner", None, "log"))
        self._append(Admit("learner", 1, branch.lineage, branch.text, 0, ""))

    def run(self) -> str:
        """Take every input through; return the digest."""
        events = opening.event_decoder(self.domain.settings)
        labels = opening.label_decoder(self.domain.settings)
        shuffled = None if self.cell.shuffle is None else Random(self.cell.shuffle)
        late: list[Arrived] = []
        made = list(inputs(CONFIGURATIONS[self.cell.models[0]][0], self.cell.events))
        for first in range(0, len(made), BATCH):
            arrived = [
                Arrived(first + row, event["at"], self._bytes(event, shuffled))
                for row, (event, _) in enumerate(made[first : first + BATCH])
            ]
            self._score(first // BATCH, arrived, events)
            self._label(late, labels)
            late = [
                Arrived(first + row, label["at"], json.dumps(label).encode())
                for row, (_, label) in enumerate(made[first : first + BATCH])
            ]
        self._label(late, labels)
        assert self.folded == len(made), f"{self.folded} of {len(made)} examples were folded"
        assert self.restored == len(self.cuts), f"restored at {self.restored} of {len(self.cuts)} places"
        return self.fold.digest(self.state)

    def _bytes(self, event: dict[str, Any], shuffled: Random | None) -> bytes:
        """Return the event with its keys, or the fields of its schema, in another order."""
        if self.cell.format == "avro":
            out = BytesIO()
            schemaless_writer(out, self.schema, event)
            return out.getvalue()
        items = list(event.items())
        if shuffled is not None:
            shuffled.shuffle(items)
        return json.dumps(dict(items)).encode()

    def _score(self, offset: int, arrived: list[Arrived], decoder: Any) -> None:
        batch = decoder.decode_batch(arrived)
        assert not batch.rejected, batch.rejected
        champion = self.state.champion
        assert champion is not None
        served = score(champion.model, batch.rows, self.domain.target).served
        block = ScoredBlock(
            contract_id=self.domain.contract.id,
            log_id="log",
            model="champion",
            version=champion.lineage[:12],
            state_position=self.state.position,
            source_partition=0,
            source_offsets=_numbers([each.offset for each in arrived]),
            ids=batch.ids,
            times_ms=_numbers(batch.times_ms),
            served=served,
            x=batch.x,
        )
        self.join.on_scored(offset, decode_scored(encode_scored(block)))
        self._write()

    def _label(self, arrived: list[Arrived], decoder: Any) -> None:
        for label in decoder.decode_batch(arrived):
            self.join.on_label(label, 0)
        self._write()

    def _write(self) -> None:
        while self.join.has_output:
            self.number += 1
            offset = self.next_offset
            self._append(self.join.take().block(self.domain.contract.id, "log", "joiner", self.number))
            self.join.acknowledged(offset)

    def _append(self, record: Any) -> None:
        value = encode_training(record)
        self._fold(logged(Arrived(self.next_offset, START_MS, value)))
        self.next_offset += 1

    def _fold(self, record: Logged) -> None:
        block = self.fold.open(self.state, record.offset, record.record, record.digest)
        if block is None:
            return
        rows = len(block.examples)
        while (start := row_of(self.state.position)) < rows and offset_of(self.state.position) == record.offset:
            cut = min((at - self.folded for at in self.cuts if self.folded < at), default=rows)
            stop = min(rows, start + cut)
            self.fold.learn(self.state, block, record.offset, start, stop)
            self.folded += stop - start
            if self.folded in self.cuts:
                self.restored += 1
                self.state = self.fold.restore(self.fold.parts(self.state))
                self.fold.open(self.state, record.offset, record.record, record.digest)
            if stop == rows:
                break
        self.fold.close(self.state, record.offset)


def _numbers(values: Any) -> Any:
    import numpy as np

    return np.array(values, np.int64)


def _schema(shuffle: int | None) -> dict[str, Any]:
    """Return the schema of an event; a producer may have its fields in any order."""
    types = list(_TYPES)
    if shuffle is not None:
        Random(shuffle).shuffle(types)
    return {"type": "record", "name": "Event", "fields": [{"name": name, "type": kind} for name, kind in types]}


def digests(cell: Cell) -> dict[str, str]:
    """Return the digest of every model of a cell."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in cell.models:
            cuts = set(Random(f"{cell.cuts} {name}").sample(range(1, cell.events), cell.restores))
            one, schema = replace(cell, models=[name]), _schema(cell.shuffle)
            (Path(folder) / "event.avsc").write_text(json.dumps(schema))
            domain = domain_of(name, Path(folder), cell.format)
            found[name] = Loop(one, domain, cuts, parse_schema(schema)).run()
    return found


if __name__ == "__main__":
    print(json.dumps(digests(Cell(**json.loads(sys.argv[1])))))
    sys.stdout.flush()
