"""The configurations of our own processes: what a user has to say, and every default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks.examples import FEATURES, MODEL
from tailrace.settings.tree import ChampionSettings

COMPILED = "auto"
UNMODIFIED = "never"


def compiling() -> str:
    """Return why models are not compiled here; "" where they are."""
    if "compiled" not in ChampionSettings.model_fields:
        return "this version has no setting champion.compiled"
    if find_spec("numba") is None:
        return "numba is not installed; install Tailrace with its extra `fast`"
    return ""


@dataclass(frozen=True)
class Loop:
    """One loop as a user writes it.

    Attributes:
        features: Name → type, in TOML.
        event_keys, label_keys: Further keys of the events and of the labels, in TOML.
        compiled: Of the champion; only written where this version knows it.
        more: Further lines of the loop.
        files: Name → content of what lies beside the configuration.
    """

    bootstrap: str
    name: str
    events: str
    labels: str
    task: str = "binary"
    features: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(FEATURES, '"number"'))
    model: str = MODEL
    label_keys: str = ""
    event_keys: str = ""
    compiled: str = UNMODIFIED
    more: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write it into an empty folder; return the file."""
        for name, content in self.files.items():
            (folder / name).write_text(content)
        path = folder / "tailrace.toml"
        path.write_text(self.text())
        return path

    def text(self) -> str:
        """Return the file's content."""
        features = "\n".join(f"{name} = {kind}" for name, kind in self.features.items())
        compiled = f'compiled = "{self.compiled}"' if "compiled" in ChampionSettings.model_fields else ""
        return f"""log = "kafka://{self.bootstrap}"
http = ""

[loops.{self.name}]
task = "{self.task}"
events = {{ topic = "{self.events}", id = "id", time = "at"{self.event_keys} }}
labels = {{ topic = "{self.labels}", id = "id", target = "y"{self.label_keys} }}
horizon = "1h"
{self.more}

[loops.{self.name}.features]
{features}

[loops.{self.name}.champion]
model = "{self.model}"
{compiled}

[snapshots]
store = "file:./snapshots"
"""
