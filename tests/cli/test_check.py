"""`tailrace check`: every problem with exit code 3, or what will run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.settings.toml_builders import make_loop, make_toml

MIXED = """
country = { type = "category", values = ["de", "fr"], other = true, missing = "absent" }
age = { type = "number", min = 0, max = 150, missing = 30 }
note = { type = "text", max_length = 20 }
"""


def write(text: str, folder: Path) -> Path:
    """Write a configuration."""
    file = folder / "tailrace.toml"
    file.write_text(text)
    return file


def test_a_sound_configuration_is_told_back(run: Run, tmp_path: Path):
    write(make_toml(make_loop(features=MIXED), log="kafka://a:9092"), tmp_path)

    ran = run("check")

    assert (0, "") == (ran.code, ran.err)
    told = " ".join(ran.out.split())
    for words in (
        "tailrace.toml: no problem found",
        "log kafka://a:9092",
        'task binary: positive is "phishing", negative is every other value of that type',
        "events pages: id in page_id, time in seen_at",
        "labels verdicts: id in page_id, target in verdict, time of the Kafka record",
        "horizon 1h, then an event without a label is dropped",
        "phishing.predictions phishing.scored phishing.relabelled phishing.training",
        "pages.dlq verdicts.dlq",
        "groups tailrace.phishing.score tailrace.phishing.join tailrace.phishing.learn",
        "model preprocessing.StandardScaler() | linear_model.LogisticRegression()",
        "3 features",
        "country: category, de | fr | other, may be absent",
        "age: number, from 0, up to 150, 30 when missing",
        "note: text, at most 20 characters",
        "what holds",
    ):
        assert words in told


def test_the_same_is_told_as_json(run: Run, tmp_path: Path):
    write(make_toml(), tmp_path)

    told = json.loads(run("check", "-o", "json").out)

    assert told["ok"] is True
    assert f"embedded:{tmp_path}/data" == told["log"]
    loop = told["loops"]["phishing"]
    assert 3_600_000 == loop["horizon_ms"]
    roles = ("score", "join", "learn", "follow")
    assert [f"tailrace.phishing.{role}" for role in roles] == loop["groups"]
    assert "preprocessing.StandardScaler() | linear_model.LogisticRegression()" == loop["model"]


def test_its_help_says_that_words_go_into_a_pipe_too(run: Run, tmp_path: Path):
    """Unlike what all other commands do: guides look for its words with grep."""
    write(make_toml(), tmp_path)

    help_text = " ".join(run("check", "--help").out.replace("│", " ").split())
    piped, table = run("check").out, run("check", "-o", "table").out

    assert "json: one JSON object; table, or without it: words, in a pipe too." in help_text
    assert "JSON lines in a pipe" not in help_text
    assert [True, True] == ["no problem found" in each for each in (piped, table)]


def test_all_problems_are_errors_and_end_with_3(run: Run, tmp_path: Path):
    file = write(make_toml(make_loop(horizon="soon"), top="http = 1"), tmp_path)

    ran = run("check", "--config", file)

    assert (3, "") == (ran.code, ran.out)
    http, horizon = ran.err.splitlines()
    assert http.startswith("error: http: found 1; allowed: ")
    assert horizon.startswith('error: loops.phishing.horizon: found "soon"; allowed: ')


def test_problems_as_json(run: Run, tmp_path: Path):
    write(make_toml(top="http = 1"), tmp_path)

    ran = run("check", "-o", "json")

    assert 3 == ran.code
    told = json.loads(ran.out)
    assert told["ok"] is False
    assert told["problems"][0].startswith("http: found 1")


def test_a_misspelled_model_is_pointed_at(run: Run, tmp_path: Path):
    write(make_toml(make_loop(champion='model = "StandardScaler() | LogisticRegresion()"')), tmp_path)

    ran = run("check")

    assert 3 == ran.code
    first, expression, caret = ran.err.splitlines()
    assert first.startswith("error: loops.phishing.champion.model: ")
    assert "did you mean LogisticRegression" in first
    assert expression.index("LogisticRegresion") == caret.index("^")


def test_a_model_that_does_not_fit_the_task(run: Run, tmp_path: Path):
    labels = '{ topic = "v", id = "i", target = "t" }'
    write(make_toml(make_loop(task="regression", labels=labels)), tmp_path)

    ran = run("check")

    assert 3 == ran.code
    assert "LinearRegression" in ran.err


def test_a_model_that_code_would_be_run_for_is_refused(run: Run, tmp_path: Path):
    write(make_toml(make_loop(champion="""model = "__import__('os').system('touch owned')\"""")), tmp_path)

    ran = run("check")

    assert 3 == ran.code
    assert not (tmp_path / "owned").exists()


