"""Which Pythons of this machine can run the matrix: 3.11 to 3.13, each with the libraries of a lineage.

An interpreter counts where it has the libraries: the one that runs this, those that `make determinism` has given an
environment of their own under `.determinism/`, and those on PATH. Nothing is installed by a test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MINORS = (11, 12, 13)
REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = REPOSITORY / ".determinism"
ASK = "import sys, river, faust, orjson, fastavro, pydantic, cryptography; print('%d.%d' % sys.version_info[:2])"


@dataclass(frozen=True)
class Python:
    """An interpreter of one minor version; `why_not` says why it cannot run the matrix, "" where it can."""

    minor: int
    path: str
    why_not: str = ""


def found() -> list[Python]:
    """Return one interpreter for each version: the first that can run the matrix, else why none can."""
    return [_best(minor) for minor in MINORS]


def bare(minor: int) -> str | None:
    """Return an interpreter of a version, whatever libraries it has."""
    return next((path for path in _on_this_machine(minor) if _answers(path, "print(1)")[0]), None)


def _best(minor: int) -> Python:
    paths = _on_this_machine(minor)
    if not paths:
        return Python(minor, "", f"this machine has no Python 3.{minor}")
    answers = [(path, *_answers(path, ASK)) for path in paths]
    good = next((path for path, is_well, out in answers if is_well and out == f"3.{minor}"), None)
    if good is not None:
        return Python(minor, good)
    lacks = f"{paths[0]} lacks the libraries; `make determinism` gives it an environment of its own"
    return Python(minor, paths[0], lacks)


def _on_this_machine(minor: int) -> list[str]:
    own = [sys.executable] if sys.version_info[:2] == (3, minor) else []
    kept = PLACES / f"3.{minor}" / "bin" / "python"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    versions = sorted(pyenv.glob(f"3.{minor}.*/bin/python"), reverse=True)
    on_path = shutil.which(f"python3.{minor}")
    places = [*own, *([str(kept)] if kept.exists() else []), *map(str, versions), *([on_path] if on_path else [])]
    return list(dict.fromkeys(places))


def _answers(path: str, question: str) -> tuple[bool, str]:
    try:
        ran = subprocess.run([path, "-c", question], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False, ""
    return ran.returncode == 0, ran.stdout.strip()
