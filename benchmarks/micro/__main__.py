"""Counts the instructions of the hot functions, now and in the parent commit, and compares.

    python -m benchmarks.micro [--against REVISION] [--json FILE]

Valgrind's callgrind counts; the same interpreter, libraries and cases run both versions of `app/`. Compiled parts are
compared by the least time of many runs, taken in turns. What has grown is counted once more. Exit code: 1 when a case costs more than 10 % and 300
instructions a row more, 0 when none does or there is no parent (a first commit, a shallow clone), 4 when Valgrind is
missing.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.broker import REPOSITORY, say
from benchmarks.micro.cases import TIMES

MOST = 1.10
"""What counts as grown."""

SLACK = 150_000
"""Instructions of a batch, 300 a row, that a case may cost more whatever its size: what one more move of a buffer of
the batch costs, which memory decides and not the code."""

_SAME = {
    "PYTHONHASHSEED": "0",  # the order of sets and dictionaries counts
    "OPENBLAS_NUM_THREADS": "1",
    # Callgrind counts every byte that `rep movsb` moves: whether a buffer grows in place would decide about 10 %.
    "GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824",
}
_TURNS = 5
_WITHIN_S = 170.0
_TOTALS = re.compile(rb"^totals: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Counted:
    """What a version's cases cost.

    Attributes:
        costs: Case → instructions or seconds.
        whys: Case → why this version cannot run it.
    """

    costs: dict[str, float]
    whys: dict[str, str]


def main() -> int:
    """Compare; return the exit code."""
    asked = _arguments()
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        say("Valgrind (`valgrind`, `callgrind_control`) is not installed; Debian's package is called valgrind")
        return 4
    revision = asked.against or _parent()
    with tempfile.TemporaryDirectory(prefix="tailrace-micro-") as folder:
        before = _checkout(revision, Path(folder) / "parent") if revision else None
        if before is None:
            say("there is no parent commit here: the first commit, or a shallow clone; the costs are only shown")
        counted = _measure(REPOSITORY, before, Path(folder), asked.only)
        if any(map(is_grown, _rows(*counted))):
            say("something has grown: counted once more, since times and memory vary")
            counted = _least(counted, _measure(REPOSITORY, before, Path(folder), asked.only))
    rows = list(_rows(*counted))
    print(_table(rows, revision if before else ""))
    if asked.json is not None:
        asked.json.write_text(json.dumps({"against": revision, "cases": rows}, indent=2) + "\n")
    grown = [row for row in rows if is_grown(row)]
    for row in grown:
        say(f"grown: {row['case']} costs {row['ratio']:.2f} times what it did; allowed are {MOST:.2f}")
    return int(bool(grown))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--against",
        metavar="REVISION",
        help="compare with this commit; without it the parent, or the commit itself where app/ was changed since",
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="cases whose name has these words")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def _parent() -> str:
    """Return the revision to compare with; "" where there is none."""
    changed = _git("status", "--porcelain", "--", "app", "schemas")
    if changed is None:
        return ""
    revision = _git("rev-parse", "--verify", "--quiet", "HEAD" if changed.strip() else "HEAD^")
    return revision.decode().strip() if revision else ""


def _checkout(revision: str, folder: Path) -> Path | None:
    """Write `app` and `schemas` of a revision into a folder."""
    archive = _git("archive", "--format=tar", revision, "app", "schemas")
    if archive is None:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> bytes | None:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _measure(now: Path, before: Path | None, folder: Path, only: str) -> tuple[Counted, Counted]:
    """Return the costs of both versions."""
    roots = [now] if before is None else [now, before]
    counting = [_Cases(root, "instructions", only, folder / f"{number}.out") for number, root in enumerate(roots)]
    counted = [cases.run() for cases in _begun(counting)]
    for _ in range(_TURNS):
        for found, root in zip(counted, roots, strict=True):
            timed = _Cases(root, "time", only, None).begin().run()
            found.whys.update(timed.whys)
            for case, seconds in timed.costs.items():
                found.costs[case] = min(seconds, found.costs.get(case, seconds))
    return counted[0], counted[1] if before is not None else Counted({}, {})


def _least(first: Sequence[Counted], second: Sequence[Counted]) -> tuple[Counted, Counted]:
    """Return the lesser cost of every case of both versions, out of two measurements."""
    now, before = (
        Counted({case: min(cost, again.costs.get(case, cost)) for case, cost in once.costs.items()}, once.whys)
        for once, again in zip(first, second, strict=True)
    )
    return now, before


def _begun(counting: Sequence[_Cases]) -> Iterator[_Cases]:
    """Begin all at once, since Valgrind loads Python slowly; instructions do not mind company."""
    for cases in counting:
        cases.begin()
    yield from counting


class _Cases:
    """A process that runs the cases of one version.

    Args:
        out: Where callgrind writes; None: the process says itself what a case cost.
    """

    def __init__(self, root: Path, kind: str, only: str, out: Path | None) -> None:
        self._root, self._kind, self._only, self._out = root, kind, only, out
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> _Cases:
        """Start it."""
        paths = os.pathsep.join([str(REPOSITORY), str(self._root / "app")])
        environment = os.environ | _SAME | {"PYTHONPATH": paths}
        command = [sys.executable, "-m", "benchmarks.micro.cases", self._kind, self._only]
        if self._out is not None:
            tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self._out}"]
            command = [*tool, *command]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=self._root,
        )
        return self

    def run(self) -> Counted:
        """Run every case; the process ends with it."""
        assert self._process is not None
        found = Counted({}, {})
        try:
            while (plain := self._said()) is not None:
                case = plain["case"]
                if "why" in plain:
                    found.whys[case] = plain["why"]
                    continue
                self._control("--instr=on", "--zero")
                self._go_on()
                done = self._said()
                if done is None:
                    raise SystemExit(f"the process of the cases ended in the middle of {case!r}")
                self._control("--dump", "--instr=off")
                cost = done["seconds"] if self._out is None else self._dumped()
                found.costs[case] = min(cost, found.costs.get(case, cost))
                self._go_on()
        finally:
            self._process.kill()
            self._process.wait()
        return found

    def _said(self) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def _go_on(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _control(self, *orders: str) -> None:
        if self._out is None:
            return
        assert self._process is not None
        for order in orders:
            command = ["callgrind_control", order, str(self._process.pid)]
            subprocess.run(command, check=True, capture_output=True, timeout=_WITHIN_S)

    def _dumped(self) -> int:
        """Return the instructions of the newest dump, and remove it."""
        assert self._out is not None
        (dump,) = self._out.parent.glob(f"{self._out.name}.*")
        total = _TOTALS.findall(dump.read_bytes())
        dump.unlink()
        return int(total[-1])


def _rows(now: Counted, before: Counted) -> Iterator[dict[str, Any]]:
    for case in [*now.costs, *now.whys]:
        cost, was = now.costs.get(case), before.costs.get(case)
        why = now.whys.get(case) or before.whys.get(case, "")
        ratio = cost / was if cost is not None and was else None
        unit = "us" if case in TIMES else "instructions"
        yield {"case": case, "unit": unit, "now": cost, "before": was, "ratio": ratio, "why": why}


def is_grown(row: dict[str, Any]) -> bool:
    """Return whether a case costs more than it may."""
    if row["ratio"] is None or row["ratio"] <= MOST:
        return False
    return row["unit"] != "instructions" or row["now"] - row["before"] > SLACK


def _table(rows: Sequence[dict[str, Any]], revision: str) -> str:
    against = f"commit {revision[:12]}" if revision else "nothing"
    lines = [
        f"One batch of 500 rows, against {against}",
        "",
        "| case | unit | before | now | ratio |  |",
        "|---|" + "---|" * 5,
    ]
    for row in rows:
        before, now = (_shown(row["unit"], row[name]) for name in ("before", "now"))
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        lines.append(f"| {row['case']} | {row['unit']} | {before} | {now} | {ratio} | {row['why']} |")
    return "\n".join(lines)


def _shown(unit: str, cost: float | None) -> str:
    if cost is None:
        return ""
    return f"{cost * 1e6:,.0f}" if unit == "us" else f"{cost:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