def test_a_function_beside_the_configuration_builds_the_model(run: Run, tmp_path: Path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my_models_of_check.py").write_text(
        "from river import linear_model\n\ndef build():\n    return linear_model.LogisticRegression()\n"
    )
    file = write(make_toml(make_loop(champion='model = "my_models_of_check:build"')), folder)

    ran = run("check", "-c", file)

    assert (0, "") == (ran.code, ran.err)
    assert "my_models_of_check:build" in ran.out


@pytest.mark.parametrize("model", ["no_such_module:build", "json:no_such_function", "json:decoder"])
def test_a_function_that_is_none(run: Run, tmp_path: Path, model: str):
    write(make_toml(make_loop(champion=f'model = "{model}"')), tmp_path)

    ran = run("check")

    assert 3 == ran.code
    assert f"loops.phishing.champion.model: {model} could not build a model" in ran.err


def test_an_unknown_variable_is_a_problem(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(make_toml(), tmp_path)
    monkeypatch.setenv("TAILRACE_HORIZON", "1h")

    ran = run("check")

    assert 3 == ran.code
    assert "error: TAILRACE_HORIZON: found a variable that is no setting" in ran.err


def test_no_file_says_how_to_get_one(run: Run):
    ran = run("check")

    assert 3 == ran.code
    assert "write one with `tailrace init`" in ran.err


@pytest.mark.parametrize(
    ("toml", "note"),
    [
        (
            make_toml(top='http = "0.0.0.0:80"', below="[api]\nenabled = false"),
            "http listens on 0.0.0.0:80, beyond this machine",
        ),
        (make_toml(make_loop(features='verdict = "number"')), "the feature verdict is named like the target"),
        (make_toml(), "events have a time field and labels none"),
        (
            make_toml(make_loop(champion='model = "LogisticRegression()"\nexperimental = true')),
            "the model is experimental",
        ),
        (
            make_toml(below='[kafka]\nsecurity_protocol = "SSL"\nca_file = "none.pem"'),
            "none.pem: No such file or directory; a PEM file of certificates can be used",
        ),
        (
            make_toml(below='[api]\ntls_cert_file = "none.crt"\ntls_key_file = "none.key"'),
            "none.crt, which is no file here",
        ),
        (
            make_toml(top='http = "0.0.0.0:80"', below='[api]\ntls_cert_file = "none.crt"\ntls_key_file = "none.key"'),
            "tokens.json here; `tailrace run` needs one: `tailrace tokens create`",
        ),
    ],
)
def test_what_is_allowed_but_doubtful_is_noted(run: Run, tmp_path: Path, toml: str, note: str):
    write(toml, tmp_path)

    ran = run("check")

    assert 0 == ran.code
    assert any(line.startswith("note: ") and note in line for line in ran.out.splitlines())


def test_a_token_for_who_asks_from_beyond_is_not_missed_where_there_is_one(run: Run, tmp_path: Path):
    write(make_toml(top='http = "0.0.0.0:80"', below='[api]\ntls_cert_file = "c"\ntls_key_file = "k"'), tmp_path)
    assert 0 == run("tokens", "create", "--scope", "read").code

    assert "no token" not in run("check").out


def test_a_secret_is_not_told_back(run: Run, tmp_path: Path):
    kafka = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nusername = "u"\npassword = "hunter2"'
    write(make_toml(log="kafka://a:1", below=kafka), tmp_path)

    for ran in (run("check"), run("check", "-o", "json")):
        assert 0 == ran.code
        assert "hunter2" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("task", "labels", "model", "words"),
    [
        ("regression", '{ topic = "v", id = "i", target = "t" }', "LinearRegression()", "targets are numbers"),
        (
            "multiclass",
            '{ topic = "v", id = "i", target = "t", classes = [1, 2, 3] }',
            "GaussianNB()",
            "multiclass: 1, 2, 3",
        ),
        ("binary", '{ topic = "v", id = "i", target = "t" }', "LogisticRegression()", "positive is true"),
        (
            "anomaly",
            '{ topic = "v", id = "i", target = "t", positive = "odd" }',
            "HalfSpaceTrees(seed=1)",
            'anomaly: scores, judged by labels; positive is "odd"',
        ),
    ],
)
def test_the_target_is_told_for_every_task(run: Run, tmp_path: Path, task: str, labels: str, model: str, words: str):
    write(make_toml(make_loop(task=task, labels=labels, champion=f'model = "{model}"')), tmp_path)

    ran = run("check")

    assert (0, "") == (ran.code, ran.err)
    assert words in ran.out


