"""One virtual environment for each peer, made under `.bench/` with pip: the only place that names their versions.

Ours and the yardstick run in the environment that runs the benchmark. A peer that cannot be installed is no error: the
report names it and says why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.broker import REPOSITORY, say

HOME = REPOSITORY / ".bench"
OURS = ""
"""The environment of the benchmark itself."""

_RIVER = ("river==0.26.1", "numpy==2.4.6", "scipy==1.17.1")
_JSON = "orjson==3.13.0"
_AIOKAFKA = "aiokafka[lz4]==0.14.0"
_CONFLUENT = "confluent-kafka==2.16.1"

PINS: dict[str, tuple[str, ...]] = {
    "clients": (*_RIVER, _JSON, _AIOKAFKA, _CONFLUENT),
    "faust": (*_RIVER, _JSON, _AIOKAFKA, "faust-streaming==0.15.3", "mode-streaming==0.7.1"),
    "quix": (*_RIVER, _JSON, "quixstreams==3.28.1"),
    "bytewax": (*_RIVER, _JSON, "bytewax==0.21.1", _CONFLUENT),
    "faststream": (*_RIVER, _JSON, "faststream[kafka]==0.7.8", _AIOKAFKA, "cramjam==2.14.0"),
    "vw": ("numpy==2.4.6", _JSON, _CONFLUENT, "vowpalwabbit==9.11.9"),
    "picture": ("matplotlib>=3.10,<4",),
}
"""Environment → what pip installs into it."""

_INSTALL_WITHIN_S = 600.0


class InstallError(Exception):
    """An environment cannot be made; the message is the last line that pip said."""


def python_of(name: str) -> str:
    """Return the interpreter of an environment, which is made at the first call and whenever its pins change.

    Raises:
        InstallError: pip could not install it.
    """
    if name == OURS:
        return sys.executable
    folder = HOME / name
    python, stamp = folder / "bin" / "python", folder / ".pins"
    wanted = hashlib.sha256("\n".join((sys.version, *PINS[name])).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    say(f"making .bench/{name}: {', '.join(PINS[name])}")
    shutil.rmtree(folder, ignore_errors=True)
    venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    command = [str(python), "-m", "pip", "install", "--quiet", *PINS[name]]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_INSTALL_WITHIN_S, env=os.environ | quiet
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"pip did not end within {_INSTALL_WITHIN_S:.0f} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise InstallError(said[-1] if said else f"pip ended with {done.returncode}")
    stamp.write_text(wanted)
    return str(python)


def versions_of(name: str, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of packages as they are installed in an environment; what is not there is left out."""
    code = (
        "import sys\nfrom importlib import metadata\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, metadata.version(name))\n"
        "    except metadata.PackageNotFoundError: pass\n"
    )
    command = [python_of(name), "-c", code, *packages]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path("/")).stdout
    return dict(line.split() for line in said.splitlines())
