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
    assert ["tailrace.phishing.score", "tailrace.phishing.join", "tailrace.phishing.learn"] == loop["groups"]
    assert "preprocessing.StandardScaler() | linear_model.LogisticRegression()" == loop["model"]


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
        (make_toml(top='http = "0.0.0.0:80"'), "http listens on 0.0.0.0:80, beyond this machine"),
        (make_toml(make_loop(features='verdict = "number"')), "the feature verdict is named like the target"),
        (make_toml(), "events have a time field and labels none"),
        (
            make_toml(make_loop(champion='model = "LogisticRegression()"\nexperimental = true')),
            "the model is experimental",
        ),
        (
            make_toml(below='[kafka]\nsecurity_protocol = "SSL"\nca_file = "none.pem"'),
            "none.pem, which is no file here",
        ),
    ],
)
def test_what_is_allowed_but_doubtful_is_noted(run: Run, tmp_path: Path, toml: str, note: str):
    write(toml, tmp_path)

    ran = run("check")

    assert 0 == ran.code
    assert any(line.startswith("note: ") and note in line for line in ran.out.splitlines())


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


def test_a_store_whose_access_cannot_be_right_is_told_at_once(run: Run, tmp_path: Path, monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tailrace.toml").write_text(make_toml(below='[snapshots]\nstore = "az://models"'))

    ran = run("check")

    assert 3 == ran.code
    assert "az://models cannot be used: no account" in ran.err


@pytest.mark.parametrize(("endpoint", "is_noted"), [("http://minio:9000", True), ("http://127.0.0.1:9000", False)])
def test_a_store_over_plain_http_beyond_this_machine_is_noted(run: Run, tmp_path: Path, endpoint: str, is_noted: bool):
    below = f'[snapshots]\nstore = "s3://models"\nendpoint = "{endpoint}"\nkey_id = "me"\nsecret = "x"'
    (tmp_path / "tailrace.toml").write_text(make_toml(below=below))

    ran = run("check")

    assert (0, is_noted) == (ran.code, "plain HTTP beyond this machine" in ran.out)
