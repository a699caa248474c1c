"""Where something failed, for the log: a type and a place in our code. Texts of exceptions may hold values."""

from __future__ import annotations

from pathlib import Path
from traceback import walk_tb
from typing import Final

import tailrace

_ROOT: Final = Path(tailrace.__file__).parent


def place_of(error: BaseException) -> str:
    """Return the innermost place in our code that an exception passed, as `room/module.py:LINE`; "" where none did."""
    found = ""
    for frame, line in walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_ROOT):
            found = f"{file.relative_to(_ROOT)}:{line}"
    return found
