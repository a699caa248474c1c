"""`tailrace books`: every event and label is explained exactly once, or the exit code says that one is not."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import RanLoop, write_config

from tailrace.cli import books


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "_LOOK_AGAIN_S", 0.0)


def delete_last(folder: Path, topic: str) -> None:
    """Take the last record of some partition of a topic away, as no broker would."""
    with sqlite3.connect(folder / "data" / "log.sqlite3") as file:
        topic_id, partitions = file.execute("SELECT id, partitions FROM topics WHERE name = ?", (topic,)).fetchone()
        for number in range(partitions):
            table = f"r{topic_id}_{number}"
            if file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                file.execute(f"DELETE FROM {table} WHERE offset = (SELECT max(offset) FROM {table})")
                return


def test_a_loop_that_ran_accounts_for_everything(run: Run, ran_loop: RanLoop):
    ran = run("books", "-o", "json")

    told = json.loads(ran.out)
    assert (0, "", True) == (ran.code, ran.err, told["balanced"])
    balances = told["balances"]
    assert {"total": 60, "scored": 59, "rejected": 1, "unexplained": 0} == balances["events"]
    assert (59, 39, 20) == tuple(balances["scored"][part] for part in ("total", "joined", "waiting"))
    labels = balances["labels"]
    assert (41, 39, 1, 1) == tuple(labels[part] for part in ("total", "joined", "conflicting", "rejected"))
    assert (39, 39) == (balances["examples"]["total"], balances["examples"]["learned"])
    assert 0 == told["learned_twice"]


def test_the_range_that_was_counted_is_told(run: Run, ran_loop: RanLoop):
    told = json.loads(run("books", "-o", "json").out)

    of_events = [each for each in told["range"] if each["topic"] == "phishing-pages"]
    assert [0, 1] == sorted(each["partition"] for each in of_events)
    assert 60 == sum(each["end"] - each["start"] for each in of_events)
    assert all(each["end"] == each["held_end"] for each in of_events)


def test_the_table_says_whether_they_balance(run: Run, ran_loop: RanLoop):
    ran = run("books", "-o", "table")

    assert 0 == ran.code
    assert "loop phishing: the books balance" in ran.out
    assert "60 events: ok" in ran.out
    assert "learned twice: nothing" in ran.out


def test_an_event_that_nothing_explains_ends_with_1(run: Run, ran_loop: RanLoop):
    delete_last(ran_loop.folder, "phishing-pages.dlq")

    ran = run("books", "-o", "table")

    assert 1 == ran.code
    assert "the books DO NOT BALANCE" in ran.out
    assert "60 events: 1 unexplained" in ran.out


def test_labels_that_nobody_has_read_yet_are_not_counted(run: Run, ran_loop: RanLoop):
    run("labels", "send", "--id", "page-50", "--value", "fine")

    told = json.loads(run("books", "-o", "json").out)

    assert told["balanced"] is True
    assert 41 == told["balances"]["labels"]["total"]
    of_labels = [each for each in told["range"] if each["topic"] == "phishing-verdicts"]
    assert 1 == sum(each["held_end"] - each["end"] for each in of_labels)


def test_where_nothing_ever_ran_there_is_nothing_to_count(run: Run, tmp_path: Path):
    write_config(tmp_path)
    run("topics", "apply", "--yes")

    ran = run("books", "-o", "json")

    told = json.loads(ran.out)
    assert (0, True) == (ran.code, told["balanced"])
    assert all(0 == balance["total"] for balance in told["balances"].values())
    assert ["no snapshot of this log yet: what was learned of its examples cannot be looked up"] == told["notes"]


@pytest.mark.parametrize("command", ["books", "verify", "status", "dlq list", "log cat", "events tail --limit 1"])
def test_a_log_that_is_not_there_ends_with_4(run: Run, tmp_path: Path, command: str):
    write_config(tmp_path)

    ran = run(*command.split())

    assert (4, "") == (ran.code, ran.out)
    assert ran.err.startswith(f"error: there is no log in {tmp_path}/data yet; `tailrace run`")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["books", "verify", "status", "dlq list", "log cat", "events tail --limit 1"])
def test_topics_that_do_not_exist_end_with_5_and_the_next_step(run: Run, tmp_path: Path, command: str):
    write_config(tmp_path)
    run("topics", "apply", "--yes")
    write_config(tmp_path, name="other")

    ran = run(*command.split())

    assert (5, "") == (ran.code, ran.out)
    assert "does not exist" in ran.err
    assert "tailrace topics apply" in ran.err


@pytest.mark.parametrize("command", ["books", "verify", "status", "dlq list", "topics plan", "log cat"])
def test_kafka_that_does_not_answer_ends_with_4(run: Run, tmp_path: Path, monkeypatch, command: str):
    from tailrace.inspection import reading

    monkeypatch.setattr(reading, "REACH_WITHIN_S", 0.2)
    write_config(tmp_path, log="kafka://127.0.0.1:1")

    ran = run(*command.split())

    assert (4, "") == (ran.code, ran.out)
    assert ran.err.startswith("error: Kafka at 127.0.0.1:1 gave no answer")
    assert 1 == len(ran.err.splitlines())


@pytest.mark.parametrize("command", ["books", "status", "verify", "dlq list", "log cat", "doctor", "run"])
def test_a_missing_configuration_ends_with_3(run: Run, command: str):
    ran = run(*command.split())

    assert 3 == ran.code
    assert "write one with `tailrace init`" in ran.err


@pytest.mark.parametrize("command", ["books", "status", "verify", "dlq list", "log cat", "topics plan"])
def test_a_loop_that_is_not_configured_ends_with_2(run: Run, tmp_path: Path, command: str):
    write_config(tmp_path)

    ran = run(*command.split(), "--loop", "fishing")

    assert 2 == ran.code
    assert "--loop: found 'fishing'; the configuration has phishing" in ran.err


def forget_beginning(folder: Path, topic: str) -> None:
    """Delete the first record of each partition, as retention does."""
    with sqlite3.connect(folder / "data" / "log.sqlite3") as file:
        topic_id, partitions = file.execute("SELECT id, partitions FROM topics WHERE name = ?", (topic,)).fetchone()
        for number in range(partitions):
            table = f"r{topic_id}_{number}"
            file.execute(f"DELETE FROM {table} WHERE offset = (SELECT min(offset) FROM {table})")


@pytest.mark.parametrize("topic", ["phishing.scored", "phishing-verdicts", "phishing-pages"])
def test_where_a_topic_lost_its_beginning_only_what_does_not_depend_on_it_is_counted(
    run: Run, ran_loop: RanLoop, topic: str
):
    forget_beginning(ran_loop.folder, topic)

    ran = run("books", "-o", "json")

    told = json.loads(ran.out)
    assert (0, True) == (ran.code, told["balanced"])
    assert (topic == "phishing-pages") == (told["counted_after_ms"] is None)
    assert any(each["start"] > 0 for each in told["range"] if each["topic"] == topic)


@pytest.mark.parametrize("topic", ["phishing-pages", "phishing-verdicts"])
def test_records_whose_dead_letters_may_be_gone_are_not_counted(run: Run, ran_loop: RanLoop, topic: str):
    with sqlite3.connect(ran_loop.folder / "data" / "log.sqlite3") as file:
        (topic_id,) = file.execute("SELECT id FROM topics WHERE name = ?", (f"{topic}.dlq",)).fetchone()
        for table in (f"r{topic_id}_0", f"r{topic_id}_1"):
            copy = f"SELECT offset + 9, timestamp, key, headers, value FROM {table}"
            file.execute(f"INSERT INTO {table} (offset, timestamp, key, headers, value) {copy}")
            file.execute(f"DELETE FROM {table} WHERE offset < 9")

    ran = run("books", "-o", "json")

    told = json.loads(ran.out)
    assert (0, True) == (ran.code, told["balanced"])
    line, total = ("events", 60) if topic == "phishing-pages" else ("labels", 41)
    assert told["balances"][line]["total"] < total


def test_what_stands_in_a_dead_letter_topic_and_is_no_letter_is_told(run: Run, ran_loop: RanLoop):
    run("events", "send", "--file", ran_loop.folder / "tailrace.toml", "--topic", "phishing-pages.dlq")

    told = json.loads(run("books", "-o", "json").out)

    assert told["balanced"] is True
    assert told["notes"][0].startswith("phishing-pages.dlq: ")
    assert "no dead letters of Tailrace" in told["notes"][0]


def test_a_training_log_without_its_beginning_is_refused(run: Run, ran_loop: RanLoop):
    forget_beginning(ran_loop.folder, "phishing.training")

    ran = run("books")

    assert (5, "") == (ran.code, ran.out)
    assert "phishing.training begins at offset 1; the books need it from 0" in ran.err
