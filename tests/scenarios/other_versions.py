"""The command line in an environment whose River is said to be of another version. `python other_versions.py 9.9 …`."""

from __future__ import annotations

import sys

from tailrace import cli
from tailrace.domain.models import spec
from tailrace.main import loops


def plant(river: str) -> None:
    """Say that this process has this River."""
    known = spec.library_versions

    def planted() -> dict[str, str]:
        return known() | {"river": river}

    spec.library_versions = planted
    loops.library_versions = planted


if __name__ == "__main__":
    plant(sys.argv[1])
    sys.exit(cli.execute(sys.argv[2:]))
