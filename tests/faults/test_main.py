"""What tries the faults leaves nothing behind, and tries again only what may be the machine's fault."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.faults.__main__ import Runner, Running
from tests.faults.audit import Violated
from tests.faults.cases import kills
from tests.faults.cases.kills import when
from tests.faults.catalog import Size, load_cases
from tests.faults.ground import Ground
from tests.faults.processes import Fleet, Worker
from tests.faults.run import try_fault
from tests.scenarios.harness import until


@pytest.fixture(autouse=True)
def folders_of_failures(tmp_path, monkeypatch):
    """Put the folders that are kept after a failure where pytest clears up."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


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


def tried_again(runner: Runner, monkeypatch) -> list[str]:
    """Let a runner try again what it would, all of which passes then; return which that was."""
    tried = []

    def try_alone(fault) -> None:
        tried.append(fault.number)
        runner.found.append({"number": fault.number, "failure": "", "seconds": 2.0})

    monkeypatch.setattr(runner, "_try_alone", try_alone)
    runner._try_again([load_cases()["F01"]])
    return tried


@pytest.mark.parametrize("is_in_vain", [False, True])
def test_what_waited_in_vain_is_tried_once_more_and_what_is_wrong_is_not(tmp_path, monkeypatch, is_in_vain):
    runner = Runner(Size.CI, 1, 1, tmp_path)
    runner.found.append({"number": "F01", "failure": "it failed", "in_vain": is_in_vain, "seconds": 1.0})

    assert tried_again(runner, monkeypatch) == (["F01"] if is_in_vain else [])

    (found,) = runner.found
    assert (found["failure"], found.get("before")) == (("", "it failed") if is_in_vain else ("it failed", None))


@pytest.mark.parametrize(("late", "tried"), [(True, ["F01"]), (False, [])])
def test_what_took_too_long_is_tried_once_more_and_what_ended_without_a_word_is_not(tmp_path, monkeypatch, late, tried):
    """A harness that dies would hide what it had found, were it tried until it passes."""
    runner, ended = Runner(Size.CI, 1, 1, tmp_path), subprocess.run([sys.executable, "-c", ""], check=True)
    (tmp_path / "F01.log").touch()

    runner._note(Running(load_cases()["F01"], ended, None, tmp_path / "none", 0.0), late=late)

    assert tried_again(runner, monkeypatch) == tried


def test_of_what_was_kept_only_what_failed_is_tried_again_and_the_table_says_by_what(tmp_path, monkeypatch):
    faults = [load_cases()[number] for number in ("F01", "F02", "F03")]
    for number, failure in (("F01", ""), ("F02", "it failed")):
        (tmp_path / f"{number}.json").write_text(json.dumps({"number": number, "failure": failure, "seconds": 1.0}))
    runner, tried = Runner(Size.CI, 1, 1, tmp_path), []

    def start(fault) -> None:
        tried.append(fault.number)
        (tmp_path / f"{fault.number}.json").write_text(
            json.dumps({"number": fault.number, "failure": "", "seconds": 2.0})
        )
        runner._note(Running(fault, None, None, tmp_path / f"{fault.number}.json", 0.0), late=False)

    monkeypatch.setattr(runner, "_start", start)
    runner.run(faults)

    found = {each["number"]: (each["failure"], each.get("mended"), each["seconds"]) for each in runner.found}
    assert {"F02", "F03"} == set(tried)
    assert {"F01": ("", None, 1.0), "F02": ("", "it failed", 2.0), "F03": ("", None, 2.0)} == found
    assert "it failed" == json.loads((tmp_path / "F02.json").read_text())["mended"]


def told_by(tmp_path: Path, story) -> dict:
    """Return what trying a story writes."""
    out = tmp_path / "out.json"
    assert try_fault(replace(load_cases()["F01"], story=story), Size.CI, 1, out) is False
    return json.loads(out.read_text())


def ground_with(tmp_path: Path, **workers) -> Ground:
    """Return a ground of which only its workers are there."""
    fleet = Fleet.__new__(Fleet)
    fleet.running = workers
    return Ground(tmp_path, None, None, None, None, fleet, None, None, None)


def worker(tmp_path: Path, *, code: int | None) -> Worker:
    nursery = SimpleNamespace(codes={} if code is None else {7: code})
    return Worker(nursery, 7, tmp_path / "none.log")


async def never() -> bool:
    return False


WAITS = {
    "until": lambda at: at.until(lambda: False, "it comes", 0.01),
    "when": lambda at: when(never, bool, at, "it comes"),
    "the harness": lambda _at: until(lambda: False, "it comes", 0.01),
    "an end": lambda at: at.fleet.running["all"].end(0.01),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_in_vain_is_told_as_one(tmp_path, monkeypatch, name):
    monkeypatch.setattr(kills, "BACK_S", 0.01)

    async def story(_trial) -> None:
        await WAITS[name](ground_with(tmp_path, all=worker(tmp_path, code=None)))

    found = told_by(tmp_path, story)

    assert (found["in_vain"], found["failure"].partition(":")[0]) == (True, "InVain")


@pytest.mark.parametrize("name", ["until", "when"])
def test_a_worker_that_ended_by_itself_is_final_though_it_was_waited_for(tmp_path, monkeypatch, name):
    monkeypatch.setattr(kills, "BACK_S", 0.01)

    async def story(_trial) -> None:
        await WAITS[name](ground_with(tmp_path, all=worker(tmp_path, code=-11)))

    found = told_by(tmp_path, story)

    assert (found["in_vain"], found["failure"]) == (False, "AssertionError: all ended with -11:")


@pytest.mark.parametrize("error", [AssertionError("a digest differs"), Violated("1 violations"), KeyError("x")])
def test_whatever_else_goes_wrong_is_final(tmp_path, error):
    async def story(_trial) -> None:
        raise error

    assert told_by(tmp_path, story)["in_vain"] is False


def test_a_recovery_that_took_too_long_is_tried_once_more(tmp_path, monkeypatch):
    runner = Runner(Size.CI, 1, 1, tmp_path)
    slow, quick = (
        {"number": "F01", "failure": "", "seconds": 1.0, "recoveries_s": {"2s": [1.0, longest_s]}}
        for longest_s in (4.1, 3.9)
    )
    runner.found.append(slow)
    monkeypatch.setattr(runner, "_try_alone", lambda _fault: runner.found.append(dict(quick)))

    runner._try_again([load_cases()["F01"]])

    before = {"before": "a recovery (2s) took 4.1 s, at most 4 s", "recoveries_before_s": slow["recoveries_s"]}
    assert runner.found == [quick | before]


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
