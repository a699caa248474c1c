"""Runs one command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Ran(NamedTuple):
    """What a command line left behind."""

    code: int
    out: str
    err: str


Run: TypeAlias = Callable[..., Ran]
"""Takes the words of a command line."""