def test_an_implicit_target_is_told(run: Run, tmp_path: Path):
    write(make_toml(make_loop(more='missing = "fine"')), tmp_path)

    assert 'an event without a label is learned as "fine"' in run("check").out


SCHEMA = {
    "type": "record",
    "name": "Page",
    "fields": [
        {"name": "page_id", "type": "string"},
        {"name": "seen_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "aeg", "type": "double"},
    ],
}
AVRO = '{ topic = "pages", id = "page_id", time = "seen_at", format = "avro", schema_file = "pages.avsc" }'


def write_schema(folder: Path, **changes: object) -> None:
    """Write pages.avsc with some types changed."""
    fields = [each | {"type": changes.get(each["name"], each["type"])} for each in SCHEMA["fields"]]  # type: ignore[index]
    (folder / "pages.avsc").write_text(json.dumps(SCHEMA | {"fields": fields}))


def test_a_pinned_schema_is_compared_with_the_contract(run: Run, tmp_path: Path):
    write(make_toml(make_loop(events=AVRO)), tmp_path)
    write_schema(tmp_path)

    ran = run("check")

    problem = "pages.avsc has no field for the feature 'age'; did you mean 'aeg'?"
    assert (3, True) == (ran.code, f"loops.phishing.events.schema_file: {problem}" in ran.err)


def test_a_pinned_schema_that_has_every_field_is_told(run: Run, tmp_path: Path):
    write(make_toml(make_loop(events=AVRO, features='aeg = "number"')), tmp_path)
    write_schema(tmp_path)

    assert "time in seen_at (numbers in ms), Avro of pages.avsc" in run("check").out


def test_a_schema_that_is_not_safe_to_read_is_refused_before_anything_is_read(run: Run, tmp_path: Path):
    """Without the refusal ten bytes of such a topic cost gigabytes."""
    write(make_toml(make_loop(events=AVRO, features='aeg = "number"')), tmp_path)
    write_schema(tmp_path, seen_at={"type": "array", "items": "null"})

    ran = run("check", "-o", "json")

    (problem,) = json.loads(ran.out)["problems"]
    assert "loops.phishing.events.schema_file: pages.avsc: seen_at is an array whose items take no bytes" in problem


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (AVRO.replace(', schema_file = "pages.avsc"', ""), "events.schema_file: found nothing"),
        (AVRO.replace('format = "avro", ', ""), "events.schema_file: found a schema, but format is json"),
        (AVRO.replace('"avro"', '"protobuf"'), "events.format"),
    ],
)
def test_a_schema_goes_with_avro_and_avro_with_a_schema(run: Run, tmp_path: Path, events: str, problem: str):
    write(make_toml(make_loop(events=events)), tmp_path)

    assert problem in run("check").err


