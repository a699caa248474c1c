"""Ed25519 keys: who may sign what, and whether a signature counts.

Two purposes that never stand in for each other: a learner's key signs manifests of snapshots, an operator's key signs
commands. What is signed begins with a prefix of its purpose, so that no signature of one kind is one of the other.
There is one algorithm, and nothing in a record or file chooses another.

Whether a key was valid is asked about a time that its holder does not choose: the broker's time of the record, or the
present. What a manifest says about its own age is the word of whoever signed it.

Decides about bytes in memory; files of keys are the business of `key_folder`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tailrace.domain.snapshots import Refusal

SIGNATURE_BYTES: Final = 64
PUBLIC_BYTES: Final = 32
KEY_ID_BYTES: Final = 8


class Purpose(StrEnum):
    """What a key may sign."""

    SNAPSHOTS = "snapshots"  # manifests; the learner's
    COMMANDS = "commands"  # promote, roll back …; a person's


_PREFIXES: Final = {
    Purpose.SNAPSHOTS: b"tailrace snapshot manifest, 2\0",
    Purpose.COMMANDS: b"tailrace command, 1\0",
}
"""None is the beginning of another, and each ends where the content begins."""


def key_id_of(public: bytes) -> str:
    """Return the id of a public key: 16 hex digits. It finds a key in a list; what counts is the key found there."""
    return sha256(public).digest()[:KEY_ID_BYTES].hex()


class SigningKey:
    """A private key and what it is for.

    Attributes:
        public: The raw public half, 32 bytes.
    """

    def __init__(self, purpose: Purpose, secret: Ed25519PrivateKey) -> None:
        self.purpose = purpose
        self.public = secret.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public)
        self._secret = secret

    @classmethod
    def generate(cls, purpose: Purpose) -> Self:
        """Make a new key from the system's randomness."""
        return cls(purpose, Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, purpose: Purpose, pem: bytes) -> Self:
        """Read a private key, PEM of PKCS#8 without a password.

        Raises:
            ValueError: It is none, or of another algorithm.
        """
        try:
            secret = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as cause:
            raise ValueError("no private key in PEM form without a password") from cause
        if not isinstance(secret, Ed25519PrivateKey):
            raise ValueError("a private key of another algorithm than Ed25519")  # noqa: TRY004 - the file, not a type
        return cls(purpose, secret)

    def to_pem(self) -> bytes:
        """Return the private key as PEM of PKCS#8, without a password."""
        return self._secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_pem(self) -> bytes:
        """Return the public half as PEM, to be trusted elsewhere."""
        return self._secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, content: bytes) -> bytes:
        """Return the signature over the prefix of this key's purpose and a content: 64 bytes."""
        return self._secret.sign(_PREFIXES[self.purpose] + content)


def public_of_pem(pem: bytes) -> bytes:
    """Read a public key, PEM of SubjectPublicKeyInfo; return its 32 bytes.

    Raises:
        ValueError: It is none, or of another algorithm.
    """
    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise ValueError("no public key in PEM form") from cause
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError("a public key of another algorithm than Ed25519")  # noqa: TRY004 - the file, not a type
    return public.public_bytes_raw()


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One entry of the trust list.

    Attributes:
        public: 32 bytes.
        valid_from_ms, valid_to_ms: Between which its signatures count, both ends included; None: no bound.
        is_revoked: Nothing that it ever signed counts any more.
        comment: For people.
    """

    public: bytes
    purpose: Purpose
    valid_from_ms: int | None = None
    valid_to_ms: int | None = None
    is_revoked: bool = False
    comment: str = ""

    @property
    def key_id(self) -> str:
        """The id of the key."""
        return key_id_of(self.public)


@dataclass(frozen=True)
class TrustList:
    """The keys whose signatures count on this machine.

    Attributes:
        problem: Why the list could not be read; then no signature counts.
    """

    keys: tuple[TrustedKey, ...] = ()
    problem: str = ""
    _by_id: dict[str, TrustedKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {key.key_id: key for key in self.keys})

    def find(self, key_id: str) -> TrustedKey | None:
        """Return the entry of a key; None when there is none."""
        return self._by_id.get(key_id)

    def of(self, purpose: Purpose) -> list[TrustedKey]:
        """Return the keys of one purpose that are not revoked."""
        return [key for key in self.keys if key.purpose is purpose and not key.is_revoked]

    def verify(self, purpose: Purpose, key_id: str, content: bytes, signature: bytes, at_ms: int) -> Refusal | None:
        """Say why a signature does not count; None when it does. The content is hashed and not read.

        Args:
            key_id: Of the key that is said to have signed; "": none.
            at_ms: When the signature came to be known, by a clock that its holder does not choose.
        """
        refusal = self.may_sign(purpose, key_id, at_ms)
        if refusal is not None:
            return refusal
        public = Ed25519PublicKey.from_public_bytes(self._by_id[key_id].public)
        try:
            public.verify(signature, _PREFIXES[purpose] + content)
        except InvalidSignature:
            return Refusal("signature", f"the signature is not that of key {key_id}: somebody changed or forged it")
        return None

    def may_sign(self, purpose: Purpose, key_id: str, at_ms: int) -> Refusal | None:
        """Say why nothing that a key signs for a purpose at a time counts; None when it does."""
        if self.problem:
            return Refusal("trust_list", f"{self.problem}; nothing counts until it is repaired")
        if not key_id:
            return Refusal("unsigned", "it is not signed; only what a trusted key has signed counts")
        key = self.find(key_id)
        if key is None:
            step = "if it is yours, carry its public half over and run `tailrace keys trust FILE`"
            return Refusal("unknown_key", f"it is signed by key {key_id}, which is not trusted here; {step}")
        if key.purpose is not purpose:
            return Refusal("key_purpose", f"key {key_id} is trusted for {key.purpose} and not for {purpose}")
        if key.is_revoked:
            return Refusal("revoked_key", f"key {key_id} was revoked; nothing that it signed counts")
        if not (key.valid_from_ms or 0) <= at_ms <= (at_ms if key.valid_to_ms is None else key.valid_to_ms):
            return Refusal("key_not_valid", f"key {key_id} was not valid at that time; `tailrace keys list` shows when")
        return None


def sign_command(key: SigningKey, content: bytes) -> bytes:
    """Return an operator's signature over a command.

    Raises:
        ValueError: The key is a learner's.
    """
    if key.purpose is not Purpose.COMMANDS:
        raise ValueError(f"key {key.key_id} signs {key.purpose}, not commands; use the operator's key")
    return key.sign(content)


def verify_command(trust: TrustList, content: bytes, signature: bytes, key_id: str, at_ms: int) -> Refusal | None:
    """Say why a command does not count; None when an operator who is trusted signed exactly these bytes.

    Args:
        at_ms: The broker's time of the record that brought it.
    """
    return trust.verify(Purpose.COMMANDS, key_id, content, signature, at_ms)
