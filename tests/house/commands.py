"""Commands that documents show, parsed as `tailrace` would parse them."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

from cyclopts import MissingArgumentError

from tailrace.cli import build_app

PLACEHOLDERS = {"CODE": "late", "NAME": "blue-1", "…": "score", "{{": "", "$labels.code": "late", "}}": ""}


@cache
def _app() -> Any:
    return build_app()


def commands_in(text: str) -> Iterator[str]:
    """Yield every command of ours in a document: lines of shell blocks, and what stands between backticks."""
    for block in re.findall(r"```sh[ \w]*\n(.*?)```", text, re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("tailrace "))
    yield from re.findall(r"`(tailrace [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def check_command(command: str) -> None:
    """Parse a command; a missing positional argument is the reader's to give, and what the shell does is its own."""
    words = [PLACEHOLDERS.get(word, word) for word in _words(command)[1:]]
    with contextlib.suppress(MissingArgumentError):
        _app().parse_args([word for word in words if word], exit_on_error=False, print_error=False)


def _words(command: str) -> list[str]:
    """The words of a command up to where the shell's own begin: pipes, redirections, `&`, a comment."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word[0] in "|&;<>":
            break
        words.append(word)
    return words
