"""Command lines run in this process, in a folder of their own, without this process's TAILRACE_* variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tailrace import cli
from tests.cli.command_builders import Ran, Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)

    def run_one(*words: object) -> Ran:
        code = cli.run([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return run_one
