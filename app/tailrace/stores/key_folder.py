"""The folder of keys: `learner.key` and `operator.key`, their public halves beside them, and `trusted.json`.

    1. A private key is a file of its owner's alone (0600); one that others can read is refused, as ssh does it.
    2. The trust list is replaced as a whole, under a lock; one that others can write is refused.
    3. A key is trusted before it exists as a file, so that nothing is ever signed by a key that nobody trusts.

Both are read again whenever the file has changed, so that rotation and revocation reach a process that runs. A process
that only serves opens the trust list and never a private key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tailrace.domain.errors import SettingsError
from tailrace.domain.times import rfc3339
from tailrace.stores.secret_files import (
    OTHERS_MAY_ANYTHING,
    OTHERS_MAY_WRITE,
    Seen,
    locked,
    read,
    replace_file,
    seen_of,
    words,
)
from tailrace.stores.signing import PUBLIC_BYTES, Purpose, SigningKey, TrustedKey, TrustList, public_of_pem

TRUST_FILE: Final = "trusted.json"
KEY_FILES: Final = {Purpose.SNAPSHOTS: "learner.key", Purpose.COMMANDS: "operator.key"}

MAX_KEY_BYTES: Final = 16 * 1024
MAX_TRUST_BYTES: Final = 1 << 20
_LIST_VERSION: Final = 1
_FIELDS: Final = frozenset({"id", "public", "purpose", "valid_from", "valid_to", "revoked", "comment"})


class TrustFile:
    """`trusted.json`, as it is now."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / TRUST_FILE
        self._seen: Seen | None = None
        self._list = TrustList()

    def current(self) -> TrustList:
        """Return the list; one without keys where there is no file, one with a problem where it cannot be read."""
        try:
            seen = seen_of(self.path.stat())
            if seen != self._seen:
                self._list, self._seen = _parsed(read(self.path, MAX_TRUST_BYTES, OTHERS_MAY_WRITE)), seen
        except FileNotFoundError:
            self._list, self._seen = TrustList(), None
        except (OSError, ValueError) as problem:
            self._list, self._seen = TrustList(problem=f"{self.path}: found {words(problem)}"), None
        return self._list

    def trust(self, key: TrustedKey) -> None:
        """Add a key, or put it in the place of its entry.

        Raises:
            SettingsError: The list cannot be read or written; or the key was revoked, which nothing takes back.
        """
        with self._changing() as keys:
            before = next((known for known in keys if known.key_id == key.key_id), None)
            if before is not None and before.is_revoked:
                raise SettingsError([f"key {key.key_id} was revoked, and stays so; generate another one"])
            keys[:] = [known for known in keys if known.key_id != key.key_id] + [key]

    def revoke(self, key_id: str) -> TrustedKey:
        """Let nothing count that a key has signed or will sign.

        Raises:
            SettingsError: The list does not know it, or cannot be read or written.
        """
        with self._changing() as keys:
            for at, known in enumerate(keys):
                if known.key_id == key_id:
                    keys[at] = replace(known, is_revoked=True)
                    return keys[at]
        raise SettingsError([f"found no key {key_id} in {self.path}; `tailrace keys list` shows those that are there"])

    @contextmanager
    def _changing(self) -> Iterator[list[TrustedKey]]:
        with locked(self.path.parent, f"{TRUST_FILE}.lock"):
            found = self.current()
            if found.problem:
                raise SettingsError([f"{found.problem}; repair it, or remove it and trust your keys again"])
            keys = list(found.keys)
            yield keys
            replace_file(self.path, _shown(keys), 0o644)


