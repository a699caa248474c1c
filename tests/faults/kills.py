"""Kills workers by the seed: `python -m tests.faults.kills [--apart] [--points N] [--seed S] [--seeds N] [--log FORM]`.

Starts a broker of its own unless `--log embedded`. Ends with 1 at the first seed that fails, and says how to run it
again; the folder with the logs of its processes is kept then.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.series import Report, run_series
from tests.log_forms import LogForm, load_launcher


@contextmanager
def address(kind: str, folder: Path) -> Iterator[str]:
    """Yield the address of a log, which for Kafka runs as long as the block."""
    if kind == "embedded":
        yield f"embedded:{folder / 'log'}"
        return
    broker = load_launcher().Broker(folder / "kafka", settings={"group.min.session.timeout.ms": "1000"}).start()
    try:
        yield f"kafka://{broker.bootstrap}"
    finally:
        broker.stop()


def show(report: Report) -> str:
    """Return a line for people."""
    found = report.found
    assert found is not None
    counts = dict(found.outcomes | found.dead)
    gaps = dict(report.before_commit)
    return f"{len(report.points)} kills, before commit {gaps}, {found.events} events, {counts}, {found.forwarded} forwarded"


def main() -> int:
    """Run the seeds; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(".")[0])
    parser.add_argument("--apart", action="store_true", help="each role is a process of its own")
    parser.add_argument("--points", type=int, default=20, help="kills in a series; for each role with --apart")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--log", choices=["kafka", "embedded"], default="kafka")
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        folder = Path(tempfile.mkdtemp(prefix=f"tailrace-kill-{seed}-"))
        with address(arguments.log, folder) as log:
            form = LogForm(arguments.log, log, folder / "log" if arguments.log == "embedded" else folder)
            try:
                report = asyncio.run(run_series(form, folder, seed, apart=arguments.apart, count=arguments.points))
            except AssertionError:
                traceback.print_exc()
                print(f"seed {seed} failed; its logs are in {folder}")
                return 1
        print(f"seed {seed}: {show(report)}; per kill {sum(report.seconds) / len(report.seconds):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
