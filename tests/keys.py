"""Keys that are the same in every run, so that a failing seed fails again."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tailrace.stores.signing import Purpose, SigningKey, TrustedKey, TrustList


def make_key(number: int = 1, purpose: Purpose = Purpose.SNAPSHOTS) -> SigningKey:
    """Return the key of a number."""
    return SigningKey(purpose, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def trusting(keys: Iterable[SigningKey]) -> TrustList:
    """Return a list that trusts these keys for their purposes, without bounds."""
    return TrustList(tuple(TrustedKey(key.public, key.purpose) for key in keys))
