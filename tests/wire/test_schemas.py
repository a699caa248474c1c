"""Schemas: every form that was written stays readable, and changes that would break that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from tailrace.domain.errors import CodecError
from tailrace.wire import schemas
from tailrace.wire.schemas import fingerprint_of, folder, history_path, incompatibilities, load, names, record_schema

NAMES = names(folder())


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(type_: Any, name: str = "f", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **more}


def write(place: Path, present: Any, *past: Any) -> None:
    (place / "history").mkdir()
    (place / "r.avsc").write_text(json.dumps(present))
    for form in past:
        history_path(place, "r", form).write_text(json.dumps(form))


def test_there_is_a_schema_for_every_record() -> None:
    users = {"event", "label", "prediction"}
    ours = {
        "admit",
        "command",
        "request",
        "signed_request",
        "scored_block",
        "training_block",
        "claim",
        "skip",
        "forward",
        "mark",
        "manifest",
        "status",
        "model_event",
    }

    assert users | ours == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_present_form_of_every_schema_is_in_the_history(name: str) -> None:
    source = folder() / f"{name}.avsc"
    kept = history_path(folder(), name, json.loads(source.read_bytes()))

    assert kept.is_file(), f"the schema changed: cp schemas/{source.name} schemas/history/{kept.name}"


@pytest.mark.parametrize("name", NAMES)
def test_the_present_form_of_every_schema_reads_all_its_past_forms(name: str) -> None:
    assert fingerprint_of(record_schema(name).present) in record_schema(name).written


def test_the_history_holds_nothing_but_forms_of_records() -> None:
    assert set(NAMES) == {path.name.split(".")[0] for path in (folder() / "history").iterdir()}


def test_the_fingerprint_is_that_of_the_specification() -> None:
    """The Avro specification gives 0x63dd24e7cc258f8a for "null"; it travels little-endian."""
    assert 0x63DD24E7CC258F8A == int.from_bytes(fingerprint_of("null"), "little")


def test_words_about_a_schema_do_not_change_its_fingerprint() -> None:
    assert fingerprint_of(record(field("int"))) == fingerprint_of(record(field("int", doc="…"), doc="…"))


def test_a_form_that_cannot_be_read_any_more_is_refused(tmp_path: Path) -> None:
    write(tmp_path, record(field("int"), field("int", "new")), record(field("int")))

    with pytest.raises(CodecError, match="new is new and has no default"):
        load(tmp_path, "r")


def test_a_past_form_is_read_into_the_present_one(tmp_path: Path) -> None:
    past, present = record(field("int")), record(field("long"), field("int", "new", default=7))
    write(tmp_path, present, past)

    schema = load(tmp_path, "r")

    assert {fingerprint_of(past), fingerprint_of(present)} == set(schema.written)
    assert fingerprint_of(present) == schema.fingerprint


def test_a_history_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    write(tmp_path, record(field("int")), record(field("int")))
    next((tmp_path / "history").iterdir()).write_text(json.dumps(record(field("long"))))

    with pytest.raises(CodecError, match="restore the file"):
        load(tmp_path, "r")


@pytest.mark.parametrize("content", [None, "{"])
def test_a_schema_that_is_not_there_or_not_json_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "r.avsc").write_text(content)

    with pytest.raises(CodecError, match="no readable schema"):
        load(tmp_path, "r")


def test_an_installation_without_schemas_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "__file__", str(tmp_path / "app" / "tailrace" / "wire" / "schemas.py"))

    with pytest.raises(CodecError, match="no folder of schemas"):
        folder()


def test_the_schemas_of_an_installed_package_win_over_those_of_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "app" / "tailrace"
    monkeypatch.setattr(schemas, "__file__", str(package / "wire" / "schemas.py"))
    (tmp_path / "schemas").mkdir()
    (package / "wire").mkdir(parents=True)

    assert tmp_path / "schemas" == folder()
    (package / "schemas").mkdir()
    assert package / "schemas" == folder()


COLOURS = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
FIXED = {"type": "fixed", "name": "F", "size": 2}


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ("long", "int"),
        ("double", "long"),
        ("string", "bytes"),
        (["null", "int"], "int"),
        ("long", ["int", "long"]),
        (["null", "long"], ["null", "int"]),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
        ({"type": "map", "values": "long"}, {"type": "map", "values": "int"}),
        (COLOURS, COLOURS | {"symbols": ["a"]}),
        (COLOURS | {"symbols": ["a"], "default": "a"}, COLOURS),
        (FIXED, FIXED),
        (record(field("int")), record(field("int"), field("int", "dropped"))),
        (record(field("int", "g", aliases=["f"])), record(field("int"))),
        (record(name="New", aliases=["Old"]), record(name="Old")),
        (record(field(["null", "R"])), record(field(["null", "R"]))),
    ],
)
def test_a_change_that_keeps_old_data_readable_is_taken(reader: Any, writer: Any) -> None:
    assert [] == list(incompatibilities(reader, writer))


@pytest.mark.parametrize(
    ("reader", "writer", "problem"),
    [
        ("int", "long", "int does not read long"),
        ("int", ["int", "null"], "int does not read null"),
        (["null", "int"], "string", "no branch"),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}, "int does not read long"),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, "int does not read long"),
        (COLOURS | {"symbols": ["a"]}, COLOURS, "lost b"),
        (FIXED, FIXED | {"size": 3}, "size"),
        (record(field("int", "g")), record(field("int")), "g is new"),
        (record(name="New"), record(name="Old"), "name changed"),
    ],
)
def test_a_change_that_makes_old_data_unreadable_is_found(reader: Any, writer: Any, problem: str) -> None:
    (found,) = incompatibilities(reader, writer)

    assert problem in found


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("event", {"page_id": "p-1", "seen_at": "2026-01-01T00:00:00Z", "https": 1.0, "country": "de"}),
        ("label", {"page_id": "p-1", "verdict": "phishing"}),
    ],
)
def test_the_examples_of_what_users_bring_are_valid(name: str, example: dict[str, Any]) -> None:
    assert fastavro.validate(example, record_schema(name).present)
