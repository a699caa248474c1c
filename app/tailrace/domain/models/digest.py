"""Digests: SHA-256 of canonical bytes, as lower-case hex.

A part's digest is the hash of its encoded body. A state's digest is the hash of the list of its parts,
so that two states are equal exactly when they have the same parts with the same bodies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_of(body: bytes) -> str:
    """Return the SHA-256 of `body` as 64 hex digits."""
    return hashlib.sha256(body).hexdigest()


def state_digest(parts: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a whole state from (part name, digest of the part).

    The order of `parts` does not matter. Each name and digest is hashed with its length before it,
    so no two lists of parts share one text.

    Raises:
        ValueError: A part's name occurs twice.
    """
    by_name: dict[str, str] = {}
    for name, digest in parts:
        if name in by_name:
            raise ValueError(f"part {name!r} occurs twice in one state; every part has its own name")
        by_name[name] = digest
    hasher = hashlib.sha256()
    for name in sorted(by_name):
        for text in (name, by_name[name]):
            encoded = text.encode()
            hasher.update(len(encoded).to_bytes(4, "big"))
            hasher.update(encoded)
    return hasher.hexdigest()
