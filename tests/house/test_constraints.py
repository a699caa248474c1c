"""The versions that CI pins are the ones it runs: a pin that contradicts another cannot be installed at all."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

PINS = Path(__file__).parents[2] / "constraints.txt"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in PINS.read_text(encoding="utf-8").splitlines())
    return {_canonical(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def test_what_is_installed_is_what_is_pinned() -> None:
    installed = {_canonical(found.metadata["Name"]): found.version for found in metadata.distributions()}
    pins = _pins()
    assert pins["river"] == installed["river"]
    wrong = {name: (installed[name], pin) for name, pin in pins.items() if name in installed and installed[name] != pin}
    assert not wrong, f"installed, pinned: {wrong}; pin what is installed, or set .venv up again (make clean test)"