class KeyFolder:
    """The private keys of this machine, and the trust list beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trusted = TrustFile(folder)

    def path(self, purpose: Purpose) -> Path:
        """Return where the private key of a purpose lies."""
        return self.folder / KEY_FILES[purpose]

    def exists(self, purpose: Purpose) -> bool:
        """Tell whether there is a private key, without reading it."""
        return self.path(purpose).exists()

    def private(self, purpose: Purpose) -> SigningKey:
        """Return a private key.

        Raises:
            SettingsError: There is none, it is none, or others can read it.
        """
        path = self.path(purpose)
        try:
            return SigningKey.from_pem(purpose, read(path, MAX_KEY_BYTES, OTHERS_MAY_ANYTHING))
        except FileNotFoundError as cause:
            step = f"`tailrace keys generate --purpose {purpose}` makes one"
            raise SettingsError([f"keys.folder: found no {path}; {step}"]) from cause
        except (OSError, ValueError) as problem:
            allowed = "allowed: an Ed25519 key in PEM form that its owner alone can read"
            step = f"`chmod 600 {path}`, or make another one with `tailrace keys generate --replace`"
            raise SettingsError([f"keys.folder: {path}: found {words(problem)}; {allowed}; {step}"]) from problem

    def generate(self, purpose: Purpose, *, comment: str = "", is_new: bool = False) -> SigningKey | None:
        """Make a private key and trust it; the one before it stays trusted and is gone as a file.

        Args:
            is_new: Only where there is none yet.

        Returns:
            The key; None where there was one and `is_new` was asked for.

        Raises:
            SettingsError: The folder cannot be written.
        """
        path = self.path(purpose)
        with locked(self.folder, f"{path.stem}.lock"):
            if is_new and path.exists():
                return None
            key = SigningKey.generate(purpose)
            self.trusted.trust(TrustedKey(key.public, purpose, comment=comment))
            replace_file(path.with_suffix(".pub"), key.public_pem(), 0o644)
            replace_file(path, key.to_pem(), 0o600)
            return key


class Signer:
    """The private key of one purpose, as it is now: after a rotation the new one signs, without a restart."""

    def __init__(self, folder: KeyFolder, purpose: Purpose = Purpose.SNAPSHOTS) -> None:
        self._folder = folder
        self._purpose = purpose
        self._seen: Seen | None = None
        self._key: SigningKey | None = None

    def key(self) -> SigningKey:
        """Return the key.

        Raises:
            SettingsError: See `KeyFolder.private`.
        """
        seen = None
        with suppress(OSError):
            seen = seen_of(self._folder.path(self._purpose).stat())
        if self._key is None or seen is None or seen != self._seen:
            self._key, self._seen = self._folder.private(self._purpose), seen
        return self._key


def read_public(file: Path) -> bytes:
    """Return the 32 bytes of a public key's PEM file.

    Raises:
        SettingsError: It cannot be read, or is no public Ed25519 key.
    """
    try:
        return public_of_pem(read(file, MAX_KEY_BYTES, 0))
    except (OSError, ValueError) as problem:
        allowed = "allowed: the .pub file that `tailrace keys generate` wrote"
        raise SettingsError([f"{file}: found {words(problem)}; {allowed}"]) from problem


# ── the trust list as text ──────────────────────────────────────────────────────────────────────────────────────────


def _shown(keys: list[TrustedKey]) -> bytes:
    plain = {
        "version": _LIST_VERSION,
        "keys": [
            {
                "id": key.key_id,
                "public": key.public.hex(),
                "purpose": key.purpose.value,
                "valid_from": show_time(key.valid_from_ms),
                "valid_to": show_time(key.valid_to_ms),
                "revoked": key.is_revoked,
                "comment": key.comment,
            }
            for key in keys
        ],
    }
    return json.dumps(plain, indent=2, ensure_ascii=False).encode() + b"\n"


def show_time(at_ms: int | None) -> str | None:
    """Return a time as RFC 3339 text in UTC; None where there is none."""
    return None if at_ms is None else rfc3339(at_ms)


def parse_time(text: str) -> int:
    """Read RFC 3339 text, or a date alone, as milliseconds; without a zone it is UTC.

    Raises:
        ValueError: It is neither.
    """
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def _parsed(content: bytes) -> TrustList:
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise ValueError("no JSON") from cause
    if not isinstance(plain, dict) or plain.get("version") != _LIST_VERSION or not isinstance(plain.get("keys"), list):
        raise ValueError(f"no trust list of version {_LIST_VERSION}")
    keys = tuple(_key_of(entry, number) for number, entry in enumerate(plain["keys"], 1))
    if len({key.key_id for key in keys}) < len(keys):
        raise ValueError("a key that is listed twice")
    return TrustList(keys)


def _key_of(entry: Any, number: int) -> TrustedKey:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS or type(entry["revoked"]) is not bool:
        raise ValueError(f"an entry {number} that does not have the fields of a key")
    key = TrustedKey(
        public=_checked(bytes.fromhex, entry["public"], number),
        purpose=_checked(Purpose, entry["purpose"], number),
        valid_from_ms=None if entry["valid_from"] is None else _checked(parse_time, entry["valid_from"], number),
        valid_to_ms=None if entry["valid_to"] is None else _checked(parse_time, entry["valid_to"], number),
        is_revoked=entry["revoked"],
        comment=str(entry["comment"]),
    )
    if len(key.public) != PUBLIC_BYTES or entry["id"] != key.key_id:
        raise ValueError(f"an entry {number} whose id is not that of its key")
    return key


def _checked(read: Callable[[Any], Any], found: object, number: int) -> Any:
    try:
        return read(found)
    except (ValueError, TypeError, OverflowError) as cause:
        raise ValueError(f"an entry {number} with {found!r}, which cannot be read") from cause
