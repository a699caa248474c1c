"""The first-day guides as programs: their blocks, and a shell that works through one as a reader would.

A block marked `sh` is typed; a line that ends with `# ends with N` must, every other one must end with 0. The block
marked `text` below it is what the reader sees: each of its lines must come, in that order, but for numbers, ids and
times, and for what stands in place of `…`. Blocks marked `sh install` and `sh kafka` are for readers alone, who have
a network and a broker. Tried by hand:

    python -m tests.house.guides docs/first-day/producer.md     # works through it and prints what it says
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs/first-day").glob("*.md"))
PORT = "8321"
_MARK = "=== step"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True)
class Step:
    """A block of commands, and what the guide says comes of it."""

    commands: str
    shown: str


def steps_of(guide: str) -> list[Step]:
    """Return what runs without a network and without Kafka."""
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    steps = []
    for number, (kind, text) in enumerate(blocks):
        if kind == "sh":
            below = blocks[number + 1] if number + 1 < len(blocks) else ("", "")
            steps.append(Step(text, below[1] if below[0] == "text" else ""))
    return steps


def script_of(steps: Sequence[Step], port: str) -> str:
    """Return the steps as one script, which stops at the first command that does not end as the guide says."""
    lines = ["set -e", "set -o pipefail"]
    for number, step in enumerate(steps):
        lines.append(f"printf '\\n{_MARK} %s\\n' {number}")
        for line in step.commands.replace(PORT, port).splitlines():
            if match := re.fullmatch(r"(.+?)\s+# ends with (\d+)", line):
                lines.append(f"{{ {match[1]} && code=0 || code=$?; }}; test $code -eq {match[2]}")
            else:
                lines.append(line)
    return "\n".join([*lines, f"printf '\\n{_MARK} end\\n'", ""])


def lines_missing(shown: str, said: str) -> list[str]:
    """Return the lines that a guide shows and that did not come, or not in that order."""
    came = iter(_plain(said).splitlines())
    missing = []
    for line in _plain(shown).splitlines():
        parts = [re.escape(part.strip()) for part in line.split("…")]
        if any(parts):
            pattern = re.compile(".*".join(parts))
            if not any(pattern.search(each) for each in came):
                missing.append(line)
                came = iter(_plain(said).splitlines())
    return missing


def _plain(text: str) -> str:
    """Numbers, ids and times become #, runs of blanks one blank; colours go."""
    text = re.sub(r"[0-9a-f]*\d[0-9a-f.,:]*", "#", _ESCAPES.sub("", text))
    return re.sub(r"[ \t]+", " ", text)


@dataclass(frozen=True)
class Worked:
    """What became of a guide.

    Attributes:
        said: Of each step that was begun, in order.
        code: Of the shell; 0 when every command ended as the guide says.
    """

    said: list[str]
    code: int
    seconds: float


def work_through(steps: Sequence[Step], folder: Path, environment: Mapping[str, str], limit_s: float) -> Worked:
    """Type the steps into a shell in a folder, at a terminal, and end whatever they left running."""
    (folder / "bin").mkdir()
    for name, command in (("tailrace", f"{sys.executable} -m tailrace"), ("python", sys.executable)):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    work = folder / "work"
    work.mkdir()
    port = str(_free_port())
    env = {**os.environ, **environment, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    env |= {"COLUMNS": "112", "TERM": "xterm", "TAILRACE_HTTP": f"127.0.0.1:{port}", "LC_ALL": "C.UTF-8"}
    script = folder / "guide.sh"
    script.write_text(script_of(steps, port))
    begun = time.monotonic()
    with _terminal() as (ours, theirs), (folder / "said").open("wb") as said:
        shell = subprocess.Popen(
            ["bash", str(script)], cwd=work, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        try:
            _copy(ours, said, begun + limit_s)
            code = shell.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 124
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    text = (folder / "said").read_text(errors="replace").replace("\r", "").replace(port, PORT)
    parts = re.split(rf"^{_MARK} (?:\d+|end)\n", text, flags=re.MULTILINE)
    return Worked(parts[1:], code, time.monotonic() - begun)


def _copy(terminal: int, into: IO[bytes], until: float) -> None:
    """Read what the shell says until its last line, or until nobody can write there any more."""
    tail = b""
    while time.monotonic() < until:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                return
            if not data:
                return
            into.write(data)
            tail = (tail + data)[-64:]
            if f"{_MARK} end".encode() in tail:
                return


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


if __name__ == "__main__":
    for path in sys.argv[1:]:
        steps = steps_of(Path(path).read_text())
        with tempfile.TemporaryDirectory() as folder:
            worked = work_through(steps, Path(folder), {}, 300)
        for step, said in zip(steps, worked.said, strict=False):
            print(f"\n$ {step.commands}{_ESCAPES.sub('', said)}")
            for line in lines_missing(step.shown, said):
                print(f"!! did not come: {line}")
        print(f"{path}: {len(worked.said) - 1} of {len(steps)} steps, code {worked.code}, {worked.seconds:.0f} s")
