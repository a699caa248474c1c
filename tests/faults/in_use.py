"""What this process holds of its memory, without the holes that were left between: asked inside of it.

Resident memory is a high-water mark: Python and the C library keep what they took for a moment, in pieces that lie
between what lives on. A leak shows in what is held, long before it does in what is resident.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from pathlib import Path


class _Mallinfo2(ctypes.Structure):
    """mallinfo(3): `uordblks` are bytes given out of the heap, `hblkhd` those of pages of their own."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def in_use_of(errors: Path) -> Path:
    """Return the file in which a worker, known by the file of its log, tells what it held when it swept last."""
    return errors.with_name(f"{errors.name}.in_use")


def in_use_bytes() -> int:
    """Return the bytes that Python's allocator and malloc have given out and not taken back."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo2
    info = libc.mallinfo2()
    found = re.search(r"# bytes in allocated blocks\s*=\s*([\d,]+)", _told_by_python())
    assert found is not None, "Python tells of its allocator in other words"
    return int(found[1].replace(",", "")) + int(info.uordblks) + int(info.hblkhd)


def _told_by_python() -> str:
    """Return what `sys._debugmallocstats` writes to standard error."""
    with tempfile.TemporaryFile() as told:
        before = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(before, 2)
            os.close(before)
        told.seek(0)
        return told.read().decode()
