"""A valid configuration as text: override what the test is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tailrace.domain.errors import SettingsError
from tailrace.settings import LoopSettings, ModelCheck, Settings, load_text

LABELS = '{ topic = "verdicts", id = "page_id", target = "verdict", positive = "phishing" }'


def make_loop(
    *,
    name: str = "phishing",
    task: str = "binary",
    events: str = '{ topic = "pages", id = "page_id", time = "seen_at" }',
    labels: str = LABELS,
    horizon: str = "1h",
    more: str = "",
    features: str = 'age = "number"',
    champion: str = 'model = "StandardScaler() | LogisticRegression()"',
) -> str:
    """Return the tables of one loop."""
    return f"""
[loops.{name}]
task = "{task}"
events = {events}
labels = {labels}
horizon = "{horizon}"
{more}
[loops.{name}.features]
{features}
[loops.{name}.champion]
{champion}
"""


def make_toml(*loops: str, log: str = "embedded:./data", top: str = "", below: str = "") -> str:
    """Return a configuration; `top` stands before all tables, `below` after them."""
    return f'log = "{log}"\n{top}\n' + "".join(loops or [make_loop()]) + below


def read(
    text: str,
    environ: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    check_model: ModelCheck | None = None,
) -> Settings:
    """Read a configuration in the folder /etc/tailrace, without the process's environment."""
    return load_text(text, folder=folder or Path("/etc/tailrace"), environ=environ, check_model=check_model)


def read_loop(text: str) -> LoopSettings:
    """Read a configuration and return its first loop."""
    return next(iter(read(text).loops.values()))


def problems_of(
    text: str, environ: Mapping[str, str] | None = None, *, check_model: ModelCheck | None = None
) -> list[str]:
    """Return the problems of a configuration that must have some."""
    with pytest.raises(SettingsError) as caught:
        read(text, environ, check_model=check_model)
    return caught.value.problems
