"""The demo as a user runs it: a process of its own, on both forms of the log, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.demo.place import free_address

TIMEOUT_S = 120


class Stage:
    """A folder in which commands run, with a folder for temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "here"
        self.temporary = folder / "tmp"
        self._started: list[subprocess.Popen[str]] = []
        self.folder.mkdir()
        self.temporary.mkdir()

    def start(self, *words: str) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "tailrace", *words],
            cwd=self.folder,
            env={**environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def clear(self) -> None:
        """End what a failed test has left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, out, err


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.clear()


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the demo ended without saying {text!r}")


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.mark.parametrize("form", ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_the_demo_keeps_what_it_promises(form: str, stage: Stage, request: pytest.FixtureRequest):
    if form == "kafka":
        request.getfixturevalue("kafka")  # skips, or fails, where there is none
    http = free_address(None)
    options = ["--kafka"] if form == "kafka" else []

    code, out, err = stage.run("demo", "--seconds", "25", "--summary", "out.json", "--http", http, *options)

    assert 0 == code, err
    summary = json.loads((stage.folder / "out.json").read_text())
    assert summary["events"] > 1_000
    assert summary["learned"] > 500
    assert summary["balanced"] is True
    assert summary["accuracy"] >= summary["baseline"] + 0.10
    assert summary["snapshots"] >= 1
    assert summary["first_prediction_s"] < 5
    assert summary["label_to_influence_ms"]["p99"] <= 1_000
    assert summary["duplicates"] > 0
    assert "Everything is accounted for" in out
    assert "fell from" in out
    assert [Path("out.json")] == [path.relative_to(stage.folder) for path in stage.folder.rglob("*")]
    assert [] == list(stage.temporary.iterdir())
    assert [] == processes_of(stage.temporary)
    host, _, port = http.rpartition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


def test_ctrl_c_ends_it_in_order_and_every_other_command_works_on_what_is_kept(stage: Stage):
    process = stage.start("demo", "--rate", "300", "--keep", "kept")
    wait_for(process, "00:05")

    process.send_signal(signal.SIGINT)

    out, err = process.communicate(timeout=TIMEOUT_S)
    assert 0 == process.returncode, err
    assert "Everything is accounted for" in out
    assert "It stays in" in out
    config = ("--config", "kept/tailrace.toml")
    books, verify = stage.run("books", "-o", "json", *config), stage.run("verify", "-o", "json", *config)
    assert 0 == books[0], books[2]
    assert json.loads(books[1])["balanced"] is True
    assert 0 == verify[0], verify[2]
    assert json.loads(verify[1])["equal"] is True


def test_a_demo_goes_on_where_one_that_was_kept_has_ended(stage: Stage):
    code, out, err = stage.run("demo", "--seconds", "2", "--keep", "kept")
    assert 0 == code, err

    code, out, err = stage.run("demo", "--seconds", "2", "--keep", "kept", "--summary", "out.json")

    assert 0 == code, err
    assert "Everything is accounted for" in out
    assert json.loads((stage.folder / "out.json").read_text())["events"] > 240


def test_a_second_signal_ends_it_at_once_and_leaves_nothing(stage: Stage):
    process = stage.start("demo", "--rate", "300")
    wait_for(process, "00:05")

    process.send_signal(signal.SIGINT)
    wait_for(process, "Ending")
    process.send_signal(signal.SIGINT)

    process.communicate(timeout=5)
    assert 130 == process.returncode
    assert [] == list(stage.temporary.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--seconds", "0"), 2, "at least 1"),
        (("--rate", "0"), 2, "events per second"),
        (("--kafka", "--bootstrap", "localhost:9092"), 2, "give one of them"),
        (("--summary", "nowhere/out.json"), 2, "make it first"),
        (("--http", "nonsense"), 3, "--http"),
        (("--bootstrap", "127.0.0.1:1"), 4, "127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(words: tuple[str, ...], code: int, reason: str, stage: Stage):
    found, _, err = stage.run("demo", *words)

    assert code == found
    assert reason in err
    assert [] == list(stage.temporary.iterdir())
