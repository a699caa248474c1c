"""Schemas of events and labels that change while records of all of them lie in one partition."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson
from fastavro import parse_schema, schemaless_writer
from tests.faults.catalog import Result, Trial, fault
from tests.faults.checks import check_b
from tests.faults.ground import TOGETHER, Ground, ground, now_ms
from tests.faults.processes import Refolder
from tests.faults.workload import Sent, home
from tests.simulation.oracle import outcomes_of

from tailrace import settings as loading
from tailrace.domain.positions import offset_of
from tailrace.inspection.books import account_of
from tailrace.inspection.reading import Reading
from tailrace.wire.avro_objects import SINGLE_OBJECT
from tailrace.wire.dead_letter import parse
from tailrace.wire.schemas import fingerprint_of

FEATURES = {
    "a": "number",
    "b": "number",
    "c": {"type": "number", "missing": "absent"},
    "kind": {"type": "category", "values": ["x", "y", "z"]},
}
MODEL = "(SelectType(str) | OneHotEncoder()) + (SelectType(float) | StandardScaler()) | LogisticRegression()"
PARTITIONS = 2
PIECE = 50
ADDED = 0.5


def record(name: str, *fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema: an id, a time, and more fields."""
    head = [{"name": "id", "type": "string"}, {"name": "at", "type": "long"}]
    return {"type": "record", "name": name, "fields": [*head, *fields]}


