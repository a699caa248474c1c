"""Where a demo lives: a folder with its log, snapshots and tailrace.toml, temporary unless it is to be kept."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.demo.dataset import FEATURES
from tailrace.demo.feeder import FINE, PHISHING
from tailrace.domain.access import is_this_machine
from tailrace.domain.errors import SettingsError
from tailrace.settings import DEFAULT_FILE, Settings, free_port, load_text, parse_host_port

HORIZON_S: Final = 10
LOOP: Final = "phishing"
MODEL: Final = "StandardScaler() | LogisticRegression(optimizer=SGD(0.05))"
EMBEDDED: Final = "embedded:./log"
USUAL_HTTP: Final = ("127.0.0.1", 8321)

_MARK: Final = "# Written by `tailrace demo`."

_TEMPLATE: Final = """\
{mark} Go to this folder, and every command works on it: `tailrace status`.

log = "{log}"
http = "{http}"

[loops.{loop}]
task = "binary"
events = {{ topic = "{prefix}pages", id = "page_id", time = "seen_at" }}
labels = {{ topic = "{prefix}verdicts", id = "page_id", target = "verdict", positive = "{positive}", \
negative = "{negative}", time = "decided_at" }}
horizon = "{horizon_s}s"  # short, so that a demo shows what happens after it

[loops.{loop}.features]
{features}

[loops.{loop}.champion]
model = "{model}"

[snapshots]
every = "5s"
store = "file:./snapshots"
{api}"""

_NO_API: Final = """
[api]
enabled = false  # other machines can reach `http`: they get probes and metrics; the API would need TLS and a token
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one demo.

    Attributes:
        is_kept: It stays when the demo ends.
    """

    folder: Path
    is_kept: bool

    @classmethod
    def make(cls, keep: Path | None) -> Place:
        """Make the folder.

        Raises:
            SettingsError: The folder to keep holds a configuration that is not a demo's.
        """
        if keep is None:
            return cls(Path(tempfile.mkdtemp(prefix="tailrace-demo-")), is_kept=False)
        folder = keep.absolute()
        _refuse_foreign(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, is_kept=True)

    @property
    def file(self) -> Path:
        """The configuration."""
        return self.folder / DEFAULT_FILE

    def settings(self, log: str, http: str, run: str = "") -> Settings:
        """Write the configuration, unless a demo that was kept has left one; return it.

        Args:
            run: Part of every name on a log that others use too; "" on a log of its own.

        Raises:
            SettingsError: What was left is of another log, or cannot be used any more, or not at this address.
        """
        if not self.file.exists():
            self.file.write_text(configuration(log, http, run))
        settings = load_text(self.file.read_text(), folder=self.folder, environ={"TAILRACE_HTTP": http})
        expected = load_text(configuration(log, http, run), folder=self.folder)
        if settings.log != expected.log:
            found = f"found log {settings.log!r}, this demo would use {expected.log!r}"
            raise SettingsError([f"{self.file}: {found}; keep it in another folder"])
        return settings

    def remove(self) -> None:
        """Remove the folder unless it is kept."""
        if not self.is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)


def configuration(log: str, http: str, run: str = "") -> str:
    """Return the text of a demo's tailrace.toml."""
    bounds = "min = 0, max = 1"
    return _TEMPLATE.format(
        mark=_MARK,
        log=log,
        http=http,
        loop=f"demo_{run}" if run else LOOP,
        prefix=f"demo_{run}." if run else "",
        positive=PHISHING,
        negative=FINE,
        horizon_s=HORIZON_S,
        features="\n".join(f'{name} = {{ type = "{kind}", {bounds} }}' for name, kind in FEATURES.items()),
        model=MODEL,
        api="" if is_this_machine(parse_host_port(http)[0]) else _NO_API,
    )


def free_address(wanted: str | None) -> str:
    """Return where HTTP can listen: what was asked for, else the usual port, else any on loopback.

    Raises:
        SettingsError: What was asked for is taken, or is no address of this machine.
    """
    if wanted is None:
        host, usual = USUAL_HTTP
        return f"{host}:{free_port(host, usual) or free_port(host, 0)}"
    host, _, port = wanted.rpartition(":")
    free = free_port(host, int(port)) if host and port.isdigit() else None
    if free is None:
        raise SettingsError([f"--http: {wanted} cannot be listened on; name a free HOST:PORT of this machine"])
    return f"{host}:{free}"


def _refuse_foreign(folder: Path) -> None:
    file = folder / DEFAULT_FILE
    if file.exists() and not file.read_text(errors="replace").startswith(_MARK):
        raise SettingsError([f"--keep: {file} was not written by a demo and stays as it is; name another folder"])
