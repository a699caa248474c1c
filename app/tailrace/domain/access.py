"""Who may do what over HTTP: scopes, the tokens that carry them, and whether a token that was shown counts.

A token is text of 256 random bits, shown once; what is kept of it is its SHA-256, which needs no salt because nobody
can try 2^256 texts. Whoever presents nothing that counts may do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import Final


class Scope(StrEnum):
    """What a token may be used for."""

    READ = "read"  # status, models, their quality, predictions as they come
    PREDICT = "predict"  # ask a model
    EVENT = "event"  # write events
    LABEL = "label"  # write labels
    SNAPSHOT = "snapshot"  # take a model away; a state may hold values of features


SCOPE_MEANINGS: Final[Mapping[Scope, str]] = {
    Scope.READ: "look at status, models, quality and predictions",
    Scope.PREDICT: "ask a model for predictions",
    Scope.EVENT: "write events to the log",
    Scope.LABEL: "write labels to the log",
    Scope.SNAPSHOT: "download the state of a model, which may hold values of features",
}

SECRET_BYTES: Final = 32
"""Random bytes of a token."""

_TEXT: Final = re.compile(r"tailrace_(?P<id>[0-9a-f]{8})_[0-9a-f]{64}", re.ASCII)
_NO_DIGEST: Final = "0" * 64


class Denial(StrEnum):
    """Why what was presented does not count."""

    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token.

    Attributes:
        id: 8 hex digits; names it in lists and logs.
        digest: SHA-256 of its text, 64 hex digits.
        last_four: Of its text, for people who look for it.
        expires_ms: From then on it does not count; None: never.
    """

    id: str
    digest: str
    last_four: str
    scopes: frozenset[Scope]
    created_ms: int
    expires_ms: int | None = None
    is_revoked: bool = False
    comment: str = ""

    @classmethod
    def of(
        cls,
        text: str,
        scopes: Iterable[Scope],
        created_ms: int,
        *,
        expires_ms: int | None = None,
        comment: str = "",
    ) -> Token:
        """Return what is to be kept of the text of a new token."""
        match = _TEXT.fullmatch(text)
        assert match is not None, "token_text() made it"
        return cls(match["id"], digest_of(text), text[-4:], frozenset(scopes), created_ms, expires_ms, False, comment)

    def denial(self, at_ms: int) -> Denial | None:
        """Return why this token does not count at a moment; None: it does."""
        if self.is_revoked:
            return Denial.REVOKED
        return Denial.EXPIRED if self.expires_ms is not None and at_ms >= self.expires_ms else None


def token_text(token_id: str, secret: str) -> str:
    """Return the text that is presented.

    Args:
        token_id: 8 hex digits.
        secret: 64 hex digits, random.
    """
    return f"tailrace_{token_id}_{secret}"


def digest_of(text: str) -> str:
    """Return what is kept of a token's text."""
    return sha256(text.encode()).hexdigest()


def id_in(presented: str) -> str:
    """Return the id in the text of a token, whether or not there is such a token; "" where it has not the form."""
    match = _TEXT.fullmatch(presented)
    return "" if match is None else match["id"]


def is_this_machine(host: str) -> bool:
    """Tell whether a host, a name or an address with or without brackets, is this machine to itself: loopback."""
    is_in_brackets = host.startswith("[") and host.endswith("]")
    try:
        return ip_address(host[1:-1] if is_in_brackets else host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def admit(tokens: Mapping[str, Token], presented: str, at_ms: int) -> Token | Denial:
    """Return the token that was presented, or why it does not count.

    Whether an id is known shows in the time this takes no more than whether the rest is right: there is always one
    digest compared, in constant time.

    Args:
        tokens: By id.
    """
    match = _TEXT.fullmatch(presented)
    if match is None:
        return Denial.MALFORMED
    token = tokens.get(match["id"])
    if not compare_digest(digest_of(presented), _NO_DIGEST if token is None else token.digest) or token is None:
        return Denial.UNKNOWN
    return token.denial(at_ms) or token
