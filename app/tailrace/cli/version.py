"""`tailrace version`: what runs here, for a bug report."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Annotated, Final

from cyclopts import App, Parameter

from tailrace import __version__
from tailrace.cli import output
from tailrace.cli.options import OutputFormat

LIBRARIES: Final = (
    "aiokafka",
    "faust-streaming",
    "mode-streaming",
    "river",
    "numpy",
    "scipy",
    "pydantic",
    "fastavro",
    "orjson",
)
"""Those whose version can change what Tailrace does."""


def register(app: App) -> None:
    """Add the command."""
    app.command(version)


def version(
    *,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="", help="Print the libraries too.")] = False,
    output_format: OutputFormat = None,
) -> None:
    """Print the version, and with --verbose everything that matters for a bug report."""
    if not verbose:
        print(f"tailrace {__version__}")
        return
    output.record(_surroundings(), output_format)


def _surroundings() -> dict[str, str]:
    versions = {name: _version_of(name) for name in LIBRARIES}
    return {
        "tailrace": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "byte_order": sys.byteorder,
        **versions,
    }


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
