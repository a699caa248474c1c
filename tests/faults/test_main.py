"""What tries the faults leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.faults.__main__ import Runner, Running
from tests.faults.catalog import Size, load_cases

LEAVES_A_STOPPED_CHILD = """
import os, signal
pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
print(pid, flush=True)
os._exit(3)
"""


def test_a_stopped_process_of_a_fault_whose_own_process_has_ended_is_ended_too(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVES_A_STOPPED_CHILD], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    with (tmp_path / "log").open("wb") as log:
        running = Running(load_cases()["F01"], process, log, tmp_path / "out", 0.0)
        end_s = time.monotonic() + 10.0
        while running.is_alive:
            assert time.monotonic() < end_s
            time.sleep(0.01)
        assert _state(child) in "TtRSD"

        running.kill()

    assert process.returncode == 3
    end_s = time.monotonic() + 10.0
    while _state(child) not in "ZX":
        assert time.monotonic() < end_s, _state(child)
        time.sleep(0.01)
    process.stdout.close()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def failing(number: str, folder: Path, *, is_violated: bool) -> Runner:
    """Return a runner in which a fault has failed."""
    runner = Runner(Size.CI, 1, 1, folder)
    runner.found.append({"number": number, "failure": "it failed", "violated": is_violated, "seconds": 1.0})
    return runner


@pytest.mark.parametrize("is_violated", [False, True])
def test_what_waited_in_vain_is_tried_once_more_and_what_is_wrong_is_not(tmp_path, monkeypatch, is_violated):
    runner, tried = failing("F01", tmp_path, is_violated=is_violated), []

    def try_alone(fault) -> None:
        tried.append(fault.number)
        runner.found.append({"number": fault.number, "failure": "", "seconds": 2.0})

    monkeypatch.setattr(runner, "_try_alone", try_alone)
    runner._try_again([load_cases()["F01"]])

    assert tried == ([] if is_violated else ["F01"])
    (found,) = runner.found
    assert (found["failure"], found.get("before")) == (("it failed", None) if is_violated else ("", "it failed"))


def test_a_recovery_that_took_too_long_is_tried_once_more(tmp_path, monkeypatch):
    runner = Runner(Size.CI, 1, 1, tmp_path)
    slow, quick = (
        {"number": "F01", "failure": "", "seconds": 1.0, "recoveries_s": {"2s": [1.0, longest_s]}}
        for longest_s in (4.1, 3.9)
    )
    runner.found.append(slow)
    monkeypatch.setattr(runner, "_try_alone", lambda _fault: runner.found.append(dict(quick)))

    runner._try_again([load_cases()["F01"]])

    assert runner.found == [{**quick, "before": "a recovery (2s) took 4.1 s, at most 4 s"}]


def test_what_measures_time_runs_beside_as_little_as_it_says(tmp_path, monkeypatch):
    """Guards the recovery times of the table: three faults at once take both cores."""
    runner, beside = Runner(Size.CI, 1, 3, tmp_path), {}
    faults = [load_cases()[number] for number in ("F24", "F01", "F02", "F05", "F06", "F10", "F11")]

    def start(fault) -> None:
        runner._running.append(Running(fault, None, None, tmp_path, 0.0))
        for each in runner._running:
            beside[each.fault.number] = max(beside.get(each.fault.number, 0), len(runner._running))

    def collect() -> None:
        runner.found.append({"number": runner._running.pop(0).fault.number, "failure": "", "recoveries_s": {}})

    monkeypatch.setattr(runner, "_start", start)
    monkeypatch.setattr(runner, "_collect", collect)
    runner.run(faults)

    assert beside["F24"] == 1
    assert beside["F01"] == beside["F02"] == 2
    assert beside["F05"] == beside["F06"] == beside["F10"] == 3
    assert {each["number"] for each in runner.found} == {each.number for each in faults}
