"""The command line by which a worker lets another process verify a loop."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tailrace.settings import Settings


def verify_command_of(settings: Settings, loop: str) -> Sequence[str]:
    """Return the words: this Python, the same configuration, the lowest priority, the certificate as JSON."""
    config = () if settings.file is None else ("--config", str(settings.file))
    options = ("--loop", loop, "--from", "proven", "--low-priority", "--output", "json")
    return (sys.executable, "-m", "tailrace", "verify", *options, *config)