def kind(*symbols: str) -> dict[str, Any]:
    """Return the field of a category."""
    return {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": list(symbols)}}


GONE = {"name": "gone", "type": "string"}
B = {"name": "b", "type": "double", "aliases": ["bee"]}
EVENTS = (
    record("Event", {"name": "a", "type": "int"}, {"name": "bee", "type": "double"}, kind("x", "y"), GONE),
    record("Event", {"name": "a", "type": "int"}, B, kind("x", "y"), GONE),
    record(
        "Event",
        {"name": "a", "type": "double"},
        kind("x", "y", "z"),
        B,
        {"name": "c", "type": "double", "default": ADDED},
    ),
    record("Event", {"name": "a", "type": "string"}, B, kind("x", "y", "z")),
)
"""The first is old when the loop begins; the second is the present one then and the third later: of a wider number, a
grown enum, an added field and a removed one. The last is of nobody's."""
Y = {"name": "y", "type": "boolean"}
LABELS = (record("Label", Y, GONE), record("Label", Y), record("Label", {"name": "by", "type": "string"}, Y))
"""As `EVENTS`."""


@dataclass(frozen=True)
class Fate:
    """What must become of an event: its features, or a dead letter of a code."""

    x: Mapping[str, float | str] | None
    code: str = ""


@dataclass
class Writers:
    """Producers that write by every schema at once.

    Attributes:
        present: Which of the schemas the workers have as the present one; older ones are known too.
        fates: Of events, by id.
        unread: Labels that cannot be read, by the id in their key.
        forms: How often each form was written.
    """

    rng: Random
    now_ms: int
    present: int
    fates: dict[str, Fate]
    unread: set[str]
    forms: Counter[str]

    def piece(self, events: int) -> list[Sent]:
        """Return events and labels."""
        return [each for _ in range(events) for each in self._pair()]

    def _pair(self) -> list[Sent]:
        rng = self.rng
        self.now_ms += 1
        name = f"e{len(self.fates)}"
        version = rng.randrange(len(EVENTS))
        values: dict[str, Any] = {"a": rng.randrange(9), "b": rng.gauss(0, 1), "kind": rng.choice("xy")}
        fields = {"id": name, "at": self.now_ms, "bee": values["b"], "gone": "?", "c": rng.random(), **values}
        if version >= 2:
            fields["a"] = values["a"] = values["a"] + 0.5
            fields["kind"] = values["kind"] = rng.choice("xyz")
        if version == 2:
            values["c"] = fields["c"]
        elif self.present == 2:
            values["c"] = ADDED
        if version == 3:
            fields["a"] = "many"
        form, value, is_read = self._written("event", EVENTS, version, fields)
        self.fates[name] = Fate(values) if is_read else Fate(None, "not_avro")
        self.forms[form] += 1
        label = {"id": name, "at": self.now_ms, "y": values["b"] > 0, "gone": "?", "by": "desk"}
        # A label that waits is read again by whoever joins next; a plain body then is one of another schema.
        _, word, is_heard = self._written("label", LABELS, rng.randrange(len(LABELS)), label, may_be_plain=is_read)
        if not is_heard:
            self.unread.add(name)
        return [
            Sent("events", rng.randrange(PARTITIONS), name.encode(), value),
            Sent("labels", home(name, PARTITIONS), name.encode(), word),
        ]

    def _written(
        self, what: str, schemas: tuple[Any, ...], version: int, fields: dict[str, Any], *, may_be_plain: bool = True
    ) -> tuple[str, bytes, bool]:
        """Return the form, the bytes, and whether the workers can read them."""
        body, name = written(schemas[version], fields), fingerprint_of(schemas[version])
        luck = self.rng.random()
        if luck < 0.04:
            return f"{what} of an unknown schema", SINGLE_OBJECT + self.rng.randbytes(8) + body, False
        if luck < 0.08:
            return f"{what} in a registry's framing", b"\0\0\0\0\x07" + body, False
        if luck < 0.3 and version == self.present and may_be_plain:
            return f"{what} {version} plain", body, True
        return f"{what} {version}", SINGLE_OBJECT + name + body, version <= self.present


def written(schema: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """Return the plain body that fastavro writes."""
    file = io.BytesIO()
    schemaless_writer(file, parse_schema(schema), {each["name"]: fields[each["name"]] for each in schema["fields"]})
    return file.getvalue()


@fault("F28", "schemas that change in the middle of a partition", ci=600, full=20_000, limit_s=300)
async def evolution(trial: Trial) -> Result:
    """Old, present, coming and unknown schemas mixed; workers are killed and begin again with the next schema."""
    result = Result()
    for side, schemas in (("events", EVENTS), ("labels", LABELS)):
        for version, schema in enumerate(schemas):
            (trial.folder / f"{side}.{version}.avsc").write_bytes(orjson.dumps(schema))
    changes: dict[str, Any] = {
        side: {"id": "id", "time": "at", "format": "avro", "schema_file": f"{side}.1.avsc"}
        | ({"target": "y"} if side == "labels" else {})
        | {"older_schema_files": [f"{side}.0.avsc"]}
        for side in ("events", "labels")
    }
    changes |= {"features": FEATURES, "champion": {"model": MODEL}, "horizon": "1h", "disorder": "1h"}
    async with ground(trial.folder, trial.seed, partitions=PARTITIONS, teams=TOGETHER, **changes) as at:
        next_config = trial.folder / "next.toml"
        next_config.write_text(next_of(at.scenario.config.read_text()))
        load = Writers(at.rng, now_ms() - 7_200_000, 1, {}, set(), Counter())
        await at.fleet.start_all()
        await send(at, load, trial.times // 2)
        before = await read_right(at, load, lambda: at.refolder)
        load.present = 2
        for name in list(at.fleet.running):
            await at.fleet.kill(name)
            await at.fleet.start(name, config=next_config)
        await send(at, load, trial.times - trial.times // 2)
        with_next = Refolder(next_config, trial.folder, hash_seed=77)
        try:
            after = await read_right(at, load, lambda: with_next)
            offsets = [offset_of(each) for each in (before, after)]
            folds = [[await folder.fold(each) for each in offsets] for folder in (at.refolder, with_next)]
            same = [[(each["position"], each["digest"]) for each in found] for found in folds]
            assert same[0] == same[1], f"the log comes to another state with another schema: {same}"
        finally:
            with_next.close()
        await books_balance(at, next_config)
        result.times, result.events = len(load.fates), sum(fate.x is not None for fate in load.fates.values())
        result.notes.append(", ".join(f"{count} {form}" for form, count in sorted(load.forms.items())))
    return result


def next_of(config: str) -> str:
    """Return a configuration with the next schema as the present one, and all before it as older ones."""
    for side in ("events", "labels"):
        changes = {
            f'["{side}.0.avsc"]': f'["{side}.0.avsc", "{side}.1.avsc"]',
            f'"schema_file" = "{side}.1.avsc"': f'"schema_file" = "{side}.2.avsc"',
        }
        for now, then in changes.items():
            assert now in config
            config = config.replace(now, then)
    return config


async def send(at: Ground, load: Writers, events: int) -> None:
    """Send events and labels in pieces, and wait until all came through."""
    for _ in range(events // PIECE):
        await at.load.send(load.piece(PIECE))
    await at.quiet()


async def read_right(at: Ground, load: Writers, refolder: Callable[[], Refolder]) -> int:
    """Check what became of every record; return the position of the newest snapshot."""
    names, contract = at.scenario.domain.topics, at.scenario.domain.contract
    rows: dict[str, Mapping[str, Any]] = {}
    for column in at.topics.scored:
        for block in column.decoded:
            rows |= zip(block.ids, contract.rows(block.x), strict=True)
    right = {name: dict(fate.x) for name, fate in load.fates.items() if fate.x is not None}
    wrong = {name: (dict(rows.get(name, {})), x) for name, x in right.items() if rows.get(name) != x}
    assert not wrong, f"{len(wrong)} events (read, written): {dict(list(wrong.items())[:3])}"
    assert rows.keys() == right.keys(), "an event was read that cannot be read"
    assert sum(len(column.records) for column in at.topics.all_of(names.predictions)) == len(right)
    assert await codes(at, names.dead_events) == {name: ["not_avro"] for name in load.fates.keys() - right.keys()}
    heard = {each.id for each in outcomes_of(at.topics.blocks()) if each.kind == "joined"}
    assert heard == right.keys() - load.unread
    unheard = {name: found for name, found in (await codes(at, names.dead_labels)).items() if found != ["orphaned"]}
    assert unheard == {name: ["not_avro"] for name in load.unread}
    await check_b(at.topics, refolder())
    newest = at.topics.newest_snapshot()
    assert newest is not None
    return newest.position


async def codes(at: Ground, topic: str) -> dict[str, list[str]]:
    """Return the codes of the dead letters of each id."""
    found: dict[str, list[str]] = {}
    for record_ in await at.scenario.user.read(topic):
        found.setdefault((record_.key or b"").decode(), []).append(parse(record_.headers).rejection.code.value)
    return found


async def books_balance(at: Ground, config: Path) -> None:
    """Check the books, as who has the newest configuration reads them."""
    settings = loading.load(config)
    name, loop = next(iter(settings.loops.items()))
    account = await account_of(Reading(settings, at.scenario.log, at.topics.reader), name, loop)
    assert account.books.holds, f"the books do not balance: {account.books}"
