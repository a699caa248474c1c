"""JSON lines from a file or stdin, for commands that send them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from tailrace.cli.exits import UsageError

MOST_LINE_BYTES: Final = 4 << 20


def lines_of(file: str) -> Iterator[bytes]:
    """Yield the lines of a file, or of stdin for "-", without their ends; empty ones are left out.

    Raises:
        UsageError: The file cannot be read, or a line is longer than any record.
    """
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as opened:
            number = 0
            while line := opened.readline(MOST_LINE_BYTES + 1):
                number += 1
                if len(line) > MOST_LINE_BYTES:
                    raise UsageError(f"{file}:{number}: found a line longer than {MOST_LINE_BYTES} bytes")
                if stripped := line.strip():
                    yield stripped
    except OSError as error:
        raise UsageError(f"{file}: found no file to read ({error.strerror}); name a JSON lines file, or -") from error
