"""TOML as text with comments: what `tailrace init` writes is meant to be read and edited by people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

COMMENT_COLUMN: Final = 44
"""Where the comments behind settings begin, if the setting leaves room for them."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def value(plain: object) -> str:
    """Return text, a number, true or false, a list or an inline table as TOML; entries that are None are left out."""
    if isinstance(plain, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(plain, Mapping):
        entries = [f"{key(name)} = {value(each)}" for name, each in plain.items() if each is not None]
        return "{ " + ", ".join(entries) + " }"
    if isinstance(plain, Sequence):
        return "[" + ", ".join(value(each) for each in plain) + "]"
    return json.dumps(plain)


def key(name: str) -> str:
    """Return a key, in quotes where it needs them; its dots are no paths."""
    return name if _BARE.fullmatch(name) else value(name)


def line(name: str, plain: object, comment: str = "") -> str:
    """Return `name = value`, and a comment behind it in a column of its own."""
    return behind(f"{key(name)} = {value(plain)}", comment)


def behind(text: str, comment: str) -> str:
    """Return text with a comment behind it."""
    return f"{text:<{COMMENT_COLUMN - 2}}  # {comment}" if comment else text
