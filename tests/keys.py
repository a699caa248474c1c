"""Keys that are the same in every run, so that a failing seed fails again."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tailrace.stores.signing import Purpose, SigningKey


def make_key(number: int = 1, purpose: Purpose = Purpose.SNAPSHOTS) -> SigningKey:
    """Return the key of a number."""
    return SigningKey(purpose, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))
