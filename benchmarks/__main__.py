"""Measures the whole loop beside its two rulers, in rounds on one broker, and compares with the targets.

    python -m benchmarks [--quick] [--events N] [--rounds R] [--partitions P] [--json FILE]

Each contender is a process of its own. Progress goes to stderr, the table to stdout. Exit code: 0 when both targets
are reached, 1 when one is missed, 2 for wrong usage, 4 when Kafka cannot be had.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import orjson

from benchmarks.meter import Measured
from benchmarks.results import FAUST, LOOP, RIVER, Results
from benchmarks.workload import EVENTS, LABELS, SHORT_EVENTS, SHORT_LABELS, fill, write_config

REPOSITORY = Path(__file__).resolve().parents[1]
_FULL, _QUICK = 100_000, 20_000
_FAUST_EVENTS = 10_000
_SECONDS_PER_EVENT = 0.002  # slower than this, a contender is stuck
_BEYOND_S = 120.0  # for the start of a contender and of its clients


def main() -> int:
    """Run the rounds; return the exit code."""
    asked = _arguments()
    launcher = _launcher()
    try:
        with _broker(launcher) as bootstrap, tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
            results = _rounds(asked, bootstrap, Path(folder))
    except launcher.LaunchError as problem:
        _say(str(problem))
        return 4
    print(results.table())
    if asked.json is not None:
        asked.json.write_bytes(orjson.dumps(results.plain(), option=orjson.OPT_INDENT_2))
    missed = results.missed()
    for line in missed:
        _say(f"missed: {line}")
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} events and one round")
    parser.add_argument("--events", type=int, help=f"events, and as many labels (default {_FULL})")
    parser.add_argument("--rounds", type=int, help="rounds; the table shows medians (default 3)")
    parser.add_argument("--partitions", type=int, default=1, help="of events and labels (default 1)")
    parser.add_argument("--faust-events", type=int, default=_FAUST_EVENTS, help="events of the stock Faust loop")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    asked = parser.parse_args()
    asked.events = asked.events or (_QUICK if asked.quick else _FULL)
    asked.rounds = asked.rounds or (1 if asked.quick else 3)
    asked.faust_events = min(asked.faust_events, asked.events)
    if min(asked.events, asked.rounds, asked.partitions, asked.faust_events) < 1:
        parser.error("counts must be at least 1")
    return asked


def _rounds(asked: argparse.Namespace, bootstrap: str, folder: Path) -> Results:
    _say(f"filling the topics: {asked.events} events and labels over {asked.partitions} partition(s)")
    event_bytes = asyncio.run(fill(bootstrap, asked.events, asked.partitions, EVENTS, LABELS))
    asyncio.run(fill(bootstrap, asked.faust_events, asked.partitions, SHORT_EVENTS, SHORT_LABELS))
    results = Results(asked.events, asked.partitions, event_bytes)
    within_s = asked.events * _SECONDS_PER_EVENT + 10.0
    _say("warming up the broker")
    _run(_loop(folder, bootstrap, asked.faust_events, within_s, SHORT_EVENTS, SHORT_LABELS), within_s)
    for number in range(1, asked.rounds + 1):
        commands = {
            RIVER: ["benchmarks.bare_river", str(asked.events)],
            LOOP: _loop(folder, bootstrap, asked.events, within_s, EVENTS, LABELS),
            FAUST: ["benchmarks.stock_faust", bootstrap, str(asked.faust_events), str(within_s)],
        }
        for contender, command in commands.items():
            measured = _run(command, within_s)
            results.add(contender, measured)
            _say(
                f"round {number}/{asked.rounds}  {contender:<12} {measured.rate:>9,.0f}/s {measured.cpu_us:>7.1f} us CPU"
            )
    return results


def _loop(folder: Path, bootstrap: str, events: int, within_s: float, *topics: str) -> list[str]:
    """Return the command of a new loop, which finds nothing of any loop before it."""
    name = f"bench_{uuid4().hex[:8]}"
    home = folder / name
    home.mkdir()
    config = write_config(home, bootstrap, name, *topics)
    return ["benchmarks.whole_loop", str(config), str(events), str(within_s)]


def _run(command: list[str], within_s: float) -> Measured:
    """Run one contender in a process of its own, which ends with this call.

    Args:
        within_s: What the contender gives itself from its first record on.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "app")])}
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, env=environment) as child:
        try:
            output, _ = child.communicate(timeout=within_s + _BEYOND_S)
        finally:
            if child.poll() is None:
                child.kill()
    if child.returncode:
        raise SystemExit(f"{command[0]} ended with {child.returncode}; its output is above")
    return Measured.read(output.splitlines()[-1])


@contextlib.contextmanager
def _broker(launcher: ModuleType) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-kafka-") as folder:
        _say("starting Apache Kafka")
        broker = launcher.Broker(folder)
        try:
            yield broker.start().bootstrap
        finally:
            broker.stop()


def _launcher() -> ModuleType:
    """Load the launcher of the broker, which is a script and no part of a package."""
    spec = importlib.util.spec_from_file_location("tailrace_kafka_launch", REPOSITORY / "deploy/kafka/launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
