"""What holds for every command: exit codes, errors on stderr, no tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cyclopts import App
from tests.cli.command_builders import Run
from tests.cli.loop_builders import write_config

from tailrace import cli
from tailrace.cli import output
from tailrace.cli.exits import UsageError
from tailrace.domain.errors import (
    ForeignLogError,
    LogUnavailable,
    OwnershipLost,
    SettingsError,
    SnapshotRefused,
    TailraceError,
)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Make `tailrace act` the only command."""

    def install(act: Callable[[], object]) -> None:
        def register(app: App) -> None:
            app.command(act, name="act")

        monkeypatch.setattr(cli, "GROUPS", ("act",))
        monkeypatch.setattr(cli.importlib, "import_module", lambda _: SimpleNamespace(register=register))

    return install


def raising(error: BaseException) -> Callable[[], None]:
    """Return a command that raises."""

    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(["a: found 1; allowed: 2"]), 3),
        (LogUnavailable("kafka://a:1 does not answer; is it running?"), 4),
        (ForeignLogError("the log is another one"), 5),
        (SnapshotRefused("digest", "the digest differs"), 5),
        (OwnershipLost("another process owns it"), 75),
        (TailraceError("the books do not balance"), 1),
        (UsageError("give one of the two"), 2),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(run: Run, command, error: Exception, code: int):
    command(raising(error))

    ran = run("act")

    assert code == ran.code
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err
    assert "" == ran.out


def test_each_problem_of_a_configuration_is_an_error_of_its_own(run: Run, command):
    command(raising(SettingsError(["a: found 1", "b: found 2"])))

    assert "error: a: found 1\nerror: b: found 2\n" == run("act").err


def test_an_interrupt_ends_with_130(run: Run, command):
    command(raising(KeyboardInterrupt()))

    ran = run("act")

    assert (130, "interrupted\n") == (ran.code, ran.err)


@pytest.mark.parametrize(
    ("is_terminal", "told"), [(True, "ZeroDivisionError: oops\n"), (False, "ZeroDivisionError (text not told)\n")]
)
def test_what_nobody_foresaw_shows_its_traceback_and_ends_with_75(
    run: Run, command, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, told: str
):
    """Guards logs, into which stderr goes where it is no terminal: the text may hold values of features or labels."""
    command(raising(ZeroDivisionError("oops")))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)

    ran = run("act")

    assert 75 == ran.code
    assert "Traceback" in ran.err
    assert told in ran.err
    assert "tailrace version --verbose" in ran.err


def test_a_command_may_return_its_exit_code(run: Run, command):
    command(lambda: 1)

    assert 1 == run("act").code


def test_an_unknown_command_is_told_with_the_nearest(run: Run):
    ran = run("chek")

    assert 2 == ran.code
    assert ran.err.startswith("error: ")
    assert '"check"' in ran.err


def test_an_unknown_option_is_told_with_the_nearest(run: Run):
    ran = run("check", "--confg", "x")

    assert 2 == ran.code
    assert "--config" in ran.err


def test_help_lists_commands_and_exit_codes(run: Run):
    ran = run("--help")

    assert 0 == ran.code
    assert all(f" {name} " in ran.out for name in cli.GROUPS)
    assert "130 interrupted" in " ".join(ran.out.split())


def test_a_reader_that_has_seen_enough_is_no_error():
    script = "from tailrace.cli import output; import tailrace.cli as cli\n" + (
        "from types import SimpleNamespace as S\n"
        "act = lambda: [print('x' * 1000) for _ in range(10_000)] and None\n"
        "cli.GROUPS = ('act',)\n"
        "cli.importlib.import_module = lambda _: S(register=lambda app: app.command(act, name='act'))\n"
        "raise SystemExit(cli.execute(['act']))\n"
    )

    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        complaint = process.stderr.read()

    assert (0, b"") == (process.returncode, complaint)


def test_the_version_is_one_line(run: Run):
    ran = run("version")

    assert 0 == ran.code
    assert ran.out.startswith("tailrace ")
    assert 1 == ran.out.count("\n")


def test_the_long_version_names_every_library_that_matters(run: Run):
    ran = run("version", "--verbose")

    assert {"tailrace", "python", "river", "aiokafka", "faust-streaming", "numpy"} <= json.loads(ran.out).keys()


def test_rows_are_json_lines_in_a_pipe(capsys: pytest.CaptureFixture[str]):
    output.rows([{"topic": "a", "lag": 1, "more": True}, {"topic": "b", "lag": None}], ["topic", "lag"])

    first, second = capsys.readouterr().out.splitlines()
    assert {"topic": "a", "lag": 1, "more": True} == json.loads(first)
    assert {"topic": "b", "lag": None} == json.loads(second)


def test_a_table_shows_the_chosen_columns_and_takes_no_markup_from_values(capsys: pytest.CaptureFixture[str]):
    output.rows(
        [{"topic": "[red]a[/red]", "lag_ms": 1.23456789, "hidden": 1}, {"topic": "b", "lag_ms": None}],
        ["topic", "lag_ms"],
        "table",
    )

    head, first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert ["topic", "lag", "ms"] == head
    assert ["[red]a[/red]", "1.23457"] == first
    assert ["b", "-"] == second


def test_a_record_is_a_line_per_key_as_a_table(capsys: pytest.CaptureFixture[str]):
    output.record({"is_balanced": True, "name": "x"}, "table")

    assert ["is balanced yes", "name x"] == [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_loop_that_is_named_is_not_taken_by_faust_for_an_event_loop(tmp_path: Path):
    """Guards the list of arguments that Faust reads when it is imported."""
    write_config(tmp_path)

    words = [sys.executable, "-m", "tailrace", "verify", "--loop", "phishing"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert "there is no log in" in ran.stderr
    assert 4 == ran.returncode
