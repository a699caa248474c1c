"""A producer of Avro that renames a field: events of the old schema and of the new one are one stream."""

from __future__ import annotations

from typing import Any

import orjson
from tests.scenarios.harness import example_of, now_ms, until
from tests.wire.avro_poison import written

from tailrace.streams.log import Outgoing
from tailrace.wire.pinned_schema import pinned

SINGLE_OBJECT = b"\xc3\x01"


def schema(field: str, **more: Any) -> dict[str, Any]:
    kinds = {"id": "string", "at": "long", field: "double", "b": "double"}
    fields = [{"name": name, "type": kind} | (more if name == field else {}) for name, kind in kinds.items()]
    return {"type": "record", "name": "Event", "fields": fields}


OLD, NEW = schema("size"), schema("a", aliases=["size"])


def single_object(used: dict[str, Any], fields: dict[str, Any]) -> bytes:
    return SINGLE_OBJECT + pinned(orjson.dumps(used), "events.avsc").fingerprint + written(used, fields)


async def test_events_of_before_a_field_was_renamed_are_answered_and_learned_like_those_of_after(made, tmp_path):
    """Fails when the alias is passed over: an old event would lack the feature, and be answered without it."""
    (tmp_path / "old.avsc").write_bytes(orjson.dumps(OLD))
    (tmp_path / "new.avsc").write_bytes(orjson.dumps(NEW))
    read_as = {"format": "avro", "schema_file": "new.avsc", "older_schema_files": ["old.avsc"]}
    scenario = await made(events={"topic": made.form.topic("events"), "id": "id", "time": "at", **read_as})
    process = await scenario.start()
    labels = []
    for number in range(40):
        event, label = example_of(number, now_ms())
        if number % 2:
            used, fields = NEW, event
        else:
            used, fields = OLD, {"size" if name == "a" else name: value for name, value in event.items()}
        await scenario.user.raw(scenario.domain.topics.events, 0, Outgoing(None, single_object(used, fields)))
        labels.append(label)
    await scenario.user.labels(*labels)

    await until(lambda: scenario.learned(process) == 40, "all are learned")
    (scaler, _) = scenario.loop_of(process).models.live.champion.model.steps.values()
    assert {"a": 40, "b": 40} == dict(scaler.counts)
    assert [] == await scenario.user.read(scenario.domain.topics.dead_events)
