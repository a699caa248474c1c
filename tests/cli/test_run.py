"""`tailrace run`: what it says at the start, what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command_builders import Run
from tests.cli.loop_builders import write_config

from tailrace import main
from tailrace.cli.run import banner
from tailrace.domain.status import Role
from tailrace.settings import load

ROOT = Path(__file__).resolve().parents[2]


def test_the_banner_names_what_a_person_wants_to_know(tmp_path: Path):
    settings = load(write_config(tmp_path), environ={"TAILRACE_HTTP": "127.0.0.1:8321"})

    told = "\n".join(banner(settings, [Role.SCORE, Role.LEARN]))

    for words in (
        f"log        embedded:{tmp_path}/data",
        "roles      score, learn",
        "reads    phishing-pages, phishing-verdicts",
        "phishing.predictions, phishing.scored",
        "groups   tailrace.phishing.score, tailrace.phishing.learn",
        "preprocessing.StandardScaler() | linear_model.LogisticRegression()",
        "at least once",
        "http://127.0.0.1:8321/readyz",
    ):
        assert words in told


def test_options_reach_the_worker(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def note(settings, roles, **more):
        asked.update(http=settings.http, roles=roles, **more)
        return 75

    monkeypatch.setattr(main, "run", note)
    write_config(tmp_path)

    ran = run("run", "--role", "join", "--role", "score", "--instance-id", "blue-1", "--http", "127.0.0.1:0")

    assert 75 == ran.code
    assert ((Role.JOIN, Role.SCORE), "blue-1") == (asked["roles"], asked["instance_id"])
    host, _, port = asked["http"].rpartition(":")
    assert "127.0.0.1" == host
    assert int(port) > 0
    assert f"http://{asked['http']}/readyz" in ran.err
    assert "" == ran.out


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--role", "sing"), 2, "sing"),
        (("--instance-id", "a b"), 2, "--instance-id: found 'a b'"),
        (("--http", "everywhere"), 3, "http"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(run: Run, tmp_path: Path, words, code: int, why: str):
    write_config(tmp_path)

    ran = run("run", *words)

    assert (code, "") == (ran.code, ran.out)
    assert why in ran.err
    assert "Traceback" not in ran.err


def test_an_address_that_is_taken_is_one_sentence_before_anything_starts(run: Run, tmp_path: Path):
    write_config(tmp_path)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = run("run", "--http", address)

    assert (3, "") == (ran.code, ran.out)
    assert f"error: http: {address} cannot be listened on" in ran.err
    assert not (tmp_path / "data").exists()


def test_a_worker_ends_with_0_after_sigterm(tmp_path: Path):
    file = write_config(tmp_path)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    worker = subprocess.Popen(
        [sys.executable, "-m", "tailrace", "run", "--config", file],
        stderr=subprocess.PIPE,
        text=True,
        env=environ | {"PYTHONPATH": str(ROOT / "app")},
    )
    try:
        said = next(line for line in worker.stderr if '"restored"' in line)
        worker.send_signal(signal.SIGTERM)
        rest = worker.communicate(timeout=15)[1]
    finally:
        worker.kill()

    assert said.startswith("{")
    assert 0 == worker.returncode
    assert "Traceback" not in rest
