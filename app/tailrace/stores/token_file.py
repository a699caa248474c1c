"""`tokens.json`: the tokens of the HTTP API, beside the keys; a file of its owner's alone (0600).

It holds digests, never a token. It is read again whenever it has changed, so that a revocation reaches a process
that runs; where it cannot be read, no token counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from tailrace.domain.access import SECRET_BYTES, Scope, Token, token_text
from tailrace.domain.errors import SettingsError
from tailrace.stores.key_folder import parse_time, show_time
from tailrace.stores.secret_files import OTHERS_MAY_ANYTHING, Seen, locked, read, replace_file, seen_of, words

FILE: Final = "tokens.json"
MAX_FILE_BYTES: Final = 1 << 20

_VERSION: Final = 1
_FIELDS: Final = frozenset({"id", "sha256", "last_four", "scopes", "created", "expires", "revoked", "comment"})


@dataclass(frozen=True, slots=True)
class TokenList:
    """The tokens by id, or why there are none.

    Attributes:
        problem: Why the file cannot be used; "" when it can, or is not there.
    """

    tokens: Mapping[str, Token] = field(default_factory=dict)
    problem: str = ""


class TokenFile:
    """The tokens as they are now."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._seen: Seen | None = None
        self._list = TokenList()

    def current(self) -> TokenList:
        """Return the tokens; none where there is no file, none and a problem where it cannot be used."""
        try:
            seen = seen_of(self.path.stat())
            if seen != self._seen:
                content = read(self.path, MAX_FILE_BYTES, OTHERS_MAY_ANYTHING)
                self._list, self._seen = TokenList(_parsed(content)), seen
        except FileNotFoundError:
            self._list, self._seen = TokenList(), None
        except (OSError, ValueError) as problem:
            self._list, self._seen = TokenList(problem=f"{self.path}: found {words(problem)}"), None
        return self._list

    def create(
        self, scopes: Iterable[Scope], created_ms: int, *, expires_ms: int | None = None, comment: str = ""
    ) -> tuple[str, Token]:
        """Make a token; return its text, which is kept nowhere, and what is kept.

        Raises:
            SettingsError: The file cannot be read or written.
        """
        with self._changing() as tokens:
            token_id = token_hex(4)
            while token_id in tokens:
                token_id = token_hex(4)
            text = token_text(token_id, token_hex(SECRET_BYTES))
            tokens[token_id] = Token.of(text, scopes, created_ms, expires_ms=expires_ms, comment=comment)
        return text, tokens[token_id]

    def revoke(self, token_id: str) -> Token:
        """Let a token count no more.

        Raises:
            SettingsError: There is none of this id, or the file cannot be read or written.
        """
        with self._changing() as tokens:
            if token_id not in tokens:
                step = "`tailrace tokens list` shows those that are there"
                raise SettingsError([f"found no token {token_id} in {self.path}; {step}"])
            tokens[token_id] = replace(tokens[token_id], is_revoked=True)
        return tokens[token_id]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        with locked(self.path.parent, f"{FILE}.lock"):
            found = self.current()
            if found.problem:
                raise SettingsError([f"{found.problem}; repair it, or remove it and make your tokens again"])
            tokens = dict(found.tokens)
            yield tokens
            replace_file(self.path, _shown(tokens.values()), 0o600)


def _shown(tokens: Iterable[Token]) -> bytes:
    plain = {
        "version": _VERSION,
        "tokens": [
            {
                "id": token.id,
                "sha256": token.digest,
                "last_four": token.last_four,
                "scopes": sorted(token.scopes),
                "created": show_time(token.created_ms),
                "expires": show_time(token.expires_ms),
                "revoked": token.is_revoked,
                "comment": token.comment,
            }
            for token in tokens
        ],
    }
    return json.dumps(plain, indent=2, ensure_ascii=False).encode() + b"\n"


def _parsed(content: bytes) -> dict[str, Token]:
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise ValueError("no JSON") from cause
    if not isinstance(plain, dict) or plain.get("version") != _VERSION or not isinstance(plain.get("tokens"), list):
        raise ValueError(f"no list of tokens of version {_VERSION}")
    tokens = [_token_of(entry, number) for number, entry in enumerate(plain["tokens"], 1)]
    if len({token.id for token in tokens}) < len(tokens):
        raise ValueError("a token that is listed twice")
    return {token.id: token for token in tokens}


def _token_of(entry: Any, number: int) -> Token:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS or type(entry["revoked"]) is not bool:
        raise ValueError(f"an entry {number} that does not have the fields of a token")
    try:
        return Token(
            id=str(entry["id"]),
            digest=bytes.fromhex(entry["sha256"]).hex(),
            last_four=str(entry["last_four"]),
            scopes=frozenset(map(Scope, entry["scopes"])),
            created_ms=parse_time(entry["created"]),
            expires_ms=None if entry["expires"] is None else parse_time(entry["expires"]),
            is_revoked=entry["revoked"],
            comment=str(entry["comment"]),
        )
    except (ValueError, TypeError, OverflowError) as cause:
        raise ValueError(f"an entry {number} that cannot be read") from cause
