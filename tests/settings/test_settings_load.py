"""Where the configuration comes from: file, environment, files that variables name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.settings.toml_builders import make_loop, make_toml, problems_of, read

from tailrace.domain.errors import SettingsError
from tailrace.settings import LoopSettings, Settings, load

SASL = '[kafka]\nsecurity_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nusername = "u"\n'


def test_the_argument_wins_over_the_variable_and_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("argument", "variable", "tailrace"):
        (tmp_path / f"{name}.toml").write_text(make_toml(log=f"embedded:{name}"))
    monkeypatch.chdir(tmp_path)
    variable = {"TAILRACE_CONFIG": str(tmp_path / "variable.toml")}

    chosen = [load(tmp_path / "argument.toml", environ=variable), load(environ=variable), load(environ={})]

    assert ["argument", "variable", "tailrace"] == [Path(settings.log).name for settings in chosen]


def test_the_process_environment_is_read_unless_another_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "tailrace.toml"
    file.write_text(make_toml())
    monkeypatch.setenv("TAILRACE_HTTP", "127.0.0.1:1")

    assert "127.0.0.1:1" == load(file).http
    assert "127.0.0.1:8321" == load(file, environ={}).http


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"found no file to read .*; write one with `tailrace init`, or name yours"):
        load(tmp_path / "none.toml", environ={})


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(SettingsError, match="found no file to read"):
        load(tmp_path, environ={})


def test_a_name_that_no_file_can_have():
    with pytest.raises(SettingsError, match="found a name that no file can have"):
        load("a\0b", environ={})


def test_bytes_that_are_not_utf8_are_located(tmp_path: Path):
    (tmp_path / "t.toml").write_bytes(b'log = "x"\nab\xff')

    with pytest.raises(SettingsError, match=r"t\.toml:2:3: found bytes that are not UTF-8; save it as UTF-8"):
        load(tmp_path / "t.toml", environ={})


def test_a_file_far_too_large_is_not_read(tmp_path: Path):
    (tmp_path / "t.toml").write_bytes(b"#" * (5 << 20))

    with pytest.raises(SettingsError, match="found more than 4194304 bytes"):
        load(tmp_path / "t.toml", environ={})


@pytest.mark.parametrize(
    ("text", "place"),
    [("log = \n", "1:7"), ('log = "x"\nlog = "y"', "2:10"), ('log = "x', "1:9"), ("a = [\n1,\n", "3:1")],
)
def test_a_syntax_error_is_one_line_with_its_place(text: str, place: str):
    (problem,) = problems_of(text)

    assert problem.startswith(f"tailrace.toml:{place}: found what TOML does not allow: ")
    assert problem.endswith("; correct this line")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_toml_that_python_cannot_hold(text: str):
    (problem,) = problems_of(text)

    assert problem.startswith("tailrace.toml: found ")


def test_a_container_may_bring_everything_in_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    loop = (
        '{ task = "regression", horizon = "1h", events = { topic = "e", id = "i" }, features = { a = "number" }, '
        'labels = { topic = "l", id = "i", target = "t" }, champion = { model = "LinearRegression()" } }'
    )

    settings = load(environ={"TAILRACE_LOG": "kafka://a:1", "TAILRACE_LOOPS__PRICES": loop})

    assert ["prices"] == list(settings.loops)


def only(settings: Settings) -> LoopSettings:
    """Return the only loop."""
    (loop,) = settings.loops.values()
    return loop


@pytest.mark.parametrize(
    ("variable", "value", "get", "expected"),
    [
        ("TAILRACE_LOG", "kafka://b:2", lambda s: s.log, "kafka://b:2"),
        ("TAILRACE_HTTP", "", lambda s: s.http, ""),
        ("TAILRACE_SNAPSHOTS__EVERY", "5s", lambda s: s.snapshots.every, 5_000),
        ("TAILRACE_KAFKA__REPLICATION", "3", lambda s: s.kafka.replication, 3),
        ("TAILRACE_LOOPS__PHISHING__HORIZON", "2h", lambda s: only(s).horizon, 7_200_000),
        ("TAILRACE_LOOPS__phishing__HORIZON", "2h", lambda s: only(s).horizon, 7_200_000),
        ("TAILRACE_LOOPS__PHISHING__JOIN__MAX_WAITING", "1_000", lambda s: only(s).join.max_waiting, 1_000),
        ("TAILRACE_LOOPS__PHISHING__MISSING", "no", lambda s: only(s).missing, "no"),
        ("TAILRACE_LOOPS__PHISHING__EVENTS__ID", "5", lambda s: only(s).events.id, "5"),
        ("TAILRACE_LOOPS__PHISHING__EVENTS__TIME", "at", lambda s: only(s).events.time, "at"),
        ("TAILRACE_LOOPS__PHISHING__LABELS__POSITIVE", "2026-01-01", lambda s: only(s).labels.positive, "2026-01-01"),
        ("TAILRACE_LOOPS__PHISHING__LABELS__POSITIVE", "1", lambda s: only(s).labels.positive, 1),
        ("TAILRACE_LOOPS__PHISHING__LABELS__POSITIVE", '"1"', lambda s: only(s).labels.positive, "1"),
        ("TAILRACE_LOOPS__PHISHING__FEATURES__AGE__MIN", "2", lambda s: only(s).features["Age"].min, 2),
        ("TAILRACE_LOOPS__PHISHING__FEATURES__NEW", "number", lambda s: only(s).features["new"].type, "number"),
        ("TAILRACE_LOOPS__PHISHING__FEATURES", '{ a = "number" }', lambda s: list(s.loops["phishing"].features), ["a"]),
    ],
)
def test_the_environment_wins_over_the_file(
    variable: str, value: str, get: Callable[[Settings], object], expected: object
):
    toml = make_toml(
        make_loop(features='Age = "number"'), top='http = "localhost:1"', below='[snapshots]\nevery = "1m"'
    )

    assert expected == get(read(toml, {variable: value}))


def test_a_whole_table_is_set_before_one_of_its_settings():
    environ = {"TAILRACE_SNAPSHOTS__PUBLISH": "3s", "TAILRACE_SNAPSHOTS": '{ publish = "5s", every = "1s" }'}

    snapshots = read(make_toml(), environ).snapshots

    assert (3_000, 1_000) == (snapshots.publish, snapshots.every)


def test_a_problem_names_the_variable_it_came_from():
    (problem,) = problems_of(make_toml(), {"TAILRACE_SNAPSHOTS__EVERY": "often"})

    assert problem.startswith('snapshots.every (from TAILRACE_SNAPSHOTS__EVERY): found "often"; allowed: ')


def test_a_bad_table_of_the_environment_names_the_variable_too():
    (problem,) = problems_of(make_toml(), {"TAILRACE_SNAPSHOTS": "{ evry = '1s' }"})

    assert problem.startswith("snapshots.evry (from TAILRACE_SNAPSHOTS): found no setting of this name")


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("TAILRACE_SNAPSHOTS__EVRY", "did you mean TAILRACE_SNAPSHOTS__EVERY?"),
        ("TAILRACE_LOOPS__PHISHING__HORIZN", "did you mean TAILRACE_LOOPS__PHISHING__HORIZON?"),
        ("TAILRACE_SNAPSHOTS_EVERY", "did you mean TAILRACE_SNAPSHOTS__EVERY?"),
        ("TAILRACE_KAFKA__PASWORD_FILE", "did you mean TAILRACE_KAFKA__PASSWORD?"),
        ("TAILRACE_LOG__MORE", "did you mean TAILRACE_LOG?"),
        ("TAILRACE_QQQQQQQQ", "`tailrace check --help` tells how variables are named"),
        ("TAILRACE_", "did you mean TAILRACE_LOG?"),
        ("TAILRACE_LOOPS____HORIZON", "did you mean TAILRACE_LOOPS__PHISHING__HORIZON?"),
    ],
)
def test_an_unknown_variable_is_a_problem(variable: str, near: str):
    (problem,) = problems_of(make_toml(), {variable: "x"})

    assert problem.startswith(f"{variable}: found a variable that is no setting")
    assert near in problem


def test_variables_of_others_are_left_alone():
    read(make_toml(), {"PATH": "/bin", "TAIL": "x", "tailrace_log": "x", "TAILRACE_REQUIRE_KAFKA": "1"})


def test_a_file_variable_gives_the_value_without_its_line_end(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"hunter2\r\n")
    environ = {"TAILRACE_KAFKA__PASSWORD_FILE": str(tmp_path / "secret")}

    password = read(make_toml(below=SASL), environ).kafka.password

    assert password is not None
    assert "hunter2" == password.get_secret_value()


def test_any_setting_can_be_given_by_a_file(tmp_path: Path):
    (tmp_path / "publish").write_text("7s\n")

    assert 7_000 == read(make_toml(), {"TAILRACE_SNAPSHOTS__PUBLISH_FILE": str(tmp_path / "publish")}).snapshots.publish


def test_a_setting_that_ends_in_file_is_itself(tmp_path: Path):
    (tmp_path / "where").write_text("/x/ca.pem\n")
    toml = make_toml(below='[kafka]\nsecurity_protocol = "SSL"')

    plain = read(toml, {"TAILRACE_KAFKA__CA_FILE": "/x/ca.pem"})
    by_file = read(toml, {"TAILRACE_KAFKA__CA_FILE_FILE": str(tmp_path / "where")})

    assert Path("/x/ca.pem") == plain.kafka.ca_file == by_file.kafka.ca_file


def test_a_feature_may_be_given_by_a_file(tmp_path: Path):
    (tmp_path / "feature").write_text('{ type = "number", max = 5 }')
    environ = {"TAILRACE_LOOPS__PHISHING__FEATURES__AGE_FILE": str(tmp_path / "feature")}

    assert 5 == read(make_toml(), environ).loops["phishing"].features["age"].max


def test_a_feature_whose_name_ends_in_file_is_itself():
    environ = {"TAILRACE_LOOPS__PHISHING__FEATURES__LOG_FILE": "text"}
    toml = make_toml(make_loop(features='log_file = "number"'))

    assert "text" == read(toml, environ).loops["phishing"].features["log_file"].type


def test_a_variable_and_its_file_form_exclude_each_other(tmp_path: Path):
    (tmp_path / "secret").write_text("hunter2")
    environ = {"TAILRACE_KAFKA__PASSWORD": "a", "TAILRACE_KAFKA__PASSWORD_FILE": str(tmp_path / "secret")}

    (problem,) = problems_of(make_toml(below=SASL), environ)

    assert (
        "TAILRACE_KAFKA__PASSWORD_FILE: found TAILRACE_KAFKA__PASSWORD beside it for the same setting; "
        "allowed: one of the two" == problem
    )


@pytest.mark.parametrize(("content", "reason"), [(b"\xff", "it is not UTF-8"), (b"x" * 70_000, "it is too large")])
def test_a_file_that_cannot_be_a_value(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "secret").write_bytes(content)

    (problem,) = problems_of(make_toml(), {"TAILRACE_LOG_FILE": str(tmp_path / "secret")})

    assert problem.startswith(f"TAILRACE_LOG_FILE: found a file that cannot be read ({reason}")


def test_a_named_file_that_is_not_there():
    (problem,) = problems_of(make_toml(), {"TAILRACE_LOG_FILE": "/none/such"})

    assert problem.startswith("TAILRACE_LOG_FILE: found a file that cannot be read (No such file or directory)")


def test_what_came_from_a_file_is_never_shown(tmp_path: Path):
    (tmp_path / "secret").write_text("hunter2")

    problems = problems_of(make_toml(), {"TAILRACE_SNAPSHOTS__EVERY_FILE": str(tmp_path / "secret")})

    assert "hunter2" not in "".join(problems)
    assert "snapshots.every (from TAILRACE_SNAPSHOTS__EVERY_FILE): found text that is not shown" in problems[0]


@pytest.mark.parametrize(
    "environ",
    [
        {"TAILRACE_KAFKA": "hunter2"},
        {"TAILRACE_KAFKA": '{ password = "hunter2", x = 1 }'},
        {"TAILRACE_KAFKA": '{ pasword = "hunter2" }'},
        {"TAILRACE_KAFKA__PASSWORD": "hunter2"},
        {"TAILRACE_KAFKA__PASWORD": "hunter2"},
        {"TAILRACE_LOG": "kafka://me:hunter2@host:9092"},
    ],
)
def test_no_problem_shows_a_secret(environ: dict[str, str]):
    assert "hunter2" not in "".join(problems_of(make_toml(), environ))


def test_a_variable_below_what_is_no_table_leaves_that_problem_to_the_tree():
    (problem,) = problems_of(make_toml(top="snapshots = 3"), {"TAILRACE_SNAPSHOTS__EVERY": "3s"})

    assert problem.startswith("snapshots: found a number")


def test_settings_is_a_tree_of_plain_values():
    assert isinstance(read(make_toml()), Settings)
