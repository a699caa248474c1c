"""Files that a person names: JSON lines to send, and whole contents that come and go."""

from __future__ import annotations

import os
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


def read_file(file: Path, max_bytes: int) -> bytes:
    """Return the content of a file.

    Raises:
        UsageError: It cannot be read, or is larger than allowed.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"{file}: found no file to read ({error.strerror}); name one that is there") from error
    if len(content) > max_bytes:
        raise UsageError(f"{file}: found more than {max_bytes} bytes; allowed: a smaller file")
    return content


def write_new(file: Path, content: bytes) -> None:
    """Write a file that was not there, readable by its owner alone; what cannot be finished is removed.

    Raises:
        UsageError: It is there already, or cannot be written.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{file}: cannot be made ({error.strerror}); name a file that is not there yet") from error
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
    except OSError as error:
        file.unlink()
        raise UsageError(f"{file}: cannot be written ({error.strerror}); look at the space of this disk") from error
