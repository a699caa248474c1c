"""The folder of keys: `learner.key` and `operator.key`, their public halves beside them, and `trusted.json`.

    1. A private key is a file of its owner's alone (0600); one that others can read is refused, as ssh does it.
    2. The trust list is replaced as a whole, under a lock; one that others can write is refused.
    3. A key is trusted before it exists as a file, so that nothing is ever signed by a key that nobody trusts.

Both are read again whenever the file has changed, so that rotation and revocation reach a process that runs. A process
that only serves opens the trust list and never a private key.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple

from tailrace.domain.errors import SettingsError
from tailrace.stores.signing import PUBLIC_BYTES, Purpose, SigningKey, TrustedKey, TrustList, public_of_pem

TRUST_FILE: Final = "trusted.json"
KEY_FILES: Final = {Purpose.SNAPSHOTS: "learner.key", Purpose.COMMANDS: "operator.key"}

MAX_KEY_BYTES: Final = 16 * 1024
MAX_TRUST_BYTES: Final = 1 << 20
_LIST_VERSION: Final = 1
_FIELDS: Final = frozenset({"id", "public", "purpose", "valid_from", "valid_to", "revoked", "comment"})
_OTHERS_MAY_ANYTHING: Final = 0o077
_OTHERS_MAY_WRITE: Final = 0o022


class _Seen(NamedTuple):
    """By what a file is known to be the one that was read before."""

    inode: int
    changed_ns: int
    size: int


class TrustFile:
    """`trusted.json`, as it is now."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / TRUST_FILE
        self._seen: _Seen | None = None
        self._list = TrustList()

    def current(self) -> TrustList:
        """Return the list; one without keys where there is no file, one with a problem where it cannot be read."""
        try:
            seen = _seen(self.path.stat())
            if seen != self._seen:
                self._list, self._seen = _parsed(_read(self.path, MAX_TRUST_BYTES, _OTHERS_MAY_WRITE)), seen
        except FileNotFoundError:
            self._list, self._seen = TrustList(), None
        except (OSError, ValueError) as problem:
            self._list, self._seen = TrustList(problem=f"{self.path}: found {_words(problem)}"), None
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
        with _locked(self.path.parent):
            found = self.current()
            if found.problem:
                raise SettingsError([f"{found.problem}; repair it, or remove it and trust your keys again"])
            keys = list(found.keys)
            yield keys
            _replace(self.path, _shown(keys), 0o644)


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
            return SigningKey.from_pem(purpose, _read(path, MAX_KEY_BYTES, _OTHERS_MAY_ANYTHING))
        except FileNotFoundError as cause:
            step = f"`tailrace keys generate --purpose {purpose}` makes one"
            raise SettingsError([f"keys.folder: found no {path}; {step}"]) from cause
        except (OSError, ValueError) as problem:
            allowed = "allowed: an Ed25519 key in PEM form that its owner alone can read"
            step = f"`chmod 600 {path}`, or make another one with `tailrace keys generate --replace`"
            raise SettingsError([f"keys.folder: {path}: found {_words(problem)}; {allowed}; {step}"]) from problem

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
        with _locked(self.folder, f"{path.stem}.lock"):
            if is_new and path.exists():
                return None
            key = SigningKey.generate(purpose)
            self.trusted.trust(TrustedKey(key.public, purpose, comment=comment))
            _replace(path.with_suffix(".pub"), key.public_pem(), 0o644)
            _replace(path, key.to_pem(), 0o600)
            return key


class Signer:
    """The private key of one purpose, as it is now: after a rotation the new one signs, without a restart."""

    def __init__(self, folder: KeyFolder, purpose: Purpose = Purpose.SNAPSHOTS) -> None:
        self._folder = folder
        self._purpose = purpose
        self._seen: _Seen | None = None
        self._key: SigningKey | None = None

    def key(self) -> SigningKey:
        """Return the key.

        Raises:
            SettingsError: See `KeyFolder.private`.
        """
        seen = None
        with suppress(OSError):
            seen = _seen(self._folder.path(self._purpose).stat())
        if self._key is None or seen is None or seen != self._seen:
            self._key, self._seen = self._folder.private(self._purpose), seen
        return self._key


def read_public(file: Path) -> bytes:
    """Return the 32 bytes of a public key's PEM file.

    Raises:
        SettingsError: It cannot be read, or is no public Ed25519 key.
    """
    try:
        return public_of_pem(_read(file, MAX_KEY_BYTES, 0))
    except (OSError, ValueError) as problem:
        allowed = "allowed: the .pub file that `tailrace keys generate` wrote"
        raise SettingsError([f"{file}: found {_words(problem)}; {allowed}"]) from problem


def _words(problem: OSError | ValueError) -> str:
    strerror = getattr(problem, "strerror", None)
    return str(strerror or problem)


def _seen(found: os.stat_result) -> _Seen:
    return _Seen(found.st_ino, found.st_mtime_ns, found.st_size)


def _read(path: Path, max_bytes: int, forbidden_mode: int) -> bytes:
    # O_NONBLOCK: opening a planted named pipe must not wait for a writer. Links are followed: Kubernetes mounts so.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("something that is no plain file")
        if found.st_mode & forbidden_mode:
            raise ValueError(f"permissions {stat.S_IMODE(found.st_mode):04o}, with which others can get at it")
        if found.st_size > max_bytes:
            raise ValueError(f"{found.st_size} bytes, more than {max_bytes}")
        return os.read(file, max_bytes)
    finally:
        os.close(file)


@contextmanager
def _locked(folder: Path, name: str = f"{TRUST_FILE}.lock") -> Iterator[None]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as cause:
        raise SettingsError([f"keys.folder: {folder} cannot be written: {cause.strerror}"]) from cause
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _replace(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".writing-{token_hex(8)}")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            os.fchmod(file, mode)  # whatever the umask says
            rest = memoryview(content)
            while rest:  # a disk that is nearly full takes a part and says how much
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError as cause:
        with suppress(OSError):
            temporary.unlink()
        raise SettingsError([f"keys.folder: {path} cannot be written: {cause.strerror}"]) from cause


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


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
    """Return a time as RFC 3339 text in UTC."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds")


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
