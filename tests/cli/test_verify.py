"""`tailrace verify`: the newest snapshot is what the log says, or the exit code is 1."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import RanLoop, write_config

from tailrace.domain.positions import parse


def training_table(file: sqlite3.Connection) -> str:
    (topic_id,) = file.execute("SELECT id FROM topics WHERE name = 'phishing.training'").fetchone()
    return f"r{topic_id}_0"


def change_an_example(folder: Path) -> None:
    """Change the last bytes of a block in the middle of the log: they are of its vector, which the state holds."""
    with sqlite3.connect(folder / "data" / "log.sqlite3") as file:
        table = training_table(file)
        rows = file.execute(f"SELECT offset, value FROM {table} ORDER BY length(value)").fetchall()
        offset, value = [(offset, value) for offset, value in rows if b"joined" in value][-1]
        changed = value.replace(b"page-3\0", b"page-x\0").replace(b"joined", b"jointd")
        assert changed != value
        file.execute(f"UPDATE {table} SET value = ? WHERE offset = ?", (changed, offset))


def test_the_snapshot_of_a_loop_that_ran_is_what_the_log_says(run: Run, ran_loop: RanLoop):
    ran = run("verify", "-o", "json")

    told = json.loads(ran.out)
    assert (0, True, None) == (ran.code, told["equal"], told["problem"])
    assert told["digest"] == told["snapshot_digest"]
    assert ("0:0", ran_loop.learned) == (told["start"], told["examples"])
    assert told["examples_per_second"] > 0


def test_another_log_than_the_one_that_was_folded_ends_with_1(run: Run, ran_loop: RanLoop):
    change_an_example(ran_loop.folder)

    ran = run("verify", "-o", "json")

    told = json.loads(ran.out)
    assert (1, False) == (ran.code, told["equal"])
    assert told["digest"] != told["snapshot_digest"]
    assert "the digests of loop differ from those of " in told["problem"]
    assert "0:0" == told["difference"]["equal_to"]
    # Of the first snapshot that came to something else; on a slow machine there is one before the last.
    assert parse("0:0") < parse(told["difference"]["at"]) <= parse(told["end"])


def test_a_log_that_ends_before_the_snapshot_ends_with_1(run: Run, ran_loop: RanLoop):
    with sqlite3.connect(ran_loop.folder / "data" / "log.sqlite3") as file:
        table = training_table(file)
        file.execute(f"DELETE FROM {table} WHERE offset > 3")

    ran = run("verify", "-o", "json")

    assert 1 == ran.code
    assert "the log ends at offset 4, before the snapshot's position" == json.loads(ran.out)["problem"]


def test_a_log_without_its_beginning_is_refused_when_no_snapshot_bridges_it(run: Run, ran_loop: RanLoop):
    with sqlite3.connect(ran_loop.folder / "data" / "log.sqlite3") as file:
        table = training_table(file)
        file.execute(f"DELETE FROM {table} WHERE offset < (SELECT max(offset) FROM {table})")

    ran = run("verify")

    assert (5, "") == (ran.code, ran.out)
    assert "no older snapshot reaches to it" in ran.err


def test_a_damaged_file_is_named_although_the_digests_are_equal(run: Run, ran_loop: RanLoop, monkeypatch):
    from tailrace.domain.errors import SnapshotRefused
    from tailrace.streams.snapshot_index import SnapshotIndex

    async def refuse(*_: object, **__: object) -> None:
        raise SnapshotRefused("digest", "part loop has another digest")

    monkeypatch.setattr(SnapshotIndex, "load", refuse)

    ran = run("verify", "-o", "json")

    assert 1 == ran.code
    expected = "the digests are equal, but the snapshot cannot be loaded: part loop has another digest"
    assert expected == json.loads(ran.out)["problem"]


@pytest.mark.parametrize("output", ["table", "json"])
def test_without_a_snapshot_there_is_nothing_to_compare(run: Run, tmp_path: Path, output: str):
    write_config(tmp_path)
    run("topics", "apply", "--yes")

    ran = run("verify", "-o", output)

    assert 1 == ran.code
    assert "there is no snapshot of this lineage yet" in ran.out


def test_which_models_are_folded_again_is_what_the_log_says_and_not_the_configuration(run: Run, ran_loop: RanLoop):
    file = ran_loop.folder / "tailrace.toml"
    file.write_text(file.read_text().replace("LogisticRegression()", "LogisticRegression(l2=0.1)"))

    ran = run("verify", "-o", "json")

    assert (0, True) == (ran.code, json.loads(ran.out)["equal"])


def test_other_features_have_no_snapshot_here(run: Run, ran_loop: RanLoop):
    file = ran_loop.folder / "tailrace.toml"
    file.write_text(file.read_text().replace('"number"', '{ type = "number", min = -1e9 }'))

    ran = run("verify", "-o", "json")

    assert (1, None) == (ran.code, json.loads(ran.out)["snapshot"])


def test_the_certificate_says_what_was_folded_and_compared(run: Run, ran_loop: RanLoop):
    told = json.loads(run("verify", "--from-start", "-o", "json").out)

    assert {"river", "python", "version"} <= told["versions"].keys()
    assert {part["name"]: part["here"] for part in told["parts"]} == {
        part["name"]: part["snapshot"] for part in told["parts"]
    }
    assert [True] == [text.endswith("LogisticRegression()") for text in told["branches"].values()]
    assert (told["known"], True) == (len(told["proven"]), told["compared"] >= 1)
    assert told["log_id"]
    assert told["time"]


def test_a_stretch_of_the_log_can_be_folded_alone(run: Run, ran_loop: RanLoop):
    newest = json.loads(run("verify", "-o", "json").out)

    told = json.loads(run("verify", "--to", newest["end"], "-o", "json").out)
    before = run("verify", "--to", "3", "-o", "json")

    assert (True, newest["digest"]) == (told["equal"], told["digest"])
    assert (1, None) == (before.code, json.loads(before.out)["snapshot"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--from", "1", "--from-start"), 2, "give one of them"),
        (("--from", "first"), 2, "allowed: the number of a snapshot, or proven"),
        (("--to", "4:2"), 2, "allowed: an offset of the training log"),
        (("--to", "end"), 2, "allowed: an offset of the training log"),
        (("--from", "99"), 5, "found snapshot 99 to begin with"),
    ],
)
def test_a_stretch_that_cannot_be_is_refused(run: Run, ran_loop: RanLoop, words: tuple[str, ...], code: int, said: str):
    ran = run("verify", *words)

    assert (code, "") == (ran.code, ran.out)
    assert said in " ".join(ran.err.split())


def test_without_a_snapshot_that_was_proven_the_log_is_folded_from_its_start(run: Run, ran_loop: RanLoop):
    told = json.loads(run("verify", "--from", "proven", "-o", "json").out)

    assert ("0:0", None, True) == (told["start"], told["from_snapshot"], told["equal"])
