"""Files of a folder of secrets: read with a bound and only where others cannot get at them, replaced as a whole.

1. What is read is a plain file, no larger than allowed, with permissions as strict as asked for.
2. A file is replaced as a whole, under a lock, with the mode it is to have from its first byte on.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple

from tailrace.domain.errors import SettingsError

OTHERS_MAY_ANYTHING: Final = 0o077
OTHERS_MAY_WRITE: Final = 0o022


class Seen(NamedTuple):
    """By what a file is known to be the one that was read before."""

    inode: int
    changed_ns: int
    size: int
    mode: int


def words(problem: OSError | ValueError) -> str:
    """Return in words why a file cannot be used."""
    strerror = getattr(problem, "strerror", None)
    return str(strerror or problem)


def seen_of(found: os.stat_result) -> Seen:
    """Return by what a file is known."""
    return Seen(found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode)


def read(path: Path, max_bytes: int, forbidden_mode: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no plain file, is larger, or has one of the forbidden permissions.
    """
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
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of this name in a folder, which is made if it is not there.

    Raises:
        SettingsError: The folder cannot be written.
    """
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


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Put a content in the place of a file, which survives a power failure once this returns.

    Raises:
        SettingsError: It cannot be written; what was there before still is.
    """
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
