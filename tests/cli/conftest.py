"""Command lines run in this process, in a folder of their own, without this process's TAILRACE_* variables."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.cli.command_builders import Ran, Run
from tests.cli.loop_builders import RanLoop, run_a_loop

from tailrace import cli


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)

    def run_one(*words: object) -> Ran:
        code = cli.execute([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return run_one


@pytest.fixture(scope="session")
def loop_that_ran(tmp_path_factory: pytest.TempPathFactory) -> RanLoop:
    """Run a loop on the embedded log, once; nobody writes into this one."""
    return run_a_loop(tmp_path_factory.mktemp("ran"))


@pytest.fixture
def ran_loop(loop_that_ran: RanLoop, tmp_path: Path) -> RanLoop:
    """Return a copy of it in `tmp_path`, the folder in which commands run."""
    shutil.copytree(loop_that_ran.folder, tmp_path, dirs_exist_ok=True)
    return RanLoop(tmp_path, loop_that_ran.learned)