def test_what_sends_json_says_so_where_a_topic_is_avro(run: Run, tmp_path: Path):
    write(make_toml(make_loop(events=AVRO)), tmp_path)

    ran = run("events", "send", "--file", "-")

    assert (2, True) == (ran.code, "`events send` sends JSON" in ran.err)


ONE_HOT = 'model = "(SelectType(str) | OneHotEncoder()) + SelectType(float) | LogisticRegression()"'
TEXT = 'age = "number"\nnote = "text"'


def test_text_into_a_model_that_keeps_every_value_is_refused(run: Run, tmp_path: Path):
    """Without the refusal every stranger's text is a weight for ever."""
    write(make_toml(make_loop(features=TEXT, champion=ONE_HOT)), tmp_path)

    ran = run("check")

    assert 3 == ran.code
    assert "loops.phishing.features.note: found text, of which the model keeps every value for ever" in ran.err


def test_a_store_whose_access_cannot_be_right_is_told_at_once(run: Run, tmp_path: Path, monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tailrace.toml").write_text(make_toml(below='[snapshots]\nstore = "az://models"'))

    ran = run("check")

    assert 3 == ran.code
    assert "az://models cannot be used: no account" in ran.err


@pytest.mark.parametrize(
    ("features", "champion"),
    [
        ('age = "number"\nnote = { type = "category", max = 20 }', ONE_HOT),
        (TEXT, ONE_HOT.replace("OneHotEncoder()", "FeatureHasher(seed=1)")),
    ],
)
def test_an_open_category_and_hashed_text_are_bounded(run: Run, tmp_path: Path, features: str, champion: str):
    write(make_toml(make_loop(features=features, champion=champion)), tmp_path)

    assert 0 == run("check").code


def test_a_model_that_is_slow_to_encode_is_flagged_with_what_to_do(run: Run, tmp_path: Path, monkeypatch):
    """Fails without `cost_note`. The bound is lowered, so that the test needs no slow model."""
    monkeypatch.setattr("tailrace.inspection.encode_cost.SLOW_ENCODE_S", 0.0)
    write(make_toml(), tmp_path)

    ran = run("check")

    assert "bytes, encoded in" in ran.out
    assert "note: loops.phishing: a snapshot of the model takes" in ran.out
    assert "fewer or smaller trees, lengthen snapshots.every" in ran.out
    assert "--role follow" in ran.out


def test_what_a_model_costs_is_part_of_the_json(run: Run, tmp_path: Path):
    write(make_toml(), tmp_path)

    told = json.loads(run("check", "-o", "json").out)

    cost = told["loops"]["phishing"]["model_cost"]
    assert 0 < cost["examples"] <= 2_000
    assert 0 < cost["size_bytes"] < 2_000
    assert 0 < cost["encode_s"] < 1
    assert cost["problem"] is None


def test_a_model_that_raises_at_made_up_examples_is_told(run: Run, tmp_path: Path):
    write(make_toml(make_loop(features='country = { type = "category", values = ["de", "fr"] }')), tmp_path)

    ran = run("check")

    assert 0 == ran.code
    assert "note: loops.phishing: the model could not be tried: it raised TypeError at made-up example" in ran.out


@pytest.mark.parametrize(
    ("endpoint", "is_noted"),
    [("http://minio:9000", True), ("http://127.0.0.2:9000", False), ("http://[::1]:9000", False)],
)
def test_a_store_over_plain_http_beyond_this_machine_is_noted(run: Run, tmp_path: Path, endpoint: str, is_noted: bool):
    below = f'[snapshots]\nstore = "s3://models"\nendpoint = "{endpoint}"\nkey_id = "me"\nsecret = "x"'
    (tmp_path / "tailrace.toml").write_text(make_toml(below=below))

    ran = run("check")

    assert (0, is_noted) == (ran.code, "plain HTTP beyond this machine" in ran.out)
