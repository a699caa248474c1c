"""`tailrace dlq`, `log cat`, `events` and `labels`: records looked at, and sent by hand."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.cli.command_builders import Ran, Run
from tests.cli.loop_builders import PARTITIONS, RanLoop

from tailrace.cli import files
from tailrace.wire.partitioner import partitions_of


def lines(ran: Ran) -> list[dict]:
    assert (0, "") == (ran.code, ran.err)
    return [json.loads(line) for line in ran.out.splitlines()]


# ── dead letters ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dead_letters_are_listed_with_code_and_source_and_without_values(run: Run, ran_loop: RanLoop):
    ran = run("dlq", "list", "-o", "json")

    letters = {each["code"]: each for each in lines(ran)}
    assert {"feature_type", "conflicting", "not_an_object"} == set(letters)
    assert letters["feature_type"]["source"].startswith("phishing-pages/")
    assert "page-7" not in ran.out
    assert '"old"' not in ran.out


def test_a_table_of_dead_letters_tells_each_reason_below(run: Run, ran_loop: RanLoop):
    ran = run("dlq", "list", "--code", "conflicting", "-o", "table")

    head, letter, why = ran.out.splitlines()
    assert ["letter", "time", "code", "source", "state"] == head.split()
    assert "conflicting" == letter.split()[2]
    assert "    another value was given for this event before; the first one counts" == why.rstrip()


def test_letters_are_chosen_by_topic_code_and_number(run: Run, ran_loop: RanLoop):
    of_labels = lines(run("dlq", "list", "--topic", "phishing-verdicts", "-o", "json"))
    of_dlq = lines(run("dlq", "list", "--topic", "phishing-verdicts.dlq", "-o", "json"))
    of_code = lines(run("dlq", "list", "--code", "conflicting", "-o", "json"))
    newest = lines(run("dlq", "list", "--limit", "1", "-o", "json"))

    assert ["not_an_object", "conflicting"] == sorted((each["code"] for each in of_labels), reverse=True)
    assert of_labels == of_dlq
    assert ["conflicting"] == [each["code"] for each in of_code]
    assert 1 == len(newest)


def test_one_letter_is_shown_as_it_came(run: Run, ran_loop: RanLoop):
    (letter,) = lines(run("dlq", "list", "--code", "feature_type", "-o", "json"))

    (shown,) = lines(run("dlq", "show", letter["letter"], "-o", "json"))

    assert "page-7" == shown["key"]
    assert "old" == json.loads(shown["value"])["age"]
    assert "feature_type" == shown["headers"]["tailrace.dlq.code"]
    assert "tailrace.phishing" == shown["connector"]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("dlq", "list", "--topic", "pages"), 2, "--topic: found 'pages'; the configuration has phishing-pages.dlq"),
        (("dlq", "list", "--code", "odd"), 2, "odd"),
        (("dlq", "list", "--limit", "0"), 2, "--limit: found 0"),
        (("dlq", "show", "17"), 2, "name one letter as TOPIC/PARTITION/OFFSET"),
        (("dlq", "show", "a/b/c"), 2, "name one letter as TOPIC/PARTITION/OFFSET"),
        (("dlq", "show", "phishing-pages.dlq/0/99"), 5, "holds offsets 0 to "),
        (("dlq", "show", "phishing-pages.dlq/9/0"), 5, "there is no partition 9"),
        (("dlq", "show", "none.dlq/0/0"), 2, "LETTER: found 'none.dlq'; the configuration has phishing-pages.dlq"),
        (("log", "cat", "--from", "soon"), 2, "--from: found 'soon'; allowed: OFFSET or OFFSET:ROW"),
        (("log", "cat", "--partition", "7"), 5, "there is no partition 7"),
        (("log", "cat", "--topic", "snapshots"), 2, "snapshots"),
        (("log", "cat", "--limit", "-1"), 2, "--limit: found -1"),
        (("events", "tail", "--limit", "0"), 2, "--limit: found 0"),
        (("events", "send"), 2, "--file"),
        (("events", "send", "--file", "none.jsonl"), 2, "none.jsonl: found no file to read"),
        (("events", "send", "--file", "tailrace.toml", "--topic", "none"), 5, "topic none does not exist"),
        (("labels", "send", "--id", "a"), 2, "give either --id and --value"),
        (("labels", "send", "--id", "a", "--value", "1", "--file", "-"), 2, "give either --id and --value"),
        (("labels", "send"), 2, "give either --id and --value"),
        (("labels", "send", "--withdraw"), 2, "give either --id and --value"),
        (("labels", "send", "--id", "a", "--value", "1", "--withdraw"), 2, "give either --id and --value"),
        (("labels", "send", "--id", "a", "--withdraw"), 2, "labels.revision and corrections_within"),
        (("labels", "send", "--id", "a", "--value", "fine", "--revision", "2"), 2, "name it with labels.revision"),
        (("labels", "send", "--id", "a", "--value", "fine", "--source", "x"), 2, "name it with labels.source"),
    ],
)
def test_what_cannot_be_done_is_one_error_with_its_code(run: Run, ran_loop: RanLoop, words, code: int, why: str):
    ran = run(*words)

    assert (code, "") == (ran.code, ran.out)
    assert why in ran.err
    assert 1 == len(ran.err.splitlines())


# ── the log ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_training_log_is_printed_as_rows(run: Run, ran_loop: RanLoop):
    rows = lines(run("log", "cat", "-o", "json"))

    joined = [row for row in rows if row["kind"] == "joined"]
    assert {f"page-{index}" for index in range(40) if index != 7} == {row["id"] for row in joined}
    assert all(row["counts"] is True for row in joined)
    assert {"admit", "claim", "joined", "positions"} >= {row["kind"] for row in rows}
    assert "learner" in {row["partition"] for row in rows if row["kind"] == "claim"}


def test_values_are_printed_only_where_they_are_asked_for(run: Run, ran_loop: RanLoop):
    without = lines(run("log", "cat", "-o", "json"))
    with_values = lines(run("log", "cat", "--values", "-o", "json"))

    assert all(row.keys().isdisjoint({"x", "y", "y_pred", "proba"}) for row in without)
    (row,) = [each for each in with_values if each.get("id") == "page-3"]
    assert ({"age": 3.0}, True) == (row["x"], row["y"])


def test_rows_are_chosen_by_position(run: Run, ran_loop: RanLoop):
    rows = lines(run("log", "cat", "-o", "json"))
    first = next(index for index, row in enumerate(rows) if row["kind"] == "joined")

    chosen = lines(
        run("log", "cat", "--from", rows[first]["position"], "--to", rows[first + 3]["position"], "-o", "json")
    )
    limited = lines(run("log", "cat", "--limit", "2", "-o", "json"))

    assert [row["position"] for row in rows[first : first + 3]] == [row["position"] for row in chosen]
    assert rows[:2] == limited


def test_whether_a_record_counts_is_not_known_without_its_claim(run: Run, ran_loop: RanLoop):
    rows = lines(run("log", "cat", "-o", "json"))
    first = next(row for row in rows if row["kind"] == "joined")

    (row,) = lines(run("log", "cat", "--from", first["position"], "--limit", "1", "-o", "json"))

    assert first | {"counts": None} == row


@pytest.mark.parametrize(("topic", "count"), [("scored", 59), ("relabelled", None)])
def test_other_topics_are_printed_as_rows(run: Run, ran_loop: RanLoop, topic: str, count: int | None):
    rows = lines(run("log", "cat", "--topic", topic, "--values", "-o", "json"))
    of_one = lines(run("log", "cat", "--topic", topic, "--partition", "1", "-o", "json"))

    assert count in {None, len(rows)}
    assert len(of_one) == sum(row["partition"] == 1 for row in rows)


def test_the_log_as_a_table(run: Run, ran_loop: RanLoop):
    ran = run("log", "cat", "--limit", "9", "--values", "-o", "table")

    assert (0, 10) == (ran.code, len(ran.out.splitlines()))
    assert ran.out.startswith("position")


# ── events and labels ───────────────────────────────────────────────────────────────────────────────────────────────


def test_predictions_are_shown_as_they_were_served(run: Run, ran_loop: RanLoop):
    shown = lines(run("events", "tail", "--from", "earliest", "--limit", "59", "-o", "json"))

    assert {f"page-{index}" for index in range(60) if index != 7} == {each["event_id"] for each in shown}
    assert {"served"} == {each["outcome"] for each in shown}


def test_people_read_predictions_in_the_words_of_their_labels(run: Run, ran_loop: RanLoop):
    ran = run("events", "tail", "--from", "earliest", "--limit", "59", "-o", "table")

    said = {re.split(r"\s{2,}", line)[3] for line in ran.out.splitlines()[1:]}
    assert {"phishing", "not phishing"} >= said != set()


def test_events_are_shown_with_their_places(run: Run, ran_loop: RanLoop):
    ran = run("events", "tail", "--topic", "events", "--from", "earliest", "--limit", "60", "-o", "table")

    head, *rows = ran.out.splitlines()
    assert ["partition", "offset", "time", "key", "value"] == head.split()
    assert 60 == len(rows)
    assert "watching phishing-pages from its beginning on" in ran.err


def test_events_are_sent_byte_for_byte_and_keyed_by_id(run: Run, ran_loop: RanLoop):
    values = ['{"page_id": "new", "age":  1}', "no json at all", '{"page_id": 17}', ""]
    (ran_loop.folder / "events.jsonl").write_text("\n".join(values))

    (sent,) = lines(run("events", "send", "--file", "events.jsonl", "-o", "json"))
    shown = lines(run("events", "tail", "--topic", "events", "--from", "earliest", "--limit", "63", "-o", "json"))

    assert ("phishing-pages", 3) == (sent["topic"], sent["sent"])
    assert {"new", "17", None} <= {each["key"] for each in shown}
    assert "no json at all" in [each["value"] for each in shown if each["key"] is None]


def test_events_come_from_stdin_too(run: Run, ran_loop: RanLoop, monkeypatch: pytest.MonkeyPatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(b'{"page_id": "new"}\n'))
    monkeypatch.setattr(files.sys, "stdin", stdin)

    (sent,) = lines(run("events", "send", "--file", "-", "-o", "json"))

    assert 1 == sent["sent"]


def test_a_line_that_no_record_can_be_is_refused(run: Run, ran_loop: RanLoop):
    (ran_loop.folder / "long.jsonl").write_bytes(b"x" * (files.MOST_LINE_BYTES + 1))

    ran = run("events", "send", "--file", "long.jsonl")

    assert 2 == ran.code
    assert "long.jsonl:1: found a line longer than" in ran.err


def test_a_label_lands_on_the_partition_of_its_event_id(run: Run, ran_loop: RanLoop):
    (sent,) = lines(run("labels", "send", "--id", "page-50", "--value", "phishing", "-o", "json"))

    home = partitions_of([b"page-50"], PARTITIONS)[0]
    assert ("phishing-verdicts", 1, str(home)) == (sent["topic"], sent["sent"], sent["first"].split("/")[0])


@pytest.mark.parametrize(
    ("labels", "task", "value", "code", "err"),
    [
        ('{ topic = "t", id = "i", target = "y" }', "binary", "true", 0, ""),
        (
            '{ topic = "t", id = "i", target = "y" }',
            "binary",
            "maybe",
            2,
            "--value: found 'maybe'; allowed: true or false",
        ),
        (
            '{ topic = "t", id = "i", target = "y", positive = 1 }',
            "binary",
            "bad",
            2,
            "--value: found 'bad'; allowed: 1 or any other of its type",
        ),
        (
            '{ topic = "t", id = "i", target = "y", positive = 4, negative = 0 }',
            "binary",
            "1",
            2,
            "--value: found '1'; allowed: 4 or 0",
        ),
        ('{ topic = "t", id = "i", target = "y" }', "regression", "much", 2, "allowed: a finite number"),
        ('{ topic = "t", id = "i", target = "y" }', "regression", "-2.5", 0, ""),
        ('{ topic = "t", id = "a.i", target = "a.y", time = "at" }', "regression", "1", 0, ""),
        ('{ topic = "t", id = "i", target = "y", time = "at", time_unit = "s" }', "regression", "1", 0, ""),
        ('{ topic = "t", id = "i", target = "y", classes = ["a", "b"] }', "multiclass", "b", 0, ""),
        (
            '{ topic = "t", id = "i", target = "y", classes = ["a", "b"] }',
            "multiclass",
            "c",
            2,
            "--value: found 'c'; allowed: a, b",
        ),
    ],
)
def test_an_outcome_is_what_the_loop_takes(run: Run, tmp_path: Path, *, labels, task, value, code: int, err: str):
    from tests.settings.toml_builders import make_loop, make_toml

    from tailrace.domain.records import Label
    from tailrace.inspection.sending import nested
    from tailrace.opening import label_decoder
    from tailrace.settings import load

    model = 'model = "StandardScaler() | LinearRegression()"' if task == "regression" else 'model = "GaussianNB()"'
    loop = make_loop(task=task, labels=labels, champion=model)
    (tmp_path / "tailrace.toml").write_text(make_toml(loop))
    run("topics", "apply", "--yes")

    ran = run("labels", "send", "--id", "a", "--value", value)

    assert code == ran.code
    assert err in ran.err
    if not code:
        from tailrace.cli.labels import label_fields, target_of

        settings = load(tmp_path / "tailrace.toml", environ={}).loops["phishing"]
        made = nested(label_fields(settings, "a", target_of(value, settings.target), 1_700_000_000_123))
        record = SimpleNamespace(partition=0, offset=0, timestamp=1_700_000_000_123, value=made)
        read = label_decoder(settings).decode(record)
        assert isinstance(read, Label)
        assert ("a", 1_700_000_000_123) == (read.id, read.time_ms)


def test_a_target_is_withdrawn_by_hand(run: Run, tmp_path: Path):
    from tests.settings.toml_builders import LABELS, make_loop, make_toml

    from tailrace.cli.labels import label_fields, words_of
    from tailrace.domain.records import Label
    from tailrace.inspection.sending import nested
    from tailrace.opening import label_decoder
    from tailrace.settings import load

    labels = LABELS.replace("}", ', revision = "meta.version", source = "meta.by" }')
    (tmp_path / "tailrace.toml").write_text(make_toml(make_loop(labels=labels, champion='model = "GaussianNB()"')))
    run("topics", "apply", "--yes", "--with-inputs")

    ran = run("labels", "send", "--id", "a", "--withdraw", "--revision", "3", "--source", "desk", "-o", "json")

    assert (0, 1) == (ran.code, lines(ran)[0]["sent"])
    settings = load(tmp_path / "tailrace.toml", environ={}).loops["phishing"]
    made = nested(label_fields(settings, "a", None, 5) | words_of(settings.labels, 3, "desk"))
    read = label_decoder(settings).decode(SimpleNamespace(partition=0, offset=0, timestamp=5, value=made))
    assert isinstance(read, Label)
    assert (None, 3, "desk") == (read.y, read.revision, read.source)


# ── dead letters sent back and given up ─────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_says_what_would_go_back_and_sends_nothing(run: Run, ran_loop: RanLoop):
    ran = run("dlq", "replay", "--dry-run", "-o", "json")
    again = run("dlq", "replay", "--dry-run", "--code", "conflicting", "-o", "table")

    rows = [json.loads(line) for line in ran.out.splitlines()]
    assert {("feature_type", True), ("conflicting", True), ("not_an_object", True)} == {
        (row["code"], row["goes"]) for row in rows
    }
    assert "nothing was sent" in ran.err
    assert ["letter", "time", "code", "source", "attempt", "goes"] == again.out.splitlines()[0].split()
    assert "    goes back" == again.out.splitlines()[2].rstrip()


def test_letters_are_sent_back_once(run: Run, ran_loop: RanLoop):
    first = run("dlq", "replay", "--code", "feature_type", "-o", "json")
    second = run("dlq", "replay", "--code", "feature_type", "-o", "json")

    assert (0, "sent back 1\n", 1) == (first.code, first.err, len(first.out.splitlines()))
    assert (0, "sent back 0\n", "") == (second.code, second.err, second.out)
    states = {row["code"]: row["state"] for row in lines(run("dlq", "list", "-o", "json"))}
    assert {"feature_type": "done", "conflicting": "waits", "not_an_object": "waits"} == states


def test_letters_are_given_up_only_with_yes(run: Run, ran_loop: RanLoop):
    asked = run("dlq", "discard", "-o", "json")
    done = run("dlq", "discard", "--yes", "-o", "json")
    after = run("dlq", "replay", "-o", "json")

    assert "nothing was given up; do it with --yes\n" == asked.err
    assert ("gave up 3\n", 3) == (done.err, len(done.out.splitlines()))
    assert ("sent back 0\n", "") == (after.err, after.out)


@pytest.mark.parametrize("since", ["1h", "2020-01-01T00:00:00Z"])
def test_letters_since_a_time_are_meant(run: Run, ran_loop: RanLoop, since: str):
    assert 3 == len(run("dlq", "replay", "--dry-run", "--since", since, "-o", "json").out.splitlines())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--since", "soon"), "--since: found 'soon'; allowed: a duration such as 2h, or a time in RFC 3339"),
        (("--rate", "0"), "--rate: found 0.0; allowed: a number above 0"),
        (("--attempts", "0"), "--attempts: found 0"),
        (("--limit", "0"), "--limit: found 0"),
        (("--topic", "pages"), "--topic: found 'pages'"),
    ],
)
def test_a_replay_that_cannot_be_meant_is_one_error(run: Run, ran_loop: RanLoop, words, why: str):
    ran = run("dlq", "replay", *words)

    assert (2, "") == (ran.code, ran.out)
    assert why in ran.err
