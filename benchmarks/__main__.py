"""The whole loop beside the yardstick and its peers, in interleaved rounds on one broker, compared with the targets.

    python -m benchmarks [--quick] [--strict] [--only loops,latency,refold] [--events N] [--rounds R] [--out FOLDER]

Each contender is a process of its own. Progress goes to stderr, the report to stdout and to `benchmarks/results/`.
Exit code: 0 when everything could be measured, 3 when something could not, 4 when Kafka cannot be had, 2 for wrong
usage. With --strict 1 when a target is missed. --quick writes no files and ends with 1 when one of its few targets,
which are set generously, is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.broker import broker, kafka_version, launcher, say
from benchmarks.figures import Figures
from benchmarks.report import Setting
from benchmarks.rounds import Plan, Rounds
from benchmarks.targets import verdicts

_FULL, _QUICK = 100_000, 20_000
_PARTS = ("loops", "latency", "refold")


def main() -> int:
    """Run everything that is asked for; return the exit code."""
    asked = _arguments()
    launch = launcher()
    figures = Figures()
    rounds = Rounds(Plan(asked.events, asked.rounds, asked.only, asked.among, is_quick=asked.quick), figures)

    def setting(done: int) -> Setting:
        return Setting(asked.events, done, rounds.event_bytes, kafka_version(), asked.remark)

    def keep(done: int) -> None:
        # After every round: a run that is interrupted leaves what it found.
        if not asked.quick:
            report.write(asked.out, setting(done), figures, verdicts(figures, is_quick=False))
            say(f"written to {asked.out}")

    try:
        with broker(launch) as bootstrap:
            asyncio.run(rounds.run(bootstrap, keep))
    except launch.LaunchError as problem:
        say(str(problem))
        return 4
    found = verdicts(figures, is_quick=asked.quick)
    print(report.text(setting(asked.rounds), figures, found))
    missed = [verdict for verdict in found if verdict.met is False]
    for verdict in missed:
        say(f"missed: {verdict.name}: {verdict.value:.3g}; the target is {verdict.bound} {verdict.limit:g}")
    if missed and (asked.strict or asked.quick):
        return 1
    return 3 if rounds.has_failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help=f"ours and bare River, {_QUICK} events; nothing is written"
    )
    parser.add_argument("--strict", action="store_true", help="end with 1 when a target is missed")
    parser.add_argument("--only", type=_parts, default=_PARTS, help=f"of {', '.join(_PARTS)}; all without it")
    parser.add_argument(
        "--among", default="", metavar="WORDS", help="contenders and scenarios whose name has these words"
    )
    parser.add_argument("--events", type=int, help=f"events, and as many labels (default {_FULL})")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 3)")
    parser.add_argument("--out", type=Path, default=report.FOLDER, help="where the results are written")
    parser.add_argument("--remark", default="", help="a sentence about the machine, for the report")
    asked = parser.parse_args()
    asked.events = asked.events or (_QUICK if asked.quick else _FULL)
    asked.rounds = asked.rounds or (2 if asked.quick else 3)
    if min(asked.events, asked.rounds) < 1:
        parser.error("counts must be at least 1")
    return asked


def _parts(text: str) -> Sequence[str]:
    parts = tuple(text.split(","))
    if unknown := set(parts) - set(_PARTS):
        raise argparse.ArgumentTypeError(f"found {min(unknown)!r}; allowed: {', '.join(_PARTS)}")
    return parts


if __name__ == "__main__":
    sys.exit(main())
